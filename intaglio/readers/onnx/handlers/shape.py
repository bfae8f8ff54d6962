"""Shapes and constants: mostly computed at import, so that they never reach the graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.graph.ir import Value
from intaglio.ops.compositions.basic import reshape
from intaglio.ops.registry import lookup
from intaglio.readers.onnx.bodies import emit, size_value
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import ShapeError, UnsupportedError
from intaglio.shared.index import IndexLike, maximum, product

MAX_STATIC = 1 << 24


def shape_of(operand: Operand) -> tuple[IndexLike, ...]:
    """The shape of an operand, symbols and all."""
    return operand.shape


def as_shape_array(shape: tuple[IndexLike, ...]) -> Any:
    """Extents as an int64 array, or as objects when there are symbols among them."""
    if all(isinstance(extent, int) for extent in shape):
        return np.array(shape, np.int64)
    array = np.empty(len(shape), object)
    array[:] = list(shape)
    return array


@onnx_op("Shape")
def shape(call: OnnxCall, x: Operand) -> Any:
    extents = shape_of(x)
    start, end = call.attr("start", 0), call.attr("end", len(extents))
    return as_shape_array(extents[slice(start, end)])


@onnx_op("Size")
def size(_: OnnxCall, x: Operand) -> Any:
    count = product(shape_of(x))
    return np.asarray(count, np.int64 if isinstance(count, int) else object)


@onnx_op("Constant")
def constant(call: OnnxCall) -> Any:
    for name, dtype in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        value = call.attr(name)
        if value is not None:
            return np.asarray(value, dtype)
    value = call.attr("value")
    if value is None:
        raise UnsupportedError("Constant: only numeric tensors are supported as values")
    return value


@onnx_op("ConstantOfShape")
def constant_of_shape(call: OnnxCall, extents: Operand) -> Any:
    value = call.attr("value", np.zeros(1, np.float32)).reshape(())
    target = call.ints(extents, "the shape")
    if any(isinstance(e, int) and e < 0 for e in target):
        raise ShapeError(f"ConstantOfShape: shape {list(target)} has a negative extent")
    if all(isinstance(e, int) for e in target):
        count = product(target)
        if isinstance(count, int) and count <= MAX_STATIC:
            return np.full(target, value)
    return lookup("broadcast")(call.importer.graph.constant(value), shape=target)


@onnx_op("Identity")
def identity(_: OnnxCall, x: Operand) -> Any:
    return x


@onnx_op("Range")
def range_(call: OnnxCall, start: Operand, limit: Operand, delta: Operand) -> Any:
    values = [call.static(x, "a limit").reshape(()) for x in (start, limit, delta)]
    if any(v.dtype == object for v in values):
        return _symbolic_range(call, *(v.item() for v in values))
    count = max(0, int(np.ceil((values[1] - values[0]) / values[2])))
    if count > MAX_STATIC:
        raise ShapeError(f"Range: {count} elements")
    if isinstance(start, Value) or isinstance(delta, Value):
        steps = np.arange(count, dtype=values[0].dtype)
        return lookup("add")(reshape(start, ()), lookup("mul")(reshape(delta, ()), steps))
    return (values[0] + np.arange(count, dtype=values[0].dtype) * values[2]).astype(values[0].dtype)


def _symbolic_range(call: OnnxCall, start: IndexLike, limit: IndexLike, delta: IndexLike) -> Any:
    """A range whose length has symbols: counted at run time."""
    if not isinstance(delta, int) or delta == 0:
        raise UnsupportedError(f"Range: a step of {delta}", hint="give the symbols fixed sizes with shapes=")
    span = (limit - start + (delta - 1)) // delta if delta > 0 else (start - limit + (-delta - 1)) // -delta
    graph = call.importer.graph
    (numbers,) = emit(graph, "iota", [], shape=(maximum(span, 0),), axis=0, dtype=dtypes.i64)
    if delta != 1:
        numbers = lookup("mul")(numbers, delta)
    if isinstance(start, int):
        return numbers if start == 0 else lookup("add")(numbers, start)
    return lookup("add")(numbers, size_value(graph, start))
