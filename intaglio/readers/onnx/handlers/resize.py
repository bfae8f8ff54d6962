"""Resize and Upsample: where the elements of the result lie in the input is computed at import."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.ops.compositions.basic import axis_of, constant_like, convert, dtype_of
from intaglio.ops.compositions.resize import CUBIC, Taps, keys_kernel, repeated, resample
from intaglio.ops.registry import prim
from intaglio.readers.onnx.registry import Array, OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, ShapeError, UnsupportedError
from intaglio.shared.index import IndexLike

MAX_EXTENT = 1 << 24


@dataclass(frozen=True)
class Settings:
    """The attributes of a resize."""

    mode: str = "nearest"
    coordinates: str = "asymmetric"
    nearest: str = "floor"
    cubic: float = CUBIC
    antialias: bool = False
    exclude_outside: bool = False
    extrapolation: float = 0.0


@dataclass(frozen=True)
class Axis:
    """The resizing of one axis: its extent before and after, and the factor between; `target` is the extent
    after without rounding. `start` and `end` are the region of interest."""

    axis: int
    extent: IndexLike
    wanted: IndexLike
    scale: float
    target: float
    start: float = 0.0
    end: float = 1.0


def source_places(one: Axis, extent: int, wanted: int, kind: str) -> Array:
    """Where in the input, in elements, every element of the result lies."""
    y = np.arange(wanted, dtype=np.float64)
    if kind == "asymmetric":
        return y / one.scale
    if kind == "align_corners":
        return y * (extent - 1) / (one.target - 1) if one.target != 1 else y * 0
    if kind == "tf_half_pixel_for_nn":
        return (y + 0.5) / one.scale
    if kind == "tf_crop_and_resize":
        span = (one.end - one.start) * (extent - 1)
        first = one.start * (extent - 1)
        return y * span / (one.target - 1) + first if one.target != 1 else y * 0 + span / 2 + first
    if kind == "pytorch_half_pixel" and one.target == 1:
        return y * 0 - 0.5
    offset = extent / 2 * (1 - wanted / one.target) if kind == "half_pixel_symmetric" else 0.0
    if kind in ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel"):
        return offset + (y + 0.5) / one.scale - 0.5
    raise ArgumentError(f"Resize: coordinate_transformation_mode {kind!r} is unknown")


def nearest_places(at: Array, kind: str, scale: float) -> Array:
    """The elements nearest to places; `simple` is what operator set 10 had."""
    if kind == "simple":
        kind = "ceil" if scale < 1 else "floor"
    if kind == "round_prefer_floor":
        return np.ceil(at - 0.5)
    if kind == "round_prefer_ceil":
        return np.floor(at + 0.5)
    if kind not in ("floor", "ceil"):
        raise ArgumentError(f"Resize: nearest_mode {kind!r} is unknown")
    return np.floor(at) if kind == "floor" else np.ceil(at)


def weighted_taps(at: Array, extent: int, scale: float, settings: Settings) -> Taps:
    """The elements around places, each with its weight; with antialiasing a smaller result widens the
    kernel."""
    shrink = min(scale, 1.0) if settings.antialias else 1.0
    linear = settings.mode == "linear"
    reach = (1 if linear else 2) / shrink
    if len(at) * 2 * reach > MAX_EXTENT:
        raise ShapeError(f"Resize: {len(at)} sums of {2 * reach:.3g} elements each are too many")
    first = np.floor(at - reach) + 1
    index = first[:, None] + np.arange(math.ceil(2 * reach) + 1)
    distance = np.abs(index - at[:, None]) * shrink
    weight = np.maximum(1 - distance, 0) if linear else keys_kernel(distance, settings.cubic)
    weight /= weight.sum(axis=1, keepdims=True)
    if settings.exclude_outside:
        weight = np.where((index < 0) | (index >= extent), 0.0, weight)
        total = weight.sum(axis=1, keepdims=True)
        weight /= np.where(total == 0, 1.0, total)
    kept = [k for k in range(index.shape[1]) if np.any(weight[:, k])]
    return [(np.clip(index[:, k], 0, extent - 1), weight[:, k]) for k in kept]


def resized(x: Operand, axes: list[Axis], settings: Settings) -> Any:
    """x resized along one axis after the other; weighted sums are made in f32 (f64)."""
    if settings.mode not in ("nearest", "linear", "cubic"):
        raise ArgumentError(f"Resize: mode {settings.mode!r} is not nearest, linear or cubic")
    dtype = dtype_of(x)
    wide = x if settings.mode == "nearest" else convert(x, dtypes.promote(dtype, dtypes.f32))
    for one in axes:
        wide = _along(wide, one, settings)
    return convert(prim.round(wide) if dtype.is_integer and wide is not x else wide, dtype)


def _along(x: Any, one: Axis, settings: Settings) -> Any:
    whole = one.start == 0 and one.end == 1
    if one.extent == one.wanted and math.isclose(one.scale, 1.0) and whole:
        return x
    if settings.mode == "nearest" and _only_repeats(one, settings):
        return repeated(x, one.axis, int(one.scale))
    if not isinstance(one.extent, int) or not isinstance(one.wanted, int):
        raise UnsupportedError(
            f"Resize: axis {one.axis} goes from {one.extent} to {one.wanted} elements",
            hint="give the symbols fixed sizes with shapes=",
        )
    if not 0 <= one.wanted <= MAX_EXTENT:
        raise ShapeError(f"Resize: axis {one.axis} would have {one.wanted} elements, at most {MAX_EXTENT}")
    at = source_places(one, one.extent, one.wanted, settings.coordinates)
    if not np.isfinite(at).all():
        raise ShapeError(f"Resize: axis {one.axis} is read at places that are no numbers")
    if settings.mode == "nearest":
        index = np.clip(nearest_places(at, settings.nearest, one.scale), 0, one.extent - 1)
        y = resample(x, one.axis, [(index, None)])
    else:
        y = resample(x, one.axis, weighted_taps(at, one.extent, one.scale, settings))
    if settings.coordinates != "tf_crop_and_resize":
        return y
    outside = (at < 0) | (at > one.extent - 1)
    ones = (1,) * (len(x.shape) - one.axis - 1)
    return prim.where(constant_like(x, outside.reshape(-1, *ones)), settings.extrapolation, y)


def _only_repeats(one: Axis, settings: Settings) -> bool:
    """Whether every element is just repeated a whole number of times."""
    kind = (settings.coordinates, settings.nearest)
    rounding = ("round_prefer_floor", "round_prefer_ceil")
    fits = kind[0] == "asymmetric" and kind[1] in ("floor", "simple")
    fits |= kind[0] in ("half_pixel", "half_pixel_symmetric") and kind[1] in rounding
    return fits and one.scale >= 1 and one.scale.is_integer() and one.extent * int(one.scale) == one.wanted


def axes_by_scales(x: Operand, scales: Array, axes: list[int], regions: Array | None) -> list[Axis]:
    """The axes to resize by factors; results have the whole elements of extent times factor."""
    made = []
    for k, (axis, factor) in enumerate(zip(axes, scales.astype(np.float32), strict=True)):
        start, end = (0.0, 1.0) if regions is None else (float(v) for v in regions[:, k])
        extent, scale = x.shape[axis], float(factor)
        if not scale > 0:
            raise ShapeError(f"Resize: scale {scale} of axis {axis} is not positive")
        if isinstance(extent, int):
            wanted: IndexLike = int(np.float32(extent) * factor * np.float32(end - start))
            made.append(Axis(axis, extent, wanted, scale, scale * extent, start, end))
        elif scale.is_integer() and regions is None:
            made.append(Axis(axis, extent, extent * int(scale), scale, math.nan))
        else:
            raise UnsupportedError(
                f"Resize: axis {axis} of {extent} elements by {scale}",
                hint="give the symbols fixed sizes with shapes=",
            )
    return made


def axes_by_sizes(
    x: Operand, sizes: tuple[Any, ...], axes: list[int], regions: Array | None, policy: str
) -> list[Axis]:
    """The axes to resize to given extents, or to extents of the same proportions."""
    extents = [x.shape[axis] for axis in axes]
    if policy != "stretch":
        return _in_proportion(extents, sizes, axes, policy)
    made = []
    for k, (axis, extent, wanted) in enumerate(zip(axes, extents, sizes, strict=True)):
        start, end = (0.0, 1.0) if regions is None else (float(v) for v in regions[:, k])
        if isinstance(extent, int) and isinstance(wanted, int):
            made.append(Axis(axis, extent, wanted, wanted / extent, float(wanted), start, end))
        else:
            made.append(Axis(axis, extent, wanted, _whole_factor(extent, wanted), math.nan, start, end))
    return made


def _whole_factor(extent: IndexLike, wanted: IndexLike) -> float:
    """How many times larger an extent becomes. Raises UnsupportedError unless it is a small whole number."""
    for factor in range(1, 9):
        if extent * factor == wanted:
            return float(factor)
    raise UnsupportedError(
        f"Resize: from {extent} to {wanted} elements", hint="give the symbols fixed sizes with shapes="
    )


def _in_proportion(
    extents: list[IndexLike], sizes: tuple[Any, ...], axes: list[int], policy: str
) -> list[Axis]:
    if policy not in ("not_larger", "not_smaller"):
        raise ArgumentError(f"Resize: keep_aspect_ratio_policy {policy!r} is unknown")
    if not all(isinstance(e, int) for e in (*extents, *sizes)):
        raise UnsupportedError(f"Resize: sizes {list(sizes)} of {extents} with {policy} are not fixed")
    factors = [size / extent for size, extent in zip(sizes, extents, strict=True)]
    scale = min(factors) if policy == "not_larger" else max(factors)
    return [
        Axis(axis, extent, int(scale * extent + 0.5), scale, scale * extent)
        for axis, extent in zip(axes, extents, strict=True)
    ]


@onnx_op("Upsample", 7)
def upsample_7(call: OnnxCall, x: Operand) -> Any:
    return _upsampled(call, x, np.asarray(call.required("scales")))


@onnx_op("Upsample", 9)
@onnx_op("Resize", 10)
def upsample_9(call: OnnxCall, x: Operand, scales: Operand) -> Any:
    return _upsampled(call, x, call.static(scales, "the scales"))


def _upsampled(call: OnnxCall, x: Operand, scales: Array) -> Any:
    mode = call.attr("mode", "nearest")
    settings = Settings("linear" if mode in ("linear", "bilinear") else mode, nearest="simple")
    return resized(x, axes_by_scales(x, scales, list(range(len(x.shape))), None), settings)


def _filled(call: OnnxCall, operand: Operand | None, what: str) -> Array | None:
    """A static operand; None when it is absent or has no elements."""
    if operand is None or 0 in operand.shape:
        return None
    return call.static(operand, what)


@onnx_op("Resize", 11)
def resize(
    call: OnnxCall,
    x: Operand,
    roi: Operand | None = None,
    scales: Operand | None = None,
    sizes: Operand | None = None,
) -> Any:
    rank = len(x.shape)
    axes = [axis_of(a, rank, "axis") for a in call.attr("axes") or range(rank)]
    settings = Settings(
        call.attr("mode", "nearest"),
        call.attr("coordinate_transformation_mode", "half_pixel"),
        call.attr("nearest_mode", "round_prefer_floor"),
        call.attr("cubic_coeff_a", CUBIC),
        bool(call.attr("antialias", 0)),
        bool(call.attr("exclude_outside", 0)),
        call.attr("extrapolation_value", 0.0),
    )
    regions = _filled(call, roi, "the region") if settings.coordinates == "tf_crop_and_resize" else None
    regions = None if regions is None else regions.reshape(2, -1)
    factors = _filled(call, scales, "the scales")
    if (factors is None) == (sizes is None or 0 in sizes.shape):
        raise ArgumentError("Resize: either scales or sizes must be given")
    if factors is not None:
        return resized(x, axes_by_scales(x, factors, axes, regions), settings)
    wanted = call.ints(sizes, "the sizes")
    policy = call.attr("keep_aspect_ratio_policy", "stretch")
    return resized(x, axes_by_sizes(x, wanted, axes, regions, policy), settings)
