"""ReluMasks: the same bits, NaN and ties included, without masks that would be stored."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import intaglio
from intaglio import Tensor
from intaglio.graph.eval import evaluate
from intaglio.graph.ir import Graph
from intaglio.graph.passes.fold_constant import fold_constant
from intaglio.graph.passes.relu_masks import relu_masks
from intaglio.nn import functional as F

RNG = np.random.default_rng(0)
W = RNG.standard_normal((4, 4, 3, 3)).astype(np.float32)
X = np.round(RNG.standard_normal((2, 4, 9, 8)) * 2).astype(np.float32) / 2
X[0, 1, 2, 3] = np.nan


def recorded(layers: Callable[[Tensor, Tensor], Tensor]) -> Graph:
    """A training step: the loss, and the gradients of x and w."""

    def step(x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        x.requires_grad = w.requires_grad = True
        loss = (layers(x, w) ** 2).sum()
        loss.backward()
        return loss, x.grad * 1, w.grad * 1

    return fold_constant(intaglio.jit(step).graph(Tensor(X), Tensor(W)))


def masks(graph: Graph) -> list[str]:
    """What is compared with zero for masks, by operator."""
    found = [n.inputs[0].node for n in graph.nodes if n.op.name == "le"]
    return sorted(node.op.name if node is not None else "input" for node in found)


CASES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], list[str]]] = {
    "convolution behind": (lambda x, w: F.conv2d(F.relu(F.conv2d(x, w)), w), ["conv", "where"]),
    "maximum behind": (lambda x, w: F.max_pool2d(F.relu(F.conv2d(x, w)), 2), ["conv", "reduce_max"]),
    "overlapping maximum": (
        lambda x, w: F.conv2d(F.max_pool2d(F.relu(x), 3, 2, 1), w, padding=1),
        ["input", "reduce_max"],
    ),
    "both behind": (
        lambda x, w: F.max_pool2d(y := F.relu(F.conv2d(x, w)), 3, 1, 1) + y * F.conv2d(y, w, padding=1),
        ["conv", "where"],
    ),
    "a sum behind": (lambda x, w: F.relu(F.conv2d(x, w)).mean(dim=1), ["conv"]),
}


@pytest.mark.parametrize("name", CASES)
def test_the_same_bits(name: str) -> None:
    layers, wanted = CASES[name]
    graph = recorded(layers)
    made = relu_masks(graph)
    assert masks(made) == wanted
    assert (made is graph) == (name == "a sum behind")
    before, after = (evaluate(g, [X, W], [])[0] for g in (graph, made))
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new, old)
