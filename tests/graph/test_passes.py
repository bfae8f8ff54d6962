"""Every pass keeps what a graph computes; where it must fire it does, where it must not it does not."""

from __future__ import annotations

import time

import numpy as np
import pytest
from generate import assert_same, random_graph, random_inputs

from intaglio.graph.ir import Graph, Value
from intaglio.graph.passes import PASSES, Pass
from intaglio.graph.passes.canonicalize import canonicalize_ops
from intaglio.graph.passes.common_subexpr import eliminate_common_subexpr
from intaglio.graph.passes.dead_code import dead_code
from intaglio.graph.passes.fold_constant import fold_constant
from intaglio.graph.passes.simplify_reductions import simplify_reductions
from intaglio.graph.spec import verify
from intaglio.graph.text import print_graph
from intaglio.ops import prim
from intaglio.ops.like import iota_like
from intaglio.shared.dtypes import f32, f64, i64
from intaglio.shared.index import Var, var_index
from intaglio.shared.types import TensorType

DISTINCT = list({one.name: one for one in PASSES}.values())


def names(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


def operands_of(graph: Graph, op: str) -> list[str]:
    """The names of what the one operator of a kind reads."""
    (node,) = (node for node in graph.nodes if node.op.name == op)
    return [value.name for value in node.inputs]


@pytest.mark.parametrize("one", DISTINCT, ids=lambda one: one.name)
@pytest.mark.parametrize("seed", range(25))
def test_a_pass_keeps_what_random_graphs_compute(one: Pass, seed: int) -> None:
    graph = random_graph(seed)
    text = print_graph(graph)
    after = one.function(graph)
    verify(after)
    assert print_graph(graph) == text, "the pass edited its argument"
    for k, awkward in enumerate((False, True)):
        assert_same(graph, after, random_inputs(graph, seed + k, awkward=awkward))


@pytest.mark.parametrize("seed", range(25, 60))
def test_all_passes_keep_what_random_graphs_compute(seed: int) -> None:
    graph = random_graph(seed, steps=60, dtype=f64 if seed % 2 else f32)
    after = graph
    for one in PASSES:
        after = one.function(after)
        verify(after)
    for k, awkward in enumerate((False, True)):
        assert_same(graph, after, random_inputs(graph, seed + k, awkward=awkward), ulps=256)


@pytest.mark.parametrize("one", DISTINCT, ids=lambda one: one.name)
def test_passes_are_idempotent(one: Pass) -> None:
    for seed in range(8):
        once = one.function(random_graph(seed))
        assert print_graph(one.function(once)) == print_graph(once)


def test_big_graphs_take_little_time() -> None:
    graph = random_graph(3, steps=5000)
    graph.set_outputs([v for v in graph.values() if v.source == "node"])
    started = time.process_time()
    for one in PASSES:
        graph = one.function(graph)
    assert time.process_time() - started < 3.0


def test_symbolic_dimensions_pass_through() -> None:
    batch = var_index(Var("batch", 1, 8))
    graph = Graph()
    x = graph.input(TensorType(f32, (batch, 4)), "x")
    w = graph.constant(np.ones((3, 4), np.float32))
    y = prim.dot(x, prim.transpose(w, perm=(1, 0)), spec="mk,kn->mn")
    z = prim.reshape(prim.reshape(y * 1.0 + 0.5 * 2.0, shape=(batch, 3, 1)), shape=(batch * 3,))
    graph.set_outputs([z, prim.sum(z, axes=(0,))])
    after = graph
    for one in PASSES:
        after = one.function(after)
        verify(after)
    assert len(after.nodes) < len(graph.nodes)
    for size in (1, 5):
        assert_same(graph, after, [np.ones((size, 4), np.float32)])


def test_dead_code_goes_and_interface_stays() -> None:
    graph = Graph()
    x, unused = graph.input(TensorType(f32, (2,)), "x"), graph.input(TensorType(f32, (2,)), "unused")
    state = graph.state(np.zeros(2, np.float32), "s")
    prim.exp(unused)
    graph.set_outputs([x + 1.0])
    after = dead_code(graph)
    assert names(after) == ["broadcast", "add"]
    assert [v.name for v in after.inputs] == ["x", "unused"]
    assert [v.name for v in after.states] == [state.name]


def test_folding_a_function_of_constants_leaves_one_constant() -> None:
    graph = Graph()
    a, b = graph.constant(np.arange(6.0).reshape(2, 3)), graph.constant(np.arange(3.0))
    graph.set_outputs([prim.sum(prim.exp(a - b) * 2.0, axes=(0, 1))])
    after = fold_constant(graph)
    assert not after.nodes
    assert len(after.constants) == 1
    assert_same(graph, after, [])


def test_folding_does_not_blow_arrays_up() -> None:
    graph = Graph()
    x = graph.input(TensorType(f32, (1000, 1000)), "x")
    c = graph.constant(np.float32(3))
    wide = prim.broadcast(prim.exp(c), shape=(1000, 1000))
    rows = iota_like(x, (1000, 1000), 0, f32)
    graph.set_outputs([x * wide + rows])
    after = fold_constant(graph)
    assert names(after) == ["broadcast", "iota", "mul", "add"]
    assert sum(v.data.nbytes for v in after.constants) == 4  # type: ignore[union-attr]


def test_what_comes_of_a_big_iota_is_folded_when_it_is_small() -> None:
    graph = Graph()
    x = graph.input(TensorType(f32, ()), "x")
    graph.set_outputs([x + prim.sum(iota_like(x, (1000, 100), 1, f32), axes=(0, 1))])
    assert names(fold_constant(graph)) == ["add"]


def test_random_draws_and_states_are_not_folded() -> None:
    graph = Graph()
    seed = graph.constant(np.array([1, 2], np.uint64))
    state = graph.state(np.ones(3, np.float32))
    graph.set_outputs([prim.random_bits(seed, shape=(3,)), prim.exp(state)])
    assert names(fold_constant(graph)) == ["random_bits", "exp"]


def test_common_subexpressions_run_once() -> None:
    graph = Graph()
    x, y = (graph.input(TensorType(f32, (2, 2)), name) for name in "xy")
    graph.set_outputs([prim.exp(x + y) * prim.exp(y + x), (x - y) + (y - x), x * 2.0 + y * 2.0])
    after = eliminate_common_subexpr(graph)
    assert names(after).count("exp") == 1
    assert names(after).count("sub") == 2
    assert len(after.constants) == 1


def test_attributes_that_differ_in_sign_of_zero_are_not_common() -> None:
    graph = Graph()
    x = graph.input(TensorType(f32, (2,)), "x")
    pads = [prim.pad(x, padding=((1, 0),), mode="constant", value=value) for value in (0.0, -0.0)]
    graph.set_outputs(pads)
    assert len(eliminate_common_subexpr(graph).nodes) == 2


def test_a_sum_of_products_becomes_a_contraction() -> None:
    graph = Graph()
    a, b = graph.input(TensorType(f32, (2, 5, 3)), "a"), graph.input(TensorType(f32, (3, 4)), "b")
    wide = prim.reshape(a, shape=(2, 5, 3, 1)) * b
    graph.set_outputs([prim.sum(wide, axes=(2,)), prim.sum(wide * 2.0, axes=(2,))])
    after = simplify_reductions(graph)
    dots = [node.attrs["spec"] for node in after.nodes if node.op.name == "dot"]
    assert dots == []  # the product has two readers
    graph.set_outputs([graph.outputs[0]])
    graph = dead_code(graph)
    after = simplify_reductions(graph)
    assert [node.attrs["spec"] for node in after.nodes if node.op.name == "dot"] == ["ijk,kl->ijl"]
    assert_same(graph, after, random_inputs(graph, 0, awkward=False), ulps=5000)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_sum_over_a_one_hot_row_reads_one_element(axis: int) -> None:
    graph = Graph()
    x = graph.input(TensorType(f32, (3, 5, 4)), "x")
    places = tuple(1 if k == axis else n for k, n in enumerate(x.shape))
    t = graph.input(TensorType(i64, places), "t")
    hot = prim.eq(prim.broadcast(t, shape=x.shape), iota_like(x, x.shape, axis, i64))
    shifted = x - prim.broadcast(prim.reduce_max(x, axes=(0, 1, 2)), shape=x.shape)
    rows = [
        prim.where(hot, v, 0) for v in (shifted, prim.broadcast(prim.sum(x, axes=(0, 1, 2)), shape=x.shape))
    ]
    graph.set_outputs([prim.sum(rows[0], axes=(axis,)), prim.sum(-rows[1], axes=(axis,))])
    after = dead_code(simplify_reductions(graph))
    assert names(after).count("gather") == 1
    assert "eq" not in names(after)
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(x.shape, np.float32), rng.integers(-2, 7, places)]
    assert_same(graph, after, inputs, ulps=4)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_sum_of_parts_in_places_of_their_own_is_a_concatenation(axis: int) -> None:
    graph = Graph()
    parts = [graph.input(TensorType(f32, (3, 3)), name) for name in "abc"]

    def padded(part: int, before: int, value: float = 0.0) -> Value:
        grown = tuple((before, 6 - before) if k == axis else (0, 0) for k in (0, 1))
        return prim.pad(parts[part], padding=grown, mode="constant", value=value)

    whole = padded(0, 6) + (padded(1, 0) + padded(2, 3))
    overlapping = padded(0, 6) + padded(1, 0) + padded(2, 2)
    shifted = padded(0, 6) + padded(1, 0) + padded(2, 3, value=1.0)
    graph.set_outputs([whole, overlapping, shifted, padded(0, 6) + padded(1, 0)])
    after = dead_code(simplify_reductions(graph))
    assert names(after).count("concat") == 1
    assert operands_of(after, "concat") == ["b", "c", "a"]
    assert_same(graph, after, random_inputs(graph, 0, awkward=False), ulps=0)


def test_an_elementwise_product_stays_a_reduction() -> None:
    graph = Graph()
    a, b = graph.input(TensorType(f32, (4, 3)), "a"), graph.input(TensorType(f32, (3,)), "b")
    graph.set_outputs([prim.sum(a * b, axes=(1,)), prim.sum(a * a, axes=(0, 1))])
    assert "dot" not in names(simplify_reductions(graph))


def test_repeated_operands_of_contractions_are_not_repeated() -> None:
    graph = Graph()
    a, w = graph.input(TensorType(f32, (2, 5, 4)), "a"), graph.input(TensorType(f32, (1, 4, 3)), "w")
    wide = prim.broadcast(w, shape=(2, 4, 3))
    row = prim.broadcast(prim.reshape(w, shape=(4, 3)), shape=(2, 4, 3))
    ones = prim.broadcast(w, shape=(2, 4, 3))
    graph.set_outputs(
        [
            prim.dot(a, wide, spec="bmk,bkn->bmn"),
            prim.dot(row, a, spec="bkn,bmk->bnm"),
            prim.dot(a, ones, spec="bmk,bkn->mn"),
        ]
    )
    after = dead_code(canonicalize_ops(graph))
    specs = sorted(node.attrs["spec"] for node in after.nodes if node.op.name == "dot")
    assert specs == ["bmk,bkn->mn", "bmk,kn->bmn", "kn,bmk->bnm"]
    assert_same(graph, after, random_inputs(graph, 0, awkward=False), ulps=2000)


def test_constants_sink_into_bodies() -> None:
    body, test = Graph("body"), Graph("test")
    for part in (body, test):
        c, k = part.input(TensorType(f32, (2,)), "c"), part.input(TensorType(f32, ()), "k")
        if part is test:
            test.set_outputs([prim.lt(prim.sum(c, axes=(0,)), prim.exp(k))])
        else:
            body.set_outputs([c * prim.exp(k) + 1.0])
    graph = Graph()
    x, one = graph.input(TensorType(f32, (2,)), "x"), graph.constant(np.float32(1.0), "one")
    y = prim.while_loop(x, one, cond=test, body=body, n_carry=1)
    z = prim.scan(y, one, body=body, n_carry=1, n_xs=0, reverse=False, length=2)
    graph.set_outputs([prim.cond(prim.lt(prim.sum(z, axes=(0,)), 0.0), z, one, then=body, orelse=body)])
    after = graph
    for one_pass in PASSES:
        after = one_pass.function(after)
        verify(after)
    for node in after.nodes:
        bodies = [attr for attr in node.attrs.values() if isinstance(attr, Graph)]
        assert all("exp" not in names(inner) and len(inner.inputs) == 1 for inner in bodies)
    assert_same(graph, after, [np.array([0.5, -0.25], np.float32)])
