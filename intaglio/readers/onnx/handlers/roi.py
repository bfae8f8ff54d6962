"""Pooling of regions of interest, whose corners are data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from intaglio.ops.compositions import sampling
from intaglio.ops.compositions.basic import (
    constant_like,
    convert,
    dtype_of,
    expand,
    iota_like,
    reshape,
    shape_of,
    static,
)
from intaglio.ops.compositions.functions import clamp
from intaglio.ops.compositions.indexing import select
from intaglio.ops.registry import prim
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, ShapeError, UnsupportedError

MODES = ("avg", "max")


@onnx_op("RoiAlign")
def roi_align(call: OnnxCall, x: Operand, rois: Operand, batch: Operand) -> Any:
    """The mean of samples in every bin of every region, or the largest weighted element they read."""
    mode = call.attr("mode", "avg")
    if mode not in MODES:
        raise ArgumentError(f"RoiAlign: mode {mode!r} is not one of {', '.join(MODES)}")
    bins = (call.attr("output_height", 1), call.attr("output_width", 1))
    along_y, along_x = (_samples(call, x, rois, k, bins[k]) for k in range(2))
    (y, in_y, count_y), (at, in_x, count_x) = along_y, along_x
    regions, most = rois.shape[0], (shape_of(y)[2], shape_of(at)[2])
    whole = (regions, *bins, *most)
    places = [
        expand(reshape(y, (regions, bins[0], 1, most[0], 1)), whole),
        expand(reshape(at, (regions, 1, bins[1], 1, most[1])), whole),
    ]
    inside = prim.and_(
        reshape(in_y, (regions, bins[0], 1, most[0], 1)), reshape(in_x, (regions, 1, bins[1], 1, most[1]))
    )
    values = sampling.taps(x, places, "linear", "border", batch=convert(batch, dtypes.i64))
    kept = prim.where(reshape(inside, (*whole, 1, 1, 1)), values, 0)
    axes = (3, 4, 5, 6)
    if mode == "avg":
        pooled = prim.sum(kept, axes=axes) / reshape(prim.mul(count_y, count_x), (-1, 1, 1, 1))
    else:
        pooled = prim.reduce_max(kept, axes=axes)
    return convert(prim.transpose(pooled, perm=(0, 3, 1, 2)), dtype_of(x))


def _samples(call: OnnxCall, x: Operand, rois: Operand, k: int, wanted: int) -> tuple[Any, Any, Any]:
    """Coordinates along spatial axis k as `[regions, bins, samples]`, whether each is a sample inside of x,
    and how many a bin has.

    From operand set 16 on coordinates count from the edge of the first element instead of its centre."""
    default = "half_pixel" if call.version >= 16 else "output_half_pixel"
    half = call.attr("coordinate_transformation_mode", default) == "half_pixel"
    extent = static(x.shape[2 + k], "RoiAlign")
    scale, offset = call.attr("spatial_scale", 1.0), 0.5 if half else 0.0
    first, last = (prim.mul(select(rois, 1, j), scale) - offset for j in (1 - k, 3 - k))
    length = last - first if half else prim.max(last - first, 1)
    most, count = _sample_count(call, length, wanted)
    index = iota_like(first, (1, 1, most), 2, dtype_of(first))
    bin_ = iota_like(first, (1, wanted, 1), 1, dtype_of(first))
    size = reshape(prim.div(length, wanted), (-1, 1, 1))
    at = reshape(first, (-1, 1, 1)) + bin_ * size + (index + 0.5) * (size / count)
    inside = prim.and_(prim.and_(prim.le(-1, at), prim.le(at, extent)), prim.lt(index, count))
    return clamp(at, 0, extent - 1), inside, count


def _sample_count(call: OnnxCall, length: Any, wanted: int) -> tuple[int, Any]:
    """The most samples that a bin has along an axis, and how many those of each region have."""
    ratio = call.attr("sampling_ratio", 0)
    if ratio > 0:
        return ratio, constant_like(length, np.full((1, 1, 1), ratio, dtype_of(length).numpy))
    if not isinstance(length, np.ndarray):
        raise UnsupportedError(
            "RoiAlign: with sampling_ratio 0 the number of samples depends on regions known only at run time",
            hint="export with a positive sampling_ratio",
        )
    counts = np.maximum(np.ceil(length / wanted), 1)
    return int(counts.max(initial=1)), counts.reshape(-1, 1, 1)


@onnx_op("MaxRoiPool")
def max_roi_pool(call: OnnxCall, x: Operand, rois: Operand) -> Any:
    """The largest element of every bin of every region; 0 for a bin without elements."""
    bins = [int(e) for e in call.required("pooled_shape")]
    if len(bins) != 2 or len(x.shape) != 4:
        raise ShapeError(f"MaxRoiPool: pooled_shape {bins} of {list(x.shape)}")
    scale = call.attr("spatial_scale", 1.0)
    n, (channels, height, width) = rois.shape[0], x.shape[1:]
    (top, bottom), (left, right) = (_edges(rois, k, bins[k], x.shape[2 + k], scale) for k in range(2))
    held = prim.gather(x, convert(select(rois, 1, 0), dtypes.i64), axes=(0,))
    rows = reshape(held, (n, channels, height, 1, width))
    y = _largest(rows, 4, reshape(left, (n, 1, 1, bins[1], 1)), reshape(right, (n, 1, 1, bins[1], 1)))
    columns = reshape(y, (n, channels, 1, height, bins[1]))
    y = _largest(columns, 3, reshape(top, (n, 1, bins[0], 1, 1)), reshape(bottom, (n, 1, bins[0], 1, 1)))
    empty = prim.or_(
        reshape(prim.le(bottom, top), (n, 1, bins[0], 1)), reshape(prim.le(right, left), (n, 1, 1, bins[1]))
    )
    return prim.where(empty, 0, y)


def _edges(rois: Operand, k: int, wanted: int, extent: Any, scale: float) -> tuple[Any, Any]:
    """The first element of every bin of spatial axis k and the one behind its last: `[regions, bins]`."""
    low, high = (_rounded(prim.mul(select(rois, 1, j), scale)) for j in (2 - k, 4 - k))
    size = reshape(prim.max(high - low + 1, 1) / wanted, (-1, 1))
    index = iota_like(low, (1, wanted), 1, dtype_of(low))
    start = prim.floor(index * size) + reshape(low, (-1, 1))
    end = prim.ceil((index + 1) * size) + reshape(low, (-1, 1))
    return clamp(start, 0, static(extent, "MaxRoiPool")), clamp(end, 0, static(extent, "MaxRoiPool"))


def _rounded(x: Any) -> Any:
    """The nearest whole number, away from 0 at a tie."""
    return prim.where(prim.lt(x, 0), prim.ceil(x - 0.5), prim.floor(x + 0.5))


def _largest(x: Any, axis: int, start: Any, end: Any) -> Any:
    """The largest element along an axis among those from start up to end."""
    ones = [e if k == axis else 1 for k, e in enumerate(shape_of(x))]
    at = iota_like(x, ones, axis, dtype_of(start))
    inside = prim.and_(prim.le(start, at), prim.lt(at, end))
    return prim.reduce_max(prim.where(inside, x, -math.inf), axes=(axis,))
