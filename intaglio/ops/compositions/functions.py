"""Elementwise functions that are not primitive."""

from __future__ import annotations

import math
from typing import Any

from intaglio.ops.compositions.basic import dtype_of, floating
from intaglio.ops.dispatch import composition
from intaglio.ops.registry import prim


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


@composition
def nan_to_num(x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Any:
    """x with NaN and infinities replaced; by default infinities become the greatest and least number."""
    greatest = dtype_of(x).largest
    high = greatest if posinf is None else posinf
    low = -greatest if neginf is None else neginf
    x = prim.where(isnan(x), nan, x)
    x = prim.where(prim.eq(x, math.inf), high, x)
    return prim.where(prim.eq(x, -math.inf), low, x)
