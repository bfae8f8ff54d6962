"""Shifts of bits, and tests of floats for values that are no numbers."""

from __future__ import annotations

import math
from typing import Any

from intaglio.ops.compositions.functions import isinf, isnan
from intaglio.ops.registry import prim
from intaglio.readers.onnx.elements import numbers
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared.errors import ArgumentError


@onnx_op("BitShift")
def bit_shift(call: OnnxCall, x: Operand, places: Operand) -> Any:
    direction = call.required("direction")
    if direction not in ("LEFT", "RIGHT"):
        raise ArgumentError(f"BitShift: direction {direction!r} is not LEFT or RIGHT")
    return (prim.shl if direction == "LEFT" else prim.shr)(x, places)


@onnx_op("IsNaN")
def is_nan(call: OnnxCall, x: Operand) -> Any:
    return isnan(numbers(x, call.element(0)))


@onnx_op("IsInf")
def is_inf(call: OnnxCall, x: Operand) -> Any:
    x = numbers(x, call.element(0))
    negative, positive = call.attr("detect_negative", 1), call.attr("detect_positive", 1)
    if negative and positive:
        return isinf(x)
    if negative or positive:
        return prim.eq(x, math.inf if positive else -math.inf)
    return prim.lt(x, x)
