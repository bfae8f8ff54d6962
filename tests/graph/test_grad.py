"""Derivatives of graphs, loops and branches against finite differences and unrolled programs, in f64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from intaglio.graph.eval import evaluate
from intaglio.graph.grad import gradient, vjp
from intaglio.graph.ir import Graph, Value
from intaglio.graph.passes import PASSES
from intaglio.graph.rewrite import splice
from intaglio.graph.spec import verify
from intaglio.graph.text import arrays_of, parse_graph, print_graph
from intaglio.ops import prim
from intaglio.shared.dtypes import bool_, f64, i64
from intaglio.shared.errors import ArgumentError, UnsupportedError
from intaglio.shared.index import Var, var_index
from intaglio.shared.types import TensorType

Arrays = Sequence[Any]


def optimise(graph: Graph) -> Graph:
    for one in PASSES:
        graph = one.function(graph)
        verify(graph)
    return graph


def make(shapes: Sequence[tuple[int, ...]], function: Callable[..., Value]) -> Graph:
    graph = Graph()
    graph.set_outputs([function(*(graph.input(TensorType(f64, s), f"x{k}") for k, s in enumerate(shapes)))])
    return graph


def with_gradient(graph: Graph) -> Graph:
    """A copy that gives the gradient of its first output by every float input."""
    made = graph.copy()
    found = gradient(made, made.outputs[0], [v for v in made.inputs if v.dtype.is_float])
    made.set_outputs(found)
    verify(made)
    return made


def check(graph: Graph, arrays: Arrays, *, order: int = 1) -> None:
    """Directional finite differences, of the gradient again for higher orders; after all passes, too."""
    derived = with_gradient(graph)
    for program in (derived, optimise(derived), parse_graph(print_graph(derived), arrays_of(derived))):
        rng = np.random.default_rng(1)
        directions = [rng.standard_normal(a.shape) for a in arrays]
        at = lambda t: graph.run(*(a + t * d for a, d in zip(arrays, directions, strict=True)))[0]
        expected = (at(1e-5) - at(-1e-5)) / 2e-5
        found = sum(np.sum(g * d) for g, d in zip(program.run(*arrays), directions, strict=True))
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    if order > 1:
        again = derived.copy()
        total = [prim.sum(prim.sin(v), axes=tuple(range(v.type.rank))) for v in again.outputs]
        again.set_outputs([sum(total[1:], total[0])])
        check(again, arrays, order=order - 1)


def numbers(*shapes: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) * 0.7 for shape in shapes]


def total(value: Value) -> Value:
    return prim.sum(value, axes=tuple(range(value.type.rank)))


def test_gradient_of_a_network_and_of_its_gradient() -> None:
    shapes = [(3, 4), (4, 5), (5,)]
    graph = make(shapes, lambda x, w, b: total(prim.tanh(prim.dot(x, w, spec="mk,kn->mn") + b) ** 2))
    check(graph, numbers(*shapes), order=3)


def test_gradient_marks_its_phase() -> None:
    graph = make([(3,)], lambda x: total(prim.exp(x)))
    count = len(graph.nodes)
    gradient(graph, graph.outputs[0], graph.inputs)
    assert {node.phase for node in graph.nodes[count:]} == {"backward"}


def test_values_without_influence_have_zero_gradient() -> None:
    graph = make([(3,), (2,)], lambda x, y: total(x))
    (dx, dy) = with_gradient(graph).run(np.zeros(3), np.zeros(2))
    np.testing.assert_array_equal(dx, np.ones(3))
    np.testing.assert_array_equal(dy, np.zeros(2))


def test_vjp_of_a_graph() -> None:
    graph = Graph("f")
    x, y = graph.input(TensorType(f64, (3,)), "x"), graph.input(TensorType(f64, (3,)), "y")
    graph.set_outputs([x * y, prim.exp(x), x * y], ["p", "e", "p2"])
    product = vjp(graph)
    verify(product)
    assert product.output_names == ["d_x", "d_y"]
    a, b, u, v, w = numbers(*[(3,)] * 5)
    dx, dy = product.run(a, b, u, v, w)
    np.testing.assert_allclose(dx, (u + w) * b + v * np.exp(a))
    np.testing.assert_allclose(dy, (u + w) * a)


def rnn_body(n: int) -> Graph:
    """`h' = tanh(h u + x)`, `y = h' * h' * k`; `h` is carried beside a counter."""
    body = Graph("step")
    count, h = body.input(TensorType(i64, ()), "count"), body.input(TensorType(f64, (n,)), "h")
    x = body.input(TensorType(f64, (n,)), "x")
    u, k = body.input(TensorType(f64, (n, n)), "u"), body.input(TensorType(f64, ()), "k")
    new = prim.tanh(prim.dot(h, u, spec="k,kn->n") + x)
    body.set_outputs([count + 1, new, new * new * k, new])
    return body


def scanned(steps: int, n: int, *, reverse: bool, parts: tuple[int, ...]) -> Graph:
    graph = Graph()
    h, x = graph.input(TensorType(f64, (n,)), "h"), graph.input(TensorType(f64, (steps, n)), "x")
    u, k = graph.input(TensorType(f64, (n, n)), "u"), graph.input(TensorType(f64, ()), "k")
    count = graph.constant(np.int64(0))
    results = prim.scan(count, h, x, u, k, body=rnn_body(n), n_carry=2, n_xs=1, reverse=reverse, length=steps)
    graph.set_outputs(
        [sum((total(prim.sin(results[p])) for p in parts[1:]), total(prim.sin(results[parts[0]])))]
    )
    return graph


def unrolled(steps: int, n: int, *, reverse: bool, parts: tuple[int, ...]) -> Graph:
    graph, body = Graph(), rnn_body(n)
    h, x = graph.input(TensorType(f64, (n,)), "h"), graph.input(TensorType(f64, (steps, n)), "x")
    u, k = graph.input(TensorType(f64, (n, n)), "u"), graph.input(TensorType(f64, ()), "k")
    count = graph.constant(np.int64(0))
    rows: list[list[Value]] = [[], []]
    for t in reversed(range(steps)) if reverse else range(steps):
        row = prim.reshape(prim.slice(x, start=(t, 0), stop=(t + 1, n), step=(1, 1)), shape=(n,))
        count, h, *ys = splice(graph, body, [count, h, row, u, k])
        for column, y in zip(rows, ys, strict=True):
            column.append(prim.reshape(y, shape=(1, n)))
    results = [count, h, *(prim.concat(*(c[::-1] if reverse else c), axis=0) for c in rows)]
    graph.set_outputs(
        [sum((total(prim.sin(results[p])) for p in parts[1:]), total(prim.sin(results[parts[0]])))]
    )
    return graph


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("parts", [(1,), (2,), (1, 2), (2, 3), (3,)])
def test_scan_against_the_unrolled_program(reverse: bool, parts: tuple[int, ...]) -> None:
    arrays = numbers((3,), (4, 3), (3, 3), ())
    loop, flat = scanned(4, 3, reverse=reverse, parts=parts), unrolled(4, 3, reverse=reverse, parts=parts)
    np.testing.assert_allclose(loop.run(*arrays)[0], flat.run(*arrays)[0], rtol=1e-13)
    expected = with_gradient(flat).run(*arrays)
    derived = with_gradient(loop)
    for program in (derived, optimise(derived)):
        for a, b in zip(program.run(*arrays), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


def test_second_derivative_of_a_scan() -> None:
    check(scanned(3, 2, reverse=False, parts=(1, 2)), numbers((2,), (3, 2), (2, 2), ()), order=2)


def test_scan_over_a_symbolic_length() -> None:
    steps = var_index(Var("steps", 1, 16))
    graph = Graph()
    h, x = graph.input(TensorType(f64, (2,)), "h"), graph.input(TensorType(f64, (steps, 2)), "x")
    u, k = graph.input(TensorType(f64, (2, 2)), "u"), graph.input(TensorType(f64, ()), "k")
    results = prim.scan(
        graph.constant(np.int64(0)),
        h,
        x,
        u,
        k,
        body=rnn_body(2),
        n_carry=2,
        n_xs=1,
        reverse=False,
        length=steps,
    )
    graph.set_outputs([total(results[2])])
    for size in (1, 5):
        check(graph, numbers((2,), (size, 2), (2, 2), ()))


def test_nested_scans() -> None:
    inner = Graph("inner")
    c, x, w = (inner.input(TensorType(f64, ()), name) for name in "cxw")
    inner.set_outputs([prim.sin(c * w + x), c * x])
    outer = Graph("outer")
    c, row, w = (outer.input(TensorType(f64, s), n) for s, n in (((), "c"), ((3,), "row"), ((), "w")))
    final, ys = prim.scan(c, row, w, body=inner, n_carry=1, n_xs=1, reverse=False, length=3)
    outer.set_outputs([final, prim.sum(ys, axes=(0,))])
    graph = Graph()
    c, xs, w = (graph.input(TensorType(f64, s), n) for s, n in (((), "c"), ((4, 3), "xs"), ((), "w")))
    final, ys = prim.scan(c, xs, w, body=outer, n_carry=1, n_xs=1, reverse=True, length=4)
    graph.set_outputs([final * total(ys)])
    check(graph, numbers((), (4, 3), ()), order=2)


def branches() -> Graph:
    graphs = []
    for name in ("then", "orelse"):
        branch = Graph(name)
        a, b = branch.input(TensorType(f64, (3,)), "a"), branch.input(TensorType(f64, (3,)), "b")
        branch.set_outputs([prim.exp(a) * b, a] if name == "then" else [prim.sin(a), a * a])
        graphs.append(branch)
    graph = Graph()
    a, b = graph.input(TensorType(f64, (3,)), "a"), graph.input(TensorType(f64, (3,)), "b")
    predicate = prim.lt(total(a), total(b))
    p, q = prim.cond(predicate, a, b, then=graphs[0], orelse=graphs[1])
    graph.set_outputs([total(p * q)])
    return graph


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_branches(sign: float) -> None:
    a, b = numbers((3,), (3,))
    check(branches(), [a, b + sign * 10], order=2)


def test_while_has_no_derivative() -> None:
    test, body = Graph("test"), Graph("body")
    test.set_outputs([prim.lt(test.input(TensorType(f64, ()), "c"), 3.0)])
    body.set_outputs([body.input(TensorType(f64, ()), "c") * 2.0])
    graph = Graph()
    x = graph.input(TensorType(f64, ()), "x")
    y = prim.while_loop(x, cond=test, body=body, n_carry=1)
    with pytest.raises(UnsupportedError, match="while_loop has no derivative"):
        gradient(graph, y, [x])


def test_what_cannot_be_differentiated_is_refused() -> None:
    graph = Graph()
    x, flag = graph.input(TensorType(f64, (3,)), "x"), graph.input(TensorType(bool_, ()), "flag")
    with pytest.raises(ArgumentError, match="no scalar"):
        gradient(graph, x, [x])
    with pytest.raises(ArgumentError, match="not of a float type"):
        gradient(graph, total(x), [flag])


def test_only_what_the_backward_pass_needs_is_stacked() -> None:
    """The new state of the RNN is a result already; saved are the old state and `h u + x` never."""
    derived = with_gradient(scanned(4, 3, reverse=False, parts=(2, 3)))
    backward = next(node for node in derived.nodes if node.op.name == "scan" and node.attrs["reverse"])
    streams = backward.inputs[backward.attrs["n_carry"] :][: backward.attrs["n_xs"]]
    assert len(streams) <= 6
    assert not any(value.name == "x" for value in streams)


def test_states_take_part_in_gradients() -> None:
    graph = Graph()
    x, w = graph.input(TensorType(f64, (3,)), "x"), graph.state(np.ones(3), "w")
    loss = total((x * w) ** 2)
    (dw,) = gradient(graph, loss, [w])
    graph.set_outputs([loss])
    graph.update(w, w - 0.1 * dw)
    _, (after,) = evaluate(graph, [np.array([1.0, 2.0, 3.0])])
    np.testing.assert_allclose(after, 1 - 0.2 * np.array([1.0, 4.0, 9.0]))


def test_the_forward_loop_runs_once_after_the_passes() -> None:
    graph = scanned(4, 3, reverse=False, parts=(1, 2))
    loss = graph.outputs[0]
    graph.set_outputs([loss, *gradient(graph, loss, [graph.inputs[2]])])
    assert [node.op.name for node in graph.nodes].count("scan") == 3
    after = optimise(graph)
    loops = [node for node in after.nodes if node.op.name == "scan"]
    assert [node.attrs["reverse"] for node in loops] == [False, True]
    assert "count" not in [value.name for value in loops[0].attrs["body"].inputs]
    arrays = numbers((3,), (4, 3), (3, 3), ())
    for a, b in zip(graph.run(*arrays), after.run(*arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_weight_gradients_are_contracted_behind_the_loop() -> None:
    body = Graph("step")
    h, x = body.input(TensorType(f64, (2, 3)), "h"), body.input(TensorType(f64, (2, 3)), "x")
    w, b = body.input(TensorType(f64, (3, 3)), "w"), body.input(TensorType(f64, (3,)), "b")
    body.set_outputs([prim.tanh(prim.dot(h, w, spec="nk,ko->no") + x + b)])
    graph = Graph()
    shapes = [(2, 3), (6, 2, 3), (3, 3), (3,)]
    operands = [graph.input(TensorType(f64, shape)) for shape in shapes]
    loss = total(prim.scan(*operands, body=body, n_carry=1, n_xs=1, reverse=False, length=6))
    graph.set_outputs([loss, *gradient(graph, loss, graph.inputs)])
    after = optimise(graph)
    forward, backward = (node for node in after.nodes if node.op.name == "scan")
    assert (forward.attrs["n_carry"], backward.attrs["n_carry"]) == (1, 1)
    assert [node.attrs["spec"] for node in after.nodes if node.op.name == "dot"] == ["tnk,tno->ko"]
    arrays = numbers(*shapes)
    for a, b in zip(graph.run(*arrays), after.run(*arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize(("function", "hoisted"), [(lambda x: x, True), (prim.exp, False)])
def test_a_sum_with_a_start_is_hoisted_with_it(function: Callable[[Value], Value], hoisted: bool) -> None:
    """Not when the summands would take much more memory than their sum: exp(x) is three times its size."""
    body = Graph("body")
    acc, x = body.input(TensorType(f64, (2,)), "acc"), body.input(TensorType(f64, (3, 2)), "x")
    body.set_outputs([acc + prim.sum(function(x), axes=(0,))])
    graph = Graph()
    start, xs = graph.input(TensorType(f64, (2,)), "start"), graph.input(TensorType(f64, (4, 3, 2)), "xs")
    graph.set_outputs([prim.scan(start, xs, body=body, n_carry=1, n_xs=1, reverse=False, length=4)])
    after = optimise(graph)
    assert [node.op.name for node in after.nodes] == (["sum", "add"] if hoisted else ["scan"])
    arrays = numbers((2,), (4, 3, 2))
    np.testing.assert_allclose(after.run(*arrays)[0], graph.run(*arrays)[0], rtol=1e-12)
