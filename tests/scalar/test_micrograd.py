"""Programs of micrograd itself, taken as they are: the bits of micrograd's own updates.

Stock micrograd keeps operands in a set, so the last bits of its gradients depend on the addresses of
objects; for comparison by bits its `_prev` is made a tuple here, and nothing else is changed.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scalar_models import one_hot_samples, softmax_nll

from intaglio import scalar
from intaglio.scalar import Value, nn, tracing

engine = pytest.importorskip("micrograd.engine")
micrograd_nn = pytest.importorskip("micrograd.nn")

COMPILED: list[dict[str, Any]] = [
    {"toolchain": "gcc"},
    {"toolchain": "tcc"},
    {"engine": "straight", "toolchain": "tcc"},
    {"engine": "interpreted"},
]


@dataclass
class Task:
    """A network, its loss as a function of the inputs, and samples."""

    sizes: list[int]
    loss: Callable[[Any, list[Any]], Any]
    samples: list[list[float]]

    def model(self) -> Any:
        random.seed(1337)
        return micrograd_nn.MLP(self.sizes[0], self.sizes[1:])


def xor() -> Task:
    points = [[0.0, 0.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]

    def loss(model: Any, inputs: list[Any]) -> Any:
        rows = [inputs[k : k + 3] for k in range(0, 12, 3)]
        return sum((model([a, b]) - target) ** 2 for a, b, target in rows) / 4

    return Task([2, 4, 1], loss, [[v for point in points for v in point]] * 10)


def moons(count: int = 24, steps: int = 5) -> Task:
    """The demo: two half circles with noise, max-margin loss over all points, regularisation."""
    rng = np.random.default_rng(1337)
    angle, which = rng.uniform(0, np.pi, count), np.arange(count) % 2
    x = np.where(which, 1 - np.cos(angle), np.cos(angle)) + rng.normal(0, 0.1, count)
    y = np.where(which, 0.5 - np.sin(angle), np.sin(angle)) + rng.normal(0, 0.1, count)
    sample = np.stack([x, y, which * 2 - 1], axis=1).reshape(-1).tolist()

    def loss(model: Any, inputs: list[Any]) -> Any:
        rows = [inputs[k : k + 3] for k in range(0, 3 * count, 3)]
        losses = [(1 + -label * model([a, b])).relu() for a, b, label in rows]
        return sum(losses) * (1.0 / len(losses)) + 1e-4 * sum(p * p for p in model.parameters())

    return Task([2, 16, 16, 1], loss, [sample] * steps)


TASKS = {"xor": xor, "moons": moons}


@pytest.fixture(autouse=True)
def deep() -> Iterator[None]:
    """micrograd's `backward` recurses."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    yield
    sys.setrecursionlimit(limit)


@pytest.fixture
def ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    """micrograd with its operands in order."""
    original = engine.Value.__init__

    def init(self: Any, data: Any, _children: tuple[Any, ...] = (), _op: str = "") -> None:
        original(self, data, _children, _op)
        self._prev = tuple(_children)

    monkeypatch.setattr(engine.Value, "__init__", init)


def train_with_micrograd(task: Task, rate: float) -> Iterator[tuple[float, list[float], list[float]]]:
    """Loss, parameters and gradients of every update, each with a graph of its own, as the notebook does."""
    model = task.model()
    for sample in task.samples:
        loss = task.loss(model, list(map(engine.Value, sample)))
        model.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.data -= rate * p.grad
        yield loss.data, [p.data for p in model.parameters()], [p.grad for p in model.parameters()]


def compile_task(task: Task, options: dict[str, Any]) -> tuple[scalar.Program, list[Any]]:
    model = task.model()
    inputs = list(map(engine.Value, task.samples[0]))
    return scalar.compile(task.loss(model, inputs), inputs, model.parameters(), **options), model.parameters()


@pytest.mark.parametrize("name", TASKS)
def test_updates_have_the_bits_of_micrograd(ordered: None, name: str) -> None:
    task = TASKS[name]()
    expected = list(train_with_micrograd(task, 0.5))
    assert expected[-1][0] < expected[0][0]
    for options in COMPILED:
        program, parameters = compile_task(task, options)
        for sample, (loss, data, gradients) in zip(task.samples, expected, strict=True):
            assert program.step(sample, 0.5) == loss
            assert [program.data(p) for p in parameters] == data
            assert [program.grad(p) for p in parameters] == gradients


def test_stock_micrograd_is_read_in_the_order_of_its_operators() -> None:
    """Operands come out of sets in one order every time; sums differ from micrograd's by rounding."""
    task = moons(10, 1)
    expected = next(train_with_micrograd(task, 0.5))
    program, parameters = compile_task(task, {"toolchain": "tcc"})
    assert program.step(task.samples[0], 0.5) == expected[0]
    gradients = [program.grad(p) for p in parameters]
    np.testing.assert_allclose(gradients, expected[2], rtol=1e-9, atol=1e-15)
    again, others = compile_task(task, {"toolchain": "tcc"})
    again.step(task.samples[0], 0.5)
    assert [again.grad(p) for p in others] == gradients


def test_sync_writes_into_the_values_of_micrograd() -> None:
    task = xor()
    program, parameters = compile_task(task, {"toolchain": "tcc"})
    program.step(task.samples[0], 0.5)
    program.sync()
    assert [p.data for p in parameters] == [program.data(p) for p in parameters]
    assert any(p.grad for p in parameters)


def test_networks_of_both_packages_are_the_same() -> None:
    random.seed(3)
    theirs = micrograd_nn.MLP(3, [4, 4, 2])
    random.seed(3)
    ours = nn.MLP(3, [4, 4, 2])
    assert repr(ours) == repr(theirs)
    assert [p.data for p in ours.parameters()] == [p.data for p in theirs.parameters()]
    assert [y.data for y in ours([1.0, -2.0, 0.5])] == [y.data for y in theirs([1.0, -2.0, 0.5])]


def test_twenty_updates_on_images_have_the_bits_of_the_interpreter() -> None:
    """784-50-10 with softmax and negative log-likelihood, the article's network."""
    random.seed(5)
    net = nn.MLP(784, [50, 10])
    for p in net.parameters():
        p.data *= 0.05
    inputs, targets = [Value(0.0) for _ in range(784)], [Value(0.0) for _ in range(10)]
    with tracing():
        loss = softmax_nll(net(inputs), targets)
    samples = np.array(one_hot_samples(20, 784, 10))
    samples[:, :784] = np.where(samples[:, :784] > 0.6, np.round(samples[:, :784] * 255) / 255, 0)
    graph = (loss, [*inputs, *targets], net.parameters())
    interpreted = scalar.compile(*graph, engine="interpreted")
    rerolled = scalar.compile(*graph)
    expected = [interpreted.step(sample, 0.1) for sample in samples]
    assert [rerolled.step(sample, 0.1) for sample in samples] == expected
    assert min(expected) < expected[0]
    parameters = net.parameters()
    assert [rerolled.data(p) for p in parameters] == [interpreted.data(p) for p in parameters]
    assert [rerolled.grad(p) for p in parameters] == [interpreted.grad(p) for p in parameters]
