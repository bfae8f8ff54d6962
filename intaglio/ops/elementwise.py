"""Elementwise arithmetic of one or two elements, and conversion.

Integers wrap; division by zero of integers gives 0, as do their remainders. At ties and corners the
derivatives are PyTorch's: max and min give half to each side, abs has 0 at 0, and a power has 0 where its
exponent is 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.ops import expr
from intaglio.ops.dispatch import type_of
from intaglio.ops.expr import Expr
from intaglio.ops.registry import REGISTRY, constant, op, prim
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import DTypeError
from intaglio.shared.index import IndexLike
from intaglio.shared.types import TensorType


def apply(name: str, *operands: Any, **attrs: Any) -> Any:
    """The primitive operator of that name on tensors."""
    return REGISTRY[name](*operands, **attrs)


def masked(condition: Any, g: Any) -> Any:
    """g where the condition holds, else 0."""
    return prim.where(condition, g, 0)


@op
class add:
    """Sum of two elements; of truth values, whether one holds."""

    formula = "c[*i] = a[*i] + b[*i]"
    ref = np.add
    grad = lambda g, a, b, c: [g, g]
    accepts = "any"


@op
class sub:
    """Difference of two elements."""

    formula = "c[*i] = a[*i] - b[*i]"
    ref = np.subtract
    grad = lambda g, a, b, c: [g, lambda: -g]


@op
class mul:
    """Product of two elements; of truth values, whether both hold."""

    formula = "c[*i] = a[*i] * b[*i]"
    ref = np.multiply
    grad = lambda g, a, b, c: [lambda: g * b, lambda: g * a]
    accepts = "any"


@op
class div:
    """Quotient of two elements; integers are converted to f32 first."""

    formula = "c[*i] = a[*i] / b[*i]"
    ref = np.divide
    grad = lambda g, a, b, c: [lambda: g / b, lambda: -(g * c) / b]
    accepts = "float"
    domain = (0.5, 2.0)


@op
class floor_div:
    """Quotient of two elements rounded down."""

    formula = "c[*i] = floor_div(a[*i], b[*i])"
    ref = np.floor_divide
    grad = constant
    domain = (0.5, 4.0)


@op
class remainder:
    """What floor division leaves: it has the sign of b, as Python's `%`."""

    formula = "c[*i] = remainder(a[*i], b[*i])"
    ref = np.remainder
    grad = lambda g, a, b, c: [g, lambda: -g * prim.floor_div(a, b)]
    domain = (0.5, 4.0)


@op
class fmod:
    """What division rounded towards zero leaves: it has the sign of a, as C's `fmod`."""

    formula = "c[*i] = fmod(a[*i], b[*i])"
    ref = np.fmod
    grad = lambda g, a, b, c: [g, lambda: -g * prim.trunc(a / b)]
    domain = (0.5, 4.0)


def _power(a: Any, b: Any) -> Any:
    """Powers; integers to a negative power are the reciprocal rounded towards zero."""
    if np.asarray(a).dtype.kind != "i":
        return np.power(a, b)
    reciprocal = np.where(a == 1, 1, np.where(a == -1, 1 - 2 * (b & 1), 0)).astype(np.asarray(a).dtype)
    return np.where(b < 0, reciprocal, np.power(a, np.maximum(b, 0)))


def _power_gradient(g: Any, a: Any, b: Any, c: Any) -> list[Any]:
    def base() -> Any:
        return prim.where(prim.eq(b, 0), 0, g * b * prim.pow(a, b - 1))

    def exponent() -> Any:
        vanishes = prim.and_(prim.eq(a, 0), prim.le(0, b))
        return prim.where(vanishes, 0, g * c * prim.log(a))

    return [base, exponent]


@op
class pow_:
    """a to the power b."""

    formula = "c[*i] = pow(a[*i], b[*i])"
    ref = _power
    grad = _power_gradient
    domain = (0.5, 2.0)
    tolerance = 8


@op
class max_:
    """The greater of two elements; NaN when one is."""

    formula = "c[*i] = max(a[*i], b[*i])"
    ref = np.maximum
    grad = lambda g, a, b, c: [lambda: _winner(g, a, b), lambda: _winner(g, b, a)]
    accepts = "any"


@op
class min_:
    """The lesser of two elements; NaN when one is."""

    formula = "c[*i] = min(a[*i], b[*i])"
    ref = np.minimum
    grad = lambda g, a, b, c: [lambda: _winner(g, b, a), lambda: _winner(g, a, b)]
    accepts = "any"


def _winner(g: Any, above: Any, below: Any) -> Any:
    """g where `above` exceeds `below`, half of it at ties, else 0; all of it where one is NaN."""
    return prim.where(prim.lt(above, below), 0, prim.where(prim.eq(above, below), g * 0.5, g))


@op
class atan2:
    """The angle of the point (b, a)."""

    formula = "c[*i] = atan2(a[*i], b[*i])"
    ref = np.arctan2
    grad = lambda g, a, b, c: [lambda: g * b / (a * a + b * b), lambda: -g * a / (a * a + b * b)]
    accepts = "float"
    domain = (0.5, 2.0)
    tolerance = 4


@op
class neg:
    """The element with the other sign."""

    formula = "y[*i] = -x[*i]"
    ref = np.negative
    grad = lambda g, x, y: [-g]


@op
class abs_:
    """Absolute value; its derivative at 0 is 0."""

    formula = "y[*i] = abs(x[*i])"
    ref = np.abs
    grad = lambda g, x, y: [g * prim.sign(x)]


@op
class sign:
    """-1, 0 or 1; NaN for NaN."""

    formula = "y[*i] = sign(x[*i])"
    ref = np.sign
    grad = constant


def _exact_on_integers(function: Any) -> Any:
    return lambda x: function(x) if x.dtype.kind == "f" else x


@op
class floor:
    """The greatest whole number that is not above."""

    formula = "y[*i] = floor(x[*i])"
    ref = _exact_on_integers(np.floor)
    grad = constant


@op
class ceil:
    """The least whole number that is not below."""

    formula = "y[*i] = ceil(x[*i])"
    ref = _exact_on_integers(np.ceil)
    grad = constant


@op
class round_:
    """The nearest whole number, the even one of two."""

    formula = "y[*i] = round(x[*i])"
    ref = _exact_on_integers(np.rint)
    grad = constant


@op
class trunc:
    """The whole number towards zero."""

    formula = "y[*i] = trunc(x[*i])"
    ref = _exact_on_integers(np.trunc)
    grad = constant


def _where_gradient(g: Any, condition: Any, a: Any, b: Any, c: Any) -> list[Any]:
    return [None, lambda: prim.where(condition, g, 0), lambda: prim.where(condition, 0, g)]


@op
class where:
    """a where the condition holds, else b; what is not chosen does not matter, NaN included."""

    formula = "y[*i] = where(c[*i], a[*i], b[*i])"
    ref = np.where
    grad = _where_gradient
    accepts = ("bool", "any", "any")


def convert(x: Any, dtype: DType) -> Any:
    """Convert an array: floats to integers towards zero, NaN to 0, and too large to the nearest there is."""
    source = dtypes.from_numpy(x.dtype)
    if not (source.is_float and dtype.is_integer):
        return x.astype(dtype.numpy)
    x = x.astype(source.arithmetic.numpy)
    limits: Any = np.iinfo(dtype.numpy)
    high = float(2 ** (limits.bits - (dtype.kind == "int")))
    inside = np.where((x >= high) | (x < limits.min) | np.isnan(x), 0, x).astype(dtype.numpy)
    outside = np.where(x >= high, limits.max, limits.min).astype(dtype.numpy)
    return np.where((x >= high) | (x < limits.min), outside, inside)


def _cast_gradient(g: Any, x: Any, y: Any, dtype: DType) -> list[Any]:
    source = type_of(x).dtype
    return [prim.cast(g, dtype=source) if source.is_float and dtype.is_float else None]


@op
class cast:
    """The element as another type: floats become integers towards zero, NaN 0, and what is too large the
    nearest there is; integers wrap; anything but 0 is true."""

    formula = "y[*i] = cast(x[*i])"
    ref = convert
    grad = _cast_gradient
    accepts = "any"
    samples = tuple((((3, 4),), {"dtype": d}) for d in (dtypes.f64, dtypes.i32, dtypes.f16, dtypes.bf16))

    @staticmethod
    def infer(x: TensorType, *, dtype: DType) -> TensorType:
        return TensorType(dtype, x.shape)

    @staticmethod
    def element(i: tuple[IndexLike, ...], x: Any, *, dtype: DType) -> Expr:
        rounded = expr.cast(x[i], dtype)
        return expr.cast(rounded, dtype.arithmetic)


@op
class bitcast:
    """The same bits as an element type of the same size."""

    kind = "view"
    formula = "y[*i] = bitcast(x[*i])"
    ref = lambda x, dtype: np.ascontiguousarray(x).view(dtype.numpy)
    accepts = "any"
    samples = (((np.arange(12.0).reshape(3, 4) - 5,), {"dtype": dtypes.u64}),)

    @staticmethod
    def infer(x: TensorType, *, dtype: DType) -> TensorType:
        if x.dtype.size != dtype.size or "bool" in (x.dtype.name, dtype.name):
            raise DTypeError(
                f"bitcast: {x} has elements of {x.dtype.size} bytes but {dtype} has {dtype.size}"
                f"   [{bitcast.formula}]",
                hint="cast converts values instead of bits",
            )
        return TensorType(dtype, x.shape)

    @staticmethod
    def element(i: tuple[IndexLike, ...], x: Any, *, dtype: DType) -> Expr:
        return x[i] if dtype == x[i].dtype else expr.Apply("bitcast", (x[i],), dtype)
