"""Quantised operators of ONNX itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from intaglio.ops.compositions.basic import convert, dtype_of, rank_of
from intaglio.ops.compositions.linear import matmul
from intaglio.readers.onnx import quantized as q
from intaglio.readers.onnx.elements import ELEMENTS, Coded, numbers, plain_type
from intaglio.readers.onnx.handlers.convolution import conv
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import DTypeError

MICROSOFT = "com.microsoft"


@onnx_op("QuantizeLinear")
@onnx_op("QuantizeLinear", domain=MICROSOFT)
def quantize_linear(call: OnnxCall, x: Operand, scale: Operand, zero: Operand | None = None) -> Any:
    scale = numbers(scale, call.element(1))
    axis, block = call.attr("axis", 1), call.attr("block_size", 0)
    wide = q.spread(scale, x, axis, block)
    precision = call.attr("precision", 0)
    if precision:
        dtype = plain_type(precision)
    elif dtype_of(x).is_integer:
        dtype = dtypes.f64
    else:
        dtype = dtypes.promote(dtype_of(x), dtype_of(scale))
    ratio = q.ratio(x, wide, dtype)
    element = call.element(2)
    code = call.attr("output_dtype", 0) or TensorProto.UINT8
    if zero is None:
        element = ELEMENTS.get(code)
    shift = None if zero is None else q.spread(zero, x, axis, block)
    if element is not None and element.is_float:
        if shift is not None and not _is_zero(shift):
            ratio = ratio + numbers(shift, element)
        return Coded(element.encode(ratio, bool(call.attr("saturate", 1))), element)
    target = q.target_of(zero, element, code)
    return target.wrap(q.saturated(ratio, shift, target))


def _is_zero(x: Operand) -> bool:
    return hasattr(x, "any") and not x.any()


@onnx_op("DequantizeLinear")
@onnx_op("DequantizeLinear", domain=MICROSOFT)
def dequantize_linear(call: OnnxCall, x: Operand, scale: Operand, zero: Operand | None = None) -> Any:
    element = call.element(0)
    if isinstance(x, np.ndarray) and x.ndim > 1 and element is None and x.dtype.itemsize == 1:
        x = call.importer.graph.constant(x)  # codes stay codes, for products of them
    scale = numbers(scale, call.element(1))
    axis, block = call.attr("axis", 1), call.attr("block_size", 0)
    wide = q.spread(scale, x, axis, block)
    shift = None if zero is None else q.spread(zero, x, axis, block)
    code = call.attr("output_dtype", 0)
    dtype = plain_type(code) if code else dtype_of(scale)
    if element is None or not element.is_float:
        return convert(q.dequantized(x, wide, shift), dtype)
    value = numbers(x, element)
    if shift is not None and not _is_zero(shift):
        value = value - numbers(shift, call.element(2))
    return convert(value * convert(wide, dtypes.f32), dtype)


@onnx_op("DynamicQuantizeLinear")
def dynamic_quantize_linear(_: OnnxCall, x: Operand) -> Any:
    return q.dynamically_quantized(x, q.target_of(None, None))


@onnx_op("MatMulInteger")
def matmul_integer(
    _: OnnxCall, a: Operand, b: Operand, a_zero: Operand | None = None, b_zero: Operand | None = None
) -> Any:
    return matmul(q.centred(a, q.rows(a_zero)), q.centred(b, q.columns(b_zero)))


@onnx_op("QLinearMatMul")
def qlinear_matmul(
    call: OnnxCall,
    a: Operand,
    a_scale: Operand,
    a_zero: Operand,
    b: Operand,
    b_scale: Operand,
    b_zero: Operand,
    y_scale: Operand,
    y_zero: Operand,
) -> Any:
    scales = [convert(s, dtypes.f32) for s in (q.rows(a_scale), q.columns(b_scale), q.rows(y_scale))]
    scale = scales[0] * scales[1] / scales[2]
    element = call.element(7)
    if element is not None and element.is_float:
        left, right = numbers(a, call.element(0)), numbers(b, call.element(3))
        for zero in (a_zero, b_zero, y_zero):
            if not _is_zero(zero):
                raise DTypeError("QLinearMatMul: a zero point of a float type is not 0")
        return Coded(element.encode(matmul(left, right) * scale), element)
    total = matmul(q.centred(a, q.rows(a_zero)), q.centred(b, q.columns(b_zero)))
    return q.requantized(total, scale, q.rows(y_zero), q.target_of(y_zero, None))


@onnx_op("ConvInteger")
def conv_integer(
    call: OnnxCall, x: Operand, w: Operand, x_zero: Operand | None = None, w_zero: Operand | None = None
) -> Any:
    own = q.channels(w_zero, rank_of(w), front=True)
    shift = None if x_zero is None else q.scalar_or(x_zero, ())
    return conv(call, q.centred(x, shift), q.centred(w, own), None)


@onnx_op("QLinearConv")
def qlinear_conv(
    call: OnnxCall,
    x: Operand,
    x_scale: Operand,
    x_zero: Operand,
    w: Operand,
    w_scale: Operand,
    w_zero: Operand,
    y_scale: Operand,
    y_zero: Operand,
    bias: Operand | None = None,
) -> Any:
    """The bias is in units of the product of the scales of x and w."""
    rank = rank_of(x)
    own = q.channels(w_zero, rank, front=True)
    total = conv(call, q.centred(x, q.scalar_or(x_zero, ())), q.centred(w, own), bias)
    scale = q.scalar_or(x_scale, ()) * q.channels(w_scale, rank) / q.scalar_or(y_scale, ())
    return q.requantized(total, scale, q.scalar_or(y_zero, ()), q.target_of(y_zero, None))
