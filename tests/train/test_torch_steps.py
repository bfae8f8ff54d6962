"""Compiled training steps of PyTorch modules against eager PyTorch: optimisers, frozen and tied parameters,
stopped gradients, batches of several tensors, resuming."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import intaglio
from intaglio.shared.errors import ArgumentError, UnsupportedError

torch = pytest.importorskip("torch")
nn = torch.nn
optim = torch.optim
pytestmark = pytest.mark.filterwarnings("ignore")
MSE = nn.MSELoss()


def perceptron() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def batch() -> tuple[Any, Any]:
    torch.manual_seed(1)
    return torch.randn(4, 5), torch.randn(4, 3)


def compiled(module: Any, optimizer: Any, data: Any, loss: Any = MSE, **settings: Any) -> Any:
    return intaglio.compile_training(module, loss, optimizer, data, opt="fast-compile", threads=1, **settings)


def eager(module: Any, optimizer: Any, data: Any, loss: Any = MSE, clip: float | None = None) -> float:
    optimizer.zero_grad()
    value = loss(module(*data[:-1]), data[-1])
    value.backward()
    if clip is not None:
        nn.utils.clip_grad_norm_(module.parameters(), clip)
    optimizer.step()
    return float(value)


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert list(ours) == list(theirs)
    for name, expected in theirs.items():
        torch.testing.assert_close(
            ours[name], expected, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def follows(
    module: Any, make: Callable[[Any], Any], data: Any, loss: Any = MSE, steps: int = 5, clip: Any = None
) -> Any:
    """Train two copies; losses, parameters and buffers must agree. Returns the compiled step."""
    twin = copy.deepcopy(module)
    step = compiled(module, make(module), data, loss, clip_grad_norm=clip)
    other = make(twin)
    for _ in range(steps):
        expected = eager(twin, other, data, loss, clip)
        np.testing.assert_allclose(step(*data), expected, rtol=1e-4, atol=1e-6)
    same(step.state_dict(), twin.state_dict())
    return step


def groups(module: Any) -> list[dict[str, Any]]:
    """Two groups; the first decays and learns at rates of its own."""
    first, last = list(module[0].parameters()), list(module[2].parameters())
    return [{"params": first, "lr": 0.02, "weight_decay": 0.1}, {"params": last}]


OPTIMISERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda m: optim.SGD(m.parameters(), 0.1),
    "sgd-dampening": lambda m: optim.SGD(m.parameters(), 0.1, momentum=0.9, dampening=0.5, weight_decay=0.01),
    "sgd-nesterov-groups": lambda m: optim.SGD(groups(m), 0.1, momentum=0.9, nesterov=True),
    "sgd-maximize": lambda m: optim.SGD(m.parameters(), 0.01, momentum=0.5, maximize=True, foreach=True),
    "adam": lambda m: optim.Adam(m.parameters(), 0.01, betas=(0.8, 0.99), weight_decay=0.05, amsgrad=True),
    "adam-maximize": lambda m: optim.Adam(m.parameters(), 0.01, maximize=True, fused=True),
    "adamw-groups": lambda m: optim.AdamW(groups(m), 0.01, amsgrad=True),
    "rmsprop": lambda m: optim.RMSprop(m.parameters(), 0.01, alpha=0.9, weight_decay=0.01),
    "rmsprop-centered-groups": lambda m: optim.RMSprop(groups(m), 0.01, momentum=0.5, centered=True),
}


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_optimisers(kind: str) -> None:
    step = follows(perceptron(), OPTIMISERS[kind], batch())
    step.sync()  # its state goes back, so that eager steps and a step compiled again go on from it
    again = compiled(step.module, step.optimizer, batch())
    twin = copy.deepcopy(step.module)
    other = OPTIMISERS[kind](twin)
    other.load_state_dict(copy.deepcopy(step.optimizer.state_dict()))
    for _ in range(3):
        np.testing.assert_allclose(again(*batch()), eager(twin, other, batch()), rtol=1e-4)
    same(again.state_dict(), twin.state_dict())


@pytest.mark.parametrize("kind", ["sgd-dampening", "adamw-groups", "rmsprop-centered-groups"])
def test_optimisers_as_exported_c(kind: str, tmp_path: Path) -> None:
    module = perceptron()
    directory = compiled(module, OPTIMISERS[kind](module), batch()).export_c(tmp_path / "c", name="step")
    subprocess.run(["make", "-s", "test"], cwd=directory, check=True, timeout=120)


def test_clipped_gradients() -> None:
    for most in (0.05, 1e3):  # one that clips, one that does not
        follows(perceptron(), OPTIMISERS["sgd"], batch(), clip=most)


def test_schedulers_change_learning_rates_and_nothing_else() -> None:
    module, data = perceptron(), batch()
    twin = copy.deepcopy(module)
    ours, theirs = OPTIMISERS["sgd-nesterov-groups"](module), OPTIMISERS["sgd-nesterov-groups"](twin)
    step = compiled(module, ours, data)
    schedules = [optim.lr_scheduler.ExponentialLR(o, 0.5) for o in (ours, theirs)]
    for _ in range(4):
        np.testing.assert_allclose(step(*data), eager(twin, theirs, data), rtol=1e-4)
        for schedule in schedules:
            schedule.step()
    ours.param_groups[0]["momentum"] = 0.5
    with pytest.raises(ArgumentError, match="momentum"):
        step(*data)


class Odd(nn.Module):
    """Frozen, unused, tied and stopped parameters, statistics, and inputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 5)
        self.tied = nn.Linear(5, 5)
        self.tied.weight = self.first.weight
        self.frozen = nn.Linear(5, 5).requires_grad_(False)
        self.unused = nn.Linear(5, 5)
        self.still = nn.Linear(5, 5)
        self.norm = nn.BatchNorm1d(5, momentum=0.3)
        self.last = nn.Linear(5, 3)

    def forward(self, given: dict[str, Any], scale: float) -> Any:
        x = self.norm(self.tied(torch.relu(self.first(given["x"])))) * scale + self.frozen(given["y"])
        with torch.no_grad():
            factor = self.still(x).sigmoid()
        return self.last(x * factor + x.detach() * x), x


def test_parameters_and_batches_of_every_kind() -> None:
    torch.manual_seed(0)
    module = Odd()
    x, target = batch()
    data = ({"x": x, "y": x.flip(0)}, 0.5, {"mean": target, "weight": torch.rand(4, 1)})

    def loss(results: Any, wanted: Any) -> Any:
        y, hidden = results
        return ((y - wanted["mean"]) ** 2 * wanted["weight"]).mean() + 0.01 * hidden.abs().mean()

    decayed = lambda m: optim.SGD(m.parameters(), 0.05, momentum=0.9, weight_decay=0.1)
    step = follows(module, decayed, data, loss)
    still = step.state_dict()
    torch.testing.assert_close(still["unused.weight"], module.unused.weight)  # it has no gradient: no decay
    with pytest.raises(ArgumentError, match=r"1\.5"):
        step(data[0], 1.5, data[2])
    with pytest.raises(ArgumentError, match="form"):
        step(data[0], 0.5, target)


def test_a_step_takes_other_weights() -> None:
    data = batch()
    module, other = perceptron(), perceptron()
    with torch.no_grad():
        other[0].weight.mul_(0.5)
    step = compiled(module, OPTIMISERS["adam"](module), data)
    step.load_state_dict(other.state_dict())
    np.testing.assert_allclose(step(*data), float(MSE(other(data[0]), data[1])), rtol=1e-5)
    with pytest.raises(ArgumentError, match=r"0\.weight is missing"):
        step.load_state_dict({})


def test_double_precision() -> None:
    x, target = batch()
    follows(perceptron().double(), OPTIMISERS["adam"], (x.double(), target.double()))


class Rounded(torch.autograd.Function):
    """Rounding with the derivative of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g


class Straight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(5, 3)

    def forward(self, x: Any) -> Any:
        return Rounded.apply(self.inner(x))


def test_what_exporting_loses_is_refused() -> None:
    module = Straight()
    with pytest.raises(UnsupportedError, match="Rounded"):
        compiled(module, optim.SGD(module.parameters(), 0.1), batch())
    counted = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3, momentum=None))
    with pytest.raises(UnsupportedError, match="data-dependent"):
        compiled(counted, optim.SGD(counted.parameters(), 0.1), batch())
    hooked = perceptron()
    hooked[0].weight.register_hook(lambda g: g * 2)
    with pytest.raises(UnsupportedError, match="hooks"):
        compiled(hooked, optim.SGD(hooked.parameters(), 0.1), batch())


def test_losses_that_are_no_single_number() -> None:
    module, data = perceptron(), batch()
    optimizer = OPTIMISERS["sgd"](module)
    for loss in (lambda y, t: ((y - t).mean(), y), lambda y, t: (y - t) ** 2):
        with pytest.raises(ArgumentError, match="one scalar"):
            compiled(module, optimizer, data, loss)
    with pytest.raises(ArgumentError, match="depends on no parameter"):
        compiled(module, optimizer, data, lambda y, t: (y.detach() - t).mean())
