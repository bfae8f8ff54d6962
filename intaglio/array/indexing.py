"""Indexing as PyTorch has it: numbers, slices, `None`, `...`, masks and tensors of indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from intaglio.ops.compositions import basic, indexing
from intaglio.ops.like import constant_like, full_like, iota_like
from intaglio.ops.registry import prim
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, DTypeError, ShapeError, TraceError
from intaglio.shared.index import IndexLike
from intaglio.shared.where import caller


@dataclass
class Cut:
    """What the numbers, slices and `None` of an index do: a slice, then a reshape.

    `shape` is the result's shape and `lookups` has an entry per axis of it: a tensor of indices, or None.
    `ranges` are the places that the slice takes of every axis of x.
    """

    ranges: list[range] = field(default_factory=list)
    shape: list[IndexLike] = field(default_factory=list)
    lookups: list[Any] = field(default_factory=list)
    whole: bool = True

    @property
    def looks_up(self) -> bool:
        return any(index is not None for index in self.lookups)


def get_item(x: Any, index: Any) -> Any:
    """`x[index]`.

    Raises:
        ArgumentError: a number that is out of range, or too many of them.
        TraceError: the result's shape would depend on values that are not known yet.
    """
    cut = _cut(x, _entries(x, index))
    part = x if cut.whole else _sliced(x, cut.ranges)
    part = basic.reshape(part, cut.shape)
    if cut.looks_up:
        return indexing.get_items(part, cut.lookups)
    return part.clone() if part is x else part


def _sliced(x: Any, ranges: Sequence[range]) -> Any:
    return prim.slice(
        x,
        start=tuple(r.start for r in ranges),
        stop=tuple(r.stop for r in ranges),
        step=tuple(r.step for r in ranges),
    )


def _entries(x: Any, index: Any) -> list[Any]:
    """One entry per axis of x, and None for new ones: `...` filled up, masks as tensors of indices."""
    entries: list[Any] = []
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, (list, tuple, np.ndarray, np.bool_, bool)):
            part = constant_like(x, _index_array(part))
        if _is_tensor(part) and part.dtype == dtypes.bool_:
            entries.extend(
                _places_of_mask(x, part, sum(e is not None and e is not Ellipsis for e in entries))
            )
        else:
            entries.append(part)
    ellipses = [k for k, e in enumerate(entries) if e is Ellipsis]
    used = sum(e is not None and e is not Ellipsis for e in entries)
    rank = len(x.shape)
    if used > rank or len(ellipses) > 1:
        what = f"{used} indices" if used > rank else "more than one `...`"
        raise ArgumentError(f"{what} for a tensor {x.type}", where=caller())
    fill: list[Any] = [slice(None)] * (rank - used)
    at = ellipses[0] if ellipses else len(entries)
    return entries[:at] + fill + entries[at + 1 :]


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "__intaglio_apply__")


def _index_array(part: Any) -> Any:
    array = np.asarray(part)
    return array.astype(np.int64) if array.size == 0 and array.dtype != np.bool_ else array


def _places_of_mask(x: Any, mask: Any, axis: int) -> list[Any]:
    """The places where a mask holds, one tensor of indices per axis of the mask."""
    own = tuple(x.shape[axis : axis + mask.ndim])
    if tuple(mask.shape) != own:
        raise ShapeError(
            f"the mask is {mask.type} but x is {x.type}: it must be bool{list(own)}", where=caller()
        )
    if mask.ndim == 0:
        raise ArgumentError("a single truth value cannot be an index", where=caller(), hint="use where()")
    if mask.is_traced:
        raise TraceError(
            f"the shape of x[mask] depends on values not known while the function is traced ({mask.type})",
            where=caller(),
            hint="use where() with the mask",
        )
    return [constant_like(x, places) for places in np.nonzero(mask.numpy())]


def _cut(x: Any, entries: Sequence[Any]) -> Cut:
    cut = Cut()
    extents = iter(x.shape)
    for entry in entries:
        if entry is None:
            cut.shape.append(1)
            cut.lookups.append(None)
            continue
        extent = next(extents)
        if isinstance(entry, slice):
            _take_slice(cut, entry, extent)
        elif _is_tensor(entry) and (entry.ndim or entry.is_traced):
            if not entry.dtype.is_integer:
                raise DTypeError(
                    f"an index is {entry.type}; integers or truth values are expected", where=caller()
                )
            cut.ranges.append(range(extent))
            cut.shape.append(extent)
            cut.lookups.append(entry)
        else:
            cut.ranges.append(_place(x, entry, extent, len(cut.ranges)))
            cut.whole = False
    return cut


def _take_slice(cut: Cut, entry: slice, extent: Any) -> None:
    if not isinstance(extent, int):
        if (entry.start, entry.stop, entry.step) != (None, None, None):
            raise ArgumentError(f"a dimension {extent} known only at run time is sliced", where=caller())
        places, count = range(0), extent
    else:
        places = range(*entry.indices(extent))
        if not places:
            places = range(0, 0)
        cut.whole = cut.whole and places == range(extent)
        count = len(places)
    cut.ranges.append(places)
    cut.shape.append(count)
    cut.lookups.append(None)


def _place(x: Any, entry: Any, extent: int, axis: int) -> range:
    try:
        k = entry.__index__()
    except AttributeError:
        raise ArgumentError(
            f"a {type(entry).__name__} cannot be an index",
            where=caller(),
            hint="use integers, slices or tensors",
        ) from None
    if not -extent <= k < extent:
        raise ArgumentError(f"index {k} is out of range for axis {axis} of {x.type}", where=caller())
    return range(k % extent, k % extent + 1)


def set_item(x: Any, index: Any, value: Any) -> Any:
    """The tensor with `x[index] = value` done; the value is converted and broadcast."""
    value = value if _is_tensor(value) else constant_like(x, np.asarray(value, x.dtype.numpy))
    value = basic.convert(value, x.dtype)
    if _is_tensor(index) and index.dtype == dtypes.bool_ and not value.ndim:
        return prim.where(_mask_of(x, index), value, x)
    cut = _cut(x, _entries(x, index))
    shape = basic.shape_of(get_item(x, index)) if cut.looks_up else tuple(cut.shape)
    value = basic.expand(_without_leading_ones(value, shape), shape)
    if not cut.looks_up:
        value = basic.reshape(value, [len(r) for r in cut.ranges])
        return value if cut.whole else _put_slice(x, cut.ranges, value)
    return _put_flat(x, get_item(_positions(x), index), value)


def _without_leading_ones(value: Any, shape: Sequence[IndexLike]) -> Any:
    spare = max(0, value.ndim - len(shape))
    return basic.reshape(value, value.shape[spare:]) if spare and set(value.shape[:spare]) == {1} else value


def _mask_of(x: Any, mask: Any) -> Any:
    """A mask over leading axes, for all elements behind them."""
    if tuple(mask.shape) != tuple(x.shape[: mask.ndim]):
        raise ShapeError(f"the mask is {mask.type} but x is {x.type}", where=caller())
    return basic.reshape(mask, (*mask.shape, *(1 for _ in x.shape[mask.ndim :])))


def _positions(x: Any) -> Any:
    """The row-major position of every element of x."""
    count = int(np.prod(x.shape, dtype=np.int64))
    return basic.reshape(iota_like(x, (count,), 0), x.shape)


def _put_slice(x: Any, ranges: Sequence[range], value: Any) -> Any:
    """x with other elements at the given places of its axes."""
    if any(r.step != 1 for r in ranges):
        return _put_flat(x, _sliced(_positions(x), ranges), value)
    restricted = [k for k, (r, extent) in enumerate(zip(ranges, x.shape, strict=True)) if r != range(extent)]
    if len(restricted) == 1:
        axis = restricted[0]
        places, extent = ranges[axis], x.shape[axis]
        parts = [value] if len(places) else []
        if places.start > 0:
            parts.insert(0, indexing.slice_axis(x, axis, 0, places.start))
        if places.start + len(places) < extent:
            parts.append(indexing.slice_axis(x, axis, places.start + len(places), extent))
        return indexing.concat(parts, axis)
    padding = tuple((r.start, e - r.start - len(r)) for r, e in zip(ranges, x.shape, strict=True))
    inside = prim.pad(
        full_like(x, True, value.shape, dtypes.bool_), padding=padding, mode="constant", value=0.0
    )
    return prim.where(inside, prim.pad(value, padding=padding, mode="constant", value=0.0), x)


def _put_flat(x: Any, places: Any, value: Any) -> Any:
    """x with other elements at the given row-major positions."""
    flat, places, value = (basic.reshape(t, (-1,)) for t in (x, places, value))
    return basic.reshape(prim.scatter(flat, value, places, axes=(0,), mode="set"), x.shape)
