"""Reductions with PyTorch's arguments: `dim` is one dimension, several, or None for all of them."""

from __future__ import annotations

import math
from typing import Any

from intaglio.ops.compositions.basic import (
    Dims,
    arange,
    axes_of,
    axis_of,
    convert,
    count_as,
    dtype_of,
    expand,
    extent,
    floating,
    rank_of,
    reshape,
    shape_of,
)
from intaglio.ops.compositions.functions import isfinite, truth
from intaglio.ops.dispatch import composition
from intaglio.ops.reduce import keepdims
from intaglio.ops.registry import Op, prim
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import DTypeError
from intaglio.shared.index import IndexLike


def reduce(op: Op, x: Any, dim: Dims = None, keepdim: bool = False, **attrs: Any) -> Any:
    """A reduction over dimensions; `keepdim` leaves them with extent 1."""
    axes = axes_of(dim, rank_of(x))
    return restore(op(x, axes=axes, **attrs), x, axes) if keepdim else op(x, axes=axes, **attrs)


def restore(reduced: Any, x: Any, axes: tuple[int, ...]) -> Any:
    """A reduced tensor with its dimensions put back, of extent 1."""
    return reshape(reduced, [1 if k in axes else e for k, e in enumerate(shape_of(x))])


def _wide(x: Any, dtype: DType | None) -> Any:
    """Integers and truth values are summed as i64, as PyTorch does."""
    if dtype is not None:
        return convert(x, dtype)
    return x if dtype_of(x).is_float or dtype_of(x).size == 8 else convert(x, dtypes.i64)


def sum(x: Any, dim: Dims = None, keepdim: bool = False, dtype: DType | None = None) -> Any:
    """Sum over dimensions; of integers as i64."""
    return reduce(prim.sum, _wide(x, dtype), dim, keepdim)


def prod(x: Any, dim: Dims = None, keepdim: bool = False, dtype: DType | None = None) -> Any:
    """Product over dimensions; of integers as i64."""
    return reduce(prim.prod, _wide(x, dtype), dim, keepdim)


def number_of(x: Any, axes: tuple[int, ...]) -> IndexLike:
    """How many elements a reduction over `axes` combines."""
    return extent([shape_of(x)[k] for k in axes])


def mean(x: Any, dim: Dims = None, keepdim: bool = False) -> Any:
    """Arithmetic mean over dimensions."""
    if not dtype_of(x).is_float:
        raise DTypeError(f"mean: elements are {dtype_of(x)}", hint="convert to a float type first")
    axes = axes_of(dim, rank_of(x))
    return _divided(sum(x, axes, keepdim), number_of(x, axes), x)


def _divided(total: Any, count: IndexLike, x: Any) -> Any:
    if not isinstance(count, int):
        return total / count_as(count, dtype_of(x), x)
    return total * (1 / count) if count and not count & (count - 1) else total / (count or math.nan)


def var_mean(x: Any, dim: Dims = None, correction: float = 1, keepdim: bool = False) -> tuple[Any, Any]:
    """Variance and mean over dimensions; the sum of squares is divided by the number less `correction`."""
    axes = axes_of(dim, rank_of(x))
    average = mean(x, axes)
    centred = x - keepdims(average, x, axes)
    count = number_of(x, axes)
    squares = prim.sum(centred * centred, axes=axes)
    if isinstance(count, int):
        spread = prim.div(squares, count - correction if count > correction else 0)
    else:
        spread = squares / prim.max(count_as(count, dtype_of(x), x) - correction, 0)
    return (restore(spread, x, axes), restore(average, x, axes)) if keepdim else (spread, average)


@composition
def var(x: Any, dim: Dims = None, correction: float = 1, keepdim: bool = False) -> Any:
    """Variance over dimensions."""
    return var_mean(x, dim, correction, keepdim)[0]


@composition
def std(x: Any, dim: Dims = None, correction: float = 1, keepdim: bool = False) -> Any:
    """Standard deviation over dimensions."""
    return prim.sqrt(var_mean(x, dim, correction, keepdim)[0])


def amax(x: Any, dim: Dims = None, keepdim: bool = False) -> Any:
    """Largest element; its derivative goes to all that equal it, in equal parts."""
    return reduce(prim.reduce_max, x, dim, keepdim)


def amin(x: Any, dim: Dims = None, keepdim: bool = False) -> Any:
    """Smallest element; its derivative goes to all that equal it, in equal parts."""
    return reduce(prim.reduce_min, x, dim, keepdim)


def max(x: Any, dim: int, keepdim: bool = False) -> tuple[Any, Any]:
    """Largest element along a dimension and its index, the first one at a tie."""
    return reduce(prim.reduce_max, x, dim, keepdim, ties="first"), argmax(x, dim, keepdim)


def min(x: Any, dim: int, keepdim: bool = False) -> tuple[Any, Any]:
    """Smallest element along a dimension and its index, the first one at a tie."""
    return reduce(prim.reduce_min, x, dim, keepdim, ties="first"), argmin(x, dim, keepdim)


def argmax(x: Any, dim: Dims = None, keepdim: bool = False) -> Any:
    """Index of the largest element, row-major over the dimensions; the first one at a tie."""
    return reduce(prim.argmax, x, dim, keepdim)


def argmin(x: Any, dim: Dims = None, keepdim: bool = False) -> Any:
    """Index of the smallest element, row-major over the dimensions; the first one at a tie."""
    return reduce(prim.argmin, x, dim, keepdim)


def all(x: Any, dim: Dims = None, keepdim: bool = False) -> Any:
    """Whether no element is 0."""
    return reduce(prim.reduce_and, truth(x), dim, keepdim)


def any(x: Any, dim: Dims = None, keepdim: bool = False) -> Any:
    """Whether an element is not 0."""
    return reduce(prim.reduce_or, truth(x), dim, keepdim)


def cumsum(x: Any, dim: int) -> Any:
    """Running sum along a dimension; of integers as i64."""
    return prim.cumsum(_wide(x, None), axis=axis_of(dim, rank_of(x)), exclusive=False, reverse=False)


def cumprod(x: Any, dim: int) -> Any:
    """Running product along a dimension; of integers as i64."""
    return prim.cumprod(_wide(x, None), axis=axis_of(dim, rank_of(x)), exclusive=False, reverse=False)


@composition
def logsumexp(x: Any, dim: Dims, keepdim: bool = False) -> Any:
    """log(sum(exp(x))), without overflow."""
    axes = axes_of(dim, rank_of(x))
    x = floating(x)
    top = prim.detach(prim.reduce_max(x, axes=axes))
    top = prim.where(isfinite(top), top, 0)
    total = prim.log(prim.sum(prim.exp(x - keepdims(top, x, axes)), axes=axes)) + top
    return restore(total, x, axes) if keepdim else total


@composition
def norm(x: Any, p: float = 2, dim: Dims = None, keepdim: bool = False) -> Any:
    """The p-norm over dimensions; for p = inf the largest absolute value, for 0 the number of non-zeros."""
    axes = axes_of(dim, rank_of(x))
    if p == 2:
        squares = reduce(prim.sum, x * x, axes, keepdim)
        positive = prim.lt(0, squares)
        return prim.where(positive, prim.sqrt(prim.where(positive, squares, 1)), squares)
    if p == math.inf:
        return amax(prim.abs(x), axes, keepdim)
    if p == -math.inf:
        return amin(prim.abs(x), axes, keepdim)
    if p == 0:
        return reduce(prim.sum, convert(prim.ne(x, 0), dtype_of(x)), axes, keepdim)
    if p == 1:
        return reduce(prim.sum, prim.abs(x), axes, keepdim)
    return prim.pow(reduce(prim.sum, prim.pow(prim.abs(x), p), axes, keepdim), 1 / p)


def index_of(x: Any, dim: int) -> Any:
    """The index along a dimension, expanded to the shape of x."""
    shape, axis = shape_of(x), axis_of(dim, rank_of(x))
    column = reshape(arange(x, shape[axis]), [e if k == axis else 1 for k, e in enumerate(shape)])
    return expand(column, shape)
