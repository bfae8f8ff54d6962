"""Slices whose limits are computed at run time: how much is left is a size of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from intaglio.graph.ir import Value
from intaglio.ops.compositions import indexing
from intaglio.ops.compositions.basic import convert
from intaglio.ops.registry import prim
from intaglio.readers.onnx.bodies import emit, first_rows, is_known, scalar, size_value
from intaglio.readers.onnx.registry import Operand
from intaglio.shared import dtypes
from intaglio.shared.errors import ShapeError, UnsupportedError
from intaglio.shared.index import upper

if TYPE_CHECKING:
    from intaglio.readers.onnx.importer import Importer


def limit(limits: Operand, position: int) -> Any:
    """One of the starts or ends: a number or symbol where it is known, else a value."""
    if isinstance(limits, np.ndarray):
        return limits.reshape(-1)[position].item() if is_known(limits) else limits.reshape(-1)[position]
    return convert(scalar(indexing.slice_axis(limits, 0, position, position + 1)), dtypes.i64)


def cut(importer: Importer, x: Value, start: Any, end: Any, axis: int, step: int) -> Value:
    """`x[start:end:step]` on one axis, limits clamped as in Python."""
    extent = x.shape[axis]
    most = upper(extent)
    if most is None:
        raise UnsupportedError(
            f"Slice: limits computed at run time, of the axis {extent}", hint="give its symbol a bound"
        )
    size = importer.as_value(np.asarray(extent)) if isinstance(extent, int) else size_value(x.graph, extent)
    lowest, highest = (0, size) if step > 0 else (-1, size - 1)
    first, last = (_inside(_number(importer, place), size, lowest, highest) for place in (start, end))
    span = last - first if step > 0 else first - last
    count = prim.max(prim.floor_div(span + (abs(step) - 1), abs(step)), 0)
    room = -(-most // abs(step))
    numbers = emit(x.graph, "iota", [], shape=(room,), axis=0, dtype=dtypes.i64)[0]
    places = first_rows(importer, numbers * step + first, count, room, "slice")
    return indexing.get_items(x, [None] * axis + [places])  # type: ignore[no-any-return]


def _number(importer: Importer, place: Any) -> Value:
    if isinstance(place, Value):
        return place
    return (
        importer.as_value(np.asarray(place)) if isinstance(place, int) else size_value(importer.graph, place)
    )


def _inside(place: Value, size: Value, lowest: Any, highest: Any) -> Any:
    """A limit counted from 0 and moved inside."""
    counted = prim.where(prim.lt(place, 0), place + size, place)
    return prim.max(prim.min(counted, highest), lowest)


def cut_axes(
    importer: Importer, x: Operand, starts: Operand, ends: Operand, axes: Sequence[int], steps: Sequence[Any]
) -> Value:
    """`x` cut on several axes, by limits of which some are computed at run time."""
    value = importer.as_value(x)
    rank = value.type.rank
    computed = [limits for limits in (starts, ends) if isinstance(limits, Value)]
    importer.sized_by.update({name: None for v in computed for name in importer.inputs_behind(v)})
    for position, (axis, step) in enumerate(zip(axes, steps, strict=True)):
        if not -rank <= axis < rank:
            raise ShapeError(f"Slice: axis {axis} of a tensor of rank {rank}")
        if not isinstance(step, int) or step == 0:
            raise UnsupportedError(f"Slice: a step of {step}", hint="fix the input shapes")
        start, end = (limit(limits, position) for limits in (starts, ends))
        value = cut(importer, value, start, end, axis % rank, step)
    return value
