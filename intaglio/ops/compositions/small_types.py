"""Numbers of 8 bits and less: tensors of their codes, converted to and from the types of the compiler.

Floats are held as bytes (u8) with the code in the low bits, integers as i8 or u8 numbers of their range.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from intaglio.ops.compositions.basic import constant_like, convert, dtype_of
from intaglio.ops.dispatch import composition
from intaglio.ops.registry import prim
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError

Rounding = Literal["up", "down", "nearest"]
_WIDE = {"f32": (dtypes.i32, 23, 127), "f64": (dtypes.i64, 52, 1023)}


@dataclass(frozen=True)
class FloatFormat:
    """A small float: `bits` in all, `mantissa` of them behind the point, and its special codes.

    `overflow` is the code of what is too large when it does not saturate (infinity or NaN; None when the
    format has neither); without a negative zero the code of the sign alone is NaN.
    """

    name: str
    bits: int
    mantissa: int
    bias: int
    largest: int
    nan: int
    overflow: int | None
    negative_zero: bool = True

    @property
    def sign(self) -> int:
        return 1 << (self.bits - 1)

    @property
    def least_exponent(self) -> int:
        """The exponent of the smallest normal numbers, and of what lies below them."""
        return 1 - self.bias

    @cached_property
    def magnitudes(self) -> tuple[float, ...]:
        """The numbers of the codes from 0 up to the largest."""
        unit, found = 1 << self.mantissa, []
        for code in range(self.largest + 1):
            exponent, fraction = divmod(code, unit)
            whole = fraction + (unit if exponent else 0)
            found.append(whole * 2.0 ** (max(exponent, 1) - self.bias - self.mantissa))
        return tuple(found)

    @cached_property
    def numbers(self) -> Any:
        """The number of every code, in f32."""
        half = np.full(self.sign, np.nan, np.float32)
        half[: self.largest + 1] = self.magnitudes
        if self.overflow is not None and self.overflow == self.largest + 1 and self.overflow != self.nan:
            half[self.overflow] = np.inf
        whole = np.concatenate([half, -half])
        if not self.negative_zero:
            whole[self.sign] = np.nan
        return whole


FORMATS = {
    f.name: f
    for f in (
        FloatFormat("float8_e4m3fn", 8, 3, 7, 0x7E, 0x7F, 0x7F),
        FloatFormat("float8_e4m3fnuz", 8, 3, 8, 0x7F, 0x80, 0x80, negative_zero=False),
        FloatFormat("float8_e5m2", 8, 2, 15, 0x7B, 0x7E, 0x7C),
        FloatFormat("float8_e5m2fnuz", 8, 2, 16, 0x7F, 0x80, 0x80, negative_zero=False),
        FloatFormat("float6_e2m3fn", 6, 3, 1, 0x1F, 0x20, None),
        FloatFormat("float6_e3m2fn", 6, 2, 3, 0x1F, 0x20, None),
        FloatFormat("float4_e2m1fn", 4, 1, 1, 0x7, 0x8, None),
    )
}


@composition
def decode_float(codes: Any, format: FloatFormat) -> Any:
    """The numbers of codes, in f32, which holds them all."""
    return prim.gather(constant_like(codes, format.numbers), codes, axes=(0,))


@composition
def encode_float(x: Any, format: FloatFormat, saturate: bool = True) -> Any:
    """The codes nearest to numbers, the even one of two.

    What is too large becomes the largest number, or without `saturate` what the format has for it.
    Arithmetic is exact: numbers are multiplied by a power of two, so that one code is one apart.
    """
    wide = dtypes.f32 if dtype_of(x).is_float and dtype_of(x) != dtypes.f64 else dtypes.f64
    x = convert(x, wide)
    integer, places, bias = _WIDE[wide.name]
    missing = prim.ne(x, x)
    beyond = 2.0 ** (int(np.log2(format.magnitudes[-1])) + 1)
    size = prim.min(prim.where(missing, 0, prim.abs(x)), beyond)
    exponent = prim.shr(prim.bitcast(size, dtype=integer), places) - bias
    exponent = prim.max(exponent, format.least_exponent)
    scale = prim.bitcast(prim.shl((bias + format.mantissa) - exponent, places), dtype=wide)
    steps = convert(prim.round(size * scale), integer)
    code = prim.shl(exponent - format.least_exponent, format.mantissa) + steps
    limit = format.largest if saturate or format.overflow is None else format.overflow
    code = prim.where(prim.lt(format.largest, code), limit, code)
    negative = prim.lt(prim.bitcast(x, dtype=integer), 0)
    if format.negative_zero:
        code = prim.where(missing, format.nan & (format.sign - 1), code)
        signed = prim.xor(negative, missing) if format.nan == format.sign else negative
    else:
        code = prim.where(missing, format.nan, code)
        signed = prim.and_(negative, prim.and_(prim.lt(0, code), prim.lt(code, format.sign)))
    return convert(prim.where(signed, prim.or_(code, format.sign), code), dtypes.u8)


@composition
def decode_power(codes: Any) -> Any:
    """Powers of two, `2^(code - 127)`, in f32; the last code is NaN (`float8_e8m0fnu`)."""
    with np.errstate(over="ignore"):
        table = np.ldexp(np.float32(1), np.arange(256) - 127).astype(np.float32)
    table[255] = np.nan
    return prim.gather(constant_like(codes, table), codes, axes=(0,))


@composition
def encode_power(x: Any, rounding: Rounding = "up", saturate: bool = True) -> Any:
    """The exponents of numbers as codes of `float8_e8m0fnu`; signs are lost, infinity and NaN are NaN."""
    bits = prim.bitcast(convert(x, dtypes.f32), dtype=dtypes.i32)
    exponent, fraction = prim.and_(prim.shr(bits, 23), 0xFF), prim.and_(bits, 0x7FFFFF)
    if rounding == "up":
        raised = prim.lt(0, fraction)
    elif rounding == "nearest":
        half = 1 << 22
        raised = prim.or_(prim.lt(half, fraction), prim.and_(prim.eq(fraction, half), prim.lt(0, exponent)))
    elif rounding == "down":
        raised = prim.lt(fraction, 0)
    else:
        raise ArgumentError(f"rounding {rounding!r} is not up, down or nearest")
    last = 254 if saturate else 255
    code = prim.where(prim.and_(raised, prim.lt(exponent, last)), exponent + 1, exponent)
    return convert(code, dtypes.u8)


@composition
def wrap_integer(x: Any, bits: int, signed: bool) -> Any:
    """The low bits of numbers, as i8 or u8; floats lose their fraction first."""
    if dtype_of(x).kind in ("float", "bool"):
        x = convert(x, dtypes.i32)
    low = prim.and_(x, (1 << bits) - 1)
    if not signed:
        return convert(low, dtypes.u8)
    half = 1 << (bits - 1)
    return convert(prim.xor(convert(low, dtypes.i8), half), dtypes.i8) - half
