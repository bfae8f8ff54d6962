"""Quantised arithmetic: numbers as `(code - zero point) * scale`, as the operators of ONNX have it.

Sums of products are exact in i32; what a scale touches is f32, is rounded to the nearest, the even one of
two, and then shifted and saturated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from intaglio.ops.compositions.basic import axis_of, convert, dtype_of, rank_of, reshape, shape_of
from intaglio.ops.compositions.indexing import repeat_interleave, slice_axis
from intaglio.ops.dispatch import composition
from intaglio.ops.registry import prim
from intaglio.readers.onnx.elements import ELEMENTS, Coded, Element, plain_type
from intaglio.readers.onnx.registry import Operand
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import DTypeError, ShapeError


@dataclass(frozen=True)
class Target:
    """An integer type to quantise to: its numbers, and the type that holds them."""

    low: int
    high: int
    dtype: DType
    element: Element | None = None

    def wrap(self, codes: Any) -> Any:
        """Codes with their element type."""
        return codes if self.element is None else Coded(codes, self.element)


def target_of(x: Operand | None, element: Element | None, code: int = TensorProto.UINT8) -> Target:
    """The type of an operand, or of a code of ONNX where there is none."""
    if x is None:
        element = ELEMENTS.get(code)
    if element is not None:
        return Target(*element.limits, element.held, element)
    dtype = plain_type(code) if x is None else dtype_of(x)
    if not dtype.is_integer or dtype.size > 2:
        raise DTypeError(f"{dtype} is no type to quantise to", hint="integers of at most 16 bits are")
    return Target(dtype.least, dtype.least + 2 ** (8 * dtype.size) - 1, dtype)


def scalar_or(parameter: Operand, shape: tuple[int, ...]) -> Any:
    """A scale or zero point of one element without axes; of several, under a shape."""
    return reshape(parameter, () if is_single(parameter) else shape)


def is_single(parameter: Operand) -> bool:
    return all(isinstance(e, int) and e == 1 for e in shape_of(parameter))


def spread(parameter: Operand, x: Operand, axis: int, block: int = 0) -> Any:
    """A scale or zero point so that it broadcasts to x: one number, one for each place of an axis, or one for
    each block of places."""
    if not shape_of(parameter) or (not block and is_single(parameter)):
        return reshape(parameter, ())
    rank = rank_of(x)
    axis = axis_of(axis, rank, "axis")
    if not block:
        if rank_of(parameter) != 1 or shape_of(parameter)[0] != shape_of(x)[axis]:
            raise ShapeError(f"scales {list(shape_of(parameter))} for axis {axis} of {list(shape_of(x))}")
        return reshape(parameter, tuple(-1 if k == axis else 1 for k in range(rank)))
    wide = slice_axis(repeat_interleave(parameter, block, axis), axis, 0, shape_of(x)[axis])
    if shape_of(wide) != shape_of(x):
        shown = f"{list(shape_of(parameter))} in blocks of {block} along axis {axis}"
        raise ShapeError(f"scales {shown} do not fit {list(shape_of(x))}")
    return wide


def centred(x: Operand, zero: Operand | None) -> Any:
    """Codes less their zero point, in i32."""
    x = convert(x, dtypes.i32)
    if zero is None or (isinstance(zero, np.ndarray) and not zero.any()):
        return x
    return x - convert(zero, dtypes.i32)


def ratio(a: Operand, b: Operand, dtype: DType) -> Any:
    """A quotient rounded to a type, in the type it is computed in."""
    wide = prim.div(convert(a, dtype.arithmetic), convert(b, dtype.arithmetic))
    return convert(convert(wide, dtype), dtype.arithmetic)


@composition
def saturated(x: Any, zero: Operand | None, target: Target) -> Any:
    """Numbers in units of the scale as codes: rounded, shifted by the zero point, saturated."""
    codes = prim.round(x)
    if zero is not None:
        codes = codes + convert(zero, dtype_of(codes))
    return convert(prim.min(prim.max(codes, target.low), target.high), target.dtype)


@composition
def requantized(total: Any, scale: Operand, zero: Operand | None, target: Target) -> Any:
    """Sums in i32 as codes, after a scale."""
    return saturated(convert(total, dtypes.f32) * convert(scale, dtypes.f32), zero, target)


@composition
def dequantized(x: Operand, scale: Operand, zero: Operand | None) -> Any:
    """The numbers of integer codes, in f32."""
    return convert(centred(x, zero), dtypes.f32) * convert(scale, dtypes.f32)


@composition
def quantized(x: Operand, scale: Operand, zero: Operand | None, target: Target) -> Any:
    """Numbers as integer codes."""
    return saturated(ratio(x, scale, dtypes.f32), zero, target)


@composition
def dynamically_quantized(x: Operand, target: Target) -> tuple[Any, Any, Any]:
    """Codes that span the range of x and 0, their scale, and their zero point."""
    axes = tuple(range(rank_of(x)))
    high = prim.max(prim.reduce_max(x, axes=axes) if axes else x, 0)
    low = prim.min(prim.reduce_min(x, axes=axes) if axes else x, 0)
    extent = high - low
    scale = prim.where(prim.eq(extent, 0), 1, extent / float(target.high - target.low))
    zero = saturated(target.low - low / scale, None, target)
    return saturated(x / scale, zero, target), scale, zero


def rows(parameter: Operand | None) -> Operand | None:
    """A parameter of a left operand: one number, or one for each row."""
    if parameter is None or rank_of(parameter) > 1:
        return parameter
    column: Operand = scalar_or(parameter, (-1, 1))
    return column


def columns(parameter: Operand | None) -> Operand | None:
    """A parameter of a right operand: one number, or one for each column."""
    if parameter is None or rank_of(parameter) > 1:
        return parameter
    row: Operand = scalar_or(parameter, (-1,))
    return row


def channels(parameter: Operand | None, rank: int, front: bool = False) -> Operand | None:
    """A parameter of a convolution: one number, or one for each channel of the result (of the weight)."""
    if parameter is None:
        return None
    ones = (1,) * (rank - 1 if front else rank - 2)
    made: Operand = scalar_or(parameter, (-1, *ones))
    return made
