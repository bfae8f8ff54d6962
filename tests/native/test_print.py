"""The printer of C: parentheses, literals, comments, line breaks."""

from __future__ import annotations

import ctypes
import random

import cc
import numpy as np
import pytest

from intaglio.native import tree as c
from intaglio.native.names import Names, sanitise
from intaglio.native.print import WIDTH, escape_comment, literal, print_expr, print_item, print_unit
from intaglio.shared.dtypes import bf16, bool_, f16, f32, f64, i8, i32, i64, u8, u32, u64

A, B, C = c.Name("a"), c.Name("b"), c.Name("c")


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (c.Binary("*", c.Binary("+", A, B), C), "(a + b) * c"),
        (c.Binary("+", c.Binary("*", A, B), C), "a * b + c"),
        (c.Binary("-", A, c.Binary("-", B, C)), "a - (b - c)"),
        (c.Binary("-", c.Binary("-", A, B), C), "a - b - c"),
        (c.Binary("+", A, c.Binary("+", B, C)), "a + (b + c)"),
        (c.Binary("&&", c.Binary("||", A, B), C), "(a || b) && c"),
        (c.Binary("||", c.Binary("&&", A, B), C), "(a && b) || c"),
        (c.Binary("&&", c.Binary("<", A, B), C), "a < b && c"),
        (c.Binary("<<", A, c.Binary("+", B, C)), "a << (b + c)"),
        (c.Binary("&", c.Binary("==", A, B), C), "(a == b) & c"),
        (c.Unary("-", c.Unary("-", A)), "-(-a)"),
        (c.Binary("-", A, c.Number(-1.0, f32)), "a - -1.0f"),
        (c.Unary("-", c.Binary("*", A, B)), "-(a * b)"),
        (c.Cast(c.Type("float"), c.Binary("+", A, B)), "(float)(a + b)"),
        (c.Element(A, c.Binary("+", B, C)), "a[b + c]"),
        (c.Unary("&", c.Element(A, B)), "&a[b]"),
        (c.Conditional(A, c.Conditional(B, A, C), C), "a ? b ? a : c : c"),
        (c.Conditional(c.Conditional(A, B, C), A, C), "(a ? b : c) ? a : c"),
        (c.Member(c.Cast(c.Type("T", pointer=True), A), "x"), "((T *)a)->x"),
        (c.Invoke("f", (A, c.Binary("+", B, C))), "f(a, b + c)"),
        (c.Braces((A, B), c.Type("f32x4")), "(f32x4){a, b}"),
    ],
)
def test_parentheses_stand_only_where_needed(tree: c.Expr, text: str) -> None:
    assert print_expr(tree) == text


@pytest.mark.parametrize(
    ("value", "dtype", "text"),
    [
        (0.1, f32, "0.1f"), (0.1, f64, "0.1"), (1, f32, "1.0f"), (1e20, f32, "1e+20f"),
        (1e-45, f32, "1e-45f"),
        (float("inf"), f32, "INFINITY"), (float("-inf"), f64, "-INFINITY"), (float("nan"), f32, "NAN"),
        (1e39, f32, "INFINITY"), (-0.0, f32, "-0.0f"), (True, bool_, "true"), (-(2**31), i32, "INT32_MIN"),
        (-(2**63), i64, "INT64_MIN"), (5, i64, "5"), (5_000_000_000, i64, "5000000000ll"), (7, u8, "7"),
        (-3, i8, "-3"),
        (4_000_000_000, u32, "4000000000u"), (2**64 - 1, u64, "18446744073709551615ull"),
        (1.0, f16, "0x3c00"),
        (1.0, bf16, "0x3f80"),
    ],
)  # fmt: skip
def test_literals(value: float, dtype: object, text: str) -> None:
    assert literal(value, dtype) == text


def test_float_literals_round_trip() -> None:
    bits = np.random.default_rng(0).integers(0, 1 << 32, 2000, dtype=np.uint64).astype(np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    body = ", ".join(literal(float(v), f32) for v in values)
    library = cc.build(f"const float values[] = {{{body}}};\n", *cc.STRICT)
    read = (ctypes.c_float * len(values)).in_dll(library, "values")
    assert np.array_equal(np.array(read, np.float32).view(np.uint32), values.view(np.uint32))


OPERATORS = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "&": np.bitwise_and, "|": np.bitwise_or,
    "^": np.bitwise_xor,
    "<": np.less, "<=": np.less_equal, "==": np.equal, "!=": np.not_equal, "&&": np.logical_and,
    "||": np.logical_or,
}  # fmt: skip


def random_tree(rng: random.Random, depth: int, env: dict[str, int]) -> tuple[c.Expr, int]:
    """A tree over small integers and its value; sizes stay below overflow."""
    if depth == 0 or rng.random() < 0.15:
        if rng.random() < 0.3:
            n = rng.randint(-3, 9)
            return c.Number(n, i64), n
        name = rng.choice(list(env))
        return c.Name(name), env[name]
    kind = rng.random()
    a, x = random_tree(rng, depth - 1, env)
    if kind < 0.15:
        op = rng.choice("-~!")
        return c.Unary(op, a), {"-": -x, "~": ~x, "!": int(not x)}[op]
    b, y = random_tree(rng, depth - 1, env)
    if kind < 0.25:
        d, z = random_tree(rng, depth - 1, env)
        return c.Conditional(a, b, d), y if x else z
    op = rng.choice(list(OPERATORS))
    value = int(OPERATORS[op](np.int64(x), np.int64(y)))
    if abs(value) > 1 << 20:
        return c.Binary("^", a, b), x ^ y
    return c.Binary(op, a, b), value


def test_random_expressions_mean_the_same_in_c() -> None:
    rng = random.Random(5)
    env = {"a": 3, "b": -7, "d": 12}
    trees = [random_tree(rng, 5, env) for _ in range(400)]
    lines = [f"    out[{k}] = {print_expr(tree)};" for k, (tree, _) in enumerate(trees)]
    text = "void fill(long *out, long a, long b, long d) {\n" + "\n".join(lines) + "\n}\n"
    quiet = (
        "-Wno-bool-operation",
        "-Wno-int-in-bool-context",
        "-Wno-tautological-compare",
        "-Wno-bool-compare",
    )
    library = cc.build(text, "-std=c11", "-Wall", "-Wextra", "-Werror", *quiet)
    out = (ctypes.c_long * len(trees))()
    library.fill(out, *(ctypes.c_long(v) for v in env.values()))
    for k, (tree, value) in enumerate(trees):
        assert out[k] == value, print_expr(tree)


@pytest.mark.parametrize(
    "hostile", ["*/ int x; /*", "line\nbreak", "back\\\nslash", "what??/", "tab\tnul\0", "naïve “quotes”"]
)
def test_comments_cannot_be_left(hostile: str) -> None:
    function = c.Function(
        c.VOID, "f", (), (c.Remark(hostile),), (hostile, "second line " + hostile), static=False
    )
    text = print_unit(c.Unit((hostile,), (), (), (function,)))
    library = cc.build(text, "-trigraphs", *cc.STRICT)
    assert library.f
    assert text.isascii()
    assert "??" not in escape_comment(hostile)


def test_long_expressions_break_at_operators() -> None:
    total: c.Expr = c.Name("x0")
    for k in range(1, 60):
        total = c.Binary("+" if k % 3 else "-", total, c.Binary("*", c.Name(f"x{k}"), c.Name("scale")))
    params = tuple(c.Param(c.Type("double"), f"x{k}") for k in range(60))
    function = c.Function(
        c.Type("double"), "f", (*params, c.Param(c.Type("double"), "scale")), (c.Return(total),), (), False
    )
    text = print_item(function)
    assert max(map(len, text.splitlines())) <= WIDTH
    library = cc.build(text + "\n", *cc.STRICT)
    library.f.restype = ctypes.c_double
    values = [float(k) for k in range(60)]
    expected = sum(v * 2.0 * (1 if k % 3 else -1) for k, v in enumerate(values) if k)
    assert library.f(*(ctypes.c_double(v) for v in [*values, 2.0])) == expected


def test_names_are_legal_unique_and_repeatable() -> None:
    wanted = [
        "x",
        "x",
        "int",
        "expf",
        "conv1.weight",
        "7up",
        "",
        "añ",
        "max_f32",
        "x_1",
        "__a",
        "a/*b",
        "pool_run",
        "sin",
    ]
    first, second = ([names.unique(w) for w in wanted] for names in (Names(), Names()))
    assert first == second
    assert len(set(first)) == len(wanted)
    text = "".join(f"int {name}(void);\n" for name in first) + "#include <math.h>\n#include <stdint.h>\n"
    assert cc.build(text + "int main_(void) { return 0; }\n", *cc.STRICT)
    assert sanitise("conv1.weight") == "conv1_weight"
    assert sanitise("0.weight") == "weight_0"
    assert sanitise("7") == "v_7"
    assert len(sanitise("x" * 500)) <= 48
