"""Taking tensors apart and putting them together, with PyTorch's names and arguments."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from intaglio.ops.compositions.basic import (
    arange,
    axes_of,
    axis_of,
    broadcast,
    constant_like,
    convert,
    dtype_of,
    expand,
    iota_like,
    rank_of,
    reshape,
    shape_of,
    static,
    transpose,
    unsqueeze,
)
from intaglio.ops.dispatch import broadcast_shapes, composition
from intaglio.ops.registry import prim
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import ArgumentError, ShapeError
from intaglio.shared.index import IndexLike


def slice_axis(
    x: Any, dim: int, start: IndexLike | None, stop: IndexLike | None = None, step: int = 1
) -> Any:
    """`x[..., start:stop:step, ...]` on one dimension, by Python's rules; negative steps too."""
    shape, axis = shape_of(x), axis_of(dim, rank_of(x))
    extent = shape[axis]
    if isinstance(extent, int) and not hasattr(start, "terms") and not hasattr(stop, "terms"):
        start, stop, step = slice(start, stop, step).indices(extent)
        stop = max(stop, start) if step > 0 else min(stop, start)
    else:
        start, stop = start or 0, extent if stop is None else stop
    starts: list[IndexLike] = [0] * len(shape)
    stops, steps = list(shape), [1] * len(shape)
    starts[axis], stops[axis], steps[axis] = start, stop, step
    if starts[axis] == 0 and stops[axis] == extent and step == 1:
        return x
    return prim.slice(x, start=tuple(starts), stop=tuple(stops), step=tuple(steps))


def narrow(x: Any, dim: int, start: int, length: IndexLike) -> Any:
    """`length` places of a dimension from `start` on."""
    return slice_axis(x, dim, start, start + length)


def select(x: Any, dim: int, index: int) -> Any:
    """One place of a dimension, which is dropped. Raises ShapeError when there is none."""
    axis = axis_of(dim, rank_of(x))
    extent = shape_of(x)[axis]
    if isinstance(extent, int) and not -extent <= index < extent:
        raise ShapeError(f"select: index {index} is out of range for dimension {axis} of {list(shape_of(x))}")
    place: IndexLike = index + extent if index < 0 else index
    taken = slice_axis(x, axis, place, place + 1)
    return reshape(taken, [e for k, e in enumerate(shape_of(taken)) if k != axis])


def flip(x: Any, dims: int | Sequence[int]) -> Any:
    """Dimensions from end to start."""
    shape, axes = shape_of(x), axes_of(dims, rank_of(x))
    return prim.slice(
        x,
        start=tuple(e - 1 if k in axes else 0 for k, e in enumerate(shape)),
        stop=tuple(-1 if k in axes else e for k, e in enumerate(shape)),
        step=tuple(-1 if k in axes else 1 for k in range(len(shape))),
    )


def roll(x: Any, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Any:
    """Places moved along dimensions; what leaves at the end comes back at the start."""
    if dims is None:
        return reshape(roll(reshape(x, (-1,)), shifts, 0), shape_of(x))
    pairs = zip(
        [shifts] if isinstance(shifts, int) else shifts,
        [dims] if isinstance(dims, int) else dims,
        strict=True,
    )
    for shift, dim in pairs:
        extent = shape_of(x)[axis_of(dim, rank_of(x))]
        if extent not in (0, 1) and shift % extent != 0:
            cut = extent - shift % extent
            x = concat([slice_axis(x, dim, cut), slice_axis(x, dim, 0, cut)], dim)
    return x


def concat(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Tensors one behind the other along a dimension; their types are promoted."""
    if not tensors:
        raise ArgumentError("cat: no tensors are given")
    common = dtype_of(tensors[0])
    for x in tensors[1:]:
        common = dtypes.promote(common, dtype_of(x))
    kept = [x for x in tensors if shape_of(x) != (0,)] or list(tensors[:1])
    if len(kept) == 1:
        return convert(kept[0], common)
    return prim.concat(*(convert(x, common) for x in kept), axis=axis_of(dim, rank_of(kept[0])))


def stack(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Tensors of one shape along a new dimension."""
    return concat([unsqueeze(x, dim) for x in tensors], dim % (rank_of(tensors[0]) + 1))


def split(x: Any, sizes: int | Sequence[int], dim: int = 0) -> tuple[Any, ...]:
    """Parts along a dimension: of equal size (the last may be smaller), or of the given sizes."""
    extent = static(shape_of(x)[axis_of(dim, rank_of(x))], "split")
    if isinstance(sizes, int):
        if sizes < 1:
            raise ArgumentError(f"split: the size of a part is {sizes}")
        sizes = [min(sizes, extent - at) for at in range(0, extent, sizes)] or [0]
    if sum(sizes) != extent:
        raise ArgumentError(f"split: parts {list(sizes)} do not add up to {extent}, dimension {dim}")
    ends = np.cumsum([0, *sizes]).tolist()
    return tuple(slice_axis(x, dim, a, b) for a, b in itertools.pairwise(ends))


def chunk(x: Any, chunks: int, dim: int = 0) -> tuple[Any, ...]:
    """At most `chunks` parts of equal size along a dimension; the last may be smaller."""
    extent = shape_of(x)[axis_of(dim, rank_of(x))]
    return split(x, max(1, -(-static(extent, "chunk") // chunks)), dim)


def unbind(x: Any, dim: int = 0) -> tuple[Any, ...]:
    """Every place of a dimension as a tensor without it."""
    extent = shape_of(x)[axis_of(dim, rank_of(x))]
    return tuple(select(x, dim, k) for k in range(static(extent, "unbind")))


def tile(x: Any, repeats: Sequence[int]) -> Any:
    """The tensor repeated along every dimension; missing ones count from the left."""
    rank = max(len(repeats), rank_of(x))
    shape = (1,) * (rank - rank_of(x)) + shape_of(x)
    times = (1,) * (rank - len(repeats)) + tuple(repeats)
    wide = [e for pair in zip((1,) * rank, shape, strict=True) for e in pair]
    full = [e for pair in zip(times, shape, strict=True) for e in pair]
    result = [a * b for a, b in zip(times, shape, strict=True)]
    return reshape(expand(reshape(x, wide), full), result)


def repeat_interleave(x: Any, repeats: int, dim: int) -> Any:
    """Every place of a dimension `repeats` times in a row."""
    axis, shape = axis_of(dim, rank_of(x)), shape_of(x)
    wide = expand(unsqueeze(x, axis + 1), (*shape[: axis + 1], repeats, *shape[axis + 1 :]))
    return reshape(wide, (*shape[:axis], shape[axis] * repeats, *shape[axis + 1 :]))


def one_hot(index: Any, num_classes: int, dtype: DType = dtypes.i64) -> Any:
    """1 at the place that each index names along a new last dimension, 0 elsewhere."""
    shape = (*shape_of(index), num_classes)
    places = iota_like(index, shape, len(shape) - 1, dtype_of(index))
    return convert(prim.eq(unsqueeze(index, rank_of(index)), places), dtype)


def index_select(x: Any, dim: int, index: Any) -> Any:
    """The places of a dimension that a vector of indices names; for an index without dimensions, one."""
    axis, own = axis_of(dim, rank_of(x)), rank_of(index)
    taken = prim.gather(x, index, axes=(axis,))
    order = [*range(own, own + axis), *range(own), *range(own + axis, rank_of(taken))]
    return transpose(taken, order)


def embedding(index: Any, weight: Any) -> Any:
    """Rows of a table."""
    return prim.gather(weight, index, axes=(0,))


def _along(x: Any, dim: int, index: Any) -> tuple[list[Any], tuple[int, ...]]:
    """Indices for every axis: along `dim` the given ones, along the others their own place."""
    axis, shape = axis_of(dim, rank_of(x)), shape_of(index)
    if len(shape) != rank_of(x):
        raise ShapeError(f"index {list(shape)} and x {list(shape_of(x))} differ in the number of dimensions")
    places = [index if k == axis else iota_like(x, shape, k) for k in range(len(shape))]
    return places, tuple(range(len(shape)))


def gather(x: Any, dim: int, index: Any) -> Any:
    """`y[i, j, ...] = x[index[i, j, ...], j, ...]` for dim 0, and so on: one index per element."""
    if rank_of(x) == 0:
        return gather(reshape(x, (1,)), 0, reshape(index, (1,)))
    places, axes = _along(x, dim, index)
    return prim.gather(x, *places, axes=axes)


def take_along_dim(x: Any, index: Any, dim: int) -> Any:
    """`gather` with x and index broadcast against each other on the other dimensions."""
    axis = axis_of(dim, rank_of(x))
    ones = [[1 if k == axis else e for k, e in enumerate(shape_of(t))] for t in (x, index)]
    shape = broadcast_shapes("take_along_dim", [tuple(s) for s in ones])
    x, index = (
        expand(t, [shape_of(t)[axis] if k == axis else e for k, e in enumerate(shape)]) for t in (x, index)
    )
    return gather(x, axis, index)


def scatter(x: Any, dim: int, index: Any, source: Any, reduce: str = "set") -> Any:
    """x with `source[i, j, ...]` put to (or, by `reduce`, combined into) place `[index[i, j, ...], j, ...]`.

    Args:
        source: a number, or a tensor at least as large as the index.
        reduce: `set`, `add`, `mul`, `max` or `min`.
    """
    places, axes = _along(x, dim, index)
    if isinstance(source, (int, float)):
        source = expand(constant_like(x, np.asarray(source, dtype_of(x).numpy)), shape_of(index))
    for k, extent in enumerate(shape_of(index)):
        source = slice_axis(source, k, 0, extent)
    return prim.scatter(x, source, *places, axes=axes, mode=reduce)


def scatter_add(x: Any, dim: int, index: Any, source: Any) -> Any:
    """`scatter` that adds."""
    return scatter(x, dim, index, source, "add")


def index_add(x: Any, dim: int, index: Any, source: Any, alpha: float = 1) -> Any:
    """x with slices of `source` added at the places of a dimension that a vector names."""
    source = source if alpha == 1 else source * alpha
    return _put_slices(x, dim, index, source, "add")


def index_copy(x: Any, dim: int, index: Any, source: Any) -> Any:
    """x with slices of `source` at the places of a dimension that a vector names."""
    return _put_slices(x, dim, index, source, "set")


def _put_slices(x: Any, dim: int, index: Any, source: Any, mode: str) -> Any:
    axis = axis_of(dim, rank_of(x))
    front = [axis, *(k for k in range(rank_of(source)) if k != axis)]
    return prim.scatter(x, transpose(source, front), index, axes=(axis,), mode=mode)


def get_items(x: Any, indices: Sequence[Any | None]) -> Any:
    """`x[i, j, ...]` with tensors of integers as indices; None takes all of a dimension.

    Indices are broadcast. Their dimensions stand where the first of them was, or, when they are not
    side by side, in front, as in NumPy and PyTorch.
    """
    axes = [k for k, index in enumerate(indices) if index is not None]
    given = broadcast(*(index for index in indices if index is not None))
    taken = prim.gather(x, *given, axes=tuple(axes))
    if axes[-1] - axes[0] != len(axes) - 1 or axes[0] == 0:
        return taken
    own, at = rank_of(given[0]), axes[0]
    order = [*range(own, own + at), *range(own), *range(own + at, rank_of(taken))]
    return transpose(taken, order)


def set_items(x: Any, indices: Sequence[Any | None], value: Any, mode: str = "set") -> Any:
    """x after `x[i, j, ...] = value`, or another `mode` of `scatter`; indices as in `get_items`."""
    axes = [k for k, index in enumerate(indices) if index is not None]
    given = broadcast(*(index for index in indices if index is not None))
    rest = [e for k, e in enumerate(shape_of(x)) if k not in axes]
    own, at = rank_of(given[0]), axes[0]
    together = axes[-1] - axes[0] == len(axes) - 1
    shape = (*rest[:at], *shape_of(given[0]), *rest[at:]) if together else (*shape_of(given[0]), *rest)
    value = expand(value, shape)
    if together:
        value = transpose(value, [*range(at, at + own), *range(at), *range(at + own, rank_of(value))])
    return prim.scatter(x, value, *given, axes=tuple(axes), mode=mode)


def masked_fill(x: Any, mask: Any, value: Any) -> Any:
    """`value` where the mask holds, else x."""
    return prim.where(mask, value, x)


@composition
def sort(x: Any, dim: int = -1, descending: bool = False) -> tuple[Any, Any]:
    """Elements in order along a dimension, and where each came from; equal ones keep their order."""
    if rank_of(x) == 0:
        values, order = sort(reshape(x, (1,)), 0, descending)
        return reshape(values, ()), reshape(order, ())
    values, order = prim.sort(x, axis=axis_of(dim, rank_of(x)), descending=descending)
    return values, order


def argsort(x: Any, dim: int = -1, descending: bool = False) -> Any:
    """The indices that put a dimension in order."""
    return sort(x, dim, descending)[1]


@composition
def topk(x: Any, k: int, dim: int = -1, largest: bool = True) -> tuple[Any, Any]:
    """The k largest (or smallest) elements along a dimension, in order, and where each came from."""
    axis, extent = axis_of(dim, rank_of(x)), shape_of(x)[axis_of(dim, rank_of(x))]
    if isinstance(extent, int) and not 0 <= k <= extent:
        raise ArgumentError(f"topk: k is {k} but dimension {axis} of {list(shape_of(x))} has {extent} places")
    values, order = prim.sort(x, axis=axis, descending=largest)
    return slice_axis(values, axis, 0, k), slice_axis(order, axis, 0, k)


def _band(x: Any, diagonal: int) -> Any:
    """Whether an element of the last two dimensions is on the diagonal or below."""
    shape, rank = shape_of(x), rank_of(x)
    if rank < 2:
        raise ShapeError(f"tril and triu: x is {list(shape)}; two dimensions are needed")
    rows = iota_like(x, shape[-2:], 0)
    columns = iota_like(x, shape[-2:], 1)
    return prim.le(prim.sub(columns, diagonal), rows)


def tril(x: Any, diagonal: int = 0) -> Any:
    """The lower triangles of the last two dimensions, 0 elsewhere."""
    return prim.where(_band(x, diagonal), x, np.zeros((), dtype_of(x).numpy))


def triu(x: Any, diagonal: int = 0) -> Any:
    """The upper triangles of the last two dimensions, 0 elsewhere."""
    return prim.where(_band(x, diagonal - 1), np.zeros((), dtype_of(x).numpy), x)


def diagonal(x: Any) -> Any:
    """The diagonals of the last two dimensions, as a last dimension."""
    rank, shape = rank_of(x), shape_of(x)
    rows, columns = shape[-2:]
    size = min(rows, columns) if isinstance(rows, int) and isinstance(columns, int) else rows
    places = arange(x, size)
    taken = prim.gather(x, places, places, axes=(rank - 2, rank - 1))
    return transpose(taken, [*range(1, rank - 1), 0])
