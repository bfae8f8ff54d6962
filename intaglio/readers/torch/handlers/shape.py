"""Views, joins, and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from intaglio.ops.compositions import basic, indexing, resize
from intaglio.ops.compositions.basic import axis_of, rank_of, reshape, shape_of
from intaglio.readers.torch.registry import FxCall, aten, direct
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import IndexLike

BEYOND = 2**31  # exported programs write "to the end" as a very large number

direct(
    {
        "view": reshape,
        "_unsafe_view": reshape,
        "reshape": reshape,
        "unsqueeze": basic.unsqueeze,
        "flatten": basic.flatten,
        "flip": lambda x, dims: x if 0 in shape_of(x) else indexing.flip(x, dims),
        "roll": lambda x, shifts, dims=None: indexing.roll(x, shifts, dims or None),
        "unbind": indexing.unbind,
        "tril": indexing.tril,
        "triu": indexing.triu,
        "pixel_shuffle": resize.pixel_shuffle,
        "pixel_unshuffle": resize.pixel_unshuffle,
        "repeat": indexing.tile,
        "tile": indexing.tile,
        "movedim": basic.movedim,
        "sym_size": lambda x, dim: shape_of(x)[dim],
        "sym_numel": lambda x: basic.extent(shape_of(x)),
        "sym_stride": lambda x, dim: basic.extent(shape_of(x)[dim % rank_of(x) + 1 :]),
        "narrow": indexing.narrow,
        "view_as": lambda x, other: reshape(x, shape_of(other)),
        "expand_as": lambda x, other: basic.expand(x, shape_of(other)),
    }
)


@aten("permute")
def permute(call: FxCall, x: Any, dims: Sequence[int]) -> Any:
    return basic.transpose(x, [axis_of(d, rank_of(x)) for d in dims])


@aten("transpose")
def transpose(call: FxCall, x: Any, first: int, second: int) -> Any:
    rank = rank_of(x)
    order = list(range(rank))
    if rank:
        a, b = axis_of(first, rank), axis_of(second, rank)
        order[a], order[b] = b, a
    return basic.transpose(x, order)


@aten("t", "numpy_T", "mT")
def t(call: FxCall, x: Any) -> Any:
    rank = rank_of(x)
    order = [*range(rank - 2), rank - 1, rank - 2] if rank >= 2 else list(range(rank))
    return basic.transpose(x, order)


@aten("expand")
def expand(call: FxCall, x: Any, size: Sequence[IndexLike], *, implicit: bool = False) -> Any:
    """-1 keeps an extent."""
    own = shape_of(x)
    lead = len(size) - len(own)
    shape = [own[k - lead] if e == -1 else e for k, e in enumerate(size)]
    return basic.expand(x, shape)


@aten("squeeze")
def squeeze(call: FxCall, x: Any, dim: Any = None) -> Any:
    """Dimensions that are not 1 stay."""
    shape, rank = shape_of(x), rank_of(x)
    dims = range(rank) if dim is None else [dim] if isinstance(dim, int) else dim
    gone = {axis_of(d, rank) for d in dims} if rank else set()
    return reshape(x, [e for k, e in enumerate(shape) if not (k in gone and e == 1)])


@aten("slice")
def slice_(call: FxCall, x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    extent = shape_of(x)[dim]
    if isinstance(end, int) and end >= BEYOND:
        end = None
    if not isinstance(extent, int):
        start = extent + start if isinstance(start, int) and start < 0 else start
        end = extent + end if isinstance(end, int) and end < 0 else end
    return indexing.slice_axis(x, dim, start, end, step)


@aten("select")
def select(call: FxCall, x: Any, dim: int, index: int) -> Any:
    return indexing.select(x, dim, index)


@aten("cat", "concat")
def cat(call: FxCall, tensors: Sequence[Any], dim: int = 0) -> Any:
    """Empty vectors are left out, as PyTorch does."""
    full = [x for x in tensors if shape_of(x) != (0,)] or list(tensors[:1])
    return indexing.concat(full, dim) if len(full) > 1 else full[0]


@aten("stack")
def stack(call: FxCall, tensors: Sequence[Any], dim: int = 0) -> Any:
    return indexing.stack(tensors, dim)


@aten("split", "split_with_sizes", "chunk")
def split(call: FxCall, x: Any, sizes: Any, dim: int = 0) -> Any:
    if "chunk" in str(call.node.target):
        return indexing.chunk(x, sizes, dim)
    return indexing.split(x, sizes, dim)


@aten("repeat_interleave.self_int")
def repeat_interleave(call: FxCall, x: Any, repeats: int, dim: int | None = None, **named: Any) -> Any:
    return indexing.repeat_interleave(reshape(x, (-1,)) if dim is None else x, repeats, dim or 0)


@aten("diagonal")
def diagonal(call: FxCall, x: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    rank = rank_of(x)
    a, b = axis_of(dim1, rank), axis_of(dim2, rank)
    rest = [k for k in range(rank) if k not in (a, b)]
    rows, columns = shape_of(x)[a], shape_of(x)[b]
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise UnsupportedError("diagonal of a symbolic size")
    moved = basic.transpose(x, [*rest, a, b])
    low, right = max(0, -offset), max(0, offset)
    count = max(0, min(rows - low, columns - right))
    cut = indexing.narrow(indexing.narrow(moved, -2, low, count), -1, right, count)
    return indexing.diagonal(cut)


@aten("constant_pad_nd")
def constant_pad(call: FxCall, x: Any, padding: Sequence[int], value: Any = 0) -> Any:
    return resize.pad(x, padding, "constant", value)


@aten("reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d", "replication_pad2d",
      "replication_pad3d", "_pad_circular", "pad")  # fmt: skip
def edge_pad(call: FxCall, x: Any, padding: Sequence[int], mode: str = "", value: float | None = None) -> Any:
    name = str(call.node.target)
    found = "reflect" if "reflection" in name else "replicate" if "replication" in name else "circular"
    return resize.pad(x, padding, mode or found, value)


@aten("as_strided")
def as_strided(call: FxCall, x: Any, size: Sequence[Any], stride: Sequence[Any], offset: Any = None) -> Any:
    """Elements at places of x's memory."""
    at = _memory_places(call, size, stride, offset)
    return indexing.get_items(reshape(x, (-1,)), [call.graph.constant(at)])


@aten("as_strided_scatter")
def as_strided_scatter(call: FxCall, x: Any, source: Any, size: Sequence[Any], stride: Sequence[Any],
                       offset: Any = None) -> Any:  # fmt: skip
    """x with elements at places of its memory replaced."""
    at = _memory_places(call, size, stride, offset)
    return reshape(indexing.set_items(reshape(x, (-1,)), [call.graph.constant(at)], source), shape_of(x))


def _memory_places(
    call: FxCall, size: Sequence[Any], stride: Sequence[Any], offset: Any
) -> np.ndarray[Any, Any]:
    """The row-major positions in x of the elements that PyTorch finds at places of x's memory."""
    held = call.node.args[0].meta["val"]  # type: ignore[union-attr]
    numbers = (*size, *stride, *held.shape, *held.stride(), held.storage_offset())
    if not all(isinstance(number, int) for number in numbers):
        raise UnsupportedError("strides over symbolic sizes", hint="use slices, permute or expand")
    own = _places(held.shape, held.stride(), held.storage_offset()).reshape(-1)
    at = _places(size, stride, held.storage_offset() if offset is None else offset)
    position = np.full(max(own.max(initial=-1), at.max(initial=-1)) + 1, -1)
    position[own] = np.arange(own.size)
    found: np.ndarray[Any, Any] = position[at]
    if (found < 0).any():
        raise UnsupportedError("strides that leave the tensor", hint="use slices, permute or expand")
    return found


def _places(size: Sequence[int], stride: Sequence[int], offset: int) -> np.ndarray[Any, Any]:
    """Where in memory each element of a strided tensor is."""
    at = np.full((), offset, np.int64)
    for extent, step in zip(size, stride, strict=True):
        at = at[..., None] + np.arange(extent) * step
    return at


@aten("sym_storage_offset")
def sym_storage_offset(call: FxCall, x: Any) -> Any:
    """Where PyTorch's tensor starts in its memory; only what PyTorch itself computes from it."""
    return call.node.meta["val"]


@aten("unfold")
def unfold(call: FxCall, x: Any, dim: int, size: int, step: int) -> Any:
    """Windows of a dimension, as a new last dimension."""
    rank = rank_of(x)
    axis = axis_of(dim, rank)
    extent = shape_of(x)[axis]
    count = (extent - size) // step + 1
    parts = [indexing.slice_axis(x, axis, k, k + (count - 1) * step + 1, step) for k in range(size)]
    return indexing.stack(parts, rank)
