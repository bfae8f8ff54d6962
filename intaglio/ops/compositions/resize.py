"""Padding, resizing and rearranging the spatial axes, with PyTorch's arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from intaglio.ops.compositions.basic import dtype_of, movedim, rank_of, reshape, shape_of, static, transpose
from intaglio.ops.compositions.convolution import Size, per_axis
from intaglio.ops.dispatch import composition
from intaglio.ops.like import constant_like
from intaglio.ops.registry import prim
from intaglio.shared.errors import ArgumentError, ShapeError, UnsupportedError

PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
MANY_TAPS = 4
CUBIC = -0.75
INTERPOLATIONS = {"linear": 1, "bilinear": 2, "trilinear": 3, "bicubic": 2}
Array = np.ndarray[Any, Any]
Taps = list[tuple[Array, Array | None]]


@composition
def pad(x: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    """Grow axes, or crop them by negative amounts; `pad` is low, high of the last axis, then the one before.

    Modes: `constant`, `reflect` (without the edge), `replicate` and `circular`.
    """
    rank = rank_of(x)
    if mode not in PAD_MODES:
        raise ArgumentError(f"pad: mode {mode!r} is unknown", hint=f"use one of {', '.join(PAD_MODES)}")
    if len(pad) % 2 or len(pad) > 2 * rank:
        raise ShapeError(f"pad: {len(pad)} amounts do not make a pair for each of at most {rank} axes")
    pairs = [(pad[k], pad[k + 1]) for k in range(0, len(pad), 2)]
    padding = ((0, 0),) * (rank - len(pairs)) + tuple(reversed(pairs))
    if not any(any(pair) for pair in padding):
        return x
    return prim.pad(x, padding=padding, mode=PAD_MODES[mode], value=0.0 if value is None else value)


@composition
def interpolate(
    x: Any,
    size: Size | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Any:
    """Resize the axes behind the first two to `size`, or by `scale_factor`.

    Modes: `nearest`, `nearest-exact`, `linear`, `bilinear`, `trilinear`, `bicubic`. With `align_corners`
    the centres of the corner elements stay where they are.
    """
    rank = rank_of(x) - 2
    if mode not in ("nearest", "nearest-exact") and INTERPOLATIONS.get(mode) != rank:
        raise UnsupportedError(
            f"interpolate: mode {mode!r} for {rank} spatial axes",
            hint=f"use nearest, nearest-exact or {', '.join(INTERPOLATIONS)}",
        )
    extents = [e if isinstance(e, int) else None for e in shape_of(x)[2:]]
    factors: list[float | None]
    if (size is None) == (scale_factor is None):
        raise ArgumentError("interpolate: give either size or scale_factor")
    if size is not None:
        sizes, factors = list(per_axis(size, rank, "size")), [None] * rank
    else:
        given = [scale_factor] * rank if isinstance(scale_factor, (int, float)) else list(scale_factor or ())
        sizes = [math.floor((e or 0) * f) for e, f in zip(extents, given, strict=True)]
        factors = list(given)
    for k, (extent, wanted, factor) in enumerate(zip(extents, sizes, factors, strict=True)):
        if extent is None:
            raise UnsupportedError(f"interpolate: axis {k + 2} of {list(shape_of(x))} has a symbolic extent")
        if extent != wanted:
            x = _resized(x, k + 2, extent, wanted, factor, mode, bool(align_corners))
    return x


def _resized(
    x: Any, axis: int, extent: int, wanted: int, factor: float | None, mode: str, corners: bool
) -> Any:
    if mode == "nearest" and wanted % extent == 0 and factor in (None, wanted // extent):
        return repeated(x, axis, wanted // extent)
    if corners:
        scale = np.float32((extent - 1) / (wanted - 1) if wanted > 1 else 0)
    else:
        scale = np.float32(extent / wanted if factor is None else 1 / factor)
    places = np.arange(wanted, dtype=np.float32)
    return resample(x, axis, _TAPS[mode](places, scale, extent, corners))


def resample(x: Any, axis: int, taps: Taps) -> Any:
    """Weighted sums of elements along an axis: each tap says which element every place of the result reads
    and with which weight, None for 1."""
    if len(taps) > MANY_TAPS:
        return _gathered(x, axis, taps)
    total = None
    for index, weight in taps:
        rows = prim.gather(x, constant_like(x, index.astype(np.int64)), axes=(axis,))
        rows = movedim(rows, 0, axis)
        if weight is not None:
            ones = (1,) * (rank_of(x) - axis - 1)
            rows = rows * constant_like(x, weight.astype(dtype_of(x).numpy).reshape(-1, *ones))
        total = rows if total is None else total + rows
    return total


def _gathered(x: Any, axis: int, taps: Taps) -> Any:
    """Many taps as a reduction over an axis of their own."""
    index = np.stack([index for index, _ in taps], axis=1).astype(np.int64)
    weight = np.stack([np.ones(len(i)) if w is None else w for i, w in taps], axis=1)
    rows = prim.gather(x, constant_like(x, index), axes=(axis,))
    factors = weight.astype(dtype_of(x).numpy).reshape(*weight.shape, *(1,) * (rank_of(x) - 1))
    return movedim(prim.sum(rows * constant_like(x, factors), axes=(1,)), 0, axis)


def repeated(x: Any, axis: int, times: int) -> Any:
    """Every element `times` times along an axis."""
    shape = shape_of(x)
    apart = prim.reshape(x, shape=(*shape[: axis + 1], 1, *shape[axis + 1 :]))
    wide = prim.broadcast(apart, shape=(*shape[: axis + 1], times, *shape[axis + 1 :]))
    return prim.reshape(wide, shape=(*shape[:axis], shape[axis] * times, *shape[axis + 1 :]))


@composition
def antialiased(
    x: Any, size: Sequence[int], scales: Sequence[float | None], mode: str, align_corners: bool
) -> Any:
    """Resize the last axes, `bilinear` or `bicubic`, with a kernel that widens where the axis shrinks, so
    that every element counts; as PyTorch's `interpolate(antialias=True)`."""
    lead = rank_of(x) - len(size)
    for k, (wanted, factor) in enumerate(zip(size, scales, strict=True)):
        extent = static(shape_of(x)[lead + k], "interpolate")
        if align_corners:
            scale = (extent - 1) / (wanted - 1) if wanted > 1 else 0.0
        else:
            scale = 1 / factor if factor else extent / wanted
        x = resample(x, lead + k, _wide_taps(extent, wanted, scale, mode))
    return x


def _wide_taps(extent: int, wanted: int, scale: float, mode: str) -> Taps:
    """The elements under a kernel as wide as `scale` places, with weights that add up to 1."""
    reach, widened = (1.0 if mode == "bilinear" else 2.0), max(scale, 1.0)
    centre = scale * (np.arange(wanted) + 0.5)
    low = np.maximum(np.floor(centre - reach * widened + 0.5), 0)
    high = np.minimum(np.floor(centre + reach * widened + 0.5), extent)
    index = low[:, None] + np.arange(int((high - low).max()))
    distance = np.abs(index - centre[:, None] + 0.5) / widened
    weight = np.maximum(1 - distance, 0) if mode == "bilinear" else keys_kernel(distance, -0.5)
    weight = np.where(index < high[:, None], weight, 0)
    weight = weight / weight.sum(1, keepdims=True)
    index = np.minimum(index, extent - 1)
    return [(index[:, k], weight[:, k]) for k in range(index.shape[1])]


def _nearest(places: Array, scale: Any, extent: int, corners: bool) -> Taps:
    return [(np.minimum(np.floor(places * scale), extent - 1), None)]


def _nearest_exact(places: Array, scale: Any, extent: int, corners: bool) -> Taps:
    return [(np.minimum(np.floor((places + np.float32(0.5)) * scale), extent - 1), None)]


def _source(places: Array, scale: Any, corners: bool) -> Array:
    half = np.float32(0.5)
    found: Array = places * scale if corners else (places + half) * scale - half
    return found


def _linear(places: Array, scale: Any, extent: int, corners: bool) -> Taps:
    at = np.maximum(_source(places, scale, corners), 0)
    low = np.minimum(np.floor(at), extent - 1)
    part = np.minimum(at - low, 1)
    return [(low, 1 - part), (np.minimum(low + 1, extent - 1), part)]


def keys_kernel(distance: Any, a: float = CUBIC) -> Any:
    """Keys' kernel of cubic interpolation: the weight of an element at a distance from 0 to 2, else 0."""
    t = distance
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((t - 5) * t + 8) * (t * a) - 4 * a
    return prim.where(prim.le(t, 1), near, prim.where(prim.lt(t, 2), far, 0))


def _cubic(places: Array, scale: Any, extent: int, corners: bool) -> Taps:
    at = _source(places, scale, corners)
    low = np.floor(at)
    part = at - low
    return [
        (np.clip(low + k, 0, extent - 1), keys_kernel(distance))
        for k, distance in zip(range(-1, 3), (part + 1, part, 1 - part, 2 - part), strict=True)
    ]


_TAPS: dict[str, Callable[[Array, Any, int, bool], Taps]] = {
    "nearest": _nearest, "nearest-exact": _nearest_exact, "linear": _linear, "bilinear": _linear,
    "trilinear": _linear, "bicubic": _cubic,
}  # fmt: skip


@composition
def pixel_shuffle(x: Any, upscale_factor: int) -> Any:
    """`[*, c r r, h, w]` as `[*, c, h r, w r]`."""
    *outer, channels, height, width = shape_of(x)
    r, k = upscale_factor, len(outer)
    if isinstance(channels, int) and channels % (r * r):
        raise ShapeError(f"pixel_shuffle: {channels} channels are no multiple of {r} x {r}")
    apart = reshape(x, (*outer, channels // (r * r), r, r, height, width))
    turned = transpose(apart, (*range(k), k, k + 3, k + 1, k + 4, k + 2))
    return reshape(turned, (*outer, channels // (r * r), height * r, width * r))


@composition
def pixel_unshuffle(x: Any, downscale_factor: int) -> Any:
    """`[*, c, h r, w r]` as `[*, c r r, h, w]`."""
    *outer, channels, height, width = shape_of(x)
    r, k = downscale_factor, len(outer)
    if any(isinstance(e, int) and e % r for e in (height, width)):
        raise ShapeError(f"pixel_unshuffle: {height} x {width} is no multiple of {r}")
    apart = reshape(x, (*outer, channels, height // r, r, width // r, r))
    turned = transpose(apart, (*range(k), k, k + 2, k + 4, k + 1, k + 3))
    return reshape(turned, (*outer, channels * r * r, height // r, width // r))


@composition
def unfold(x: Any, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1) -> Any:
    """Windows of `[n, c, h, w]` as columns: `[n, c kh kw, places]`."""
    kernel, dilations, pads, strides = (
        per_axis(v, 2, "unfold") for v in (kernel_size, dilation, padding, stride)
    )
    windows = prim.unfold(
        x, kernel=kernel, strides=strides, dilations=dilations, padding=tuple((p, p) for p in pads), value=0.0
    )
    n, c, *places = shape_of(windows)[:4]
    return reshape(
        prim.transpose(windows, perm=(0, 1, 4, 5, 2, 3)),
        (n, c * kernel[0] * kernel[1], places[0] * places[1]),
    )


@composition
def fold(
    x: Any, output_size: Size, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
) -> Any:
    """The adjoint of `unfold`: columns `[n, c kh kw, places]` added up to `[n, c, h, w]`."""
    size, kernel, dilations, pads, strides = (
        per_axis(v, 2, "fold") for v in (output_size, kernel_size, dilation, padding, stride)
    )
    places = [
        (e + 2 * p - d * (k - 1) - 1) // s + 1
        for e, p, d, k, s in zip(size, pads, dilations, kernel, strides, strict=True)
    ]
    n, rows, columns = shape_of(x)
    if columns != places[0] * places[1]:
        raise ShapeError(
            f"fold: {list(shape_of(x))} has {columns} columns, but {list(size)} has "
            f"{places[0] * places[1]} places"
        )
    windows = reshape(x, (n, rows // (kernel[0] * kernel[1]), *kernel, *places))
    return prim.fold(
        prim.transpose(windows, perm=(0, 1, 4, 5, 2, 3)),
        strides=strides,
        dilations=dilations,
        padding=tuple((p, p) for p in pads),
        size=size,
    )
