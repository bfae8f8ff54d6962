"""What all compositions need: extents and axes by PyTorch's conventions, constants, small functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from intaglio.ops.dispatch import broadcast_shapes, type_of
from intaglio.ops.like import constant_like, full_like, iota_like
from intaglio.ops.registry import prim
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import ShapeError, UnsupportedError
from intaglio.shared.index import IndexLike

Dims = int | Sequence[int] | None


def shape_of(x: Any) -> tuple[IndexLike, ...]:
    shape: tuple[IndexLike, ...] = type_of(x).shape
    return shape


def static(extent: IndexLike, what: str) -> int:
    """An extent that must be known when compiling. Raises UnsupportedError for a symbol."""
    if isinstance(extent, int):
        return extent
    raise UnsupportedError(
        f"{what}: dimension {extent} is known only at run time", hint="give it a fixed size"
    )


def rank_of(x: Any) -> int:
    return len(shape_of(x))


def dtype_of(x: Any) -> DType:
    dtype: DType = type_of(x).dtype
    return dtype


def axis_of(dim: int, rank: int, what: str = "dim") -> int:
    """A dimension counted from 0. Raises ShapeError when it is out of range."""
    if not -max(rank, 1) <= dim < max(rank, 1):
        raise ShapeError(f"{what} {dim} is out of range for a tensor of {rank} dimensions")
    return dim % max(rank, 1)


def axes_of(dim: Dims, rank: int) -> tuple[int, ...]:
    """The dimensions to reduce, counted from 0, in increasing order; None means all."""
    if dim is None:
        return tuple(range(rank))
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    axes = sorted(axis_of(d, rank) for d in dims)
    if len(set(axes)) != len(axes):
        raise ShapeError(f"dims {list(dims)} name a dimension twice in a tensor of {rank} dimensions")
    return tuple(axes) if rank else ()


def reshape(x: Any, shape: Sequence[IndexLike]) -> Any:
    """The same elements under another shape; one extent may be -1. No operator when nothing changes."""
    wanted = tuple(shape)
    if any(isinstance(e, int) and e == -1 for e in wanted):
        known: IndexLike = 1
        for extent in wanted:
            known = known if isinstance(extent, int) and extent == -1 else known * extent
        size = type_of(x).size
        if isinstance(known, int) and (known == 0 or (isinstance(size, int) and size % known)):
            raise ShapeError(f"reshape: {type_of(x)} has {size} elements, no multiple of {known}")
        wanted = tuple(size // known if isinstance(e, int) and e == -1 else e for e in wanted)
    return x if shape_of(x) == wanted else prim.reshape(x, shape=wanted)


def expand(x: Any, shape: Sequence[IndexLike]) -> Any:
    """Repeat along axes of extent 1 and new leading ones."""
    return x if shape_of(x) == tuple(shape) else prim.broadcast(x, shape=tuple(shape))


def broadcast(*operands: Any) -> tuple[Any, ...]:
    """Tensors expanded to their common shape."""
    shape = broadcast_shapes("broadcast", [shape_of(x) for x in operands])
    return tuple(expand(x, shape) for x in operands)


def transpose(x: Any, perm: Sequence[int]) -> Any:
    """Axes in another order. No operator when nothing changes."""
    return x if list(perm) == list(range(rank_of(x))) else prim.transpose(x, perm=tuple(perm))


def movedim(x: Any, source: int, target: int) -> Any:
    """One dimension moved to another place."""
    rank = rank_of(x)
    order = [k for k in range(rank) if k != axis_of(source, rank)]
    order.insert(axis_of(target, rank), axis_of(source, rank))
    return transpose(x, order)


def unsqueeze(x: Any, dim: int) -> Any:
    """A new dimension of extent 1 at `dim` of the result."""
    shape = list(shape_of(x))
    shape.insert(axis_of(dim, len(shape) + 1), 1)
    return prim.reshape(x, shape=tuple(shape))


def squeeze(x: Any, dim: Dims = None) -> Any:
    """Without the dimensions of extent 1 (among `dim`)."""
    axes = axes_of(dim, rank_of(x))
    shape = shape_of(x)
    return reshape(x, [e for k, e in enumerate(shape) if not (k in axes and e == 1)])


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Dimensions from `start_dim` to `end_dim` as one."""
    shape, rank = shape_of(x), rank_of(x)
    if rank == 0:
        return reshape(x, (1,))
    start, end = axis_of(start_dim, rank), axis_of(end_dim, rank)
    size: IndexLike = 1
    for extent in shape[start : end + 1]:
        size = size * extent
    return reshape(x, (*shape[:start], size, *shape[end + 1 :]))


def convert(x: Any, dtype: DType) -> Any:
    """Another element type. No operator when nothing changes."""
    return x if dtype_of(x) == dtype else prim.cast(x, dtype=dtype)


def floating(x: Any) -> Any:
    """Integers and truth values as f32; floats as they are."""
    return x if dtype_of(x).is_float else prim.cast(x, dtype=dtypes.f32)


def arange(like: Any, count: IndexLike, dtype: DType = dtypes.i64) -> Any:
    """0, 1, ... as a tensor, held as `like` is."""
    return iota_like(like, (count,), 0, dtype)


def extent(shape: Sequence[IndexLike]) -> IndexLike:
    """The number of elements of a shape."""
    size: IndexLike = 1
    for e in shape:
        size = size * e
    return size


def count_as(size: IndexLike, dtype: DType, like: Any) -> Any:
    """A number of elements as a number, or for a symbolic one as a tensor without dimensions."""
    if isinstance(size, int):
        return float(size)
    ones = full_like(like, 1, (size,), dtype)
    return prim.sum(ones, axes=(0,))


__all__ = [
    "Dims",
    "arange",
    "axes_of",
    "axis_of",
    "broadcast",
    "constant_like",
    "convert",
    "count_as",
    "dtype_of",
    "expand",
    "extent",
    "flatten",
    "floating",
    "full_like",
    "iota_like",
    "movedim",
    "rank_of",
    "reshape",
    "shape_of",
    "squeeze",
    "static",
    "transpose",
    "unsqueeze",
]
