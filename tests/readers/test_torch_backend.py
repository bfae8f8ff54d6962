"""`torch.compile(backend="intaglio")` against eager: what programs do besides computing, and bad input."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch_programs import check, compiled, sample  # noqa: E402

nn, F = torch.nn, torch.nn.functional
pytestmark = pytest.mark.filterwarnings("ignore")


def write_view(x: Any) -> Any:
    y = x * 2
    y.view(-1)[0] = 1
    y[:, 1:].mul_(3)
    return y, y.t()


def write_input(x: Any) -> Any:
    x.add_(1)
    x[0].zero_()
    return x * 2


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int32", "int64", "uint8", "bool"])
def test_element_types(dtype: str) -> None:
    x = (sample(4, 5, grad=False) * 3).abs().to(getattr(torch, dtype))
    check(lambda x: (x.sum(0), torch.where(x > 1, x, x.flip(0)), x.float().exp(), x[:, ::2]), x)


CASES: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "mask": (lambda x: x[x > 0] * 2 + x.masked_select(x > 0), [sample(4, 5)]),
    "nonzero": (lambda x: (torch.nonzero(x > 0), torch.argwhere(x[0] > 0)), [sample(4, 5, grad=False)]),
    "mask of rows": (lambda x: x[x[:, 0] > 0] @ x.t(), [sample(4, 5)]),
    "masked store": (lambda x: torch.index_put(x, (x > 0,), x[x > 0] * 2), [sample(4, 5)]),
    "list of indices": (lambda x: x[[1, 2]] + torch.tensor([1.0, 2.0])[:, None], [sample(4, 5)]),
    "random": (
        lambda x: (
            F.dropout(x, 0.3),
            x + torch.rand(4, 5) + torch.randn_like(x) + torch.randint(3, 9, (5,)) + torch.randperm(5),
            torch.empty(3).normal_(1, 2) + torch.empty(3).uniform_(2, 3) + torch.empty(3).exponential_(2.0),
        ),
        [sample(4, 5)],
    ),
    "written views": (write_view, [sample(3, 4)]),
    "written inputs": (write_input, [sample(3, 4, grad=False)]),
    "no elements": (
        lambda x, y: (x * 2, torch.cat([x, y]), x.sum(0), y @ x.t(), x.flip(0), x.softmax(1)),
        [sample(0, 3), sample(2, 3)],
    ),
    "views as inputs": (lambda x: x.t() @ x + x[::2, ::2].sum() + x.expand(2, -1, -1).sum(0), [sample(4, 4)]),
    "distances": (lambda x, y: (torch.cdist(x, y, 3.0), F.pdist(x, 1.0), F.pdist(y)),
                  [sample(4, 3), sample(5, 3)]),
    "attention": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        [sample(2, 2, 6, 4), sample(2, 2, 6, 4), sample(2, 2, 6, 4)],
    ),
    "einsum": (lambda a, b: torch.einsum("bij,bjk->bki", a, b), [sample(2, 3, 4), sample(2, 4, 5)]),
    "pooling": (
        lambda x: (
            F.adaptive_avg_pool2d(x, (3, 2)), F.adaptive_max_pool2d(x, 3), F.avg_pool2d(x, 3, 2, 1),
            F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2), F.lp_pool2d(x.abs(), 2.0, 2),
        ),
        [sample(1, 2, 8, 8)],
    ),
    "resizing": (
        lambda x: tuple(
            F.interpolate(x, size=(7, 9), mode=mode)
            for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area")
        ),
        [sample(1, 2, 5, 6)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_programs(name: str) -> None:
    function, inputs = CASES[name]
    check(function, *inputs)


def test_results_lie_in_memory_as_those_of_pytorch() -> None:
    image = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    step = compiled(lambda x, image: ((x * 2).t(), image.relu(), (x + 1)[:, None]))
    expected = ((2, 1), image.stride(), (4, 4, 1))
    x = sample(3, 4, grad=False)
    results = step(x, image)
    assert [r.stride() for r in results] == [(1, 4), *expected[1:]]
    torch.testing.assert_close(results[1], image.relu())
    torch.testing.assert_close(results[0].t().view(-1), (x * 2).view(-1))


def test_copies_of_arguments_are_copies() -> None:
    """Also those that the C would not have to make."""
    x = sample(3, 4, grad=False)
    before = x.clone()
    results = compiled(lambda x: (x.clone(), x + 0, x.detach().clone()))(x)
    for result in results:
        result.add_(1)
    torch.testing.assert_close(x, before, rtol=0, atol=0)
    torch.testing.assert_close(results[2], before + 1, rtol=0, atol=0)
    legit = torch.ops.aten._native_batch_norm_legit
    check(lambda x, mean: legit(x, None, None, mean, mean, False, 0.1, 1e-3)[0], sample(3, 4), torch.ones(4))


OUT_OF_RANGE: dict[str, tuple[Callable[..., Any], list[int], str]] = {
    "embedding": (lambda x, i: F.embedding(i, x), [0, 4, 1], "aten.embedding.default.* 4 places"),
    "index": (lambda x, i: x[:, i], [0, -6, 1], r"aten.index.Tensor.* 5 places"),
    "gather": (lambda x, i: x.gather(0, i[None]), [0, -1, 1], "aten.gather.default.* 4 places"),
    "scatter": (lambda x, i: x.index_add(1, i, x[:, :3]), [0, 5, 1], "5 places"),
    "class": (lambda x, i: F.cross_entropy(x[:3], i), [0, -1, 1], "5 places"),
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_indices_out_of_range_are_errors(name: str) -> None:
    function, index, pattern = OUT_OF_RANGE[name]
    step, x = compiled(function), sample(4, 5, grad=False)
    step(x, torch.tensor([0, 2, 1]))
    with pytest.raises(IndexError, match=pattern) as caught:
        step(x, torch.tensor(index))
    assert "test_torch_backend.py" in str(caught.value)


def test_targets_that_are_ignored_are_in_range() -> None:
    check(lambda x: F.cross_entropy(x, torch.tensor([1, -100, 0, 2])), sample(4, 5))


def test_options_that_do_not_exist_are_errors() -> None:
    for settings in ({"options": {"thread": 2}}, {"mode": "max-autotune"}):
        torch._dynamo.reset()
        with pytest.raises(Exception, match=r"no option (thread|mode)"):
            torch.compile(torch.sin, backend="intaglio", **settings)(sample(3))


def test_inputs_that_are_not_contiguous() -> None:
    x = sample(6, 8)[::2].t()
    step = compiled(lambda x: x * 2 + x.sum(0))
    torch.testing.assert_close(step(x), x * 2 + x.sum(0))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_networks(kind: str) -> None:
    torch.manual_seed(0)
    module = getattr(nn, kind)(3, 4, batch_first=True, bidirectional=True)
    check(lambda x: module(x)[0], sample(2, 3, 3), fullgraph=False)


@dataclass
class Parts:
    sum: Any
    product: Any


class Many(nn.Module):
    """Tied and frozen parameters, a buffer that counts, modes, and results of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.frozen = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.frozen.requires_grad_(False)
        self.norm, self.drop = nn.BatchNorm1d(4), nn.Dropout(0.4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Any, *, scale: float = 1.0) -> Any:
        self.calls += 1
        y = self.drop(self.norm(self.b(self.a(x)))) + self.frozen(x)
        return {"y": y * scale, "parts": Parts(y.sum(), (x, [y[0], None]))}


@pytest.mark.parametrize("mode", ["train", "eval", "no_grad", "inference", "autocast"])
def test_modules_in_every_mode(mode: str) -> None:
    torch.manual_seed(0)
    module = Many().train(mode == "train")
    contexts = {"no_grad": torch.no_grad, "inference": torch.inference_mode,
                "autocast": lambda: torch.autocast("cpu", torch.bfloat16)}  # fmt: skip
    found = []
    for own in (copy.deepcopy(module), copy.deepcopy(module)):
        call = compiled(own) if found else own
        for _ in range(2):
            torch.manual_seed(1)
            with contexts.get(mode, torch.enable_grad)():
                result = call(sample(5, 4), scale=2.0)
        if mode in ("train", "eval"):
            (result["y"].sum() + result["parts"].sum).backward()
        parts = [result["y"], result["parts"].sum, *result["parts"].product[1][:1]]
        grads = [p.grad for p in own.parameters()]
        found.append(([p.detach().float() for p in parts], grads, dict(own.state_dict())))
    tolerance = 2e-2 if mode == "autocast" else 1e-5
    torch.testing.assert_close(found[1], found[0], rtol=tolerance, atol=tolerance)


def test_other_shapes_and_symbolic_sizes() -> None:
    module = nn.Linear(4, 3)
    for dynamic in (None, True):
        step = compiled(lambda x: module(x).softmax(-1) * x.shape[0], dynamic=dynamic)
        for n in (2, 5, 3):
            x = sample(n, 4, grad=False)
            torch.testing.assert_close(step(x), module(x).softmax(-1) * n)


def test_graph_breaks_are_tolerated(capsys: pytest.CaptureFixture[str]) -> None:
    def function(x: Any) -> Any:
        y = x * 2
        print("between")
        return y.tanh() if y.sum() > 1e6 else y.sin()

    check(function, sample(3, 4), fullgraph=False)
    assert "between" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_an_optimiser_inside(kind: str) -> None:
    """The whole step compiled, and the optimiser's step alone."""
    x, found = sample(6, 4, grad=False), []
    for way in ("eager", "whole", "alone"):
        torch.manual_seed(0)
        module = nn.Linear(4, 1)
        optimizer = getattr(torch.optim, kind)(module.parameters(), lr=0.1)
        update = compiled(optimizer.step) if way == "alone" else optimizer.step

        def step() -> Any:
            optimizer.zero_grad()
            loss = module(x).square().mean()
            loss.backward()
            update()
            return loss

        run = compiled(step) if way == "whole" else step
        losses = [run().detach() for _ in range(3)]
        found.append((losses, [p.detach() for p in module.parameters()]))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-4, atol=1e-5)


def test_memory_is_shared_both_ways() -> None:
    from intaglio.readers.torch.arrays import array_of, tensor_of

    x = sample(4, 4, grad=False)
    array = array_of(x)
    assert array.ctypes.data == x.data_ptr() == tensor_of(array).data_ptr()
    seen = []
    from intaglio.compiled import Compiled

    run_arrays = Compiled.run_arrays

    def spy(self: Any, arrays: Any) -> Any:
        results = run_arrays(self, arrays)
        seen.append((arrays[0].ctypes.data, results[0].ctypes.data))
        return results

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Compiled, "run_arrays", spy)
        y = compiled(lambda x: x + 1)(x)
    assert seen == [(x.data_ptr(), y.data_ptr())]


def test_threads_and_copies_of_the_module() -> None:
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    step = compiled(module)
    inputs = [sample(3, 4, grad=False) + k for k in range(8)]
    step(inputs[0])
    found: dict[int, Any] = {}
    workers = [threading.Thread(target=lambda k=k: found.update({k: step(inputs[k])})) for k in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for k, x in enumerate(inputs):
        torch.testing.assert_close(found[k], module(x))
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(other(inputs[0]), step(inputs[0]))


BAD: dict[str, tuple[Callable[..., Any], list[Any], str]] = {
    "operator": (
        lambda x: torch.special.i0(x) + torch.linalg.eigvalsh(x),
        [sample(4, 4, grad=False)],
        "aten",
    ),
    "complex": (lambda x: x.abs() + 1, [torch.ones(4, dtype=torch.complex64)], "complex"),
    "fft": (lambda x: torch.fft.rfft(x).real, [sample(8, grad=False)], "aten._fft_r2c"),
    "sparse": (lambda x: x.to_dense() + 1, [torch.eye(3).to_sparse()], "sparse"),
    "meta": (lambda x: x + 1, [torch.ones(3, device="meta")], "meta"),
    "single mask": (lambda x: x[x.sum() > 0], [sample(4, grad=False)], "index"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_supported_is_named(name: str) -> None:
    function, inputs, pattern = BAD[name]
    with pytest.raises(Exception, match=pattern) as caught:
        compiled(function, fullgraph=True)(*inputs)
    assert name == "sparse" or "test_torch_backend.py" in str(caught.value) or name in ("meta", "complex")


def test_second_derivatives_are_an_error() -> None:
    x = sample(3)
    y = compiled(lambda x: (x**3).sum())(x)
    (first,) = torch.autograd.grad(y, x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"double backward|does not require grad"):
        torch.autograd.grad(first.sum(), x)
