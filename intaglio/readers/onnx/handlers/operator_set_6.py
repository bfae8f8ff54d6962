"""Operator set 6, where it differs from the later ones: broadcasting is asked for and placed by an axis,
slopes belong to channels, and dropout trains unless it is told not to."""

from __future__ import annotations

from functools import partial
from typing import Any

from intaglio.ops.compositions.basic import axis_of, reshape
from intaglio.readers.onnx.handlers import activation, dropout, elementwise
from intaglio.readers.onnx.registry import Handler, OnnxCall, Operand, find_handler, onnx_op
from intaglio.shared.errors import UnsupportedError

LATER = 7
MODULES = (activation, dropout, elementwise)  # they have filled the table before this module adds to it
BROADCASTING = ("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor")


def _broadcast_at(later: Handler, call: OnnxCall, a: Operand, b: Operand) -> Any:
    """`b` starts at an axis of `a`, by default so that it ends where `a` ends."""
    axis = call.attr("axis")
    if call.attr("broadcast", 0) and axis is not None:
        behind = len(a.shape) - axis_of(axis, len(a.shape), "axis") - len(b.shape)
        b = reshape(b, (*b.shape, *(1,) * max(behind, 0)))
    return later(call, a, b)


def _slope_of_channels(later: Handler, call: OnnxCall, x: Operand, slope: Operand) -> Any:
    if len(slope.shape) == 1 and slope.shape[0] != 1:
        slope = reshape(slope, (-1, *(1,) * (len(x.shape) - 2)))
    return later(call, x, slope)


def _dropout(later: Handler, call: OnnxCall, x: Operand) -> Any:
    if not call.attr("is_test", 0):
        raise UnsupportedError(
            "Dropout: without is_test it is random in operator set 6",
            hint="set is_test, or convert the model with onnx.version_converter",
        )
    return later(call, x)


def _differs(name: str, handler: Any) -> None:
    later = find_handler("", name, LATER)
    onnx_op(name, LATER)(later)
    onnx_op(name)(partial(handler, later))


for _name in BROADCASTING:
    _differs(_name, _broadcast_at)
_differs("PRelu", _slope_of_channels)
_differs("Dropout", _dropout)
