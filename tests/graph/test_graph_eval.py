"""The interpreter of graphs, symbolic dimensions, copies and the helpers of rewriting."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio.graph.eval import evaluate
from intaglio.graph.ir import Graph
from intaglio.graph.rewrite import MAX_ROUNDS, exhaust, rebuild, splice
from intaglio.graph.spec import verify
from intaglio.graph.symbols import specialise, symbols_of
from intaglio.graph.text import print_graph
from intaglio.ops import prim
from intaglio.shared.dtypes import bool_, f32, i64
from intaglio.shared.errors import ArgumentError, DTypeError, ShapeError, VerifyError
from intaglio.shared.index import Var, var_index
from intaglio.shared.types import TensorType


def counter() -> Graph:
    graph = Graph()
    x = graph.input(TensorType(f32, (2,)), "x")
    total, count = graph.state(np.zeros(2, np.float32), "total"), graph.state(np.asarray(0), "count")
    graph.set_outputs([total + x, count])
    graph.update(total, total + x)
    graph.update(count, count + 1)
    return graph


def test_states_move_on_and_are_not_changed_in_place() -> None:
    graph = counter()
    x, states = np.array([1, 2], np.float32), None
    for step in range(3):
        (y, count), states = evaluate(graph, [x], states)
        assert count == step
        np.testing.assert_array_equal(y, (step + 1) * x)
    np.testing.assert_array_equal(graph.states[0].data, np.zeros(2))
    assert states is not None
    assert states[1] == 3


def test_states_without_update_stay() -> None:
    graph = Graph()
    s = graph.state(np.ones(2, np.float32))
    graph.set_outputs([s * 2.0])
    assert evaluate(graph, [])[1][0] is s.data


def test_wrong_calls() -> None:
    graph = counter()
    x = np.zeros(2, np.float32)
    with pytest.raises(ArgumentError, match="2 input arrays were given but there are 1: x"):
        evaluate(graph, [x, x])
    with pytest.raises(ArgumentError, match="1 state arrays were given but there are 2"):
        evaluate(graph, [x], [x])
    with pytest.raises(DTypeError, match="was given an array of f64"):
        evaluate(graph, [np.zeros(2)])
    with pytest.raises(ShapeError, match=r"has shape \[2\] but the array has shape \[3\]"):
        evaluate(graph, [np.zeros(3, np.float32)])
    with pytest.raises(ShapeError, match="has rank 1"):
        evaluate(graph, [np.zeros((2, 1), np.float32)])


def symbolic() -> Graph:
    batch, seq = var_index(Var("batch", 1, 8)), var_index(Var("seq", 2))
    graph = Graph()
    x = graph.input(TensorType(f32, (batch, 2 * seq + 1)), "x")
    y = graph.input(TensorType(f32, (batch, seq)), "y")
    flat = prim.reshape(x, shape=(batch * (2 * seq + 1),))
    graph.set_outputs([flat, prim.broadcast(prim.sum(y, axes=(1,)), shape=(seq, batch))])
    return graph


def test_symbols_are_learned_from_the_arrays() -> None:
    graph = symbolic()
    verify(graph)
    assert [var.name for var in symbols_of(graph)] == ["batch", "seq"]
    flat, wide = graph.run(np.ones((3, 7), np.float32), np.ones((3, 3), np.float32))
    assert flat.shape == (21,)
    assert wide.shape == (3, 3)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((3, 7), (2, 3), "has shape"),
        ((3, 8), (3, 3), "has shape"),
        ((9, 7), (9, 3), "its bounds are 1 .. 8"),
        ((3, 3), (3, 1), "its bounds are 2 .. None"),
    ],
)
def test_arrays_that_do_not_fit_the_symbols(a: tuple[int, ...], b: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        symbolic().run(np.ones(a, np.float32), np.ones(b, np.float32))


def test_specialise() -> None:
    graph = symbolic()
    fixed = specialise(graph, {"batch": 4, "seq": 3})
    verify(fixed)
    assert not symbols_of(fixed)
    assert fixed.inputs[0].shape == (4, 7)
    arrays = [np.random.default_rng(0).standard_normal(s).astype(np.float32) for s in ((4, 7), (4, 3))]
    for p, q in zip(graph.run(*arrays), fixed.run(*arrays), strict=True):
        np.testing.assert_array_equal(p, q)
    assert symbols_of(specialise(graph, {"seq": 3}))
    with pytest.raises(ArgumentError, match="no symbolic dimension 'rows'"):
        specialise(graph, {"rows": 3})
    with pytest.raises(ArgumentError, match="cannot be 9"):
        specialise(graph, {"batch": 9})


def test_symbols_inside_of_bodies() -> None:
    n = var_index(Var("n", 1, 9))
    body = Graph("body")
    c, x = body.input(TensorType(f32, (n,)), "c"), body.input(TensorType(f32, ()), "x")
    body.set_outputs([c + prim.broadcast(x, shape=(n,))])
    graph = Graph()
    c0, xs = graph.input(TensorType(f32, (n,)), "c0"), graph.input(TensorType(f32, (5,)), "xs")
    graph.set_outputs([prim.scan(c0, xs, body=body, n_carry=1, n_xs=1, reverse=False, length=5)])
    fixed = specialise(graph, {"n": 3})
    verify(fixed)
    for program in (graph, fixed):
        (y,) = program.run(np.zeros(3, np.float32), np.ones(5, np.float32))
        np.testing.assert_array_equal(y, np.full(3, 5, np.float32))


def test_copies_are_equal_and_apart() -> None:
    graph = counter()
    again = graph.copy()
    assert print_graph(again) == print_graph(graph)
    prim.exp(again.inputs[0])
    assert len(again.nodes) == len(graph.nodes) + 1
    verify(again)


def test_splice_appends_one_graph_to_another() -> None:
    inner = Graph()
    a, b = inner.input(TensorType(f32, (2,)), "a"), inner.input(TensorType(f32, (2,)), "b")
    inner.set_outputs([a * b + 1.0, a])
    graph = Graph()
    x = graph.input(TensorType(f32, (2,)), "x")
    first = splice(graph, inner, [x, x])
    second = splice(graph, inner, [first[0], x])
    graph.set_outputs(second)
    verify(graph)
    y, z = graph.run(np.array([2, 3], np.float32))
    np.testing.assert_array_equal(y, [11, 31])
    np.testing.assert_array_equal(z, [5, 10])


def test_a_replacement_must_have_the_type() -> None:
    graph = Graph()
    x = graph.input(TensorType(f32, (2,)), "x")
    graph.set_outputs([prim.eq(x, x)])
    assert graph.outputs[0].dtype == bool_
    with pytest.raises(VerifyError, match="the types differ"):
        rebuild(graph, lambda rewriting, node, operands: [operands[0]])


def test_rewriting_ends_even_when_rules_do_not() -> None:
    graph = Graph()
    x = graph.input(TensorType(i64, (2,)), "x")
    graph.set_outputs([prim.neg(x)])
    rounds = []

    def find(node, operands, counts):  # type: ignore[no-untyped-def]
        rounds.append(node)
        return lambda: [prim.neg(operands[0])]

    verify(exhaust(graph, [find]))
    assert len(rounds) == 2 * MAX_ROUNDS
