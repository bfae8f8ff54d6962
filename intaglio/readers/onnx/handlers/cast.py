"""Conversions between element types, those that are held as codes among them."""

from __future__ import annotations

from typing import Any

from onnx import TensorProto

from intaglio.ops.compositions import small_types
from intaglio.ops.compositions.basic import dtype_of
from intaglio.ops.registry import prim
from intaglio.readers.onnx.elements import ELEMENTS, Coded, Element, numbers, plain_type, to_type
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.readers.onnx.symbolic import is_symbolic
from intaglio.shared import dtypes
from intaglio.shared.errors import DTypeError, UnsupportedError


def _converted(call: OnnxCall, x: Operand, code: int) -> Any:
    if code == TensorProto.STRING:
        raise UnsupportedError("numbers as text are not supported", hint="do this outside of the model")
    own = call.element(0)
    if own is not None and own.code == code:
        return Coded(x, own)
    saturate, rounding = bool(call.attr("saturate", 1)), call.attr("round_mode", "up")
    return to_type(numbers(x, own), code, saturate, rounding)


@onnx_op("Cast")
def cast(call: OnnxCall, x: Operand) -> Any:
    code = call.required("to")
    if is_symbolic(x):
        if code in (TensorProto.INT64, TensorProto.INT32):
            return x
        x = call.importer.as_value(x)
    return _converted(call, x, code)


@onnx_op("CastLike")
def cast_like(call: OnnxCall, x: Operand, like: Operand) -> Any:
    element = call.element(1)
    if element is not None:
        return _converted(call, x, element.code)
    return prim.cast(numbers(x, call.element(0)), dtype=dtype_of(like))


@onnx_op("BitCast")
def bit_cast(call: OnnxCall, x: Operand) -> Any:
    """The same bits as another type of as many bits."""
    code, own = call.required("to"), call.element(0)
    element = ELEMENTS.get(code)
    source = dtype_of(x).size * 8 if own is None else own.bits
    target = plain_type(code).size * 8 if element is None else element.bits
    if source != target:
        shown = own or dtype_of(x)
        raise DTypeError(f"BitCast: {shown} has {source} bits, but what it is to become has {target}")
    if element is None and own is None and dtypes.bool_ not in (dtype_of(x), plain_type(code)):
        return prim.bitcast(x, dtype=plain_type(code))
    bits = _bits(x, own)
    if element is None:
        dtype = plain_type(code)
        return prim.ne(bits, 0) if dtype == dtypes.bool_ else prim.bitcast(bits, dtype=dtype)
    if element.held == dtypes.i8:
        bits = small_types.wrap_integer(bits, element.bits, signed=True)
    return Coded(bits, element)


def _bits(x: Operand, element: Element | None) -> Any:
    """The bits of elements of at most 8, as u8."""
    if dtype_of(x) == dtypes.bool_:
        return prim.cast(x, dtype=dtypes.u8)
    raw = prim.bitcast(x, dtype=dtypes.u8)
    return raw if element is None else prim.and_(raw, (1 << element.bits) - 1)
