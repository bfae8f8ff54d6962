"""Vector loops: the same results with vector types of every width as with plain loops."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import cc
import numpy as np
import pytest

import intaglio.ops  # noqa: F401
from intaglio.loop.ir import Alloc, Block, Buffer, For, If, Program, Reduce, Store, block
from intaglio.loop.recipes.nests import Names, turn
from intaglio.native.emit import emit_program
from intaglio.native.targets import detect, find_target
from intaglio.native.toolchain import available
from intaglio.ops.expr import Const, Expr, IndexValue, Read, apply, cast, where
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType, f16, f32, f64, i8, i16, i32, i64, u32
from intaglio.shared.index import Index, Var, var_index
from intaglio.shared.target import GENERIC, Target

RNG = np.random.default_rng(0)
NATIVE = detect()
WIDTHS = [Target(f"v{w}", w, 32, flags=NATIVE.flags) for w in (16, 32, 64) if w <= NATIVE.vector_bytes]
FAST = (
    "-O3",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-tree-coalesce-vars",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-psabi",
)


def var(name: str, extent: int) -> tuple[Var, Index]:
    made = Var(name, 0, extent - 1)
    return made, var_index(made)


def read(buffer: Buffer, *index: object) -> Expr:
    return Read(buffer, index, buffer.dtype)  # type: ignore[arg-type]


def over(v: Var, *body: object, kind: str = "serial") -> For:
    assert v.hi is not None
    return For(v, v.hi + 1, block(*body), kind)  # type: ignore[arg-type]


def row_program(size: int, lanes: int, dtype: DType, make: object, outputs: DType | None = None) -> Program:
    """`y[i + l] = make(x, z, i + l)` in blocks of lanes."""
    outer = Var("i", 0, size - lanes)
    lane, l = var("l", lanes)
    at = var_index(outer) + l
    x, z = Buffer("x", dtype, (size,)), Buffer("z", dtype, (size,))
    y = Buffer("y", outputs or dtype, (size,))
    body = over(lane, Store(y, (at,), make(x, z, at)), kind="vector")  # type: ignore[operator]
    return cc.kernel_program([For(outer, size, block(body), step=lanes)], [x, z], [y])


def sample(dtype: DType, size: int) -> np.ndarray:
    if dtype.is_float:
        x = RNG.standard_normal(size) * 3
        x[::7], x[3::11], x[5::13] = np.nan, -0.0, np.inf
        return x.astype(dtype.numpy)
    info = np.iinfo(dtype.numpy)
    return RNG.integers(info.min, info.max, size, dtype=dtype.numpy, endpoint=True)


VALUES = {
    "arithmetic": lambda x, z, i: (read(x, i) + read(z, i) * 3) * read(x, i) - read(z, i),
    "max": lambda x, z, i: apply("max", read(x, i), read(z, i)),
    "min": lambda x, z, i: apply("min", read(x, i), 1),
    "negate": lambda x, z, i: -read(x, i),
    "where": lambda x, z, i: where(read(x, i) < read(z, i), read(x, i) * 2, read(z, i)),
    "logic": lambda x, z, i: where(
        ((read(x, i) < 1) & ~(read(z, i) < 0)) | apply("eq", read(x, i), read(z, i)), read(z, i), read(x, i)
    ),
    "uniform": lambda x, z, i: read(x, i) + read(z, 3),
    "truth": lambda x, z, i: cast(read(x, i) < read(z, i), x.dtype) + read(z, i),
}


@pytest.mark.parametrize("target", WIDTHS, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", [f32, f64, i32, i64, u32, i16, i8], ids=str)
def test_vector_form_equals_plain_form(target: Target, dtype: DType) -> None:
    lanes = target.lanes(dtype.size)
    size = 4 * lanes
    x, z = sample(dtype, size), sample(dtype, size)
    for name, make in VALUES.items():
        plain, vector = np.zeros(size, dtype.numpy), np.zeros(size, dtype.numpy)
        cc.run(row_program(size, lanes, dtype, make), {"x": x, "z": z, "y": plain}, "-O1")
        source = cc.run(
            row_program(size, lanes, dtype, make), {"x": x, "z": z, "y": vector}, *FAST, target=target
        )
        assert f"{dtype}x{lanes}" in source, name
        assert f"load_{dtype}x{lanes}" in source, name
        assert np.allclose(plain, vector, rtol=1e-5, atol=0, equal_nan=True), name
        assert np.array_equal(np.signbit(plain.astype("d")), np.signbit(vector.astype("d"))), name


@pytest.mark.parametrize(
    ("dtype", "to", "make"),
    [
        (f32, f32, lambda x, z, i: where(i_less(i, 5), read(x, i), read(z, i))),
        (f32, i32, lambda x, z, i: cast(read(x, i), i32)),
        (f16, f32, lambda x, z, i: Read(x, (i,), f32) * 2.0),
        (f32, f32, lambda x, z, i: read(x, i * -1 + 63)),
        (f32, dtypes.bool_, lambda x, z, i: read(x, i) < read(z, i)),
        (i32, i32, lambda x, z, i: apply("floor_div", read(x, i), 7)),
    ],
    ids=["index", "float_to_int", "half", "reversed", "bool", "division"],
)
def test_loops_without_vector_form_run_as_plain_loops(dtype: DType, to: DType, make: object) -> None:
    x, z = sample(dtype, 64), sample(dtype, 64)
    plain, vector = np.zeros(64, to.numpy), np.zeros(64, to.numpy)
    cc.run(row_program(64, 4, dtype, make, to), {"x": x, "z": z, "y": plain}, "-O1")
    cc.run(row_program(64, 4, dtype, make, to), {"x": x, "z": z, "y": vector}, *FAST, target=WIDTHS[0])
    assert np.array_equal(plain, vector, equal_nan=to.is_float)


@pytest.mark.parametrize("target", WIDTHS, ids=lambda t: t.name)
@pytest.mark.parametrize("extents", [(8, 8), (14, 20), (5, 9), (3, 4), (4, 1)], ids=str)
def test_squares_are_turned(target: Target, extents: tuple[int, int]) -> None:
    """Both orders of the loops, on extents that squares cover, overlap in, and do not fit."""
    rows, columns = extents
    x, y, z = Buffer("x", f32, (rows, columns)), Buffer("y", f32, (columns, rows)), Buffer("z", f32, extents)
    names = Names(())
    body = [
        *turn(names, rows, columns, lambda i, j: Store(y, (j, i), Read(x, (i, j), f32))),
        *turn(names, rows, columns, lambda i, j: Store(z, (i, j), Read(y, (j, i), f32))),
    ]
    given = RNG.standard_normal(extents).astype(np.float32)
    turned, back = np.zeros((columns, rows), np.float32), np.zeros(extents, np.float32)
    source = cc.run(
        cc.kernel_program(body, [x], [y, z]), {"x": given, "y": turned, "z": back}, *FAST, target=target
    )
    np.testing.assert_array_equal(turned, given.T)
    np.testing.assert_array_equal(back, given)
    assert ("turn_f32x" in source) == (min(extents) >= 4)


def i_less(i: object, n: int) -> Expr:
    return apply("lt", IndexValue(i), n)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", WIDTHS, ids=lambda t: t.name)
@pytest.mark.parametrize("combine", ["add", "mul", "max", "min"])
def test_lanes_reduce_into_one_place(target: Target, combine: str) -> None:
    for dtype in (f32, f64, i32):
        lanes = target.lanes(dtype.size)
        outer = Var("i", 0, 3 * lanes)
        lane, l = var("l", lanes)
        x, y = Buffer("x", dtype, (4 * lanes,)), Buffer("y", dtype, ())
        reduce = Reduce(y, (), combine, read(x, var_index(outer) + l))  # type: ignore[arg-type]
        body = [
            Store(y, (), read(x, 0)),
            For(outer, 4 * lanes, block(over(lane, reduce, kind="vector")), step=lanes),
        ]
        program = cc.kernel_program(body, [x], [y])
        given = (RNG.uniform(0.5, 1.5, 4 * lanes) * (1 if dtype.is_float else 1.4)).astype(dtype.numpy)
        got = np.zeros((), dtype.numpy)
        source = cc.run(program, {"x": given, "y": got}, *FAST, target=target)
        assert f"_{dtype}x{lanes}(load_" in source
        numpy = {"add": lambda x: x[0] + x.sum(dtype=x.dtype), "mul": lambda x: x[0] * x.prod(dtype=x.dtype)}
        expected = numpy.get(combine, {"max": np.max, "min": np.min}.get(combine))(given)  # type: ignore[misc]
        np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_ordered_reductions_stay_in_order() -> None:
    lane, l = var("l", 4)
    x, y = Buffer("x", f32, (4,)), Buffer("y", f32, ())
    program = cc.kernel_program(
        [over(lane, Reduce(y, (), "add", read(x, l), ordered=True), kind="vector")], [x], [y]
    )
    assert "f32x4" not in emit_program(program, WIDTHS[0])


def test_scalars_of_the_body_are_vectors_and_branches_are_shared() -> None:
    target = WIDTHS[-1]
    lanes = target.lanes(4)
    lane, l = var("l", lanes)
    (kv, k) = var("k", 5)
    x, flag, y = Buffer("x", f32, (5, lanes)), Buffer("flag", i32, (1,)), Buffer("y", f32, (lanes,))
    acc = Buffer("acc", f32, (), "local", "register")
    body = over(
        lane,
        Alloc(acc),
        Store(acc, (), Const(0.0, f32)),
        over(kv, Reduce(acc, (), "add", read(x, k, l))),
        If(
            apply("lt", 0, read(flag, 0)), block(Store(y, (l,), read(acc))), block(Store(y, (l,), -read(acc)))
        ),
        kind="vector",
    )
    program = cc.kernel_program([body], [x, flag], [y])
    given, got = RNG.standard_normal((5, lanes)).astype("f"), np.zeros(lanes, "f")
    source = cc.run(program, {"x": given, "flag": np.ones(1, np.int32), "y": got}, *FAST, target=target)
    assert f"f32x{lanes} acc" in source
    np.testing.assert_allclose(got, given.sum(0), rtol=1e-5)


def tile_program(m: int, n: int, k: int, rows: int, columns: int, lanes: int) -> Program:
    """A matrix product by register tiles: the nest that fast kernels are made of."""
    j0, i0 = Var("j0", 0, n - columns * lanes), Var("i0", 0, m - rows)
    (rv, r), (cv, c), (kv, kk), (lv, l) = var("r", rows), var("v", columns), var("k", k), var("l", lanes)
    a, b, y = Buffer("a", f32, (m, k)), Buffer("b", f32, (k, n)), Buffer("c", f32, (m, n))
    acc = Buffer("acc", f32, (rows, columns, lanes), "local", "register")

    def each(*body: object) -> Block:
        return block(over(rv, over(cv, over(lv, *body, kind="vector"), kind="unroll"), kind="unroll"))

    at = (var_index(i0) + r, var_index(j0) + c * lanes + l)
    term = read(a, at[0], kk) * read(b, kk, at[1])
    tile = block(
        Alloc(acc),
        each(Store(acc, (r, c, l), Const(0.0, f32))),
        over(kv, each(Reduce(acc, (r, c, l), "add", term))),
        each(Store(y, at, apply("max", read(acc, r, c, l), 0.0))),
    )
    body = For(j0, n, block(For(i0, m, tile, step=rows)), step=columns * lanes)
    return cc.kernel_program([body], [a, b], [y])


@pytest.mark.parametrize("name", ["generic", "x86-64-v3", "x86-64-v4"])
def test_register_tiles_stay_in_registers(name: str, tmp_path: Path) -> None:
    target = find_target(name)
    if target.vector_bytes > NATIVE.vector_bytes:
        pytest.skip("this machine has no such vectors")
    rows, columns = (6, 4) if target.registers == 32 else (6, 2)
    lanes = max(8, target.lanes(4))
    m, n, k = 12, 2 * columns * lanes, 40
    program = tile_program(m, n, k, rows, columns, lanes)
    a, b = RNG.standard_normal((m, k)).astype("f"), RNG.standard_normal((k, n)).astype("f")
    c = np.zeros((m, n), "f")
    source = cc.run(program, {"a": a, "b": b, "c": c}, *FAST, target=target)
    np.testing.assert_allclose(c, np.maximum(a @ b, 0), rtol=1e-4, atol=1e-4)
    if not target.vector_types:
        assert "vector_size" not in source
        return
    assert f"f32x{lanes} acc[{rows}][{columns}];" in source
    (tmp_path / "tile.c").write_text(source)
    command = ["gcc", *FAST, *target.flags, "-S", "-o", "-", str(tmp_path / "tile.c")]
    assembly = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert not re.findall(r"%[yz]mm\d+, *-?\d*\(%r[sb]p|\(%r[sb]p\), *%[yz]mm", assembly), (
        "spilled accumulators"
    )
    assert len(re.findall(r"vfmadd\d+ps", assembly)) >= rows * columns


def test_portable_form_has_no_vector_types() -> None:
    assert "vector_size" not in emit_program(tile_program(6, 64, 8, 6, 4, 16), GENERIC)


def test_register_arrays_can_be_read_lane_by_lane() -> None:
    target = WIDTHS[-1]
    lanes = target.lanes(4)
    (lv, l), (sv, s) = var("l", lanes), var("s", lanes)
    x, y = Buffer("x", f32, (lanes,)), Buffer("y", f32, (lanes,))
    acc = Buffer("acc", f32, (2, lanes), "local", "register")
    body = [
        Alloc(acc),
        over(lv, Store(acc, (0, l), read(x, l) * 2.0), Store(acc, (1, l), read(x, l)), kind="vector"),
        over(sv, Store(y, (s,), read(acc, 0, lanes - 1 - s) + read(acc, 1, s))),
    ]
    given, got = RNG.standard_normal(lanes).astype("f"), np.zeros(lanes, "f")
    source = cc.run(cc.kernel_program(body, [x], [y]), {"x": given, "y": got}, *FAST, target=target)
    assert f"f32x{lanes} acc[2];" in source
    np.testing.assert_allclose(got, given[::-1] * 2 + given, rtol=1e-6)


def test_clang_takes_vector_types(tmp_path: Path) -> None:
    found = [t for t in available() if t.kind in ("zig", "clang")]
    if not found:
        pytest.skip("no clang")
    target = find_target("x86-64-v3")
    sources = [
        emit_program(row_program(4 * target.lanes(dtype.size), target.lanes(dtype.size), dtype, make), target)
        for dtype in (f32, i16)
        for make in VALUES.values()
    ]
    sources.append(emit_program(tile_program(12, 64, 40, 6, 2, 8), target))
    for k, source in enumerate(sources):
        (tmp_path / f"p{k}.c").write_text(source.replace("test_", f"p{k}_"))
    march = "-march=x86_64_v3" if found[0].kind == "zig" else "-march=x86-64-v3"
    flags = ["-O1", march, "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-c"]
    command = [*found[0].command, *flags, *(str(path) for path in sorted(tmp_path.glob("*.c")))]
    subprocess.run(command, check=True, cwd=tmp_path)
