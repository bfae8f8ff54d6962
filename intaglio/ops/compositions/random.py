"""Random tensors by counter, the same bit for bit in NumPy and in C.

`state` is u64[2]: a seed and a counter. A draw depends on nothing else; `advance` gives the state for the
next one. So that the bits agree, arithmetic is exact: on integers, by powers of two, or in f64 where a
product of two f32 fits, so that contraction to FMA changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np

from intaglio.ops.compositions.basic import constant_like, convert, dtype_of, extent, reshape, shape_of
from intaglio.ops.dispatch import composition
from intaglio.ops.registry import prim
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import ArgumentError
from intaglio.shared.index import IndexLike

Shape = Sequence[IndexLike]
SEGMENTS = 6  # bits: linear pieces per octave of the normal distribution's tail
FRACTION = 24  # bits: places within a piece
SCALE = 28  # bits behind the point of the table of the normal distribution


def state_of(seed: int) -> Any:
    """The state of a new generator, as an array."""
    return np.array([seed % 2**64, 0], np.uint64)


def words(shape: Shape, dtype: DType = dtypes.f32) -> IndexLike:
    """How much a draw of this shape and type moves the counter."""
    return extent(shape) * (2 if dtype == dtypes.f64 else 1)


def advance(state: Any, count: int) -> Any:
    """The state behind `count` words."""
    return prim.add(state, constant_like(state, np.array([0, count], np.uint64)))


def _unit(state: Any, shape: Shape, dtype: DType) -> Any:
    """Multiples of 2^-24 (f64: 2^-53) from 0 up to but without 1, in f32 (f64)."""
    if dtype != dtypes.f64:
        bits = prim.random_bits(state, shape=tuple(shape))
        return convert(prim.shr(bits, 8), dtypes.f32) * 2.0**-24
    pair = convert(prim.random_bits(state, shape=(2, *shape)), dtypes.u64)
    high, low = (
        reshape(
            prim.slice(
                pair, start=(k, *(0 for _ in shape)), stop=(k + 1, *shape), step=(1,) * (len(shape) + 1)
            ),
            tuple(shape),
        )
        for k in range(2)
    )
    whole = prim.or_(prim.shl(prim.shr(high, 5), 26), prim.shr(low, 6))
    return convert(whole, dtypes.f64) * 2.0**-53


def _scaled(x: Any, factor: float, offset: float, dtype: DType) -> Any:
    """`x * factor + offset`, exactly rounded for f32."""
    if dtype == dtypes.f64:
        return x if (factor, offset) == (1, 0) else x * factor + offset
    if (factor, offset) != (1, 0):
        wide = convert(x, dtypes.f64) * float(np.float32(factor)) + float(np.float32(offset))
        x = convert(wide, dtypes.f32)
    return convert(x, dtype)


@composition
def uniform(state: Any, shape: Shape, low: float = 0.0, high: float = 1.0, dtype: DType = dtypes.f32) -> Any:
    """Uniform draws from `low` up to `high`; 24 bits of randomness each, in f64 53."""
    return _scaled(_unit(state, shape, dtype), high - low, low, dtype)


@composition
def normal(state: Any, shape: Shape, mean: float = 0.0, std: float = 1.0, dtype: DType = dtypes.f32) -> Any:
    """Normal draws: the distribution's inverse, linear in pieces of 1/64 octave of the tail's probability.

    The greatest draw is 6.3 standard deviations; the distribution's error is below 2e-5 of one.
    """
    if std < 0:
        raise ArgumentError(f"normal: the standard deviation is {std}")
    bits = prim.random_bits(state, shape=tuple(shape))
    tail = convert(prim.and_(bits, 0x7FFFFFFF), dtypes.f64) + 0.5
    # An octave and a piece of it are the exponent and the first bits of the fraction of a double.
    word = prim.bitcast(tail, dtype=dtypes.i64)
    piece = prim.shr(word, 52 - SEGMENTS) - (1022 << SEGMENTS)
    place = prim.and_(prim.shr(word, 52 - SEGMENTS - FRACTION), (1 << FRACTION) - 1)
    starts, steps = (constant_like(bits, table) for table in _normal_table())
    start = convert(prim.gather(starts, piece, axes=(0,)), dtypes.i64)
    step = convert(prim.gather(steps, piece, axes=(0,)), dtypes.i64)
    value = start + prim.shr(step * place, FRACTION)
    signed = prim.where(prim.lt(bits, 1 << 31), value, -value)
    wide = dtypes.f64 if dtype == dtypes.f64 else dtypes.f32
    return _scaled(convert(signed, wide) * 2.0**-SCALE, std, mean, dtype)


@cache
def _normal_table() -> tuple[Any, Any]:
    """Where the pieces of the inverse normal distribution start, and how far they go, times 2^SCALE."""
    octaves = np.ldexp(1.0, np.arange(-33, -1))[:, None]
    pieces = 1 + np.arange(1 << SEGMENTS) / (1 << SEGMENTS)
    ends = np.append((octaves * pieces).reshape(-1), 0.5)
    inverse = NormalDist().inv_cdf
    knots = np.array([round(-inverse(p) * 2**SCALE) for p in ends], np.int64)
    return knots[:-1].astype(np.int32), np.diff(knots).astype(np.int32)


@composition
def bernoulli(state: Any, shape: Shape, probability: Any) -> Any:
    """True with a probability, a number or a tensor that broadcasts to the shape."""
    return prim.lt(_unit(state, shape, dtypes.f32), probability)


@composition
def randint(state: Any, shape: Shape, low: int, high: int, dtype: DType = dtypes.i64) -> Any:
    """Integers from `low` up to but without `high`, all equally likely to within (high - low) / 2^32."""
    if not 0 < high - low <= 2**32:
        raise ArgumentError(f"randint: the range from {low} to {high} has no or more than 2^32 integers")
    bits = convert(prim.random_bits(state, shape=tuple(shape)), dtypes.u64)
    offset = prim.shr(bits * (high - low), 32)
    return convert(convert(offset, dtypes.i64) + low, dtype)


@composition
def permutation(state: Any, count: int) -> Any:
    """The integers below `count` in random order."""
    return prim.sort(prim.random_bits(state, shape=(count,)), axis=0, descending=False)[1]


@composition
def dropout(x: Any, state: Any, p: float = 0.5) -> Any:
    """x with every element zeroed with probability p and the others divided by 1 - p."""
    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout: the probability is {p}")
    if p == 1:
        return prim.where(prim.lt(x, x), x, 0)
    kept = prim.le(p, _unit(state, shape_of(x), dtypes.f32))
    return prim.where(kept, x * (1 / (1 - p)), 0)


@composition
def categorical(state: Any, logits: Any) -> Any:
    """Indices along the last dimension with probabilities softmax(logits), by the largest of
    `logits - log(-log(uniform))`."""
    draws = _unit(state, shape_of(logits), dtypes.f32) + 2.0**-25
    noise = -prim.log(-prim.log(draws))
    return prim.argmax(logits + convert(noise, dtype_of(logits)), axes=(len(shape_of(logits)) - 1,))
