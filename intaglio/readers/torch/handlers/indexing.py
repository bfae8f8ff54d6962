"""Gather, scatter, embedding, indexing with tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from intaglio.ops.compositions import indexing, reduction
from intaglio.ops.compositions.basic import (
    axis_of,
    broadcast,
    dtype_of,
    expand,
    extent,
    movedim,
    rank_of,
    reshape,
    shape_of,
    static,
    unsqueeze,
)
from intaglio.ops.like import iota_like
from intaglio.ops.registry import prim
from intaglio.readers.torch.checks import check_index
from intaglio.readers.torch.handlers.selection import integer_indices
from intaglio.readers.torch.registry import FxCall, aten
from intaglio.shared import dtypes
from intaglio.shared.errors import UnsupportedError

_MODES = {"sum": "add", "add": "add", "prod": "mul", "multiply": "mul", "amax": "max", "amin": "min"}


@aten("gather")
def gather(call: FxCall, x: Any, dim: int, index: Any, *, sparse_grad: bool = False) -> Any:
    """An index without elements may have any number of dimensions."""
    if 0 in shape_of(index):
        return call.full(shape_of(index), 0)
    if rank_of(x) == 0:
        return reshape(indexing.gather(reshape(x, (1,)), 0, reshape(index, (-1,))), shape_of(index))
    check_index(call, index, shape_of(x)[dim], lowest=0)
    return indexing.gather(x, dim, index)


@aten("embedding")
def embedding(call: FxCall, weight: Any, index: Any, padding: int = -1, by_frequency: bool = False,
              sparse: bool = False) -> Any:  # fmt: skip
    """Rows of a table; the row of `padding` has no derivative."""
    check_index(call, index, shape_of(weight)[0], lowest=0)
    rows = indexing.embedding(index, weight)
    if not call.importer.trains:
        return rows
    if by_frequency:
        raise by_frequency_error()
    return (
        prim.where(unsqueeze(prim.eq(index, padding), -1), prim.detach(rows), rows) if padding >= 0 else rows
    )


def by_frequency_error() -> UnsupportedError:
    return UnsupportedError(
        "derivatives divided by how often a word occurs", hint="make the module with scale_grad_by_freq=False"
    )


@aten("index_select")
def index_select(call: FxCall, x: Any, dim: int, index: Any) -> Any:
    if rank_of(x) == 0:
        return x
    check_index(call, index, shape_of(x)[dim], lowest=0)
    return indexing.index_select(x, dim, reshape(index, (-1,)))


@aten("index", "_unsafe_index")
def index(call: FxCall, x: Any, indices: Sequence[Any]) -> Any:
    shape = call.node.meta["val"].shape
    masked = next((k for k, i in enumerate(indices) if i is not None and dtype_of(i).kind == "bool"), None)
    number = None if masked is None else call.importer.known_size(shape[masked])
    _check_all(call, x, indices)
    return indexing.get_items(x, integer_indices(call, indices, number))


def _check_all(call: FxCall, x: Any, indices: Sequence[Any]) -> None:
    """Check the indices that are no masks; a mask stands for as many axes as it has."""
    axis = 0
    for given in indices:
        is_mask = given is not None and dtype_of(given) in (dtypes.bool_, dtypes.u8)
        if given is not None and not is_mask:
            check_index(call, given, shape_of(x)[axis])
        axis += rank_of(given) if is_mask else 1


@aten("index_put", "_unsafe_index_put", "_index_put_impl")
def index_put(call: FxCall, x: Any, indices: Sequence[Any], values: Any, accumulate: bool = False,
              unsafe: bool = False) -> Any:  # fmt: skip
    given = [i for i in indices if i is not None]
    if len(given) == 1 and dtype_of(given[0]).kind == "bool" and not accumulate and not shape_of(values):
        mask = given[0]
        before = next(k for k, i in enumerate(indices) if i is not None)
        shape = (*(1,) * before, *shape_of(mask), *(1,) * (rank_of(x) - before - rank_of(mask)))
        return prim.where(reshape(mask, shape), values, x)
    number = None
    if len(given) == 1 and dtype_of(given[0]).kind == "bool":
        lead = len(shape_of(values)) - (rank_of(x) - rank_of(given[0]) + 1)
        rows = shape_of(values)[lead + indices.index(given[0])] if lead >= 0 else 1
        number = rows if isinstance(rows, int) and rows != 1 else None
    _check_all(call, x, indices)
    found = integer_indices(call, indices, number)
    return indexing.set_items(x, found, values, "add" if accumulate else "set")


@aten(
    "scatter.src", "scatter.value", "scatter_add", "scatter.reduce", "scatter.value_reduce", "scatter_reduce"
)
def scatter(call: FxCall, x: Any, dim: int, index: Any, source: Any, reduce: str = "", *,
            include_self: bool = True, **named: Any) -> Any:  # fmt: skip
    name = str(call.node.target)
    if 0 in shape_of(index):
        return x
    if rank_of(x) == 0:
        found = scatter(call, reshape(x, (1,)), 0, reshape(index, (-1,)), _vector(source), reduce,
                        include_self=include_self)  # fmt: skip
        return reshape(found, ())
    if not hasattr(source, "type"):
        source = call.full(shape_of(index), source, dtype_of(x))
    check_index(call, index, shape_of(x)[dim], lowest=0)
    for axis, size in enumerate(shape_of(index)):
        source = indexing.slice_axis(source, axis, 0, size)
    if reduce == "mean":
        return _scatter_mean(call, x, dim, index, source, include_self)
    mode = "add" if "scatter_add" in name else _MODES[reduce] if reduce else "set"
    if not include_self:
        x = _cleared(call, x, dim, index, mode)
    return indexing.scatter(x, dim, index, source, mode)


def _vector(value: Any) -> Any:
    return reshape(value, (-1,)) if hasattr(value, "type") else value


def _cleared(call: FxCall, x: Any, dim: int, index: Any, mode: str) -> Any:
    """x with the start of the reduction wherever something will be scattered to."""
    start = {"add": 0.0, "mul": 1.0, "max": -math.inf, "min": math.inf}[mode]
    return indexing.scatter(x, dim, index, call.full(shape_of(index), start, dtype_of(x)), "set")


def _scatter_mean(call: FxCall, x: Any, dim: int, index: Any, source: Any, include_self: bool) -> Any:
    dtype = dtype_of(x)
    if not dtype.is_float:
        raise UnsupportedError("the mean of integers")
    base = x if include_self else _cleared(call, x, dim, index, "add")
    total = indexing.scatter(base, dim, index, source, "add")
    ones = call.full(shape_of(x), 1, dtype)
    count = indexing.scatter(
        ones if include_self else _cleared(call, ones, dim, index, "add"),
        dim,
        index,
        call.full(shape_of(index), 1, dtype),
        "add",
    )
    return prim.div(total, count)


@aten("index_add")
def index_add(call: FxCall, x: Any, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Any:
    if rank_of(x) == 0:
        return reshape(index_add(call, reshape(x, (1,)), 0, index, reshape(source, (-1,)), alpha=alpha), ())
    check_index(call, index, shape_of(x)[dim], lowest=0)
    return indexing.index_add(x, dim, reshape(index, (-1,)), source, alpha)


@aten("index_copy")
def index_copy(call: FxCall, x: Any, dim: int, index: Any, source: Any) -> Any:
    if rank_of(x) == 0:
        return reshape(index_copy(call, reshape(x, (1,)), 0, index, reshape(source, (-1,))), ())
    check_index(call, index, shape_of(x)[dim], lowest=0)
    return indexing.index_copy(x, dim, reshape(index, (-1,)), source)


@aten("index_reduce")
def index_reduce(call: FxCall, x: Any, dim: int, index: Any, source: Any, reduce: str, *,
                 include_self: bool = True) -> Any:  # fmt: skip
    """Slices of the source combined into the places of a dimension that a vector names."""
    if rank_of(x) == 0:
        found = index_reduce(call, reshape(x, (1,)), 0, index, reshape(source, (-1,)), reduce,
                             include_self=include_self)  # fmt: skip
        return reshape(found, ())
    axis, index = axis_of(dim, rank_of(x)), reshape(index, (-1,))
    column = reshape(index, [shape_of(index)[0] if k == axis else 1 for k in range(rank_of(x))])
    return scatter(call, x, axis, expand(column, shape_of(source)), source, reduce,
                   include_self=include_self)  # fmt: skip


@aten("index_fill")
def index_fill(call: FxCall, x: Any, dim: int, index: Any, value: Any) -> Any:
    if rank_of(x) == 0:
        return reshape(index_fill(call, reshape(x, (1,)), 0, index, value), ())
    index = reshape(index, (-1,))
    check_index(call, index, shape_of(x)[dim])
    axis = axis_of(dim, rank_of(x))
    shape = [shape_of(index)[0] if k == axis else e for k, e in enumerate(shape_of(x))]
    if not hasattr(value, "type"):
        value = call.full((), value, dtype_of(x))
    return indexing.index_copy(x, dim, index, expand(value, shape))


@aten("select_scatter")
def select_scatter(call: FxCall, x: Any, source: Any, dim: int, index: int) -> Any:
    axis = axis_of(dim, rank_of(x))
    extent = shape_of(x)[axis]
    places = _places(x, axis)
    return prim.where(prim.eq(places, index % extent), unsqueeze(source, axis), x)


@aten("slice_scatter")
def slice_scatter(call: FxCall, x: Any, source: Any, dim: int = 0, start: Any = None, end: Any = None,
                  step: int = 1) -> Any:  # fmt: skip
    axis = axis_of(dim, rank_of(x))
    extent = shape_of(x)[axis]
    if not isinstance(extent, int):
        raise UnsupportedError("slice_scatter along a symbolic size")
    first, stop, step = slice(start, end, step).indices(extent)
    count = len(range(first, stop, step))
    if count == 0:
        return x
    taken = call.graph.constant(np.arange(first, stop, step))
    return indexing.index_copy(x, axis, taken, source)


@aten("diagonal_scatter")
def diagonal_scatter(call: FxCall, x: Any, source: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """x with a diagonal replaced."""
    rank = rank_of(x)
    rows, columns = (static(shape_of(x)[d], "diagonal_scatter") for d in (dim1, dim2))
    count = max(0, min(rows - max(0, -offset), columns - max(0, offset)))
    if count == 0:
        return x
    first = call.graph.constant(np.arange(count) + max(0, -offset))
    second = call.graph.constant(np.arange(count) + max(0, offset))
    axes = (axis_of(dim1, rank), axis_of(dim2, rank))
    return prim.scatter(x, movedim(source, rank_of(source) - 1, 0), first, second, axes=axes, mode="set")


def _places(x: Any, axis: int) -> Any:
    """The index along an axis, broadcast over the others."""
    shape = [e if k == axis else 1 for k, e in enumerate(shape_of(x))]
    return iota_like(x, shape, axis)


@aten("one_hot")
def one_hot(call: FxCall, index: Any, num_classes: int = -1) -> Any:
    if num_classes < 0:
        raise UnsupportedError("one_hot without num_classes depends on the data", hint="give num_classes")
    check_index(call, index, num_classes, lowest=0)
    return indexing.one_hot(index, num_classes)


@aten("take")
def take(call: FxCall, x: Any, index: Any) -> Any:
    flat = reshape(x, (-1,))
    check_index(call, index, shape_of(flat)[0])
    return reshape(indexing.index_select(flat, 0, reshape(index, (-1,))), shape_of(index))


@aten("put")
def put(call: FxCall, x: Any, index: Any, source: Any, accumulate: bool = False) -> Any:
    """Elements of the source at row-major positions of x."""
    flat = reshape(x, (-1,))
    check_index(call, index, shape_of(flat)[0])
    index, source = reshape(index, (-1,)), reshape(source, (-1,))
    mode = "add" if accumulate else "set"
    return reshape(prim.scatter(flat, source, index, axes=(0,), mode=mode), shape_of(x))


@aten("masked_scatter")
def masked_scatter(call: FxCall, x: Any, mask: Any, source: Any) -> Any:
    """The k-th true element of the mask takes the k-th element of the source."""
    x, mask = broadcast(x, mask)
    flat = reshape(mask, (-1,))
    place = reduction.cumsum(prim.cast(flat, dtype=dtypes.i64), 0) - 1
    known = prim.where(flat, place, 0)
    taken = indexing.index_select(reshape(source, (-1,)), 0, known)
    return prim.where(mask, reshape(taken, shape_of(x)), x)


@aten("masked_scatter_backward")
def masked_scatter_backward(call: FxCall, g: Any, mask: Any, sizes: Sequence[int]) -> Any:
    """The derivative by the source: elements of g where the mask is true, in order, zeros behind."""
    g, mask = broadcast(g, mask)
    flat = reshape(mask, (-1,))
    room, wanted = (static(e, "masked_scatter") for e in (shape_of(flat)[0], extent(sizes)))
    place = prim.where(flat, reduction.cumsum(prim.cast(flat, dtype=dtypes.i64), 0) - 1, room)
    length = max(wanted, room) + 1
    packed = prim.scatter(
        call.full((length,), 0, dtype_of(g)), reshape(g, (-1,)), place, axes=(0,), mode="set"
    )
    cleared = prim.where(prim.lt(iota_like(packed, (length,), 0), room), packed, 0)
    return reshape(indexing.slice_axis(cleared, 0, 0, wanted), sizes)
