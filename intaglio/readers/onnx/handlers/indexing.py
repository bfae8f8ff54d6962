"""Operators whose indices are data, and those that pick places: gather, scatter, top-k, triangles."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.ops.compositions import indexing
from intaglio.ops.compositions.basic import (
    axis_of,
    convert,
    dtype_of,
    expand,
    iota_like,
    rank_of,
    reshape,
    shape_of,
    static,
)
from intaglio.ops.registry import prim
from intaglio.readers.onnx.elements import plain_type
from intaglio.readers.onnx.model import MAX_RANK
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, ShapeError

MODES = {"none": "set", "add": "add", "mul": "mul", "max": "max", "min": "min"}


def scatter_mode(call: OnnxCall) -> str:
    """How updates are combined in, by the attribute `reduction`."""
    name = call.attr("reduction", "none")
    if name not in MODES:
        raise ArgumentError(f"{call.node.op_type}: reduction {name!r} is not one of {', '.join(MODES)}")
    return MODES[name]


@onnx_op("GatherElements")
def gather_elements(call: OnnxCall, x: Operand, indices: Operand) -> Any:
    if not all(isinstance(extent, int) for extent in shape_of(indices)):
        x = call.importer.as_value(x)
    return indexing.gather(x, axis_of(call.attr("axis", 0), rank_of(x), "axis"), indices)


@onnx_op("Scatter")
@onnx_op("ScatterElements")
def scatter_elements(call: OnnxCall, x: Operand, indices: Operand, updates: Operand) -> Any:
    axis = axis_of(call.attr("axis", 0), rank_of(x), "axis")
    if shape_of(updates) != shape_of(indices):
        raise ShapeError(f"indices are {list(shape_of(indices))} but updates are {list(shape_of(updates))}")
    return indexing.scatter(x, axis, indices, updates, scatter_mode(call))


def coordinates(indices: Operand, what: str) -> list[Any]:
    """The last axis of a tensor of indices taken apart: one tensor for each axis that they name."""
    if not shape_of(indices):
        raise ShapeError(f"{what}: the indices have no axes")
    count = static(shape_of(indices)[-1], what)
    if count > MAX_RANK:
        raise ShapeError(f"{what}: indices name {count} axes, at most {MAX_RANK} are supported")
    return [indexing.select(indices, -1, k) for k in range(count)]


@onnx_op("GatherND")
def gather_nd(call: OnnxCall, x: Operand, indices: Operand) -> Any:
    """Leading `batch_dims` axes of both run together."""
    batch = call.attr("batch_dims", 0)
    named = coordinates(indices, "GatherND")
    if not 0 <= batch < min(rank_of(x), rank_of(indices)) or batch + len(named) > rank_of(x):
        raise ShapeError(f"GatherND: {batch} batch axes and {len(named)} indices for rank {rank_of(x)}")
    shape = shape_of(indices)[:-1]
    if shape[:batch] != shape_of(x)[:batch]:
        raise ShapeError(f"GatherND: batch axes of {list(shape_of(x))} and {list(shape)} differ")
    own = [iota_like(indices, shape, k) for k in range(batch)]
    return prim.gather(x, *own, *named, axes=tuple(range(batch + len(named))))


@onnx_op("ScatterND")
def scatter_nd(call: OnnxCall, x: Operand, indices: Operand, updates: Operand) -> Any:
    named = coordinates(indices, "ScatterND")
    return prim.scatter(x, updates, *named, axes=tuple(range(len(named))), mode=scatter_mode(call))


@onnx_op("ReverseSequence")
def reverse_sequence(call: OnnxCall, x: Operand, lengths: Operand) -> Any:
    """The first places of the time axis backwards, as many as each sample's length says."""
    batch_axis, time_axis = call.attr("batch_axis", 1), call.attr("time_axis", 0)
    if {batch_axis, time_axis} != {0, 1}:
        raise ArgumentError(f"ReverseSequence: batch axis {batch_axis} and time axis {time_axis}")
    column = reshape(convert(lengths, dtypes.i64), (-1, 1) if batch_axis == 0 else (1, -1))
    shape = shape_of(x)[:2]
    time, sample = iota_like(x, shape, time_axis), iota_like(x, shape, batch_axis)
    place = prim.where(prim.lt(time, column), column - 1 - time, time)
    axes = (place, sample) if time_axis == 0 else (sample, place)
    return prim.gather(x, *axes, axes=(0, 1))


@onnx_op("TopK", 1)
def top_k_1(call: OnnxCall, x: Operand) -> Any:
    return indexing.topk(x, call.required("k"), call.attr("axis", -1))


@onnx_op("TopK", 10)
def top_k(call: OnnxCall, x: Operand, count: Operand) -> Any:
    (number,) = call.ints(count, "k")
    return indexing.topk(x, number, call.attr("axis", -1), bool(call.attr("largest", 1)))


@onnx_op("OneHot")
def one_hot(call: OnnxCall, indices: Operand, depth: Operand, values: Operand) -> Any:
    """An index outside of [-depth, depth) has no place that is on."""
    (count,) = (int(v) for v in np.asarray(call.static(depth, "the depth")).reshape(-1))
    axis = axis_of(call.attr("axis", -1), rank_of(indices) + 1, "axis")
    index = convert(indices, dtypes.i64)
    shape = shape_of(index)
    whole = (*shape[:axis], count, *shape[axis:])
    place = reshape(prim.where(prim.lt(index, 0), index + count, index), (*shape[:axis], 1, *shape[axis:]))
    on = prim.eq(expand(place, whole), iota_like(index, whole, axis))
    off_value, on_value = (indexing.select(values, 0, k) for k in range(2))
    return prim.where(on, on_value, off_value)


@onnx_op("EyeLike")
def eye_like(call: OnnxCall, x: Operand) -> Any:
    code = call.attr("dtype")
    dtype = dtype_of(x) if code is None else plain_type(code)
    rows, columns = (iota_like(x, shape_of(x), k) for k in range(2))
    return convert(prim.eq(columns, rows + call.attr("k", 0)), dtype)


@onnx_op("Trilu")
def trilu(call: OnnxCall, x: Operand, diagonal: Operand | None = None) -> Any:
    place: Any = np.zeros((), np.int64) if diagonal is None else reshape(diagonal, ())
    return (indexing.triu if call.attr("upper", 1) else indexing.tril)(x, place)


@onnx_op("CumSum")
@onnx_op("CumProd")
def cumulative(call: OnnxCall, x: Operand, axis: Operand) -> Any:
    (given,) = call.ints(axis, "the axis")
    return (prim.cumsum if call.node.op_type == "CumSum" else prim.cumprod)(
        x,
        axis=axis_of(given, rank_of(x), "axis"),
        exclusive=bool(call.attr("exclusive", 0)),
        reverse=bool(call.attr("reverse", 0)),
    )
