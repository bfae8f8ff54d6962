"""Elementwise functions that are not primitive."""

from __future__ import annotations

import math
from typing import Any

from intaglio.ops.compositions.basic import dtype_of, floating
from intaglio.ops.dispatch import composition
from intaglio.ops.registry import prim
from intaglio.shared import dtypes


def gt(a: Any, b: Any) -> Any:
    """Whether a is greater than b; false when either is NaN."""
    return prim.lt(b, a)


def ge(a: Any, b: Any) -> Any:
    """Whether a is not less than b; false when either is NaN."""
    return prim.le(b, a)


def square(x: Any) -> Any:
    return prim.mul(x, x)


def reciprocal(x: Any) -> Any:
    return prim.div(1.0, x)


def rsqrt(x: Any) -> Any:
    """1 / sqrt(x)."""
    return prim.div(1.0, prim.sqrt(x))


def exp2(x: Any) -> Any:
    """2 to the power x."""
    return prim.pow(2.0, x) if dtype_of(x).is_float else prim.pow(2.0, floating(x))


def log2(x: Any) -> Any:
    return prim.mul(prim.log(x), 1 / math.log(2))


def log10(x: Any) -> Any:
    return prim.mul(prim.log(x), 1 / math.log(10))


def erfc(x: Any) -> Any:
    """1 - erf(x)."""
    return prim.sub(1.0, prim.erf(x))


def logical_not(x: Any) -> Any:
    """Whether an element is 0."""
    return prim.eq(x, False if dtype_of(x).kind == "bool" else 0)


def truth(x: Any) -> Any:
    """Whether an element is not 0."""
    return x if dtype_of(x).kind == "bool" else prim.ne(x, 0)


def logical_and(a: Any, b: Any) -> Any:
    return prim.and_(truth(a), truth(b))


def logical_or(a: Any, b: Any) -> Any:
    return prim.or_(truth(a), truth(b))


def logical_xor(a: Any, b: Any) -> Any:
    return prim.xor(truth(a), truth(b))


def isnan(x: Any) -> Any:
    return prim.ne(x, x)


def isinf(x: Any) -> Any:
    return prim.eq(prim.abs(x), math.inf) if dtype_of(x).is_float else prim.ne(x, x)


def isfinite(x: Any) -> Any:
    """Whether an element is neither NaN nor infinite."""
    return prim.lt(prim.abs(x), math.inf) if dtype_of(x).is_float else prim.eq(x, x)


def clamp(x: Any, min: Any = None, max: Any = None) -> Any:
    """x between two bounds; NaN stays. The derivative at a bound is 1.

    Args:
        min: least value, a number or tensor, or None.
        max: greatest value; wins where it is less than `min`.
    """
    if min is not None:
        x = prim.where(prim.lt(x, min), min, x)
    return x if max is None else prim.where(prim.lt(max, x), max, x)


def lerp(a: Any, b: Any, weight: Any) -> Any:
    """a + weight * (b - a)."""
    return prim.add(a, prim.mul(weight, prim.sub(b, a)))


def hypot(a: Any, b: Any) -> Any:
    """sqrt(a * a + b * b)."""
    return prim.sqrt(prim.add(square(a), square(b)))


def logaddexp(a: Any, b: Any) -> Any:
    """log(exp(a) + exp(b)), without overflow."""
    top = prim.detach(prim.max(a, b))
    top = prim.where(isfinite(top), top, 0)
    return prim.add(prim.log(prim.add(prim.exp(prim.sub(a, top)), prim.exp(prim.sub(b, top)))), top)


def signbit(x: Any) -> Any:
    """Whether an element has a minus, as -0 has."""
    dtype = dtype_of(x)
    bits = prim.bitcast(x, dtype=_SIGNED[dtype.size]) if dtype.is_float else x
    return prim.lt(bits, 0) if bits is not x or dtype.is_integer else prim.ne(x, x)


def copysign(a: Any, b: Any) -> Any:
    """The size of a with the sign of b."""
    return prim.where(signbit(b), -prim.abs(a), prim.abs(a))


@composition
def erfinv(x: Any) -> Any:
    """The number whose `erf` is x: the quantile of the normal distribution by Giles' polynomials, corrected
    by Newton's method."""
    w = -prim.log1p(-x * x)
    near, far = _polynomial(_ERFINV_NEAR, w - 2.5), _polynomial(_ERFINV_FAR, prim.sqrt(w) - 3)
    y = prim.where(prim.lt(w, 5), near, far) * x
    for _ in range(2):
        slope = prim.exp(-y * y) * (2 / math.sqrt(math.pi))
        y = y - prim.where(prim.eq(slope, 0), 0, (prim.erf(y) - x) / prim.where(prim.eq(slope, 0), 1, slope))
    y = prim.where(prim.eq(prim.abs(x), 1), x * math.inf, y)
    return prim.where(prim.lt(1, prim.abs(x)), math.nan, y)


def _polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    """Horner's rule, the highest power first."""
    total: Any = coefficients[0]
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


_SIGNED = {2: dtypes.i16, 4: dtypes.i32, 8: dtypes.i64}
_ERFINV_NEAR = (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
                -0.00125372503, -0.00417768164, 0.246640727, 1.50140941)  # fmt: skip
_ERFINV_FAR = (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613,
               0.00943887047, 1.00167406, 2.83297682)  # fmt: skip


@composition
def nan_to_num(x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Any:
    """x with NaN and infinities replaced; by default infinities become the greatest and least number."""
    greatest = dtype_of(x).largest
    high = greatest if posinf is None else posinf
    low = -greatest if neginf is None else neginf
    x = prim.where(isnan(x), nan, x)
    x = prim.where(prim.eq(x, math.inf), high, x)
    return prim.where(prim.eq(x, -math.inf), low, x)
