"""Every scalar function of the registry, in every element type, as C against its NumPy meaning."""

from __future__ import annotations

from collections.abc import Iterator

import cc
import numpy as np
import pytest

import intaglio.ops  # noqa: F401
from intaglio.loop.ir import Buffer, Call, For, Kernel, Program, Slice, Store, block
from intaglio.native.emit import emit_program
from intaglio.ops.dispatch import evaluate
from intaglio.ops.expr import Apply, Expr, Read, cast
from intaglio.ops.registry import Op, all_ops
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import DTypeError
from intaglio.shared.index import Var, var_index
from intaglio.shared.target import GENERIC
from intaglio.shared.types import TensorType

UBSAN = ("-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all", "-static-libubsan", *cc.STRICT)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with np.errstate(all="ignore"):
        yield


def values(dtype: DType) -> np.ndarray:
    """Corner cases of a type and some ordinary values."""
    if dtype == dtypes.bool_:
        return np.array([False, True])
    if dtype.is_float:
        wide = [
            0,
            -0.0,
            1,
            -1,
            0.5,
            -0.5,
            1.5,
            2.5,
            -2.5,
            3,
            7.25,
            -100.125,
            1e-3,
            6e4,
            np.inf,
            -np.inf,
            np.nan,
        ]
        return np.array(wide).astype(dtype.numpy)
    info = np.iinfo(dtype.numpy)
    near = [info.min, info.min + 1, info.max - 1, info.max, 0, 1, 2, 3, 7, 8, 31, 32, 63, 64, 100]
    if dtype.kind == "int":
        near += [-1, -2, -3, -7, -100]
    return np.array([n for n in near if info.min <= n <= info.max], dtype.numpy)


def maps(dtype: DType) -> list[Op]:
    """Elementwise operators that take the type and are one function."""
    found = []
    for op in all_ops():
        if op.kind != "map" or op.name in ("cast", "where"):
            continue
        try:
            op.infer([TensorType(dtype, (2,))] * len(op.parsed.operands), {})
        except (DTypeError, TypeError):
            continue
        found.append(op)
    return found


def kernel_of(op: Op, dtype: DType, size: int) -> tuple[Kernel, list[Buffer], Buffer]:
    operands = [Buffer(f"{op.name}_{k}", dtype, (size,), "input") for k in range(len(op.parsed.operands))]
    result = op.infer([TensorType(dtype, (size,))] * len(operands), {})[0].dtype
    output = Buffer(f"{op.name}_y", result, (size,), "output")
    i = Var("i", 0, size - 1)

    class Operand:
        def __init__(self, buffer: Buffer) -> None:
            self.buffer = buffer
            self.type = TensorType(buffer.dtype, buffer.shape)

        def __getitem__(self, index: tuple) -> Expr:
            index = index if isinstance(index, tuple) else (index,)
            return cast(Read(self.buffer, index, self.buffer.dtype), self.buffer.dtype.arithmetic)

    value = op.element((var_index(i),), [Operand(b) for b in operands], {})
    body = block(For(i, size, block(Store(output, (var_index(i),), cast(value, result)))))
    return Kernel(f"do_{op.name}", (*operands, output), (output,), body), operands, output


def run_all(
    kernels: list[Kernel],
    inputs: list[Buffer],
    outputs: list[Buffer],
    arrays: dict[str, np.ndarray],
    *flags: str,
) -> None:
    calls = [Call(k, tuple(Slice(b) for b in k.params)) for k in kernels]
    program = Program(
        "test", inputs=inputs, outputs=outputs, kernels=kernels, phases={"forward": block(*calls)}
    )
    program.arena_bytes = 0
    library = cc.build(emit_program(program, GENERIC), *flags)
    cc.call(library, "test_run", [arrays[b.name] for b in [*inputs, *outputs]] + [np.zeros(1, np.uint8)])


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=str)
def test_functions_mean_what_numpy_means(dtype: DType) -> None:
    x = values(dtype)
    a, b = (m.reshape(-1).copy() for m in np.meshgrid(x, x))
    ops = maps(dtype)
    assert len(ops) > 5
    made = [kernel_of(op, dtype, a.size) for op in ops]
    arrays = {o.name: np.zeros(a.size, o.dtype.numpy) for _, _, o in made}
    for _, operands, _ in made:
        arrays |= {buffer.name: given for buffer, given in zip(operands, (a, b), strict=False)}
    inputs = [buffer for _, operands, _ in made for buffer in operands]
    run_all([k for k, _, _ in made], inputs, [o for _, _, o in made], arrays, *UBSAN)
    for op, (_, operands, output) in zip(ops, made, strict=True):
        given = [arrays[buffer.name] for buffer in operands]
        expected = evaluate(op, given, {})
        compare(op, given, arrays[output.name], np.asarray(expected))


def compare(op: Op, given: list[np.ndarray], got: np.ndarray, expected: np.ndarray) -> None:
    if expected.dtype.kind in "biu":
        wrong = got != expected
    else:
        got, expected = got.astype(np.float64), expected.astype(np.float64)
        unit = {2: 1e-2, 4: 1e-6, 8: 1e-14}[given[0].dtype.itemsize]
        with np.errstate(all="ignore"):
            close = np.abs(got - expected) <= unit * np.abs(expected)
        wrong = ~(close | (got == expected) | (np.isnan(got) & np.isnan(expected)))
    if wrong.any():
        k = int(np.argmax(wrong))
        shown = ", ".join(repr(g[k]) for g in given)
        raise AssertionError(f"{op.name}({shown}) is {got[k]!r}, expected {expected[k]!r}")


@pytest.mark.parametrize("source", dtypes.ALL, ids=str)
def test_conversions_mean_what_the_oracle_means(source: DType) -> None:
    x = values(source)
    if source.is_float:
        more = [
            2.0**31,
            -(2.0**31),
            2.0**63,
            255.5,
            256,
            -129,
            1e9,
            65519.99,
            65520,
            2**-25,
            2**-24 * 1.5,
            3e-8,
        ]
        x = np.concatenate([x, np.array(more).astype(source.numpy)])
    kernels, outputs = [], []
    given = Buffer("x", source, (x.size,), "input")
    i = Var("i", 0, x.size - 1)
    for target in dtypes.ALL:
        output = Buffer(f"to_{target}", target, (x.size,), "output")
        value = cast(Read(given, (var_index(i),), source), target)
        body = block(For(i, x.size, block(Store(output, (var_index(i),), value))))
        kernels.append(Kernel(f"cast_to_{target}", (given, output), (output,), body))
        outputs.append(output)
    arrays = {"x": x, **{o.name: np.zeros(x.size, o.dtype.numpy) for o in outputs}}
    run_all(kernels, [given], outputs, arrays, *UBSAN)
    oracle = next(op for op in all_ops() if op.name == "cast").ref
    for output in outputs:
        with np.errstate(all="ignore"):
            expected = oracle(x, output.dtype)
        got = arrays[output.name]
        same = (got == expected) | ((got != got) & (expected != expected))
        assert same.all(), f"{source} {x[~same]} to {output.dtype}: {got[~same]}, expected {expected[~same]}"


@pytest.mark.parametrize("name", ["f16", "bf16"])
def test_every_half_converts_and_rounds_to_even(name: str) -> None:
    half = dtypes.BY_NAME[name]
    bits = np.arange(1 << 16, dtype=np.uint16)
    random = np.random.default_rng(0).integers(0, 1 << 32, 200_000, dtype=np.uint64).astype(np.uint32)
    floats = np.concatenate(
        [random.view(np.float32), bits.view(half.numpy).astype(np.float32) * np.float32(1.0003)]
    )
    h, w = Buffer("h", half, (bits.size,)), Buffer("w", dtypes.f32, (bits.size,))
    f, n = Buffer("f", dtypes.f32, (floats.size,)), Buffer("n", half, (floats.size,))
    i, j = Var("i", 0, bits.size - 1), Var("j", 0, floats.size - 1)
    widen = For(i, bits.size, block(Store(w, (var_index(i),), Read(h, (var_index(i),), dtypes.f32))))
    narrow = For(j, floats.size, block(Store(n, (var_index(j),), Read(f, (var_index(j),), dtypes.f32))))
    arrays = {"h": bits.view(half.numpy), "f": floats, "w": np.zeros(bits.size, np.float32)}
    arrays["n"] = np.zeros(floats.size, half.numpy)
    cc.run(cc.kernel_program([widen, narrow], [h, f], [w, n]), arrays)
    with np.errstate(all="ignore"):
        wide, rounded = arrays["h"].astype(np.float32), floats.astype(half.numpy)
    assert np.array_equal(arrays["w"], wide, equal_nan=True)
    nan = np.isnan(floats)
    assert np.array_equal(arrays["n"].view(np.uint16)[~nan], rounded.view(np.uint16)[~nan])
    assert np.isnan(arrays["n"][nan].astype(np.float32)).all()


def test_what_c_cannot_say_is_refused() -> None:
    x, y = Buffer("x", dtypes.i32, (4,)), Buffer("y", dtypes.i32, (4,))
    i = Var("i", 0, 3)
    value = Apply("exp", (Read(x, (var_index(i),), dtypes.i32),), dtypes.i32)
    program = cc.kernel_program([For(i, 4, block(Store(y, (var_index(i),), value)))], [x], [y])
    with pytest.raises(Exception, match="exp of i32 values cannot be written in C"):
        emit_program(program, GENERIC)
