"""Reductions over axes. `axes` is a tuple of distinct axes, counted from 0, in increasing order.

`ties` says where the derivative of an extreme goes when several elements equal it: to all in equal parts
(`even`), or to the first (`first`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from intaglio.ops.dispatch import type_of
from intaglio.ops.elementwise import apply, masked
from intaglio.ops.expr import Expr
from intaglio.ops.like import iota_like
from intaglio.ops.registry import op
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import ShapeError
from intaglio.shared.index import IndexLike, product
from intaglio.shared.types import TensorType

Axes = tuple[int, ...]


def kept_axes(rank: int, axes: Axes) -> Axes:
    """The axes that a reduction over `axes` leaves, in order."""
    return tuple(k for k in range(rank) if k not in axes)


def keepdims(reduced: Any, like: Any, axes: Axes) -> Any:
    """A reduced tensor with its axes put back as extent 1 and broadcast to the shape before."""
    shape = type_of(like).shape
    kept = tuple(1 if k in axes else extent for k, extent in enumerate(shape))
    return apply("broadcast", apply("reshape", reduced, shape=kept), shape=shape)


def check_axes(x: TensorType, axes: Axes) -> None:
    """Raise ShapeError unless the axes are distinct, increasing and in range."""
    if any(not 0 <= k < x.rank for k in axes) or list(axes) != sorted(set(axes)):
        raise ShapeError(
            f"reduction over axes {list(axes)} of {x}: axes must be distinct, increasing and below {x.rank}"
        )


def reduced_shape(x: TensorType, axes: Axes) -> tuple[IndexLike, ...]:
    """The shape that a reduction over `axes` leaves."""
    check_axes(x, axes)
    return tuple(x.shape[k] for k in kept_axes(x.rank, axes))


class Reduction:
    """What all reductions share: the result has the axes that are not reduced."""

    kind = "reduce"
    samples = (([(3, 4, 2)], {"axes": (1,)}), ([(3, 4, 2)], {"axes": (0, 2)}), ([(3, 4)], {"axes": (0, 1)}))

    @staticmethod
    def infer(x: TensorType, *, axes: Axes) -> TensorType:
        return TensorType(x.dtype, reduced_shape(x, axes))

    @staticmethod
    def extents(x: TensorType, *, axes: Axes, ties: str = "even") -> tuple[IndexLike, ...]:
        return tuple(x.shape[k] for k in axes)

    @staticmethod
    def term(
        i: tuple[IndexLike, ...], r: tuple[IndexLike, ...], x: Any, *, axes: Axes, ties: str = "even"
    ) -> Expr:
        places = dict(zip(axes, r, strict=True)) | dict(zip(kept_axes(x.type.rank, axes), i, strict=True))
        read: Expr = x[tuple(places[k] for k in range(x.type.rank))]
        return read


def _needs_elements(name: str, x: TensorType, axes: Axes) -> TensorType:
    shape = reduced_shape(x, axes)
    if any(x.shape[k] == 0 for k in axes) and 0 not in shape:
        raise ShapeError(f"{name}: {x} has no elements along axes {list(axes)}")
    return TensorType(x.dtype, shape)


def _extreme_gradient(g: Any, x: Any, y: Any, axes: Axes, ties: str, argument: str) -> list[Any]:
    """To the elements that equal the extreme in equal parts, or only to the first of them."""
    if ties == "first":
        count = product(tuple(type_of(x).shape[k] for k in axes))
        narrow = dtypes.u8 if isinstance(count, int) and count <= 256 else dtypes.i64
        place = apply("cast", apply(argument, x, axes=axes), dtype=narrow)
        numbers = apply("broadcast", flat_places(x, axes, narrow), shape=type_of(x).shape)
        hit = apply("eq", keepdims(place, x, axes), numbers)
        return [masked(hit, keepdims(g, x, axes))]
    hit = apply("eq", x, keepdims(y, x, axes))
    count = apply("sum", apply("cast", hit, dtype=type_of(x).dtype), axes=axes)
    return [masked(hit, keepdims(apply("div", g, count), x, axes))]


def flat_places(x: Any, axes: Axes, dtype: DType = dtypes.i64) -> Any:
    """Row-major position of every element of x within the given axes; the others are of extent 1."""
    shape = tuple(extent if k in axes else 1 for k, extent in enumerate(type_of(x).shape))
    total: Any = None
    stride: IndexLike = 1
    for axis in reversed(axes):
        along = apply("mul", iota_like(x, shape, axis, dtype), stride)
        total = along if total is None else apply("add", total, along)
        stride = stride * shape[axis]
    return total


def _product_gradient(g: Any, x: Any, y: Any, axes: Axes) -> list[Any]:
    """Right also where elements are zero: the product of the others, built from both sides."""
    rank = type_of(x).rank
    order = (*kept_axes(rank, axes), *axes)
    moved = apply("transpose", x, perm=order)
    shape = type_of(moved).shape
    count = math.prod(int(k) for k in shape[rank - len(axes) :])
    rows = apply("reshape", moved, shape=(*shape[: rank - len(axes)], count))
    axis = rank - len(axes)
    left = apply("cumprod", rows, axis=axis, exclusive=True, reverse=False)
    right = apply("cumprod", rows, axis=axis, exclusive=True, reverse=True)
    others = apply("reshape", apply("mul", left, right), shape=shape)
    back = tuple(int(k) for k in np.argsort(order))
    return [apply("mul", keepdims(g, x, axes), apply("transpose", others, perm=back))]


@op
class sum_(Reduction):
    """Sum over axes."""

    formula = "y[*i] += x[*i,*r]"
    combine = "add"
    ref = lambda x, axes: np.sum(x, axis=axes, dtype=x.dtype)
    grad = lambda g, x, y, axes: [keepdims(g, x, axes)]
    tolerance = 16


@op
class prod(Reduction):
    """Product over axes."""

    formula = "y[*i] *= x[*i,*r]"
    combine = "mul"
    ref = lambda x, axes: np.prod(x, axis=axes, dtype=x.dtype)
    grad = _product_gradient
    tolerance = 16


@op
class reduce_max(Reduction):
    """Largest element over axes; NaN wins."""

    formula = "y[*i] = max[r](x[*i,*r])"
    combine = "max"
    ref = lambda x, axes, ties="even": np.max(x, axis=axes)
    grad = lambda g, x, y, axes, ties="even": _extreme_gradient(g, x, y, axes, ties, "argmax")

    @staticmethod
    def infer(x: TensorType, *, axes: Axes, ties: str = "even") -> TensorType:
        return _needs_elements("reduce_max", x, axes)


@op
class reduce_min(Reduction):
    """Smallest element over axes; NaN wins."""

    formula = "y[*i] = min[r](x[*i,*r])"
    combine = "min"
    ref = lambda x, axes, ties="even": np.min(x, axis=axes)
    grad = lambda g, x, y, axes, ties="even": _extreme_gradient(g, x, y, axes, ties, "argmin")

    @staticmethod
    def infer(x: TensorType, *, axes: Axes, ties: str = "even") -> TensorType:
        return _needs_elements("reduce_min", x, axes)


@op
class reduce_and(Reduction):
    """Whether all elements over axes are true."""

    formula = "y[*i] = and_[r](x[*i,*r])"
    combine = "and"
    ref = lambda x, axes: np.all(x, axis=axes)
    accepts = "bool"


@op
class reduce_or(Reduction):
    """Whether any element over axes is true."""

    formula = "y[*i] = or_[r](x[*i,*r])"
    combine = "or"
    ref = lambda x, axes: np.any(x, axis=axes)
    accepts = "bool"


def _argument(function: Any, x: Any, axes: Axes) -> Any:
    moved = np.transpose(x, (*kept_axes(x.ndim, axes), *axes))
    kept = x.ndim - len(axes)
    rows = moved.reshape(*moved.shape[:kept], math.prod(moved.shape[kept:]))
    return function(rows, axis=-1)


class Argument(Reduction):
    """Index of the extreme element: row-major over the reduced axes, the first at a tie, NaN wins."""

    @staticmethod
    def infer(x: TensorType, *, axes: Axes) -> TensorType:
        return TensorType(dtypes.i64, _needs_elements("argmax or argmin", x, axes).shape)


@op
class argmax(Argument):
    """Index of the largest element over axes."""

    formula = "y[*i] = argmax[r](x[*i,*r])"
    combine = "argmax"
    ref = lambda x, axes: _argument(np.argmax, x, axes)


@op
class argmin(Argument):
    """Index of the smallest element over axes."""

    formula = "y[*i] = argmin[r](x[*i,*r])"
    combine = "argmin"
    ref = lambda x, axes: _argument(np.argmin, x, axes)


class Scan:
    """What running reductions along one axis share."""

    kind = "opaque"
    ordered = True
    samples = (
        ([(3, 4)], {"axis": 1, "exclusive": False, "reverse": False}),
        ([(3, 4)], {"axis": 0, "exclusive": True, "reverse": True}),
    )
    tolerance = 8

    @staticmethod
    def infer(x: TensorType, *, axis: int, exclusive: bool, reverse: bool) -> TensorType:
        check_axes(x, (axis,))
        return x


def _running(function: Any, start: int, x: Any, axis: int, exclusive: bool, reverse: bool) -> Any:
    x = np.flip(x, axis) if reverse else x
    y = function(x, axis=axis, dtype=x.dtype)
    if exclusive:
        y = np.roll(y, 1, axis)
        y[tuple(slice(0, 1) if k == axis else slice(None) for k in range(x.ndim))] = start
    return np.flip(y, axis) if reverse else y


def _cumsum_gradient(g: Any, x: Any, y: Any, axis: int, exclusive: bool, reverse: bool) -> list[Any]:
    return [apply("cumsum", g, axis=axis, exclusive=exclusive, reverse=not reverse)]


@op
class cumsum(Scan):
    """Running sum along an axis; `exclusive` leaves the element itself out, `reverse` runs from the end."""

    formula = "y[*i,t] += x[*i,s]"
    combine = "add"
    ref = lambda x, axis, exclusive, reverse: _running(np.cumsum, 0, x, axis, exclusive, reverse)
    grad = _cumsum_gradient


def _cumprod_gradient(g: Any, x: Any, y: Any, axis: int, exclusive: bool, reverse: bool) -> list[Any]:
    """Right also where elements are zero: up to the first zero the products divided by the element, at it
    the products without it, behind it nothing."""
    ahead = {"axis": axis, "exclusive": exclusive, "reverse": reverse}
    back = {"axis": axis, "exclusive": exclusive, "reverse": not reverse}
    zero = apply("eq", x, 0)
    seen = apply("cumsum", apply("cast", zero, dtype=dtypes.i64), **{**ahead, "exclusive": True})
    unseen = apply("eq", seen, 0)
    before, first = apply("and", unseen, apply("not", zero)), apply("and", unseen, zero)
    safe = apply("where", before, x, 1)
    divided = apply("div", apply("cumsum", apply("mul", g, y), **back), safe)
    without = apply("cumprod", apply("where", first, 1, x), **ahead)
    at_first = masked(first, apply("cumsum", apply("mul", g, without), **back))
    return [apply("where", before, divided, at_first)]


@op
class cumprod(Scan):
    """Running product along an axis, as `cumsum`."""

    formula = "y[*i,t] *= x[*i,s]"
    combine = "mul"
    ref = lambda x, axis, exclusive, reverse: _running(np.cumprod, 1, x, axis, exclusive, reverse)
    grad = _cumprod_gradient
