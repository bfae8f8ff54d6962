"""`torch.compile(backend="intaglio", options={"freeze": True})` against eager."""

from __future__ import annotations

import copy
import gc
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import intaglio  # noqa: E402
from intaglio.readers.torch import frozen as frozen_programs  # noqa: E402

nn = torch.nn
OPTIONS = {"opt": "fast-compile", "threads": 1, "freeze": True}
pytestmark = pytest.mark.filterwarnings("ignore:.*(Lazy|deprecated|resize).*", "error:.*freeze.*")


def frozen(module: Any, **settings: Any) -> Any:
    return torch.compile(module, backend="intaglio", options=OPTIONS, **settings)


class Net(nn.Module):
    """Convolution, norm and a tied square layer: something to fold, to transpose and to pack."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)
        self.b.weight = self.a.weight
        self.register_buffer("shift", torch.randn(16))
        nn.init.uniform_(self.norm.running_var, 0.5, 2)
        nn.init.normal_(self.norm.running_mean)
        nn.init.normal_(self.norm.weight)

    def forward(self, x: Any) -> Any:
        return self.b(self.a(self.norm(self.conv(x)).flatten(1)).relu()) + self.shift


def image(batch: int = 2) -> Any:
    return torch.randn(batch, 3, 4, 4)


def same(call: Any, module: Any, x: Any) -> None:
    with torch.no_grad():
        torch.testing.assert_close(call(x), module(x), rtol=1e-4, atol=1e-5)


def test_parameters_are_folded_as_in_our_own_compile(built: list[Any]) -> None:
    module, x = Net().eval(), image()
    same(frozen(module), module, x)
    own = intaglio.compile(module, [x], opt="fast-compile", threads=1)
    (program,) = built
    assert [value.type.shape for value in program.graph.inputs] == [(2, 3, 4, 4)]
    assert len(program.program.kernels) == len(own.program.kernels)
    assert program.weight_bytes == own.weight_bytes


class OldStyle(torch.optim.Optimizer):
    """An optimiser that writes where PyTorch does not count."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.add_(parameter.grad.data, alpha=-0.1)


def stepping(kind: Any, compiled: bool = False, **settings: Any) -> Callable[[Any], None]:
    def change(module: Any) -> None:
        optimizer = kind(module.parameters(), **settings)
        for parameter in module.parameters():
            parameter.grad = torch.randn_like(parameter)
        (torch.compile(optimizer.step, backend="aot_eager") if compiled else optimizer.step)()

    return change


def in_place(module: Any) -> None:
    with torch.no_grad():
        module.a.weight[2:4].mul_(3)


def in_inference_mode(module: Any) -> None:
    with torch.inference_mode():
        module.shift.add_(1)


def swapped(module: Any) -> None:
    module.conv.weight.data = torch.randn(4, 3, 3, 3)


def turned(module: Any) -> None:
    module.a.weight.data = module.a.weight.data.t()


def told(module: Any) -> None:
    module.a.weight.data.mul_(3)
    module.shift.numpy()[:] = 7
    torch.autograd.graph.increment_version([*module.parameters(), *module.buffers()])


CHANGES: dict[str, Callable[[Any], Any]] = {
    "load_state_dict": lambda module: module.load_state_dict(Net().state_dict()),
    "assigned": lambda module: module.load_state_dict(Net().state_dict(), assign=True),
    "in place": in_place,
    "inference mode": in_inference_mode,
    "new parameter": lambda module: setattr(module.a, "bias", nn.Parameter(torch.ones(16))),
    "swapped": swapped,
    "turned": turned,
    "vector": lambda module: nn.utils.vector_to_parameters(torch.rand(424), module.parameters()),
    "SGD": stepping(torch.optim.SGD, lr=0.1),
    "fused SGD": stepping(torch.optim.SGD, lr=0.1, fused=True),
    "fused Adam": stepping(torch.optim.Adam, lr=0.1, fused=True),
    "old style": stepping(OldStyle),
    "compiled step": stepping(torch.optim.SGD, compiled=True, lr=0.1),
    "told": told,
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_seen(name: str, built: list[Any]) -> None:
    module, x = Net().eval(), image()
    call = frozen(module)
    for _ in range(2):
        same(call, module, x)
    before = module(x).detach()
    assert len(built) == 1
    CHANGES[name](module)
    assert (module(x) - before).abs().max() > 1e-2
    for _ in range(2):
        same(call, module, x)
    assert len(built) == 2


def test_writes_that_nobody_counts_change_nothing_until_told(built: list[Any]) -> None:
    module, x = nn.Sequential(nn.Embedding(40_000, 32), nn.Linear(32, 4)), torch.tensor([0, 39_999])
    call = frozen(module)
    with torch.no_grad():
        before = call(x)
        for parameter in module.parameters():
            parameter.data.add_(1)
        torch.testing.assert_close(call(x), before, rtol=0, atol=0)
    torch.autograd.graph.increment_version(module.parameters())
    same(call, module, x)


def test_a_snapshot_fits_the_same_tensors_seen_in_the_same_way() -> None:
    """PyTorch's own guards do not always look at how a parameter lies in memory."""
    views = (lambda t: t.t(), lambda t: t[:2], lambda t: t.view(torch.int32), lambda t: t.view(8, 2))
    for view in views:
        tensor = torch.randn(4, 4)
        snapshot = frozen_programs.Snapshot((tensor,))
        assert snapshot.fits((tensor,))
        assert snapshot.holds()
        tensor.data = view(tensor.data)
        assert not snapshot.fits((tensor,))
        assert not snapshot.holds()


def test_memory_of_a_snapshot_is_not_given_to_others() -> None:
    parameter = nn.Parameter(torch.randn(64, 64))
    snapshot, address = frozen_programs.Snapshot((parameter,)), parameter.data_ptr()
    parameter.data = torch.randn(64, 64)
    assert not snapshot.holds()
    assert address not in [torch.randn(64, 64).data_ptr() for _ in range(20)]


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode", "autocast"])
def test_buffers_that_the_forward_changes_are_inputs(mode: str, built: list[Any]) -> None:
    module, x = Net().train(), image()
    other = copy.deepcopy(module)
    call = frozen(module)
    for _ in range(3):
        context = torch.inference_mode if mode == "inference_mode" else torch.no_grad
        with context(), torch.autocast("cpu", torch.bfloat16, enabled=mode == "autocast"):
            found, expected = call(x), other(x)
        tolerance = 5e-2 if mode == "autocast" else 1e-4
        torch.testing.assert_close(found.float(), expected.float(), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(module.state_dict(), other.state_dict(), rtol=1e-3, atol=1e-3)
    (program,) = built
    assert {value.type.shape for value in program.graph.inputs} == {(2, 3, 4, 4), (4,), ()}


def test_training_takes_parameters_as_inputs(built: list[Any]) -> None:
    module, x = Net().train(), image()
    other = copy.deepcopy(module)
    call = frozen(module)
    for own, run in ((module, call), (other, other)):
        optimizer = torch.optim.SGD(own.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            run(x).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(module.state_dict(), other.state_dict(), rtol=1e-3, atol=1e-4)
    assert len(built) == 2  # forward and backward
    same(frozen(module.eval()), other.eval(), x)
    assert len(built[-1].graph.inputs) == 1


def test_modules_of_the_same_code_have_programs_of_their_own(built: list[Any]) -> None:
    modules, x = [Net().eval() for _ in range(3)], image()
    calls = [frozen(module) for module in modules]
    for _ in range(2):
        for call, module in zip(calls, modules, strict=True):
            same(call, module, x)
    assert len(built) == 3
    in_place(modules[1])
    for call, module in zip(calls, modules, strict=True):
        same(call, module, x)
    assert len(built) == 4


def test_threads(built: list[Any]) -> None:
    module = Net().eval()
    call, inputs = frozen(module), [image() for _ in range(8)]
    same(call, module, inputs[0])
    for _ in range(2):
        in_place(module)
        expected, found = [module(x).detach() for x in inputs], {}

        def work(k: int, found: dict[int, Any]) -> None:
            with torch.no_grad():
                found[k] = call(inputs[k])

        workers = [threading.Thread(target=work, args=(k, found)) for k in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        torch.testing.assert_close([found[k] for k in range(8)], expected, rtol=1e-4, atol=1e-5)
    assert len(built) == 3


def test_other_sizes(built: list[Any]) -> None:
    module = Net().eval()
    for dynamic in (None, True):
        torch._dynamo.reset()
        call = frozen(module, dynamic=dynamic)
        for batch in (2, 5, 3, 5):
            same(call, module, image(batch))
        in_place(module)
        for batch in (2, 5):
            same(call, module, image(batch))


class Results(nn.Module):
    """Parameters, views and functions of them as results."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4), requires_grad=False)

    def forward(self, x: Any) -> Any:
        w = self.weight
        return w, w.t(), w.clone(), w * 2, w + 0, (w * 2).t(), x @ w


def test_results_of_parameters_alone(built: list[Any]) -> None:
    module, x = Results(), torch.randn(2, 3)
    call = frozen(module)
    for _ in range(2):
        results, expected = call(x), module(x)
        torch.testing.assert_close(results, expected)
        assert results[0] is module.weight
        assert results[1].data_ptr() == module.weight.data_ptr()
        for result in results[2:]:
            result.add_(1)
    results[1].mul_(2)
    torch.testing.assert_close(call(x), module(x))


def test_parameters_that_change_all_the_time_become_inputs(built: list[Any]) -> None:
    module, x = nn.Linear(4, 4), torch.randn(2, 4)
    call = frozen(module)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(frozen_programs.CHANGES + 4):
            module.requires_grad_(False).weight.add_(1)
            same(call, module, x)
    assert len([w for w in caught if "parameters changed 9 times" in str(w.message)]) == 1
    assert len(built) == frozen_programs.CHANGES + 2
    assert len(built[-1].graph.inputs) == 3


def test_parameters_made_in_inference_mode_are_inputs(built: list[Any]) -> None:
    with torch.inference_mode():
        module, x = nn.Linear(4, 4), torch.randn(2, 4)
        call = frozen(module)
        with pytest.warns(UserWarning, match="made in inference mode stay inputs"):
            call(x)
        for _ in range(2):
            module.weight.add_(1)
            torch.testing.assert_close(call(x), module(x))
    assert len(built) == 1


def test_programs_of_modules_that_are_gone_go_too(built: list[Any]) -> None:
    gc.collect()
    x, before = torch.randn(2, 4), len(frozen_programs._snapshots)
    for _ in range(3):
        module = nn.Linear(4, 4)
        same(frozen(module), module, x)
    del module
    gc.collect()
    module = nn.Linear(4, 4)
    same(frozen(module), module, x)
    gc.collect()
    assert len(built) == 4
    assert len(frozen_programs._snapshots) == before + 1


def test_freeze_is_true_or_false() -> None:
    torch._dynamo.reset()
    with pytest.raises(Exception, match="freeze is 'yes', expected True or False"):
        torch.compile(torch.sin, backend="intaglio", options={"freeze": "yes"})(torch.ones(3))
