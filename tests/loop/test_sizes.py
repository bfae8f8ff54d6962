"""Sizes that are found at run time, at every level: graph, its passes, loops, C, and the exported folder."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intaglio.compile import Settings, compile_graph, lower_graph
from intaglio.graph.grad import gradient
from intaglio.graph.ir import Graph, Value
from intaglio.graph.passes.dead_code import dead_code
from intaglio.graph.spec import verify
from intaglio.graph.symbols import specialise
from intaglio.graph.text import parse_graph, print_graph
from intaglio.loop.eval import evaluate
from intaglio.loop.text import parse_program, print_program
from intaglio.ops.registry import prim
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, ShapeError, UnsupportedError, VerifyError
from intaglio.shared.index import IndexLike, Var, interval, product, var_index
from intaglio.shared.types import TensorType

ROWS, COLUMNS = 6, 4
N = var_index(Var("n", 0, ROWS))
X = np.random.default_rng(0).standard_normal((ROWS, COLUMNS)).astype(np.float32)
COUNTS = (0, 1, 4, 6, 9, -3)


def start() -> tuple[Graph, Value, Value]:
    """A graph with an array, and with its first rows, as many as an input says."""
    graph = Graph("g")
    x = graph.input(TensorType(dtypes.f32, (ROWS, COLUMNS)), "x")
    count = graph.input(TensorType(dtypes.i64, ()), "count")
    return graph, x, prim.prefix(x * 2.0, count, extent=N)


def sample() -> Graph:
    """Elementwise, over rows, across rows, a size that only a shape uses, and the size as a number."""
    graph, x, rows = start()
    total = prim.sum(rows, axes=(0,))
    ones = prim.broadcast(graph.constant(np.float32(1)), shape=(N, COLUMNS))
    joined = prim.concat(prim.exp(rows) + ones, x, axis=0)
    flat = prim.reshape(rows, shape=(N * COLUMNS,))
    spread = prim.pad(prim.transpose(rows, perm=(1, 0)), padding=((0, 0), (1, 2)), mode="constant", value=5.0)
    graph.set_outputs([total, joined, flat, spread, ones], ["total", "joined", "flat", "spread", "ones"])
    return graph


def expected(count: int) -> list[Any]:
    n = min(max(count, 0), ROWS)
    rows = X[:n] * np.float32(2)
    return [
        rows.sum(0),
        np.concatenate([np.exp(rows) + 1, X]),
        rows.reshape(-1),
        np.pad(rows.T, ((0, 0), (1, 2)), constant_values=5),
        np.ones((n, COLUMNS), np.float32),
    ]


def agree(got: Any, wanted: Any) -> None:
    assert len(got) == len(wanted)
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", COUNTS)
def test_graph(count: int) -> None:
    graph = sample()
    verify(graph)
    agree(graph.run(X, np.asarray(count)), expected(count))
    agree(dead_code(graph).run(X, np.asarray(count)), expected(count))
    text = print_graph(graph)
    assert "symbol n in 0 .. 6" in text
    assert print_graph(parse_graph(text)) == text


def room(shape: tuple[IndexLike, ...]) -> tuple[int, ...]:
    if all(isinstance(extent, int) for extent in shape):
        return shape  # type: ignore[return-value]
    return (interval(product(shape))[1] or 0,)


@pytest.mark.parametrize("level", [0, 3])
def test_loops(level: int) -> None:
    program = lower_graph(sample(), Settings(opt_level=level)).program
    text = print_program(program)
    assert "let n = min(max(count[()], 0), 6)" in text
    again = parse_program(text, {b.name: b.data for b in program.constants if b.data is not None})
    assert print_program(again) == text
    for count in COUNTS:
        held = {b.name: np.zeros(room(b.shape), b.dtype.numpy) for b in again.outputs}
        evaluate(again, {"x": X, "count": np.asarray(count), **held})
        wanted = expected(count)
        agree([a.reshape(-1)[: w.size].reshape(w.shape) for a, w in zip(held.values(), wanted, strict=False)],
              wanted)  # fmt: skip
        assert held["n"] == min(max(count, 0), ROWS)


@pytest.mark.parametrize("loader", ["extension", "ctypes"])
def test_compiled(loader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from intaglio import compiled as module

    load = module.load
    monkeypatch.setattr(module, "load", lambda *args, **options: load(*args, **options, loader=loader))
    compiled = compile_graph(sample(), threads=1)
    assert "int64_t n_1 = " in compiled.source
    for count in COUNTS:
        agree(compiled.run_arrays([X, np.asarray(count)]), expected(count))
    assert compiled.run({"x": X, "count": np.asarray(2)})["flat"].shape == (2 * COLUMNS,)


def test_one_result_is_no_tuple() -> None:
    graph, _, rows = start()
    graph.set_outputs([rows])
    agree([compile_graph(graph, threads=1)(X, np.asarray(3))], [X[:3] * 2])


def test_exported(tmp_path: Path) -> None:
    """The header has the size as an output; the self-test compares as many elements as there are."""
    samples = [[X, np.asarray(count)] for count in COUNTS]
    folder = compile_graph(sample(), threads=1).export_c(tmp_path, name="cut", samples=samples)
    assert "int64_t *n);" in " ".join((folder / "cut.h").read_text().split())
    done = subprocess.run(["make", "-s", "test"], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "selftest passed: 6 calls" in done.stdout


def looped(inner: Graph, *operands: Value) -> tuple[Value, ...]:
    settings = {"n_carry": 1, "n_xs": 0, "reverse": False, "length": 3}
    return operands[0].graph.append(prim.scan, operands, {"body": inner, **settings})


def body() -> tuple[Graph, Value]:
    """A body that carries a count and uses as many rows of a constant operand."""
    inner = Graph("body")
    count = inner.input(TensorType(dtypes.i64, ()), "count")
    x = inner.input(TensorType(dtypes.f32, (ROWS, COLUMNS)), "x")
    rows = prim.prefix(prim.exp(x), count, extent=var_index(Var("m", 0, ROWS)))
    inner.set_outputs([count + 1, prim.sum(rows, axes=(0, 1))], ["next", "total"])
    return inner, rows


def test_sizes_inside_and_outside_of_a_loop() -> None:
    """A body finds a size of its own at each step, and reads one that was found before the loop."""
    graph, x, rows = start()
    inner, found = body()
    outer = inner.input(rows.type, "rows")
    inner.set_outputs([*inner.outputs, prim.sum(outer, axes=(0, 1)) + prim.sum(found, axes=(0, 1))],
                      ["next", "total", "both"])  # fmt: skip
    count = graph.constant(np.asarray(1))
    _, totals, both = looped(inner, count, x, rows)
    graph.set_outputs([totals, both, rows], ["totals", "both", "rows"])
    verify(graph)
    sums = np.array([np.exp(X[:k]).sum() for k in (1, 2, 3)])
    compiled = compile_graph(graph, threads=1)
    for asked in (0, 5):
        cut = X[:asked] * 2
        for got in (graph.run(X, np.asarray(asked)), compiled.run_arrays([X, np.asarray(asked)])):
            agree(got, [sums, sums + cut.sum(), cut])


def test_rules() -> None:
    graph, x, rows = start()
    early = prim.broadcast(graph.constant(np.float32(1)), shape=(N,))
    graph.set_outputs([rows, early], ["rows", "early"])
    graph.nodes.sort(key=lambda node: node is not early.node)
    with pytest.raises(VerifyError, match="size n is used before it is found"):
        verify(graph)
    inner, found = body()
    inner.set_outputs([*inner.outputs, found], ["next", "total", "found"])
    graph, x, rows = start()
    graph.set_outputs(looped(inner, graph.constant(np.asarray(1)), x)[:2])
    with pytest.raises(VerifyError, match="a size that only the body knows"):
        verify(graph)


@pytest.mark.parametrize("extent", [7, var_index(Var("n", 0, 7)), var_index(Var("n", 0)), N + 1])
def test_a_size_must_be_inside(extent: IndexLike) -> None:
    graph, x, _ = start()
    with pytest.raises(ShapeError, match="prefix"):
        prim.prefix(x, graph.inputs[1], extent=extent)


def test_gradients() -> None:
    """Rows that were cut off have no part in the result; a loop that finds sizes has no derivative."""
    graph, x, rows = start()
    loss = prim.sum(rows * rows, axes=(0, 1))
    graph.set_outputs([loss, *gradient(graph, loss, [x])], ["loss", "d_x"])
    verify(graph)
    compiled = compile_graph(graph, threads=1)
    for count in (0, 4):
        wanted = np.where(np.arange(ROWS)[:, None] < count, 8 * X, 0)
        for got in (graph.run(X, np.asarray(count)), compiled.run_arrays([X, np.asarray(count)])):
            np.testing.assert_allclose(got[1], wanted, rtol=1e-6)
    inner, _ = body()
    graph, x, _ = start()
    totals = looped(inner, graph.constant(np.asarray(1)), x)[1]
    with pytest.raises(UnsupportedError, match="no derivative"):
        gradient(graph, prim.sum(totals, axes=(0,)), [x])


def test_sizes_that_are_found_cannot_be_fixed() -> None:
    with pytest.raises(ArgumentError, match="no symbolic dimension 'n'"):
        specialise(sample(), {"n": 3})


def test_phases_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="in phases"):
        lower_graph(sample(), Settings(keep_phases=True))
