"""Images with channels last: chosen where they pay, and right everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import intaglio
from intaglio import nn
from intaglio.array.trace import trace
from intaglio.compile import Settings, lower_graph
from intaglio.graph import eval as graph_eval
from intaglio.graph.freeze import freeze_states
from intaglio.graph.ir import Graph
from intaglio.loop.eval import evaluate
from intaglio.loop.ir import Program
from intaglio.loop.spec import verify
from intaglio.nn import functional as F

RNG = np.random.default_rng(3)

# n, channels, kernel, image, options
CASES: list[tuple[int, int, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    (2, 16, (3, 3), (7, 7), {"padding": 1}),
    (1, 24, (3, 3), (14, 15), {"padding": 1, "stride": 2}),
    (1, 21, (5, 5), (20, 21), {"padding": 2}),
    (1, 32, (3, 3), (12, 40), {"padding": (1, 2), "dilation": (1, 2)}),
    (1, 32, (3, 3), (12, 12), {"dilation": 2}),
    (1, 16, (3, 4), (9, 30), {"padding": (1, 3), "stride": (1, 3)}),
    (2, 16, (7,), (30,), {"padding": 3}),
    (1, 16, (3, 2, 3), (4, 5, 9), {"padding": 1, "stride": (1, 2, 1)}),
]


class Mixed(nn.Module):
    """A depthwise convolution between two that mix channels, and other readers of its result."""

    def __init__(self, c: int, kernel: tuple[int, ...], options: dict[str, Any]) -> None:
        super().__init__()
        rank = len(kernel)
        made = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[rank]
        self.first, self.last = made(3, c, 1), made(c, 5, 1)
        self.middle = made(c, c, kernel, groups=c, **options)
        self.axes = tuple(range(2, 2 + rank))

    def forward(self, x: Any) -> Any:
        a = self.first(x).tanh()
        b = self.middle(a)
        return self.last(F.relu(b) + 0.5), b.sum(self.axes)


class Read(Mixed):
    """Images that are read in every way: as rows, across channels, by pooling, with others added."""

    def forward(self, x: Any) -> Any:
        a = self.first(x)
        b = self.middle(a) + a
        c = b * b + a.transpose(-1, -2).transpose(-1, -2)
        pooled = F.avg_pool2d(a, 3, 2), F.max_pool2d(c, 2)
        return *pooled, self.last(c), a.reshape(len(x), -1).max(1), c.sum(1), F.softmax(b, -1), b.argmax(1)


def graph_of(case: Any, kind: type[Mixed] = Mixed) -> tuple[Graph, np.ndarray]:
    n, c, kernel, image, options = case
    intaglio.manual_seed(0)
    x = RNG.standard_normal((n, 3, *image)).astype(np.float32)
    return freeze_states(trace(kind(c, kernel, options), (x,)).graph), x


def results(program: Program, graph: Graph, x: np.ndarray) -> list[np.ndarray]:
    verify(program)
    arrays = {program.inputs[0].name: x}
    arrays |= {
        b.name: np.full(v.shape, 77, v.dtype.numpy)
        for b, v in zip(program.outputs, graph.outputs, strict=True)
    }
    evaluate(program, arrays)
    return [arrays[b.name] for b in program.outputs]


def last(program: Program) -> bool:
    return any("along channels" in note for kernel in program.kernels for note in kernel.schedule)


@pytest.fixture
def all_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels last wherever that is possible, whatever it costs."""

    def best(model: Any) -> dict[Any, bool]:
        return {value: True for values in model.writes.values() for value in values}

    monkeypatch.setattr("intaglio.loop.layout._Model.best", best)


@pytest.mark.usefixtures("all_last")
@pytest.mark.parametrize("case", CASES, ids=lambda case: "x".join(map(str, case[2] + case[3])))
def test_channels_last_compute_the_same(case: Any) -> None:
    graph, x = graph_of(case)
    want, _ = graph_eval.evaluate(graph, [x])
    for target in ("x86-64-v4", "x86-64-v3", "generic"):
        program = lower_graph(graph, Settings(target=target)).program
        assert last(program)
        for have, right in zip(results(program, graph, x), want, strict=True):
            np.testing.assert_allclose(have, right, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("case", CASES[:2], ids=["padded", "strided"])
def test_compiled_code_agrees(case: Any) -> None:
    graph, x = graph_of(case)
    want, _ = graph_eval.evaluate(graph, [x])
    compiled = intaglio.compile(graph)
    assert last(compiled.program)
    for have, right in zip(compiled(x), want, strict=True):
        np.testing.assert_allclose(np.asarray(have), right, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("target", ["x86-64-v4", "generic"])
@pytest.mark.usefixtures("all_last")
def test_every_reader_finds_its_elements(target: str) -> None:
    graph, x = graph_of(CASES[0], Read)
    program = lower_graph(graph, Settings(target=target)).program
    assert sum(buffer.shape == (2, 7, 7, 16) for buffer in program.scratch) >= 1
    want, _ = graph_eval.evaluate(graph, [x])
    for have, right in zip(results(program, graph, x), want, strict=True):
        np.testing.assert_allclose(have, right, rtol=2e-5, atol=2e-5)


@pytest.mark.usefixtures("all_last")
def test_weights_known_at_run_time_only() -> None:
    x, w = (RNG.standard_normal(s).astype(np.float32) for s in ((1, 16, 9, 9), (16, 1, 3, 3)))

    def function(x: Any, w: Any) -> Any:
        return F.conv2d(F.conv2d((x * x).tanh(), w, padding=1, groups=16), w, groups=16).tanh()

    graph = trace(function, (x, w)).graph
    program = lower_graph(graph, Settings(target="x86-64-v4")).program
    assert last(program)
    want, _ = graph_eval.evaluate(graph, [x, w])
    have = np.empty_like(want[0])
    evaluate(program, {program.inputs[0].name: x, program.inputs[1].name: w, program.outputs[0].name: have})
    np.testing.assert_allclose(have, want[0], rtol=2e-5, atol=2e-5)


def test_the_pass_can_be_left_out() -> None:
    graph, _ = graph_of(CASES[0])
    for settings in ({"disabled_passes": ("AlterOpLayout",)}, {"opt_level": 2}):
        assert not last(lower_graph(graph, Settings(target="x86-64-v4", **settings)).program)


def test_images_that_gain_nothing_stay() -> None:
    x = RNG.standard_normal((1, 32, 14, 14)).astype(np.float32)
    model = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1))
    program = lower_graph(freeze_states(trace(model, (x,)).graph), Settings(target="x86-64-v4")).program
    assert all(buffer.shape != (1, 14, 14, 32) for buffer in program.scratch)


def test_rows_along_channels_want_them_last() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.alone = nn.Conv2d(3, 32, 4, stride=4), nn.Conv2d(32, 32, 7, padding=3, groups=32)
            self.norm, self.wide, self.back = nn.LayerNorm(32), nn.Linear(32, 64), nn.Linear(64, 32)

        def forward(self, x: Any) -> Any:
            x = self.first(x)
            y = self.back(self.wide(self.norm(self.alone(x).permute(0, 2, 3, 1))).relu())
            return (x + y.permute(0, 3, 1, 2)).mean((2, 3))

    x = RNG.standard_normal((1, 3, 56, 56)).astype(np.float32)
    graph = freeze_states(trace(Block(), (x,)).graph)
    program = lower_graph(graph, Settings(target="x86-64-v4")).program
    assert all(
        b.shape[-1] in (32, 64) for b in program.scratch if len(b.shape) == 4 and b.size >= 32 * 14 * 14
    )
    want, _ = graph_eval.evaluate(graph, [x])
    np.testing.assert_allclose(results(program, graph, x)[0], want[0], rtol=2e-5, atol=2e-5)


def test_inputs_and_outputs_keep_their_layout() -> None:
    x = RNG.standard_normal((1, 16, 9, 9)).astype(np.float32)
    model = nn.Conv2d(16, 16, 3, groups=16)
    program = lower_graph(freeze_states(trace(model, (x,)).graph), Settings(target="x86-64-v4")).program
    assert program.inputs[0].shape == (1, 16, 9, 9)
    assert program.outputs[0].shape == (1, 16, 7, 7)


@pytest.mark.parametrize("size", [(18, 20), (17, 21)], ids=str)
def test_winograd_between_images_with_channels_last(size: tuple[int, int]) -> None:
    """Tiles of 2 by 2 are stored as they come, or row by row where some reach over the end."""
    alone = [nn.Conv2d(32, 32, 5, padding=2, groups=32) for _ in range(2)]
    net = nn.Sequential(nn.Conv2d(3, 32, 1), alone[0], nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), alone[1])
    x = RNG.standard_normal((2, 3, *size)).astype(np.float32)
    graph = freeze_states(trace(nn.Sequential(net, nn.Conv2d(32, 5, 1)), (x,)).graph)
    (want,), _ = graph_eval.evaluate(graph, [x])
    lowered = lower_graph(graph, Settings(target="x86-64-v4"))
    kernel = next(k for k in lowered.program.kernels if "Winograd" in "".join(k.schedule))
    images = [b.shape for b in kernel.params if len(b.shape) == 4 and b.shape[:1] == (2,)]
    assert images == [(2, *size, 32)] * 2
    (found,) = results(lowered.program, graph, x)
    np.testing.assert_allclose(found, want, rtol=2e-5, atol=2e-5)
