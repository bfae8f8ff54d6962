"""Loop programs print and parse back to equal programs; text that is none is refused with its line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.loop.eval import evaluate
from intaglio.loop.ir import Buffer
from intaglio.loop.spec import verify
from intaglio.loop.text import parse_program, print_program
from intaglio.loop.text_value import ValueReader, parse_expression, print_index, print_value
from intaglio.ops.expr import Apply, Const, Expr, IndexValue, Read, as_index, cast, where
from intaglio.shared import dtypes
from intaglio.shared.dtypes import bool_, f16, f32, f64, i32, i64
from intaglio.shared.errors import ParseError
from intaglio.shared.index import IndexLike, Var, maximum, minimum, variable

PROGRAM = """program sample
arena 2048
symbol n in 1 .. 64
input x: f32[n, 8]
output y: f32[n, 4]
state w: f32[8, 4]
constant b: f16[4]
scratch t: f32[4 * n] at 128
scratch u: f32[n, 4] alias t

kernel dot(x: f32[n, 8], w: f32[8, 4], b: f16[4], y: f32[n, 4]) writes y
    doc "y[i,j] += x[i,k] * w[k,j]"
    schedule "vectorize j by 4"
    cost 4096 flops, 2304 bytes
    for i in range(n) parallel
        alloc acc: f32[4] register
        for lane in range(4) vector
            acc[lane] = 0.0
        for k in range(8)
            for lane in range(4) vector
                add acc[lane] = x[i, k] * w[k, lane]
        # the bias is stored in half precision
        for lane in range(4) vector
            y[i, lane] = acc[lane] + read_f32(b[lane])

kernel clip(y: f32[n, 4], row: f32[4]) writes y, row
    for i in range(1, n, 2)
        if y[i, 0] < 0.0
            y[i, 0] = f32(inf)
        else
            ordered add row[i % 4] = y[i, 0] * -2.0
    while row[0] < 3.0
        row[0] = row[0] + where(row[1] < 1.0, 2.0, cast_f32(index(n) + f32(nan)))

phase forward
    dot(x, w, b, y)
    for step in range(2)
        clip(y, t[4 * step:])
"""


def test_round_trip_of_a_program():
    parsed = parse_program(PROGRAM.replace("index(n) + f32(nan)", "index_f32(n)"))
    text = print_program(parsed)
    assert text == PROGRAM.replace("index(n) + f32(nan)", "index_f32(n)")
    assert print_program(parse_program(text)) == text


def test_parsed_program_runs():
    text = PROGRAM[: PROGRAM.index("\nkernel clip")] + "\nphase forward\n    dot(x, w, b, y)\n"
    program = parse_program(text, {"b": np.arange(4, dtype=np.float16), "w": np.ones((8, 4), np.float32)})
    verify(program)
    arrays = {"x": np.ones((3, 8), np.float32), "y": np.zeros((3, 4), np.float32)}
    evaluate(program, arrays, {"n": 3})
    np.testing.assert_array_equal(arrays["y"], np.tile([8, 9, 10, 11], (3, 1)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("program sample", "sample", "starts with `program NAME`"),
        ("    dot(x, w, b, y)", "    dott(x, w, b, y)", "kernel dott is not defined before"),
        ("x[i, k] * w[k, lane]", "x[i, m] * w[k, lane]", "m is no loop variable"),
        ("x[i, k] * w[k, lane]", "q[i, k] * w[k, lane]", "q in .* is no buffer"),
        ("x[i, k] * w[k, lane]", "x[i, k] * * w[k, lane]", "line 21: not understood"),
        ("x[i, k] * w[k, lane]", "frobnicate(x[i, k])", "frobnicate is no function"),
        ("            acc[lane] = 0.0", "                acc[lane] = 0.0", "unexpected number of spaces"),
        ("output y", "outptu y", "neither a declaration, a kernel nor a phase"),
    ],
)
def test_text_that_is_no_program(old, new, message):
    with pytest.raises(ParseError, match=message):
        parse_program(PROGRAM.replace(old, new, 1))


VARS = {name: Var(name, 0, hi) for name, hi in (("i", 9), ("j", 31), ("n", None))}
BUFFERS = {
    "a": Buffer("a", f32, (10, 32)),
    "d": Buffer("d", f64, (10,)),
    "h": Buffer("h", f16, (32,)),
    "m": Buffer("m", i64, (10,)),
}
NUMBERS = st.floats(width=32, allow_nan=False)


def indices() -> st.SearchStrategy[IndexLike]:
    leaf = st.one_of(
        st.integers(-50, 50), st.sampled_from([variable("i", 10), variable("j", 32), variable("n")])
    )

    def grow(inner: st.SearchStrategy[IndexLike]) -> st.SearchStrategy[IndexLike]:
        pair = st.tuples(inner, inner)
        return st.one_of(
            pair.map(lambda p: p[0] + p[1]),
            pair.map(lambda p: p[0] - p[1]),
            pair.map(lambda p: minimum(*p)),
            pair.map(lambda p: maximum(*p)),
            st.tuples(inner, st.integers(1, 9)).map(lambda p: p[0] // p[1]),
            st.tuples(inner, st.integers(1, 9)).map(lambda p: p[0] % p[1]),
            pair.map(lambda p: p[0] * p[1]),
            inner.map(lambda i: as_index(Read(BUFFERS["m"], (i,), i64), 0, 9)),
        )

    return st.recursive(leaf, grow, max_leaves=5)


def values() -> st.SearchStrategy[Expr]:
    leaf = st.one_of(
        NUMBERS.map(lambda v: Const(v, f32)),
        st.tuples(indices(), indices()).map(lambda p: Read(BUFFERS["a"], p, f32)),
        indices().map(lambda i: Read(BUFFERS["h"], (i,), f32)),
        indices().map(lambda i: IndexValue(i, f32)),
        indices().map(lambda i: cast(Read(BUFFERS["d"], (i,), f64), f32)),
    )

    def grow(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
        pair = st.tuples(inner, inner)
        return st.one_of(
            pair.map(lambda p: p[0] + p[1]),
            pair.map(lambda p: p[0] * p[1]),
            inner.map(lambda x: Apply("exp", (x,), f32)),
            st.tuples(inner, inner, inner).map(lambda p: where(Apply("lt", p[:2], bool_), p[1], p[2])),
        )

    return st.recursive(leaf, grow, max_leaves=6)


@settings(max_examples=150, deadline=None)
@given(indices())
def test_indices_round_trip(index):
    reader = ValueReader(BUFFERS, VARS)
    assert print_index(reader.index(parse_expression(print_index(index)))) == print_index(index)


@settings(max_examples=150, deadline=None)
@given(values())
def test_values_round_trip(value):
    reader = ValueReader(BUFFERS, VARS)
    parsed = reader.value(parse_expression(print_value(value)))
    assert print_value(parsed) == print_value(value)
    assert parsed.dtype == value.dtype


@pytest.mark.parametrize(
    "const",
    [
        Const(-0.0, f32),
        Const(float("nan"), f64),
        Const(float("-inf"), f32),
        Const(3, i64),
        Const(-3, i32),
        Const(True, bool_),
        Const(255, dtypes.u8),
        Const(1, f32),
        Const(1e-45, f32),
    ],
)
def test_literals_keep_type_and_bits(const):
    back = ValueReader({}, {}).value(parse_expression(print_value(const)))
    kind = const.dtype.numpy.type
    assert (back.dtype, kind(back.value).tobytes()) == (const.dtype, kind(const.value).tobytes())
