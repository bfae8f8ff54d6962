"""Discrete Fourier transforms as products with constant matrices; long ones in stages.

Complex numbers are pairs on the last axis: the real part and the imaginary one.
"""

from __future__ import annotations

import math
import string
from typing import Any

import numpy as np

from intaglio.ops.compositions.basic import (
    constant_like,
    dtype_of,
    movedim,
    rank_of,
    reshape,
    shape_of,
    static,
)
from intaglio.ops.compositions.indexing import narrow
from intaglio.ops.dispatch import composition
from intaglio.ops.registry import prim
from intaglio.shared.errors import ShapeError, UnsupportedError

DIRECT, STAGE, LARGEST = 512, 64, 1 << 22
Array = np.ndarray[Any, Any]


@composition
def dft(x: Any, axis: int, length: int | None = None, inverse: bool = False, onesided: bool = False) -> Any:
    """The discrete Fourier transform along an axis.

    Args:
        x: real, with a last axis of extent 1, or complex, with one of extent 2.
        axis: any but the last, counted from 0.
        length: of the transform; x is cut, or continued with zeros.
        inverse: the inverse transform, divided by the length.
        onesided: of a real signal only the first `length // 2 + 1` places of the symmetric result; the
            inverse of that gives a real signal.
    """
    parts = static(shape_of(x)[-1], "dft")
    if parts not in (1, 2):
        raise ShapeError(f"dft: the last axis of {list(shape_of(x))} holds neither numbers nor pairs")
    x = movedim(x, axis, -2)
    extent = static(shape_of(x)[-2], "dft")
    symmetric = inverse and onesided
    if length is None:
        length = 2 * (extent - 1) if symmetric else extent
    if length < 1:
        raise ShapeError(f"dft: the length is {length}")
    x = _of_extent(x, length // 2 + 1 if symmetric else length)
    if symmetric:
        x = _mirrored(x, length)
    kept = length // 2 + 1 if onesided and not inverse else length
    y = _transformed(x, length, kept, 1.0 if inverse else -1.0)
    y = y * (1 / length) if inverse else y
    return movedim(narrow(y, -1, 0, 1) if symmetric else y, -2, axis)


def _of_extent(x: Any, wanted: int) -> Any:
    """The second last axis cut, or continued with zeros."""
    extent, rank = static(shape_of(x)[-2], "dft"), rank_of(x)
    if extent == wanted:
        return x
    grow = tuple((0, wanted - extent if k == rank - 2 else 0) for k in range(rank))
    return prim.pad(x, padding=grow, mode="constant", value=0.0)


def _mirrored(x: Any, length: int) -> Any:
    """The whole spectrum of a real signal from its first half: the rest is conjugate."""
    place = np.arange(length)
    second = place > length // 2
    index = np.where(second, length - place, place)
    whole = movedim(prim.gather(x, constant_like(x, index), axes=(rank_of(x) - 2,)), 0, -2)
    sign = np.stack([np.ones(length), np.where(second, -1.0, 1.0)], axis=-1)
    return whole * constant_like(x, sign.astype(dtype_of(x).numpy))


def _transformed(x: Any, length: int, kept: int, sign: float) -> Any:
    """The first `kept` places of the transform along the second last axis."""
    first = _divisor(length)
    direct = length <= DIRECT or first == 1
    if length * (kept if direct else first) > LARGEST:
        raise UnsupportedError(
            f"dft: a length of {length}", hint="pad the signal to a length that has many divisors, or cut it"
        )
    if direct:
        angles = np.outer(np.arange(length), np.arange(kept)) % length * (2 * math.pi / length)
        return _product(x, _rotations(angles, sign), "n", "k")
    second = length // first
    shape = shape_of(x)
    # n = second * a + b and m = c + first * d: a sum over a with the rotation by b * c, then one over b.
    split = reshape(x, (*shape[:-2], first, second, shape[-1]))
    a, b, c = np.ogrid[:first, :second, :first]
    angles = (a * second + b) * c % length * (2 * math.pi / length)
    rows = _product(split, _rotations(angles, sign), "ab", "bc", moved="cb")
    columns = _transformed(rows, second, second, sign)
    turned = movedim(columns, -3, -2)
    return narrow(reshape(turned, (*shape[:-2], length, 2)), -2, 0, kept)


def _divisor(n: int) -> int:
    """The greatest divisor of n up to its root, and up to what a stage may have."""
    return next(k for k in range(min(math.isqrt(n), STAGE), 0, -1) if n % k == 0)


def _rotations(angles: Array, sign: float) -> Array:
    """The matrices that turn a pair by angles, `[parts, *angles, parts]`."""
    cos, sin = np.cos(angles), sign * np.sin(angles)
    return np.stack([np.stack([cos, sin], axis=-1), np.stack([-sin, cos], axis=-1)])


def _product(x: Any, matrix: Array, inner: str, outer: str, moved: str | None = None) -> Any:
    """x contracted with rotations over its axes `inner` and its parts; `outer` are those of the matrix that
    stay, `moved` how they lie in the result."""
    parts = static(shape_of(x)[-1], "dft")
    held = constant_like(x, np.ascontiguousarray(matrix[:parts]).astype(dtype_of(x).numpy))
    names = string.ascii_uppercase[: rank_of(x) - len(inner) - 1]
    axes = inner + "".join(n for n in outer if n not in inner)
    return prim.dot(x, held, spec=f"{names}{inner}r,r{axes}s->{names}{moved or outer}s")
