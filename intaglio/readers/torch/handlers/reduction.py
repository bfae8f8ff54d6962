"""Reductions, scans, sorting."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from intaglio.graph.ir import Graph
from intaglio.ops.compositions import activation, basic, functions, indexing, reduction
from intaglio.ops.compositions.basic import (
    axis_of,
    dtype_of,
    floating,
    rank_of,
    reshape,
    shape_of,
    squeeze,
    static,
    unsqueeze,
)
from intaglio.ops.registry import prim
from intaglio.readers.torch.registry import FxCall, aten, direct
from intaglio.shared import dtypes
from intaglio.shared.types import TensorType

Dims = int | Sequence[int] | None


def _dims(dim: Dims) -> Dims:
    """PyTorch's empty list means all dimensions."""
    return None if isinstance(dim, (list, tuple)) and not dim else dim


def _typed(call: FxCall, x: Any) -> Any:
    """The operand in the result's element type, in which PyTorch accumulates."""
    return prim.cast(x, dtype=call.dtype) if dtype_of(x) != call.dtype else x


@aten("sum", "nansum")
def sum_(call: FxCall, x: Any, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    if "nansum" in str(call.node.target):
        x = prim.where(prim.ne(x, x), 0, x)
    return reduction.sum(_typed(call, x), _dims(dim), keepdim)


@aten("mean")
def mean(call: FxCall, x: Any, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    return reduction.mean(_typed(call, x), _dims(dim), keepdim)


@aten("prod")
def prod(call: FxCall, x: Any, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    return reduction.prod(_typed(call, x), _dims(dim), keepdim)


@aten("amax", "amin")
def extreme(call: FxCall, x: Any, dim: Dims = None, keepdim: bool = False) -> Any:
    function = reduction.amax if "amax" in str(call.node.target) else reduction.amin
    return function(x, _dims(dim), keepdim)


@aten("max", "min")
def max_min(call: FxCall, x: Any, other: Any = None, keepdim: bool = False, **named: Any) -> Any:
    """All elements, one dimension with places, or two tensors."""
    largest = "aten.max" in str(call.node.target)
    other = named.get("dim", other)
    if other is None:
        return (reduction.amax if largest else reduction.amin)(x)
    if isinstance(other, int):
        if rank_of(x) == 0:
            return x, reduction.argmax(reshape(x, (1,)), 0)
        return (reduction.max if largest else reduction.min)(x, other, keepdim)
    return (prim.max if largest else prim.min)(x, other)


@aten("argmax", "argmin")
def argument(call: FxCall, x: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    function = reduction.argmax if "argmax" in str(call.node.target) else reduction.argmin
    if dim is None and keepdim:
        return reshape(function(x, None), (1,) * rank_of(x))
    if rank_of(x) == 0:
        return reshape(function(reshape(x, (1,)), 0), ())
    return function(x, dim, keepdim)


@aten("aminmax")
def aminmax(call: FxCall, x: Any, *, dim: int | None = None, keepdim: bool = False) -> Any:
    return reduction.amin(x, dim, keepdim), reduction.amax(x, dim, keepdim)


def _variance(call: FxCall, x: Any, dim: Dims, keepdim: bool, correction: float) -> tuple[Any, Any]:
    return reduction.var_mean(x, _dims(dim), correction=correction, keepdim=keepdim)


def _correction(named: dict[str, Any]) -> float:
    if named.get("unbiased") is False:
        return 0
    correction = named.get("correction")
    return 1 if correction is None else correction


@aten("var", "var_mean", "std", "std_mean")
def variance(call: FxCall, x: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False,
             **named: Any) -> Any:  # fmt: skip
    """`dim` may be a truth value: the overload without dimensions takes `unbiased` there."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if isinstance(unbiased, bool):
        named["unbiased"] = unbiased
    spread, average = _variance(call, x, dim, named.get("keepdim", keepdim), _correction(named))
    name = call.node.target._opname  # type: ignore[union-attr]
    spread = prim.sqrt(spread) if name.startswith("std") else spread
    return (spread, average) if name.endswith("_mean") else spread


@aten("all", "any")
def all_any(call: FxCall, x: Any, dim: Dims = None, keepdim: bool = False) -> Any:
    function = reduction.all if "aten.all" in str(call.node.target) else reduction.any
    return function(x, _dims(dim), keepdim)


@aten("logsumexp")
def logsumexp(call: FxCall, x: Any, dim: Dims, keepdim: bool = False) -> Any:
    return reduction.logsumexp(floating(x), _dims(dim), keepdim)


@aten("norm", "linalg_vector_norm")
def norm(call: FxCall, x: Any, p: Any = 2, dim: Dims = None, keepdim: bool = False, **named: Any) -> Any:
    p = named.get("ord", p)
    return reduction.norm(_typed(call, x), 2 if p is None else p, _dims(dim), keepdim)


def _scan(function: Callable[[Any, int], Any]) -> Callable[..., Any]:
    def handler(call: FxCall, x: Any, dim: int, *, dtype: Any = None) -> Any:
        x = _typed(call, x)
        return function(x, dim) if rank_of(x) else x

    return handler


aten("cumsum")(_scan(reduction.cumsum))
aten("cumprod")(_scan(reduction.cumprod))


@aten("_softmax", "softmax")
def softmax(call: FxCall, x: Any, dim: int, half_to_float: Any = False, **named: Any) -> Any:
    return _over(activation.softmax, _typed(call, x), dim)


@aten("_log_softmax", "log_softmax")
def log_softmax(call: FxCall, x: Any, dim: int, half_to_float: Any = False, **named: Any) -> Any:
    return _over(activation.log_softmax, _typed(call, x), dim)


def _over(function: Callable[..., Any], x: Any, dim: int) -> Any:
    """The function along a dimension; a single number counts as a vector of one."""
    return function(x, dim) if rank_of(x) else squeeze(function(unsqueeze(x, 0), 0))


@aten("sort")
def sort(call: FxCall, x: Any, dim: int = -1, descending: bool = False, **named: Any) -> Any:
    dim, descending = named.get("dim", dim), named.get("descending", descending)
    return indexing.sort(x, dim, descending)


@aten("topk")
def topk(call: FxCall, x: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    if rank_of(x) == 0:
        return x, reduction.argmax(reshape(x, (1,)), 0)
    return indexing.topk(x, k, dim, largest)


direct({"argsort": indexing.argsort})


@aten("median", "nanmedian", "kthvalue")
def order_statistic(call: FxCall, x: Any, *args: Any, **named: Any) -> Any:
    """The k-th smallest along a dimension and where it was; of all elements, only what it is.

    NaN counts as largest; a median is NaN when one element is, `nanmedian` leaves NaN out.
    """
    name = call.node.target._opname  # type: ignore[union-attr]
    values = [*args, *(named[key] for key in ("dim", "keepdim") if key in named)]
    k = values.pop(0) if name == "kthvalue" else None
    if k is None and not values:
        return _ranked(name, reshape(x, (-1,)), 0, k)[0]
    dim, keepdim = (*values, *(-1, False)[len(values) :])[:2]
    if rank_of(x) == 0:
        return tuple(reshape(part, ()) for part in _ranked(name, reshape(x, (1,)), 0, k))
    found = _ranked(name, x, dim, k)
    axis = axis_of(dim, rank_of(x))
    return tuple(unsqueeze(part, axis) if keepdim else part for part in found)


def _ranked(name: str, x: Any, dim: int, k: int | None) -> tuple[Any, Any]:
    """The values of some rank along a dimension, and their places."""
    extent = static(shape_of(x)[dim], name)
    ordered, places = indexing.sort(x, dim)
    if k is not None:
        return indexing.select(ordered, dim, k - 1), indexing.select(places, dim, k - 1)
    if not dtype_of(x).is_float:
        middle = (extent - 1) // 2
        return indexing.select(ordered, dim, middle), indexing.select(places, dim, middle)
    numbers = reduction.sum(prim.cast(prim.eq(x, x), dtype=dtypes.i64), dim, True)
    middle = prim.floor_div(prim.max(numbers - 1, 0), 2)
    if name == "median":
        middle = prim.where(prim.lt(numbers, extent), numbers, middle)  # the first NaN
    value, place = (squeeze(indexing.gather(part, dim, middle), dim) for part in (ordered, places))
    return value, place


def _extremes_so_far(largest: bool) -> Callable[..., Any]:
    """The largest or smallest element up to each place, and the place of the last such; NaN stays."""

    def handler(call: FxCall, x: Any, dim: int) -> Any:
        if rank_of(x) == 0 or 0 in shape_of(x):
            return x, call.full(shape_of(x), 0, dtypes.i64)
        axis = axis_of(dim, rank_of(x))
        rows = basic.movedim(x, axis, 0)
        row = TensorType(dtype_of(x), shape_of(rows)[1:])
        body = Graph("step")
        best, place = body.input(row, "best"), body.input(TensorType(dtypes.i64, row.shape), "place")
        value, at = body.input(row, "value"), body.input(TensorType(dtypes.i64, ()), "at")
        beaten = prim.le(best, value) if largest else prim.le(value, best)
        taken = functions.logical_or(beaten, prim.ne(value, value))
        after, where = prim.where(taken, value, best), prim.where(taken, at, place)
        body.set_outputs([after, where, after, where])
        start = indexing.select(rows, 0, 0)
        first = call.full(row.shape, 0, dtypes.i64)
        length = shape_of(rows)[0]
        steps = basic.arange(rows, length)
        _, _, values, places = prim.scan(
            start, first, rows, steps, body=body, n_carry=2, n_xs=2, reverse=False, length=length
        )
        return basic.movedim(values, 0, axis), basic.movedim(places, 0, axis)

    return handler


aten("cummax")(_extremes_so_far(True))
aten("cummin")(_extremes_so_far(False))


@aten("logcumsumexp")
def logcumsumexp(call: FxCall, x: Any, dim: int) -> Any:
    """The logarithm of the running sum of exponentials, one after the other so that none overflows."""
    if rank_of(x) == 0 or 0 in shape_of(x):
        return x
    axis = axis_of(dim, rank_of(x))
    rows = basic.movedim(x, axis, 0)
    row = TensorType(dtype_of(x), shape_of(rows)[1:])
    body = Graph("step")
    after = functions.logaddexp(body.input(row, "total"), body.input(row, "value"))
    body.set_outputs([after, after])
    start = call.full(row.shape, -math.inf)
    length = shape_of(rows)[0]
    _, totals = prim.scan(start, rows, body=body, n_carry=1, n_xs=1, reverse=False, length=length)
    return basic.movedim(totals, 0, axis)


@aten("bucketize", "searchsorted")
def bucketize(call: FxCall, first: Any, second: Any, *, out_int32: bool = False, right: bool = False,
              side: str | None = None, sorter: Any = None) -> Any:  # fmt: skip
    """How many boundaries are below (`right`: or equal to) each value."""
    is_search = call.node.target._opname == "searchsorted"  # type: ignore[union-attr]
    bounds, values = (first, second) if is_search else (second, first)
    if sorter is not None:
        bounds = indexing.gather(bounds, -1, sorter)
    if not hasattr(values, "type"):
        values = call.full((), values, dtype_of(bounds))
    wide = unsqueeze(values, -1)
    if rank_of(bounds) > 1:
        bounds = unsqueeze(bounds, -2)
    beyond = prim.lt(wide, bounds) if right or side == "right" else prim.le(wide, bounds)
    passed = prim.cast(functions.logical_not(beyond), dtype=call.dtype)
    return prim.sum(passed, axes=(rank_of(passed) - 1,))
