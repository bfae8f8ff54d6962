"""Elementwise operators over the same elements become one kernel, and write what is put side by side."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio.compile import Settings, lower_graph
from intaglio.graph.eval import evaluate as run_graph
from intaglio.graph.ir import Graph, Value
from intaglio.loop.eval import evaluate as run_loops
from intaglio.loop.ir import Program
from intaglio.ops import prim
from intaglio.shared.dtypes import f32
from intaglio.shared.types import TensorType

SHAPE = (3, 6)


def given(graph: Graph, *names: str) -> list[Value]:
    return [graph.input(TensorType(f32, SHAPE), name) for name in names]


def checked(graph: Graph) -> Program:
    """The program of a graph, which gives what the graph's interpreter gives."""
    program = lower_graph(graph, Settings(target="generic")).program
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(v.shape, np.float32) for v in graph.inputs]
    states = [np.array(v.data) for v in graph.states]
    expected, updated = run_graph(graph, inputs, [s.copy() for s in states])
    found = [np.full(b.shape, np.nan, np.float32) for b in program.outputs]
    buffers = [*program.inputs, *program.outputs, *program.states]
    run_loops(program, {b.name: a for b, a in zip(buffers, [*inputs, *found, *states], strict=True)})
    for a, b in zip([*found, *states], [*expected, *updated], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    return program


def concat(*parts: Value, axis: int) -> Value:
    return prim.concat(*parts, axis=axis)


def test_a_chain_whose_inner_values_are_results_is_one_kernel() -> None:
    graph = Graph()
    a, b = given(graph, "a", "b")
    early, other = prim.exp(a), prim.tanh(b)
    late = early * other
    graph.set_outputs([early, other, late, late + a])
    assert len(checked(graph).kernels) == 1


def test_what_a_third_kernel_stands_between_stays_apart() -> None:
    graph = Graph()
    (a,) = given(graph, "a")
    early = prim.exp(a)
    total = prim.broadcast(prim.sum(early, axes=(0,)), shape=SHAPE)
    graph.set_outputs([early, early / total])
    assert len(checked(graph).kernels) == 3


@pytest.mark.parametrize("axis", [0, 1])
def test_a_concatenation_is_written_by_the_kernel_of_its_parts(axis: int) -> None:
    graph = Graph()
    a, b = given(graph, "a", "b")
    first, second = prim.exp(a), a * b
    graph.set_outputs([concat(first, second, b, -first, axis=axis), first, prim.tanh(second)])
    assert len(checked(graph).kernels) == 1


def test_parts_that_are_read_at_other_places_are_copied() -> None:
    graph = Graph()
    a, b = given(graph, "a", "b")
    turned = prim.reshape(prim.transpose(prim.reshape(prim.exp(a), shape=(6, 3)), perm=(1, 0)), shape=SHAPE)
    graph.set_outputs([concat(turned, a * b, axis=1)])
    assert len(checked(graph).kernels) == 2


def test_a_part_that_needs_another_one_complete_is_written_later() -> None:
    graph = Graph()
    (a,) = given(graph, "a")
    first = prim.exp(a)
    total = prim.broadcast(prim.sum(first, axes=(0,)), shape=SHAPE)
    graph.set_outputs([concat(first, first / total, axis=1)])
    assert len(checked(graph).kernels) == 3


def test_parts_of_different_sizes_are_copied() -> None:
    graph = Graph()
    (a,) = given(graph, "a")
    b = graph.input(TensorType(f32, (3, 2)), "b")
    graph.set_outputs([concat(prim.exp(a), prim.exp(b), axis=1)])
    assert len(checked(graph).kernels) == 3


def test_the_gradients_of_gates_are_one_kernel_and_states_change_in_place() -> None:
    graph = Graph()
    a, b = given(graph, "a", "b")
    cell = graph.state(np.ones(SHAPE, np.float32), "cell")
    after = prim.sigmoid(a) * cell + prim.tanh(b)
    gates = [after * a, after * b, prim.tanh(after)]
    padded = [
        prim.pad(gate, padding=((0, 0), (6 * k, 6 * (2 - k))), mode="constant", value=0.0)
        for k, gate in zip((2, 0, 1), gates, strict=True)
    ]
    graph.set_outputs([padded[0] + padded[1] + padded[2]])
    graph.update(cell, after)
    program = checked(graph)
    assert len(program.kernels) == 1
    assert not program.scratch


@pytest.mark.parametrize("seed", range(12))
def test_random_chains_of_maps_sums_and_concatenations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = Graph()
    values = given(graph, "a", "b", "c")
    state = graph.state(rng.standard_normal(SHAPE).astype(np.float32), "s")
    values.append(state)
    results: list[Value] = []

    def pick() -> Value:
        return values[int(rng.integers(len(values)))]

    for _ in range(24):
        kind = int(rng.integers(7))
        if kind < 2:
            values.append(prim.tanh(pick()))
        elif kind < 4:
            values.append(pick() * pick() + pick())
        elif kind == 4:
            axis = int(rng.integers(2))
            total = prim.sum(pick(), axes=(axis,))
            wide = prim.reshape(total, shape=tuple(1 if k == axis else n for k, n in enumerate(SHAPE)))
            values.append(pick() - prim.broadcast(wide, shape=SHAPE))
        else:
            whole = concat(*(pick() for _ in range(int(rng.integers(2, 4)))), axis=int(rng.integers(2)))
            results.append(whole)
            values.append(prim.slice(whole, start=(0, 0), stop=SHAPE, step=(1, 1)))
    graph.set_outputs([*results, values[-1], values[-3]])
    graph.update(state, prim.tanh(pick()))
    checked(graph)


def test_what_another_row_is_read_of_is_stored() -> None:
    """One operator reads a quotient at its own place, its neighbour in the same kernel at another place."""
    graph = Graph()
    a, b, c = given(graph, "a", "b", "c")
    quotient = a / b
    turned = prim.gather(quotient, graph.constant(np.array([2, 0, 1])), axes=(0,))
    graph.set_outputs([b * quotient + c * turned])
    assert len(checked(graph).kernels) == 2
