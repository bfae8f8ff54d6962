"""Which elements: compositions whose results have a size that is only known when they have run.

They give arrays with room for all and the count of what is in them; `prim.prefix` cuts them to it.
"""

from __future__ import annotations

from typing import Any

from intaglio.ops.compositions.basic import arange, extent, reshape, shape_of
from intaglio.ops.compositions.indexing import select, slice_axis
from intaglio.ops.dispatch import composition, type_of
from intaglio.ops.like import full_like
from intaglio.ops.registry import prim
from intaglio.shared import dtypes
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import IndexLike, upper


def room_for(count: IndexLike) -> int:
    """The most elements there can be. Raises UnsupportedError when nothing limits them."""
    most = upper(count)
    if most is None:
        raise UnsupportedError(
            f"a selection among {count} elements has no upper bound", hint="give its symbols a bound"
        )
    return most


@composition
def true_places(mask: Any) -> tuple[Any, Any]:
    """The row-major positions where a mask is true, in order, with zeros behind; and how many there are."""
    flat = reshape(mask, (extent(shape_of(mask)),))
    return _compacted(flat, arange(flat, shape_of(flat)[0]))


def _compacted(chosen: Any, values: Any) -> tuple[Any, Any]:
    """The chosen ones of some numbers, in order; one more place takes those that are not chosen."""
    room = room_for(shape_of(chosen)[0])
    ones = prim.cast(chosen, dtype=dtypes.i64)
    place = prim.cumsum(ones, axis=0, exclusive=True, reverse=False)
    target = prim.where(chosen, place, room)
    empty = full_like(values, 0, (room + 1,))
    return prim.scatter(empty, values, target, axes=(0,), mode="set"), prim.sum(ones, axes=(0,))


@composition
def distinct_rows(rows: Any, in_order: bool) -> tuple[Any, Any, Any, Any]:
    """The distinct rows of a matrix, sorted by their columns or (`in_order`) as they first appear.

    Returns the position of each one's first appearance, how often each appears, the number of each row's
    distinct row, and how many there are. NaN equals NaN.
    """
    count = shape_of(rows)[0]
    order, is_new = _sorted_rows(rows)
    group = prim.cumsum(
        prim.cast(is_new, dtype=dtypes.i64), axis=0, exclusive=False, reverse=False
    ) - 1  # fmt: skip
    first, found = _compacted(is_new, order)
    room = shape_of(first)[0]
    counts = prim.scatter(full_like(group, 0, (room,)), full_like(group, 1), group, axes=(0,), mode="add")
    number = prim.scatter(full_like(group, 0), group, order, axes=(0,), mode="set")
    if not in_order:
        return first, counts, number, found
    places = arange(first, room)
    behind = prim.where(prim.lt(places, found), first, count)
    first, turn = prim.sort(behind, axis=0, descending=False)
    new_number = prim.scatter(full_like(places, 0), places, turn, axes=(0,), mode="set")
    return first, prim.gather(counts, turn, axes=(0,)), prim.gather(new_number, number, axes=(0,)), found


def _sorted_rows(rows: Any) -> tuple[Any, Any]:
    """The order of the rows, and which of them in that order differ from the one before.

    Columns are sorted from the last to the first; a sort keeps the order of equals."""
    count, columns = shape_of(rows)
    order: Any = None
    for k in reversed(range(columns)):  # type: ignore[arg-type]
        column = select(rows, 1, k)
        if order is not None:
            column = prim.gather(column, order, axes=(0,))
        turn = prim.sort(column, axis=0, descending=False)[1]
        order = turn if order is None else prim.gather(order, turn, axes=(0,))
    place = arange(rows, count)
    here = prim.gather(rows, order, axes=(0,))
    before = prim.gather(here, prim.max(place - 1, 0), axes=(0,))
    differs = prim.ne(here, before)
    if type_of(rows).dtype.is_float:
        both_nan = prim.and_(prim.ne(here, here), prim.ne(before, before))
        differs = prim.and_(differs, prim.not_(both_nan))
    anywhere = prim.reduce_or(differs, axes=(1,))
    return order, prim.or_(prim.eq(place, 0), anywhere)


__all__ = ["distinct_rows", "room_for", "slice_axis", "true_places"]
