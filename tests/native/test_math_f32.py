"""Functions of float in the generated C: error bounds over all exponents against double precision."""

from __future__ import annotations

import math

import cc
import numpy as np
import pytest

from intaglio.loop.ir import Buffer, Call, For, Kernel, Program, Slice, Store, block
from intaglio.native.emit import emit_program
from intaglio.native.targets import find_target
from intaglio.native.toolchain import Toolchain, available, build_shared
from intaglio.ops.expr import Apply, Read
from intaglio.shared.dtypes import f32
from intaglio.shared.index import Var, var_index
from intaglio.shared.target import GENERIC

FAST = ("-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fno-tree-coalesce-vars",
        "-Wall", "-Wextra", "-Werror")  # fmt: skip

ERF = np.vectorize(math.erf, otypes=[np.float64])

UNARY = {
    "exp": (np.exp, 1.5), "exp2": (np.exp2, 1.5), "expm1": (np.expm1, 2.5), "log": (np.log, 1.5),
    "log2": (np.log2, 2), "log10": (np.log10, 2), "log1p": (np.log1p, 2), "tanh": (np.tanh, 2),
    "sinh": (np.sinh, 4), "cosh": (np.cosh, 4), "asinh": (np.arcsinh, 4), "acosh": (np.arccosh, 4),
    "atanh": (np.arctanh, 4), "sin": (np.sin, 1), "cos": (np.cos, 1), "tan": (np.tan, 1),
    "asin": (np.arcsin, 3), "acos": (np.arccos, 3), "atan": (np.arctan, 3), "erf": (ERF, 2.5),
    "sqrt": (np.sqrt, 0.51),
}  # fmt: skip


def samples(per_exponent: int) -> np.ndarray:
    """Floats of both signs with every exponent, ordinary values more densely, and the special ones."""
    random = np.random.default_rng(7)
    exponents = np.repeat(np.arange(256, dtype=np.uint32), per_exponent)
    bits = (exponents << np.uint32(23)) | random.integers(0, 1 << 23, exponents.size, dtype=np.uint32)
    special = np.array(
        [0, np.inf, np.nan, 1, 0.5, 2, 1e-45, 88.72284, 88.72283, -87.33655, -103.97, 3.4e38], np.float32
    )
    dense = random.uniform(-100, 100, 40 * per_exponent).astype(np.float32)
    near = random.uniform(-2, 2, 40 * per_exponent).astype(np.float32)
    x = np.concatenate([bits.view(np.float32), special, dense, near])
    return np.concatenate([x, -x])


def apply_function(fn: str, arrays: list[np.ndarray], fast: bool, lanes: int = 0) -> np.ndarray:
    """`fn` of arrays by generated C."""
    size = arrays[0].size
    y = np.empty(size, np.float32)
    read = [Buffer(name, f32, (size,)) for name in "ab"[: len(arrays)]]
    result = Buffer("y", f32, (size,))
    outer = Var("i", 0, size - 1)
    index = var_index(outer)
    if lanes:
        lane = Var("l", 0, lanes - 1)
        index = var_index(Var("i", 0, size - lanes)) + var_index(lane)
        outer = Var("i", 0, size - lanes)
        value = Apply(fn, tuple(Read(b, (index,), f32) for b in read), f32)
        inner = For(lane, lanes, block(Store(result, (index,), value)), "vector")
        nest = For(outer, size, block(inner), step=lanes)
    else:
        value = Apply(fn, tuple(Read(b, (index,), f32) for b in read), f32)
        nest = For(outer, size, block(Store(result, (index,), value)))
    program = cc.kernel_program([nest], read, [result])
    given = {**dict(zip("ab", arrays, strict=False)), "y": y}
    target = find_target("native") if fast else GENERIC
    cc.run(program, given, *(FAST if fast else ("-O2", *cc.STRICT)), target=target)
    return y


def ulps(y: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Error in units of the last place of the exact result, computed in double precision."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(np.float32)
        unit = np.spacing(np.maximum(np.abs(exact), 1.2e-38).astype(np.float32)).astype(np.float64)
        error = np.abs(y.astype(np.float64) - exact) / unit
    return np.where((y == rounded) | (np.isnan(y) & np.isnan(rounded)), 0, error)


@pytest.mark.parametrize("fast", [False, True], ids=["portable", "fast"])
@pytest.mark.parametrize("fn", UNARY)
def test_error_bound(fn: str, fast: bool) -> None:
    exact_function, bound = UNARY[fn]
    x = samples(4000 if fn != "erf" else 1000)
    y = apply_function(fn, [x], fast)
    with np.errstate(all="ignore"):
        exact = exact_function(x.astype(np.float64))
    error = ulps(y, exact)
    worst = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    assert error[worst] <= bound, (
        f"{fn}({x[worst]!r}) = {y[worst]!r}, exact {exact[worst]!r}: {error[worst]} ULP"
    )


def test_signed_zeros_are_kept() -> None:
    x = np.array([0.0, -0.0], np.float32)
    for fn in (
        "expm1",
        "log1p",
        "tanh",
        "sinh",
        "asinh",
        "atanh",
        "sin",
        "tan",
        "asin",
        "atan",
        "erf",
        "sqrt",
    ):
        assert np.signbit(apply_function(fn, [x], False)).tolist() == [False, True], fn


@pytest.mark.parametrize("fast", [False, True], ids=["portable", "fast"])
@pytest.mark.parametrize(("fn", "exact_function", "bound"), [("pow", np.power, 1), ("atan2", np.arctan2, 4)])
def test_error_bound_of_two_arguments(fn: str, exact_function: np.ufunc, bound: float, fast: bool) -> None:
    random = np.random.default_rng(3)
    special = np.float32(
        [0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 2, -2, 3, -3, 0.5, -0.5, 8388609, 1e30, -1e30, 0.9]
    )
    a, b = (m.reshape(-1) for m in np.meshgrid(special, special))
    base = np.exp(random.uniform(-20, 20, 300_000)).astype(np.float32) * random.choice([1, 1, 1, -1], 300_000)
    power = np.where(
        random.random(300_000) < 0.2, random.integers(-9, 9, 300_000), random.uniform(-6, 6, 300_000)
    )
    x = np.concatenate([a, base.astype(np.float32)]).astype(np.float32)
    y = np.concatenate([b, power.astype(np.float32)]).astype(np.float32)
    got = apply_function(fn, [x, y], fast)
    with np.errstate(all="ignore"):
        exact = exact_function(x.astype(np.float64), y.astype(np.float64))
    error = ulps(got, exact)
    worst = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    assert error[worst] <= bound, f"{fn}({x[worst]!r}, {y[worst]!r}) = {got[worst]!r}, exact {exact[worst]!r}"


@pytest.mark.parametrize("fn", ["exp", "tanh", "erf", "sqrt", "floor"])
def test_vector_form_equals_plain_form(fn: str) -> None:
    x = np.resize(samples(50), 16 * 1600)
    plain = apply_function(fn, [x], True)
    vector = apply_function(fn, [x], True, lanes=16)
    assert np.array_equal(plain.view(np.uint32) & 0x7FFFFFFF, vector.view(np.uint32) & 0x7FFFFFFF)


@pytest.mark.parametrize("toolchain", available(), ids=lambda t: t.name)
def test_every_compiler_keeps_the_bounds(toolchain: Toolchain) -> None:
    x = samples(40)
    given = Buffer("x", f32, (x.size,), "input")
    index = Var("i", 0, x.size - 1)
    outputs, kernels = [], []
    for fn in UNARY:
        y = Buffer(f"y_{fn}", f32, (x.size,), "output")
        value = Apply(fn, (Read(given, (var_index(index),), f32),), f32)
        body = block(For(index, x.size, block(Store(y, (var_index(index),), value))))
        kernels.append(Kernel(fn, (given, y), (y,), body))
        outputs.append(y)
    calls = block(*(Call(k, tuple(Slice(b) for b in k.params)) for k in kernels))
    program = Program("test", [given], outputs, kernels=kernels, phases={"forward": calls}, arena_bytes=0)
    source = emit_program(program, GENERIC)
    library = cc.load(build_shared(source, target=GENERIC, toolchain=toolchain, name="math"))
    results = [np.zeros_like(x) for _ in UNARY]
    cc.call(library, "test_run", [x, *results, np.zeros(1, np.uint8)])
    for (fn, (exact, bound)), got in zip(UNARY.items(), results, strict=True):
        with np.errstate(all="ignore"):
            error = ulps(got, exact(x.astype(np.float64)))
        assert error.max() <= bound, fn
