"""Pooling over windows that start at drawn places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from intaglio.ops.compositions.basic import (
    convert,
    dtype_of,
    expand,
    reshape,
    shape_of,
    static,
    unsqueeze,
)
from intaglio.ops.compositions.indexing import select
from intaglio.ops.dispatch import composition
from intaglio.ops.like import constant_like, iota_like
from intaglio.ops.registry import prim
from intaglio.shared import dtypes


@composition
def fractional_max_pool(x: Any, kernel: Sequence[int], size: Sequence[int], samples: Any) -> tuple[Any, Any]:
    """The largest elements of `size` windows along each spatial axis, and their row-major positions.

    Args:
        x: [n, channels, *spatial].
        samples: [n, channels, spatial axes], numbers from 0 up to but without 1. They move the windows, which
            lie as evenly as whole steps allow, as PyTorch's `fractional_max_pool2d` has it.
    """
    rank = len(kernel)
    lead = shape_of(x)[:2]
    extents = [static(e, "fractional_max_pool") for e in shape_of(x)[2:]]
    shape = (*lead, *size, *kernel)
    places = [iota_like(x, shape, 0), iota_like(x, shape, 1)]
    position: Any = 0
    for k, (extent, window, wanted) in enumerate(zip(extents, kernel, size, strict=True)):
        drawn = select(samples, 2, k if rank == 3 else rank - 1 - k)
        starts = _starts(drawn, extent, window, wanted)
        starts = reshape(starts, (*lead, *(wanted if j == k else 1 for j in range(rank)), *(1,) * rank))
        inside = iota_like(x, shape, 2 + rank + k)
        places.append(expand(starts, shape) + inside)
        position = position * extent + places[-1]
    windows = prim.gather(x, *places, axes=tuple(range(2 + rank)))
    flat = (*lead, *size, math.prod(kernel))
    windows, position = reshape(windows, flat), reshape(position, flat)
    axes = (2 + rank,)
    found = prim.argmax(windows, axes=axes)
    chosen = prim.eq(unsqueeze(found, -1), iota_like(found, flat, 2 + rank))
    where = prim.sum(prim.where(chosen, position, 0), axes=axes)
    return prim.reduce_max(windows, axes=axes, ties="first"), where


def _starts(drawn: Any, extent: int, window: int, wanted: int) -> Any:
    """Where the windows of one axis start; the last ends where the axis ends."""
    steps = np.arange(wanted, dtype=dtype_of(drawn).numpy)
    alpha = (extent - window) / (wanted - 1) if wanted > 1 else 0.0
    sample = unsqueeze(drawn, -1)
    moved = prim.trunc((sample + constant_like(drawn, steps)) * alpha) - prim.trunc(sample * alpha)
    last = constant_like(drawn, np.arange(wanted) == wanted - 1)
    return convert(prim.where(last, float(extent - window), moved), dtypes.i64)
