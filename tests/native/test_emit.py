"""Loop programs as C: what the statements, indices and values of the loop level become."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cc
import numpy as np
import pytest

import intaglio.ops  # noqa: F401
from intaglio.loop.ir import (
    Alloc,
    Buffer,
    Call,
    Comment,
    For,
    If,
    Kernel,
    Program,
    Reduce,
    Slice,
    Stmt,
    Store,
    While,
    block,
)
from intaglio.native.emit import emit_program, required_flags
from intaglio.native.toolchain import Toolchain, available, build_shared
from intaglio.ops.expr import Const, Expr, IndexValue, Read, apply, as_index, cast, in_range, where
from intaglio.shared.dtypes import DType, bool_, f16, f32, i32, i64, u8
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import Index, Var, maximum, minimum, var_index
from intaglio.shared.target import GENERIC

ASAN = ("-O1", "-g", "-fsanitize=undefined", "-fno-sanitize-recover=all", "-static-libubsan", *cc.STRICT)
RNG = np.random.default_rng(0)


def var(name: str, extent: int) -> tuple[Var, Index]:
    made = Var(name, 0, extent - 1)
    return made, var_index(made)


def read(buffer: Buffer, *index: object) -> Expr:
    return Read(buffer, index, buffer.dtype)  # type: ignore[arg-type]


def loop(v: Var, *body: Stmt, **fields: object) -> For:
    assert v.hi is not None
    return For(v, v.hi + 1, block(*body), **fields)  # type: ignore[arg-type]


def matmul_program(m: int, n: int, k: int) -> Program:
    (iv, i), (jv, j), (kv, kk) = var("i", m), var("j", n), var("k", k)
    a, b, c = Buffer("a", f32, (m, k)), Buffer("b", f32, (k, n)), Buffer("c", f32, (m, n))
    acc = Buffer("acc", f32, (), "local", "register")
    body = loop(
        iv,
        loop(
            jv,
            Alloc(acc),
            Store(acc, (), Const(0.0, f32)),
            loop(kv, Reduce(acc, (), "add", read(a, i, kk) * read(b, kk, j))),
            Store(c, (i, j), read(acc)),
        ),
    )
    return cc.kernel_program([body], [a, b], [c])


def test_matmul_reads_like_hand_written_c() -> None:
    a, b = RNG.standard_normal((3, 5)).astype("f"), RNG.standard_normal((5, 4)).astype("f")
    c = np.zeros((3, 4), "f")
    source = cc.run(matmul_program(3, 4, 5), {"a": a, "b": b, "c": c})
    np.testing.assert_allclose(c, a @ b, rtol=1e-5)
    expected = """static void kernel(const float *restrict a, const float *restrict b, float *restrict c) {
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 4; j++) {
            float acc = 0.0f;
            for (int k = 0; k < 5; k++) {
                acc += a[i * 5 + k] * b[k * 4 + j];
            }
            c[i * 4 + j] = acc;
        }
    }
}"""
    assert expected in source


def test_the_same_program_gives_the_same_bytes() -> None:
    assert emit_program(matmul_program(3, 4, 5), GENERIC) == emit_program(matmul_program(3, 4, 5), GENERIC)


@pytest.mark.parametrize("toolchain", available(), ids=lambda t: t.name)
def test_every_compiler_takes_the_portable_form(toolchain: Toolchain) -> None:
    a, b = RNG.standard_normal((6, 7)).astype("f"), RNG.standard_normal((7, 8)).astype("f")
    c = np.zeros((6, 8), "f")
    program = matmul_program(6, 8, 7)
    if toolchain.kind == "tcc":
        path = build_shared(emit_program(program, GENERIC), target=GENERIC, toolchain=toolchain)
        cc.call(cc.load(path), "test_run", [a, b, c, np.zeros(1, "u1")])
    else:
        cc.run(program, {"a": a, "b": b, "c": c}, "-O2", *cc.STRICT, compiler=toolchain.command)
    np.testing.assert_allclose(c, a @ b, rtol=1e-5)


def test_symbols_are_parameters_of_the_kernels_that_use_them() -> None:
    n = Var("n", 1, 1000)
    i, j = Var("i", 0, 999), Var("j", 0, 3)
    x, y = Buffer("x", f32, (var_index(n), 4)), Buffer("y", f32, (4, var_index(n)))
    at = (var_index(i), var_index(j))
    body = For(i, var_index(n), block(loop(j, Store(y, at[::-1], read(x, *at)))))
    program = cc.kernel_program([body], [x], [y], symbols=[n])
    given, got = RNG.standard_normal((17, 4)).astype("f"), np.zeros((4, 17), "f")
    source = cc.run(program, {"x": given, "y": got}, symbols=[17])
    assert np.array_equal(got, given.T)
    assert "static void kernel(const float *restrict x, float *restrict y, int64_t n)" in source


def test_indices_round_down_where_they_may_be_negative() -> None:
    v, i = var("i", 40)
    y = Buffer("y", i64, (40, 6))
    parts = [(i - 20) // 7, (i - 20) % 7, i // 7, i % 7, minimum(i, 13), maximum(13 - i, 2 * i - 30)]
    body = loop(v, *(Store(y, (i, k), IndexValue(p)) for k, p in enumerate(parts)))
    got = np.zeros((40, 6), np.int64)
    source = cc.run(cc.kernel_program([body], [], [y]), {"y": got}, *ASAN)
    n = np.arange(40)
    expected = [(n - 20) // 7, (n - 20) % 7, n // 7, n % 7, np.minimum(n, 13), np.maximum(13 - n, 2 * n - 30)]
    assert np.array_equal(got, np.stack(expected, 1))
    assert "i / 7" in source
    assert "i % 7" in source


def test_values_from_buffers_are_indices() -> None:
    v, i = var("i", 6)
    table, places, y = Buffer("table", f32, (9,)), Buffer("places", i32, (6,)), Buffer("y", f32, (6,))
    at = as_index(read(places, i), 0, 8)
    body = loop(v, Store(y, (i,), read(table, at)), Reduce(y, (i,), "add", read(table, 8 - at)))
    x, p, got = RNG.standard_normal(9).astype("f"), np.array([8, 0, 3, 3, 1, 7], np.int32), np.zeros(6, "f")
    cc.run(cc.kernel_program([body], [table, places], [y]), {"table": x, "places": p, "y": got}, *ASAN)
    assert np.array_equal(got, x[p] + x[8 - p])


def test_a_value_is_not_loaded_where_it_is_not_wanted() -> None:
    v, i = var("i", 10)
    x, y = Buffer("x", f32, (4,)), Buffer("y", f32, (10,))
    near = read(x, i - 3)
    busy = apply("exp", near) * apply("exp", near) + near * near
    value = where(in_range(i - 3, 0, 4), busy * busy + busy, Const(-1.0, f32))
    given, got = RNG.standard_normal(4).astype("f"), np.zeros(10, "f")
    source = cc.run(
        cc.kernel_program([loop(v, Store(y, (i,), value))], [x], [y]), {"x": given, "y": got}, *ASAN
    )
    e = np.exp(given.astype("d")) ** 2 + given.astype("d") ** 2
    expected = np.full(10, -1.0)
    expected[3:7] = e * e + e
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    inside = source[source.index("if (") :]
    assert "float" in inside[: inside.index("}")], "shared parts of the branch are declared inside of it"


def test_shared_parts_do_not_make_text_grow() -> None:
    x, y = Buffer("x", f32, (1,)), Buffer("y", f32, (1,))
    value = read(x, 0)
    for _ in range(200):
        value = value * 0.5 + value * 0.25 + value * 0.125
    got = np.zeros(1, "f")
    program = cc.kernel_program([Store(y, (0,), value)], [x], [y])
    source = cc.run(program, {"x": np.ones(1, "f"), "y": got}, "-O1", *cc.STRICT)
    assert len(source) < 40_000
    expected = np.float32(1)
    for _ in range(200):
        expected = expected * np.float32(0.5) + expected * np.float32(0.25) + expected * np.float32(0.125)
    np.testing.assert_allclose(got[0], expected, rtol=1e-4)


def test_equal_parts_made_apart_are_shared_too() -> None:
    x, y = Buffer("x", f32, (1,)), Buffer("y", f32, (1,))

    def heavy(depth: int) -> Expr:
        return (
            read(x, 0) + 1.0
            if depth == 0
            else apply("tanh", heavy(depth - 1)) + apply("exp", heavy(depth - 1))
        )

    source = emit_program(cc.kernel_program([Store(y, (0,), heavy(10))], [x], [y]), GENERIC)
    assert source.count("tanh_f32(") == 11


def test_deep_expressions_are_printed_in_steps() -> None:
    x, y = Buffer("x", f32, (1,)), Buffer("y", f32, (1,))
    value = read(x, 0)
    for _ in range(5000):
        value = apply("max", value - 1.0, 0.0) + 1.0
    program = cc.kernel_program([Store(y, (0,), value)], [x], [y])
    got = np.zeros(1, "f")
    source = cc.run(program, {"x": np.array([3], "f"), "y": got}, "-O0", *cc.STRICT)
    assert got[0] == 3
    assert sys.getrecursionlimit() < 5000
    assert max(map(len, source.splitlines())) <= 110


def test_integer_sums_wrap_without_undefined_behaviour() -> None:
    v, i = var("i", 4)
    x, y = Buffer("x", i32, (4,)), Buffer("y", i32, ())
    total = Buffer("total", i32, (), "local", "register")
    body = [
        Alloc(total),
        Store(total, (), Const(0, i32)),
        loop(v, Reduce(total, (), "add", read(x, i) * read(x, i))),
        Store(y, (), read(total)),
    ]
    given, got = np.array([2**31 - 1, -(2**31), 77777, -5], np.int32), np.zeros((), np.int32)
    cc.run(cc.kernel_program(body, [x], [y]), {"x": given, "y": got}, *ASAN)
    with np.errstate(all="ignore"):
        assert got == (given * given).sum(dtype=np.int32)


def test_products_of_bytes_need_no_helper() -> None:
    v, i = var("i", 4)
    x, y = Buffer("x", u8, (4,)), Buffer("y", i32, (4,))
    wide = cast(read(x, i), i32)
    program = cc.kernel_program([loop(v, Store(y, (i,), wide * wide + 1))], [x], [y])
    got = np.zeros(4, np.int32)
    source = cc.run(program, {"x": np.array([0, 1, 200, 255], np.uint8), "y": got}, *ASAN)
    assert got.tolist() == [1, 2, 40001, 65026]
    assert "mul_i32" not in source


def test_halves_are_stored_in_two_bytes_and_computed_in_float() -> None:
    v, i = var("i", 100)
    x, y = Buffer("x", f16, (100,)), Buffer("y", f16, (100,))
    program = cc.kernel_program(
        [
            loop(
                v,
                Store(y, (i,), cast(Read(x, (i,), f32) * 3.0, f16)),
                Reduce(y, (i,), "add", Read(x, (i,), f32)),
            )
        ],
        [x],
        [y],
    )
    given, got = RNG.standard_normal(100).astype(np.float16), np.zeros(100, np.float16)
    cc.run(program, {"x": given, "y": got})
    wide = given.astype("f")
    assert np.array_equal(got, ((wide * 3).astype(np.float16).astype("f") + wide).astype(np.float16))


def test_branches_and_while_loops() -> None:
    x, y = Buffer("x", i32, (1,)), Buffer("y", i32, (2,))
    n, steps = Buffer("n", i32, (), "local", "register"), Buffer("steps", i32, (), "local", "register")
    odd = apply("eq", read(n) & 1, 1)
    body = [
        Alloc(n),
        Store(n, (), read(x, 0)),
        Alloc(steps),
        Store(steps, (), Const(0, i32)),
        Comment("Collatz */ steps"),
        While(
            apply("lt", 1, read(n)),
            block(
                If(
                    odd,
                    block(Store(n, (), read(n) * 3 + 1)),
                    block(Store(n, (), apply("floor_div", read(n), 2))),
                ),
                Reduce(steps, (), "add", Const(1, i32)),
            ),
        ),
        Store(y, (0,), read(steps)),
        If(apply("lt", 50, read(steps)), block(Store(y, (1,), Const(1, i32)))),
    ]
    got = np.zeros(2, np.int32)
    cc.run(cc.kernel_program(body, [x], [y]), {"x": np.array([27], np.int32), "y": got}, *ASAN)
    assert got.tolist() == [111, 1]


def test_scratch_lies_in_the_arena_and_aliases_share_it() -> None:
    v, i = var("i", 8)
    x, y = Buffer("x", f32, (8,), "input"), Buffer("y", f32, (8,), "output")
    h = Buffer("h", f32, (8,), "scratch", offset=64)
    view = Buffer("h_view", f32, (2, 4), "scratch", alias=h)
    p, q = Buffer("p", f32, (8,)), Buffer("q", f32, (8,))
    double = Kernel("double", (p, q), (q,), block(loop(v, Store(q, (i,), read(p, i) * 2.0))), ("q = 2 p",))
    calls = block(Call(double, (Slice(x), Slice(h))), Call(double, (Slice(view), Slice(y))))
    program = Program(
        "test", [x], [y], scratch=[h, view], kernels=[double], phases={"forward": calls}, arena_bytes=96
    )
    given, got = RNG.standard_normal(8).astype("f"), np.zeros(8, "f")
    source = cc.run(program, {"x": given, "y": got}, *ASAN)
    assert np.array_equal(got, given * 4)
    assert "double_1(x, h);" in source
    assert "(float *)(arena + 64)" in source


def test_driver_loops_hand_rows_to_kernels() -> None:
    t, row = var("t", 5)
    v, i = var("i", 3)
    x, state = Buffer("x", f32, (5, 3), "input"), Buffer("state", f32, (3,), "state", data=np.zeros(3, "f"))
    y = Buffer("y", f32, (5, 3), "output")
    p, q, r = Buffer("p", f32, (3,)), Buffer("q", f32, (3,)), Buffer("r", f32, (3,))
    step = Kernel(
        "step",
        (p, q, r),
        (q, r),
        block(loop(v, Reduce(q, (i,), "add", read(p, i)), Store(r, (i,), read(q, i)))),
    )
    body = loop(t, Call(step, (Slice(x, row * 3), Slice(state), Slice(y, row * 3))))
    program = Program(
        "test", [x], [y], [state], kernels=[step], phases={"forward": block(body)}, arena_bytes=0
    )
    given, got, held = RNG.standard_normal((5, 3)).astype("f"), np.zeros((5, 3), "f"), np.zeros(3, "f")
    cc.run(program, {"x": given, "y": got, "state": held})
    np.testing.assert_allclose(got, given.cumsum(0), rtol=1e-5)
    assert np.array_equal(held, got[-1])


def test_phases_are_entry_points_and_run_runs_them_all() -> None:
    x = Buffer("x", f32, (1,), "state", data=np.ones(1, "f"))
    p = Buffer("p", f32, (1,))
    kernels = [
        Kernel(f"times{k}", (p,), (p,), block(Reduce(p, (0,), "mul", Const(float(k), f32)))) for k in (2, 3)
    ]
    phases = {
        name: block(Call(kernel, (Slice(x),)))
        for name, kernel in zip(("forward", "update"), kernels, strict=True)
    }
    program = Program("test", states=[x], kernels=kernels, phases=phases, arena_bytes=0)
    library = cc.build(emit_program(program, GENERIC), *cc.STRICT)
    held = np.ones(1, "f")
    for entry, expected in (("test_forward", 2), ("test_update", 6), ("test_run", 36)):
        cc.call(library, entry, [held, np.zeros(1, "u1")])
        assert held[0] == expected


def test_large_offsets_use_wide_indices() -> None:
    (iv, i), (jv, j) = var("i", 70_000), var("j", 40_000)
    x, y = Buffer("x", u8, (70_000, 40_000)), Buffer("y", u8, (1,))
    body = loop(iv, loop(jv, Reduce(y, (0,), "max", read(x, i, j))))
    assert "for (int64_t i = 0; i < 70000; i++)" in emit_program(cc.kernel_program([body], [x], [y]), GENERIC)


def test_ordered_sums_are_not_contracted() -> None:
    v, i = var("i", 8)
    x, y = Buffer("x", f32, (8,)), Buffer("y", f32, (1,))
    ordered = cc.kernel_program(
        [loop(v, Reduce(y, (0,), "add", read(x, i) * read(x, i), ordered=True))], [x], [y]
    )
    assert required_flags(ordered) == ("-ffp-contract=off",)
    assert required_flags(matmul_program(2, 2, 2)) == ()


@pytest.mark.parametrize("dtype", [f32, i32, bool_], ids=str)
def test_reductions_of_every_kind(dtype: DType) -> None:
    v, i = var("i", 6)
    combines = ("and", "or") if dtype == bool_ else ("add", "mul", "max", "min")
    x = Buffer("x", dtype, (6,))
    ys = [Buffer(f"y_{combine}", dtype, ()) for combine in combines]
    body = [
        s
        for y, combine in zip(ys, combines, strict=True)
        for s in (Store(y, (), read(x, 0)), loop(v, Reduce(y, (), combine, read(x, i))))
    ]
    given = (RNG.standard_normal(6) * 5).astype(dtype.numpy)
    arrays = {"x": given, **{y.name: np.zeros((), dtype.numpy) for y in ys}}
    cc.run(cc.kernel_program(body, [x], ys), arrays, *ASAN)
    numpy = {"add": lambda x: x[0] + x.sum(), "mul": lambda x: x[0] * x.prod(), "max": np.max, "min": np.min,
             "and": np.all, "or": np.any}  # fmt: skip
    for y, combine in zip(ys, combines, strict=True):
        np.testing.assert_allclose(arrays[y.name], numpy[combine](given).astype(dtype.numpy), rtol=1e-5)


def test_hostile_names_stay_inside_of_identifiers_and_comments() -> None:
    v, i = var('i"; system("x', 2)
    x, y = Buffer("x; */ int", f32, (2,)), Buffer("int", f32, (2,))
    program = cc.kernel_program([loop(v, Store(y, (i,), read(x, i)))], [x], [y])
    program.kernels[0].doc = ("*/ evil() /*", "a\\", "??/")
    got = np.zeros(2, "f")
    cc.run(program, {x.name: np.ones(2, "f"), "int": got}, "-trigraphs", *cc.STRICT)
    assert got.tolist() == [1, 1]


def test_what_has_no_c_form_is_refused() -> None:
    y = Buffer("y", f32, (4,))
    local = Buffer("local", f32, (1 << 20,), "local", "stack")
    with pytest.raises(UnsupportedError, match="too large for the stack"):
        emit_program(cc.kernel_program([Alloc(local)], [], [y]), GENERIC)
    unplanned = matmul_program(2, 2, 2)
    scratch = Buffer("h", f32, (4,), "scratch")
    unplanned.scratch.append(scratch)
    unplanned.phases["forward"] = block(Call(unplanned.kernels[0], (Slice(scratch),) * 3))
    with pytest.raises(UnsupportedError, match="plan memory first"):
        emit_program(unplanned, GENERIC)


def test_address_sanitizer_finds_nothing(tmp_path: Path) -> None:
    """A stand-alone program, since the sanitizer must own the process."""
    source = emit_program(matmul_program(5, 6, 7), GENERIC)
    main = """
int main(void) {
    static float a[35], b[42], c[30];
    static unsigned char arena[1];
    void *buffers[] = {a, b, c, arena};
    return test_run(buffers, NULL, NULL);
}
"""
    (tmp_path / "m.c").write_text(source + main)
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-pthread"]
    subprocess.run(
        ["gcc", *flags, *cc.STRICT, str(tmp_path / "m.c"), "-o", str(tmp_path / "m"), "-lm"], check=True
    )
    subprocess.run([str(tmp_path / "m")], check=True)
