"""Pooling in the kernel of the convolution before it: what it computes, and where it is made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from lowered_models import graph_of, run

import intaglio
from intaglio import Tensor, nn
from intaglio.compile import Settings, lower_graph
from intaglio.graph import eval as graph_eval
from intaglio.loop.ir import Program
from intaglio.loop.lower import lower
from intaglio.loop.rising import rises
from intaglio.native.targets import find_target
from intaglio.nn import functional as F

RNG = np.random.default_rng(11)
WIDE = replace(find_target("x86-64-v4"), fma_per_cycle=1)
NARROW = replace(WIDE, vector_bytes=16)


class Shifted(nn.Module):
    """A convolution with another image added to its result, before a function that is no rise."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Any) -> Any:
        y = self.first(x)
        return F.avg_pool2d((y + self.second(y)).sin(), 2)


class Places(nn.Module):
    """Of whole numbers, which no form rounds: many are equal, and the first one counts."""

    def __init__(self, ins: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(ins, max(16, ins), 3, padding=1)
        for part in (self.conv.weight, self.conv.bias):
            part.data = Tensor(RNG.integers(-2, 3, part.shape).astype(np.float32))

    def forward(self, x: Any) -> Any:
        y, places = F.max_pool2d(F.relu(self.conv(x.round())), 2, return_indices=True)
        return y * 1000 + places.float()


def conv(ins: int, outs: int, kernel: Any = 3, rank: int = 2, **options: Any) -> nn.Module:
    return {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[rank](ins, outs, kernel, **options)


# name, input, layers, how it is made
CASES: list[tuple[str, tuple[int, ...], list[nn.Module], str]] = [
    ("grey", (2, 1, 12, 12), [conv(1, 16, padding=1), nn.ReLU(), nn.MaxPool2d(2)], "lanes along channels"),
    ("odd", (1, 3, 13, 15), [conv(3, 21, 5, padding=2), nn.MaxPool2d(2)], "lanes along channels"),
    ("wide", (1, 1, 9, 70), [conv(1, 32, 3, stride=(1, 2)), nn.Tanh(), nn.MaxPool2d((3, 2))], "lanes along"),
    ("and another", (1, 2, 16, 18), [conv(2, 16, padding=1), nn.MaxPool2d(2), conv(16, 16)], "lanes along"),
    ("alone", (2, 3, 9, 11), [conv(3, 16), conv(16, 16, groups=16), nn.AvgPool2d(2)], "lanes along"),
    ("large windows", (1, 1, 12, 18), [conv(1, 16, padding=1), nn.MaxPool2d((3, 4))], "lanes along"),
    ("winograd", (2, 32, 12, 14), [conv(32, 32, padding=1), nn.ReLU(), nn.MaxPool2d(2)], "Winograd"),
    ("winograd, odd", (1, 32, 23, 21), [conv(32, 35, padding=1), nn.ReLU(), nn.AvgPool2d(2)], "Winograd"),
    ("winograd, rows", (1, 32, 27, 28), [conv(32, 32), nn.MaxPool2d((2, 1))], "Winograd"),
    ("twice", (1, 32, 24, 24), [conv(32, 32, padding=1), nn.ReLU(), nn.MaxPool2d(2)] * 2, "Winograd"),
    ("volume", (1, 2, 6, 7, 8), [conv(2, 16, 3, 3, padding=1), nn.MaxPool3d(2)], "lanes along channels"),
    ("another image", (1, 3, 8, 10), [Shifted()], "Winograd"),
    ("places", (1, 1, 9, 8), [Places(1)], "lanes along channels"),
    ("places, winograd", (1, 32, 13, 12), [Places(32)], "Winograd"),
]  # fmt: skip
# what keeps pooling in a kernel of its own
APART: list[tuple[str, tuple[int, ...], list[nn.Module]]] = [
    ("overlap", (1, 3, 12, 12), [conv(3, 16, padding=1), nn.MaxPool2d(3, 2)]),
    ("padding", (1, 3, 12, 12), [conv(3, 16, padding=1), nn.MaxPool2d(2, 2, 1)]),
    ("ceil", (1, 3, 11, 11), [conv(3, 16, padding=1), nn.MaxPool2d(2, ceil_mode=True)]),
    ("gaps", (1, 3, 12, 12), [conv(3, 16, padding=1), nn.MaxPool2d(2, 3)]),
    ("dilated", (1, 3, 12, 12), [conv(3, 16, padding=1), nn.MaxPool2d(2, 2, dilation=2)]),
    ("large", (1, 3, 15, 15), [conv(3, 16, padding=1), nn.AvgPool2d(5)]),
    ("one place", (1, 3, 12, 12), [conv(3, 16, 1), nn.MaxPool2d(2)]),
    ("few channels", (1, 3, 12, 12), [conv(3, 7, padding=1), nn.MaxPool2d(2)]),
    ("five taps", (1, 16, 11, 13), [conv(16, 24, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]),
    ("windows of 3", (1, 16, 14, 14), [conv(16, 16, 3), nn.GELU(), nn.MaxPool2d(3)]),
    ("groups", (1, 18, 10, 10), [conv(18, 32, 3, groups=2, padding=1), nn.MaxPool2d(2)]),
]


def pooled(program: Program) -> list[str]:
    """The notes of kernels that pool what they convolve."""
    return [
        "; ".join(k.schedule) for k in program.kernels if "pooled as they are made" in "".join(k.schedule)
    ]


@pytest.mark.parametrize(("shape", "layers", "how"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_windows_compute_the_same(shape: tuple[int, ...], layers: list[nn.Module], how: str) -> None:
    x = RNG.standard_normal(shape).astype(np.float32)
    graph = graph_of(nn.Sequential(*layers), x)
    (want,), _ = graph_eval.evaluate(graph, [x])
    for target in (WIDE, NARROW):
        program, decisions = lower(graph, target)
        assert pooled(program)
        assert target is NARROW or how in "".join(pooled(program))
        assert any(d.fused and d.because.startswith("each window") for d in decisions)
        np.testing.assert_allclose(run(program, x, want), want, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("shape", "layers"), [c[1:] for c in APART], ids=[c[0] for c in APART])
def test_other_windows_stay_apart(shape: tuple[int, ...], layers: list[nn.Module]) -> None:
    x = RNG.standard_normal(shape).astype(np.float32)
    graph = graph_of(nn.Sequential(*layers), x)
    (want,), _ = graph_eval.evaluate(graph, [x])
    program, _ = lower(graph, WIDE)
    assert not pooled(program)
    np.testing.assert_allclose(run(program, x, want), want, rtol=2e-5, atol=2e-5)


def test_results_that_others_read_are_stored() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 16, 3, padding=1)

        def forward(self, x: Any) -> Any:
            y = self.conv(x)
            return F.max_pool2d(y, 2) + y[:, :, ::2, ::2]

    x = RNG.standard_normal((1, 3, 8, 8)).astype(np.float32)
    graph = graph_of(Twice(), x)
    (want,), _ = graph_eval.evaluate(graph, [x])
    program, _ = lower(graph, WIDE)
    assert not pooled(program)
    np.testing.assert_allclose(run(program, x, want), want, rtol=2e-5, atol=2e-5)


class Added(nn.Module):
    """A constant added to an image."""

    def __init__(self, constant: np.ndarray) -> None:
        super().__init__()
        self.constant = nn.Parameter(constant.astype(np.float32))

    def forward(self, x: Any) -> Any:
        return x + self.constant


# name, layers between convolution and pooling, whether they rise
RISING: list[tuple[str, list[nn.Module], bool]] = [
    ("nothing", [], True),
    ("relu", [nn.ReLU()], True),
    ("relu6", [nn.ReLU6()], True),
    ("hardtanh", [nn.Hardtanh(-0.3, 0.6), nn.ReLU()], True),
    ("channels", [Added(np.arange(16).reshape(16, 1, 1) / 9), nn.ReLU()], True),
    ("one number", [Added(np.full((), 0.25))], True),
    ("places", [Added(np.arange(10.0) / 9)], False),
    ("infinite", [Added(np.where(np.arange(16) == 3, np.inf, 0.5).reshape(16, 1, 1))], False),
    ("leaky", [nn.LeakyReLU()], False),
    ("falling", [nn.GELU()], False),
]


@pytest.mark.parametrize(("layers", "rising"), [c[1:] for c in RISING], ids=[c[0] for c in RISING])
def test_what_rises_is_computed_once(layers: list[nn.Module], rising: bool) -> None:
    """Maxima are the same, with numbers that are none and infinities among them."""
    x = RNG.standard_normal((1, 3, 8, 10)).astype(np.float32)
    x[0, 0, 1, 1], x[0, 1, 3, 5], x[0, 2, 7, 9] = np.nan, np.inf, -np.inf
    graph = graph_of(nn.Sequential(conv(3, 16, padding=1), *layers, nn.MaxPool2d(2)), x)
    nodes = [n for n in graph.nodes if n.op.name not in ("unfold", "reduce_max")]
    start = next(k for k, n in enumerate(nodes) if n.op.name == "conv")
    views = {n for n in nodes if n.op.kind == "view"}
    assert (
        rises(nodes[start].outputs[0], nodes[start + 1 :], nodes[-1].outputs[0], views.__contains__) == rising
    )
    with np.errstate(invalid="ignore"):
        (want,), _ = graph_eval.evaluate(graph, [x])
        program, _ = lower(graph, WIDE)
        assert pooled(program)
        np.testing.assert_allclose(run(program, x, want), want, rtol=2e-5, atol=2e-5)


def test_without_fusion_pooling_is_a_kernel_of_its_own() -> None:
    x = RNG.standard_normal((1, 3, 8, 8)).astype(np.float32)
    graph = graph_of(nn.Sequential(conv(3, 16), nn.MaxPool2d(2)), x)
    for name in ("FuseOps", "FuseChains"):
        lowered = lower_graph(graph, Settings(target="x86-64-v4", disabled_passes=(name,)))
        assert not pooled(lowered.program)


def test_not_a_number_and_infinities_go_through() -> None:
    """A window with a NaN is NaN, one of infinities is infinite: as PyTorch has it."""
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2))
    x = torch.randn(1, 1, 14, 12)
    x[0, 0, 2, 3], x[0, 0, 9, 9], x[0, 0, 12, 1] = float("nan"), float("inf"), float("-inf")
    compiled = intaglio.compile(net, (x,))
    assert pooled(compiled.program)
    np.testing.assert_allclose(np.asarray(compiled(x)), net(x).detach().numpy(), rtol=1e-5, atol=1e-6)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.third, self.last = nn.Conv2d(32, 20, 5), nn.Linear(20 * 3 * 2, 10)

    def forward(self, x: Any) -> Any:
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        x = F.max_pool2d(F.relu(self.second(x)), 2)
        return self.last(F.avg_pool2d(F.relu(self.third(x)), 2).reshape(len(x), -1))


@pytest.mark.parametrize("target", ["native", "generic", "x86-64-v3"])
def test_compiled_networks(target: str) -> None:
    """Against the interpreter of graphs; threads do not change a bit."""
    intaglio.manual_seed(1)
    x = RNG.standard_normal((5, 1, 41, 37)).astype(np.float32)
    net = Network()
    (want,), _ = graph_eval.evaluate(graph_of(net, x), [x])
    found = []
    for threads in (1, 3):
        compiled = intaglio.compile(net, [x], target=target, threads=threads)
        assert len(pooled(compiled.program)) == 2
        found.append(np.asarray(compiled(x)))
    np.testing.assert_allclose(found[0], want, rtol=1e-4, atol=1e-5)
    assert found[0].tobytes() == found[1].tobytes()


def small(layers: Any) -> Any:
    """The same network of either library."""
    first = (layers.Conv2d(1, 16, 3, padding=1), layers.ReLU(), layers.MaxPool2d(2))
    second = (layers.Conv2d(16, 16, 3, padding=1), layers.ReLU(), layers.MaxPool2d(2))
    return layers.Sequential(*first, *second, layers.Flatten(), layers.Linear(16 * 5 * 4, 10))


def test_gradients_find_the_places() -> None:
    """A training step stores no result of a convolution that is pooled; losses and weights follow PyTorch."""
    torch = pytest.importorskip("torch")
    from intaglio import optim

    intaglio.manual_seed(2)
    net, peer = (small(each) for each in (nn, torch.nn))
    with torch.no_grad():
        for own, other in zip(net.parameters(), peer.parameters(), strict=True):
            other.copy_(torch.from_numpy(own.numpy().copy()))
    optimizer, other = optim.SGD(net.parameters(), lr=0.1), torch.optim.SGD(peer.parameters(), lr=0.1)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    x = RNG.standard_normal((6, 1, 21, 18)).astype(np.float32)
    y = RNG.integers(0, 10, 6)
    compiled = intaglio.jit(step, threads=1)
    assert len(pooled(compiled.compile(x, y).program)) == 2
    for _ in range(4):
        other.zero_grad()
        loss = torch.nn.functional.cross_entropy(peer(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        other.step()
        np.testing.assert_allclose(float(compiled(x, y)), loss.item(), rtol=1e-5)
    for own, theirs in zip(net.parameters(), peer.parameters(), strict=True):
        np.testing.assert_allclose(own.numpy(), theirs.detach().numpy(), rtol=1e-4, atol=1e-5)
