"""Operators whose results have a size that depends on the data: it becomes a symbol with a bound."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.graph.ir import Value
from intaglio.ops.compositions import indexing, selection
from intaglio.ops.registry import prim
from intaglio.readers.onnx.bodies import first_rows, is_known, size_value, stack
from intaglio.readers.onnx.handlers.movement import normal_axes, reshape_to
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import ShapeError, UnsupportedError
from intaglio.shared.index import IndexLike, product

MAX_COLUMNS = 64
"""Columns by which rows are sorted: each is a sort of its own."""


@onnx_op("NonZero", 9)
def nonzero(call: OnnxCall, x: Operand) -> Any:
    if isinstance(x, np.ndarray):
        found = np.nonzero(np.atleast_1d(x))
        return np.zeros((0, len(found[0])), np.int64) if x.ndim == 0 else np.stack(found)
    mask = x if x.dtype == dtypes.bool_ else prim.ne(x, 0)
    places = true_places(call, mask, "nonzero")
    if not x.shape:
        return prim.broadcast(call.importer.graph.constant(np.asarray(0)), shape=(0, places.shape[0]))
    return stack(call.importer, coordinates(places, x.shape))


def true_places(call: OnnxCall, mask: Value, what: str) -> Value:
    """The row-major positions where a mask is true."""
    places, count = selection.true_places(mask)
    return first_rows(call.importer, places, count, selection.room_for(mask.type.size), what)


def coordinates(places: Value, shape: tuple[IndexLike, ...]) -> list[Any]:
    """Row-major positions as indices, one tensor for each axis."""
    found = []
    for axis, size in enumerate(shape):
        inner = product(shape[axis + 1 :])
        place = places if inner == 1 else prim.floor_div(places, _number(places, inner))
        found.append(place if axis == 0 else prim.remainder(place, _number(places, size)))
    return found


def _number(like: Value, extent: IndexLike) -> Any:
    return extent if isinstance(extent, int) else size_value(like.graph, extent)


@onnx_op("Compress", 9)
def compress(call: OnnxCall, x: Operand, condition: Operand) -> Any:
    axis = call.attr("axis")
    if axis is None:
        x, axis = reshape_to(x, (product(x.shape),)), 0
    (axis,) = normal_axes([axis], len(x.shape), "Compress")
    if len(condition.shape) != 1:
        raise ShapeError(f"Compress: the condition has shape {list(condition.shape)}, not one axis")
    if is_known(x) and is_known(condition):
        return np.compress(condition, x, axis)  # type: ignore[arg-type]
    places: Any = (
        call.importer.as_value(np.flatnonzero(condition))
        if isinstance(condition, np.ndarray)
        else true_places(call, condition, "kept")
    )
    return indexing.get_items(call.importer.as_value(x), [None] * axis + [places])


@onnx_op("Unique", 11)
def unique(call: OnnxCall, x: Operand) -> Any:
    axis = call.attr("axis")
    if axis is None:
        x, axis = reshape_to(x, (product(x.shape),)), 0
    (axis,) = normal_axes([axis], len(x.shape), "Unique")
    value = call.importer.as_value(x)
    front = prim.transpose(value, perm=(axis, *(k for k in range(value.type.rank) if k != axis)))
    count, width = front.shape[0], product(front.shape[1:])
    if not isinstance(width, int) or not 1 <= width <= MAX_COLUMNS:
        raise UnsupportedError(
            f"Unique: rows of {width} elements; 1 to {MAX_COLUMNS} are supported",
            hint="find the distinct rows before the model",
        )
    rows = prim.reshape(front, shape=(count, width))
    if rows.dtype == dtypes.bool_:
        rows = prim.cast(rows, dtype=dtypes.u8)
    first, counts, number, found = selection.distinct_rows(rows, not call.attr("sorted", 1))
    most = selection.room_for(count)
    both = prim.concat(*(prim.reshape(v, shape=(most + 1, 1)) for v in (first, counts)), axis=1)
    kept = first_rows(call.importer, both, found, most, "unique")
    first, counts = (indexing.select(kept, 1, k) for k in range(2))
    return indexing.get_items(value, [None] * axis + [first]), first, number, counts
