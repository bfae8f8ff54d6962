"""Scan: a loop over the rows of tensors. Versions differ in whether there is a batch around it."""

from __future__ import annotations

from typing import Any

import onnx

from intaglio.graph.ir import Value
from intaglio.ops.registry import lookup
from intaglio.readers.onnx.bodies import check_carried, emit, moved, tensors_only, zeros
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import FileFormatError, ShapeError, UnsupportedError
from intaglio.shared.types import TensorType


@onnx_op("Scan", 8)
def scan_8(call: OnnxCall, lengths: Operand | None, *inputs: Operand) -> tuple[Any, ...]:
    """With a batch axis in front of everything: a loop over the batch around the loop over time."""
    body: onnx.GraphProto = call.required("body")
    importer, streams = call.importer, _scanned(call, len(inputs))
    operands = [importer.as_value(x) for x in inputs]
    reverse = _flags(call, "directions", streams)
    if lengths is not None and any(reverse):
        raise UnsupportedError("Scan: sequence_lens together with a reverse direction is not supported")
    batch = operands[0].shape[0]
    if lengths is not None:
        operands.append(importer.as_value(lengths))
    with importer.frames.inner("one") as frame:
        rows = [frame.graph.input(TensorType(v.dtype, v.shape[1:]), v.name) for v in operands]
        length = None if lengths is None else rows.pop()
        states, xs = rows[: len(rows) - streams], rows[len(rows) - streams :]
        xs = [_flipped(x) if flag else x for x, flag in zip(xs, reverse, strict=True)]
        frame.graph.set_outputs(_scan(call, body, states, xs, length))
    frame.graph.inputs += [value for value in frame.captured.values() if value not in frame.graph.inputs]
    return tuple(
        emit(importer.graph, "scan", [*operands, *frame.captured], body=frame.graph, n_carry=0,
             n_xs=len(operands), reverse=False, length=batch)
    )  # fmt: skip


@onnx_op("Scan", 9)
def scan_9(call: OnnxCall, *inputs: Operand) -> tuple[Any, ...]:
    body: onnx.GraphProto = call.required("body")
    streams = _scanned(call, len(inputs))
    carries = len(inputs) - streams
    operands = [call.importer.as_value(x) for x in inputs]
    xs = []
    for x, axis, flag in zip(
        operands[carries:], _numbers(call, "scan_input_axes", streams),
        _flags(call, "scan_input_directions", streams), strict=True,
    ):  # fmt: skip
        front = moved(x, _axis(axis, x.type.rank), 0)
        xs.append(_flipped(front) if flag else front)
    finals = _scan(call, body, operands[:carries], xs)
    ys = finals[carries:]
    axes = _numbers(call, "scan_output_axes", len(ys))
    flags = _flags(call, "scan_output_directions", len(ys))
    ys = [_flipped(y) if flag else y for y, flag in zip(ys, flags, strict=True)]
    ys = [moved(y, 0, _axis(axis, y.type.rank)) for y, axis in zip(ys, axes, strict=True)]
    return *finals[:carries], *ys


def _scan(
    call: OnnxCall,
    body: onnx.GraphProto,
    states: list[Value],
    xs: list[Value],
    valid: Value | None = None,
) -> list[Value]:
    """One scan over the first axis; behind `valid` steps, states stay and results are zero."""
    importer, length = call.importer, xs[0].shape[0]
    if len(body.input) != len(states) + len(xs) or len(body.output) < len(states):
        raise FileFormatError(f"Scan: the body does not take {len(states)} states and {len(xs)} inputs")
    if valid is not None:
        xs = [*xs, *emit(importer.graph, "iota", [], shape=(length,), axis=0, dtype=dtypes.i64)]
    with importer.frames.inner("body") as frame:
        inside = [frame.graph.input(v.type, info.name) for v, info in zip(states, body.input, strict=False)]
        rows = [frame.graph.input(TensorType(x.dtype, x.shape[1:]), x.name) for x in xs]
        results = importer.subgraph(body, [*inside, *rows[: len(body.input) - len(states)]])
        tensors_only("Scan", results)
        values = [importer.as_value(result) for result in results]
        if valid is not None:
            runs = emit(frame.graph, "lt", [rows[-1], frame.capture(valid)])[0]
            kept = [*inside, *(zeros(frame.graph, v.type) for v in values[len(states) :])]
            values = [lookup("where")(runs, v, k) for v, k in zip(values, kept, strict=True)]
        check_carried("Scan", states, values[: len(states)])
        frame.graph.set_outputs(values)
    return emit(
        importer.graph, "scan", [*states, *xs, *frame.captured],
        body=frame.graph, n_carry=len(states), n_xs=len(xs), reverse=False, length=length,
    )  # fmt: skip


def _scanned(call: OnnxCall, inputs: int) -> int:
    """How many of the inputs, the last ones, are walked along."""
    streams: int = call.required("num_scan_inputs")
    if not 1 <= streams <= inputs:
        raise FileFormatError(f"Scan: {streams} of {inputs} inputs are scanned")
    return streams


def _numbers(call: OnnxCall, name: str, count: int) -> list[int]:
    given = call.attr(name) or [0] * count
    if len(given) != count:
        raise FileFormatError(f"Scan: {name} has {len(given)} numbers for {count} tensors")
    return list(given)


def _flags(call: OnnxCall, name: str, count: int) -> list[bool]:
    return [bool(number) for number in _numbers(call, name, count)]


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ShapeError(f"Scan: axis {axis} of a tensor of rank {rank}")
    return axis % rank


def _flipped(x: Value) -> Value:
    """The tensor from its last row to its first."""
    start = (x.shape[0] - 1, *(0 for _ in x.shape[1:]))
    stop = (-1, *x.shape[1:])
    step = (-1, *(1 for _ in x.shape[1:]))
    return emit(x.graph, "slice", [x], start=start, stop=stop, step=step)[0]
