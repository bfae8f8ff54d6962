"""The loop interpreter against NumPy: loop orders, reductions, locals, guards, branches, aliases."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio.loop.eval import evaluate
from intaglio.loop.ir import (
    Alloc,
    Block,
    Buffer,
    Call,
    For,
    If,
    Kernel,
    Program,
    Reduce,
    Slice,
    Store,
    While,
    block,
)
from intaglio.loop.spec import verify
from intaglio.ops.expr import Apply, Const, Expr, IndexValue, Read, as_index, in_range, where
from intaglio.shared.dtypes import bool_, f16, f32, f64, i64
from intaglio.shared.errors import ArgumentError
from intaglio.shared.index import Index, IndexLike, Var, variable

ROLES = {"input": "inputs", "output": "outputs", "state": "states", "scratch": "scratch"}


def over(index: IndexLike, extent: IndexLike, *body, kind="serial") -> For:
    assert isinstance(index, Index)
    var = index.terms[0][0]
    assert isinstance(var, Var)
    return For(var, extent, block(*body), kind)


def at(buffer: Buffer, *index: IndexLike) -> Read:
    return Read(buffer, index, buffer.dtype)


def program_of(body: Block, *buffers: Buffer, symbols=()) -> Program:
    """One kernel on buffers, called once."""
    written = tuple(b for b in buffers if b.role in ("output", "state", "scratch"))
    kernel = Kernel("k", buffers, written, body)
    made = Program("p", symbols=list(symbols), kernels=[kernel])
    for buffer in buffers:
        getattr(made, ROLES[buffer.role]).append(buffer)
    made.phases["forward"] = block(Call(kernel, tuple(Slice(b) for b in buffers)))
    verify(made)
    return made


def run(body: Block, *buffers: Buffer, symbols=None, **arrays: np.ndarray) -> dict[str, np.ndarray]:
    names = symbols or {}
    held = dict(arrays)
    for buffer in buffers:
        if buffer.name not in held and buffer.role != "scratch":
            held[buffer.name] = np.zeros(
                tuple(e if isinstance(e, int) else names[str(e)] for e in buffer.shape), buffer.dtype.numpy
            )
    made = program_of(
        body, *buffers, symbols=[e.terms[0][0] for b in buffers for e in b.shape if isinstance(e, Index)][:1]
    )
    evaluate(made, held, names)
    return held


i, j, k = variable("i", 5), variable("j", 7), variable("k", 6)


def test_contraction_with_register_accumulator():
    a, b = Buffer("a", f32, (5, 6), "input"), Buffer("b", f32, (6, 7), "input")
    c, acc = Buffer("c", f32, (5, 7), "output"), Buffer("acc", f32, (7,), "local", "register")
    body = block(
        over(
            i,
            5,
            Alloc(acc),
            over(j, 7, Store(acc, (j,), Const(0.0, f32)), kind="vector"),
            over(k, 6, over(j, 7, Reduce(acc, (j,), "add", at(a, i, k) * at(b, k, j)), kind="vector")),
            over(j, 7, Store(c, (i, j), at(acc, j) + 1.0), kind="vector"),
            kind="parallel",
        )
    )
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, 6), np.float32), rng.standard_normal((6, 7), np.float32)
    np.testing.assert_allclose(run(body, a, b, c, a=x, b=y)["c"], x @ y + 1, rtol=1e-5)


def test_recurrence_stays_in_order():
    y = Buffer("y", f64, (6,), "state")
    body = block(over(variable("t", 5), 5, Store(y, (variable("t", 5) + 1,), at(y, variable("t", 5)) * 2.0)))
    assert run(body, y, y=np.array([1.0, 0, 0, 0, 0, 0]))["y"].tolist() == [1, 2, 4, 8, 16, 32]


def test_statements_that_exchange_values_between_iterations_are_not_split():
    x, y = Buffer("x", f64, (6,), "state"), Buffer("y", f64, (6,), "state")
    t = variable("t", 5)
    body = block(over(t, 5, Store(x, (t + 1,), at(y, t) + 1.0), Store(y, (t + 1,), at(x, t + 1) + 1.0)))
    got = run(body, x, y, x=np.zeros(6), y=np.zeros(6))
    assert got["y"].tolist() == [0, 2, 4, 6, 8, 10]


def test_ordered_reduction_keeps_the_order_of_the_loops():
    x, y = Buffer("x", f32, (4096,), "input"), Buffer("y", f32, (1,), "state")
    t = variable("t", 4096)
    values = np.random.default_rng(1).standard_normal(4096).astype(np.float32)
    got = run(
        block(over(t, 4096, Reduce(y, (0,), "add", at(x, t), ordered=True))),
        x,
        y,
        x=values,
        y=np.zeros(1, np.float32),
    )
    assert got["y"][0] == np.cumsum(values)[-1]


def test_reduction_to_places_that_overlap():
    x, y = Buffer("x", f32, (5, 3), "input"), Buffer("y", f32, (7,), "state")
    r = variable("r", 3)
    values = np.arange(15, dtype=np.float32).reshape(5, 3)
    want = np.zeros(7, np.float32)
    for p in range(5):
        for q in range(3):
            want[p + q] += values[p, q]
    got = run(
        block(over(i, 5, over(r, 3, Reduce(y, (i + r,), "add", at(x, i, r))))),
        x,
        y,
        x=values,
        y=np.zeros(7, np.float32),
    )
    np.testing.assert_array_equal(got["y"], want)


@pytest.mark.parametrize("combine", ["add", "mul", "max", "min"])
def test_reductions_with_scalar_locals(combine):
    x, y = Buffer("x", f32, (5, 7), "input"), Buffer("y", f32, (5,), "output")
    total = Buffer("total", f32, (), "local", "register")
    start = {"add": 0.0, "mul": 1.0, "max": -np.inf, "min": np.inf}[combine]
    body = block(
        over(
            i,
            5,
            Alloc(total),
            Store(total, (), Const(start, f32)),
            over(j, 7, Reduce(total, (), combine, at(x, i, j))),
            Store(y, (i,), at(total)),
        )
    )
    values = np.random.default_rng(2).standard_normal((5, 7)).astype(np.float32)
    ufunc = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}[combine]
    np.testing.assert_allclose(run(body, x, y, x=values)["y"], ufunc.reduce(values, axis=1), rtol=1e-5)


def test_guarded_reads_outside_are_never_used():
    x, y = Buffer("x", f32, (5,), "input"), Buffer("y", f32, (7,), "output")
    t = variable("t", 7)
    padded: Expr = where(in_range(t - 1, 0, 5), Read(x, (t - 1,), f32), Const(0.0, f32))
    got = run(block(over(t, 7, Store(y, (t,), padded))), x, y, x=np.arange(1, 6, dtype=np.float32))
    assert got["y"].tolist() == [0, 1, 2, 3, 4, 5, 0]


def test_gather_through_a_run_time_index():
    x, n, y = (
        Buffer("x", f32, (9,), "input"),
        Buffer("n", i64, (5,), "input"),
        Buffer("y", f32, (5,), "output"),
    )
    body = block(over(i, 5, Store(y, (i,), Read(x, (as_index(at(n, i), 0, 8),), f32))))
    values, places = np.arange(9, dtype=np.float32) ** 2, np.array([8, 0, 3, 3, 1])
    np.testing.assert_array_equal(run(body, x, n, y, x=values, n=places)["y"], values[places])


def test_branches_and_while():
    x, y, n = (
        Buffer("x", f64, (5,), "input"),
        Buffer("y", f64, (5,), "output"),
        Buffer("n", i64, (1,), "state"),
    )
    big = Apply("lt", (Const(2.0, f64), at(x, i)), bool_)
    branch = over(i, 5, If(big, block(Store(y, (i,), at(x, i))), block(Store(y, (i,), Const(-1.0, f64)))))
    more = Apply("lt", (at(n, 0), Const(10, i64)), bool_)
    got = run(
        block(branch, While(more, block(Store(n, (0,), at(n, 0) + 3)))),
        x,
        y,
        n,
        x=np.arange(5.0),
        n=np.zeros(1, np.int64),
    )
    assert got["y"].tolist() == [-1, -1, -1, 3, 4]
    assert got["n"][0] == 12


def test_half_precision_is_computed_in_f32():
    x, y = Buffer("x", f16, (5,), "input"), Buffer("y", f16, (5,), "output")
    value = Read(x, (i,), f32) * Const(1.001, f32) * Const(3.0, f32)
    data = np.linspace(0, 1, 5).astype(np.float16)
    want = (data.astype(np.float32) * np.float32(1.001) * np.float32(3)).astype(np.float16)
    np.testing.assert_array_equal(run(block(over(i, 5, Store(y, (i,), value))), x, y, x=data)["y"], want)


def test_symbolic_extent_and_index_values():
    n = variable("n", 100, lo=1)
    y = Buffer("y", i64, (n,), "output")
    t = variable("t", n)
    got = run(block(over(t, n, Store(y, (t,), IndexValue(t * 3 + 1)))), y, symbols={"n": 4})
    assert got["y"].tolist() == [1, 4, 7, 10]


def test_slices_and_aliases_share_memory():
    x = Buffer("x", f32, (4, 3), "state")
    flat = Buffer("flat", f32, (12,), "scratch", alias=x)
    row = Buffer("row", f32, (3,))
    t = variable("t", 3)
    kernel = Kernel("fill", (row,), (row,), block(over(t, 3, Store(row, (t,), Const(7.0, f32)))))
    step = variable("step", 2)
    made = Program("p", states=[x], scratch=[flat], kernels=[kernel])
    made.phases["forward"] = block(
        over(step, 2, Call(kernel, (Slice(x, step * 6),))), Call(kernel, (Slice(flat, 9),))
    )
    verify(made)
    arrays = {"x": np.zeros((4, 3), np.float32)}
    evaluate(made, arrays)
    assert arrays["x"][:, 0].tolist() == [7, 0, 7, 7]


def test_memory_not_written_is_seen():
    y, s = Buffer("y", f32, (5,), "output"), Buffer("s", f32, (5,), "scratch")
    assert np.isnan(run(block(over(i, 5, Store(y, (i,), at(s, i) + 1.0))), y, s)["y"]).all()


def test_wrong_arrays_are_refused():
    y = Buffer("y", f32, (5,), "output")
    made = program_of(block(over(i, 5, Store(y, (i,), Const(1.0, f32)))), y)
    with pytest.raises(ArgumentError, match="no array for output"):
        evaluate(made, {})
    with pytest.raises(ArgumentError, match=r"given float64\[5\]"):
        evaluate(made, {"y": np.zeros(5)})
