"""What the backward pass computes again is not stored from the forward pass on; results stay the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import intaglio
from intaglio import nn
from intaglio.compile import compile_graph
from intaglio.graph.eval import evaluate
from intaglio.graph.ir import Graph
from intaglio.loop.fuse import LATER
from intaglio.loop.ir import Buffer, Call, Program
from intaglio.loop.memory import touched
from intaglio.nn import functional as F

ROWS, WIDTH, INNER = 16, 24, 96
X = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float32)


def gradients(body: Callable[[Any], Any], weights: list[Any]) -> Graph:
    """The graph of a loss and its gradients."""

    def step(x: Any) -> Any:
        for w in weights:
            w.grad = None
        loss = (body(x) ** 2).mean()
        loss.backward()
        return loss, *(w.grad for w in weights)

    return intaglio.jit(step).graph(X)


def kept(program: Program) -> list[Buffer]:
    """Scratch of the size of the inner layer that lives from the forward pass into the backward one."""
    calls = [s for body in program.phases.values() for s in body]
    uses: dict[Buffer, list[int]] = {}
    for number, statement in enumerate(calls):
        for buffer in touched(statement):
            uses.setdefault(buffer, []).append(number)
    layers = [k for k, s in enumerate(calls) if isinstance(s, Call) and s.kernel.name.startswith("linear")]
    inner = [b for b in program.scratch if b.shape == (ROWS, INNER)]
    return [b for b in inner if uses[b][0] < layers[-1] < uses[b][-1]]


def check(graph: Graph) -> Any:
    compiled = compile_graph(graph, threads=1)
    want, _ = evaluate(graph, [X], [np.array(s.data) for s in graph.states])
    for a, b in zip(compiled(X), want, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6)
    return compiled


def test_gelu_keeps_its_argument_and_its_result() -> None:
    """Not the argument scaled in two ways, nor the exponential that only its derivative has."""
    net = nn.Sequential(nn.Linear(WIDTH, INNER), nn.GELU(), nn.Linear(INNER, WIDTH))
    compiled = check(gradients(net, list(net.parameters())))
    assert len(kept(compiled.program)) <= 3
    assert any(d.because == LATER for d in compiled.decisions)


@pytest.mark.parametrize("body", [lambda h: F.silu(h), lambda h: h * 2.0 + (h * 3.0) ** 2, F.relu])
def test_activations(body: Callable[[Any], Any]) -> None:
    first, second = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
    weights = [*first.parameters(), *second.parameters()]
    compiled = check(gradients(lambda x: second(body(first(x))), weights))
    assert len(kept(compiled.program)) <= 3


def test_normalised_rows_are_scaled_again() -> None:
    norm, last = nn.LayerNorm(INNER), nn.Linear(INNER, WIDTH)
    first = nn.Linear(WIDTH, INNER)
    weights = [*first.parameters(), *norm.parameters(), *last.parameters()]
    compiled = check(gradients(lambda x: last(norm(first(x))), weights))
    assert len(kept(compiled.program)) <= 2
