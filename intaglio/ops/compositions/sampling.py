"""Reading tensors between their elements, at coordinates that are data.

A coordinate is in units of elements: 0 is the centre of the first one. Around each, `taps` reads the
elements that its interpolation needs, along new axes behind those of the coordinates; a sum over these
axes is the interpolated value. Nothing but the result is laid out in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from intaglio.ops.compositions.basic import (
    constant_like,
    convert,
    dtype_of,
    expand,
    iota_like,
    movedim,
    rank_of,
    reshape,
    shape_of,
    static,
)
from intaglio.ops.compositions.functions import clamp
from intaglio.ops.compositions.resize import keys_kernel
from intaglio.ops.dispatch import composition
from intaglio.ops.registry import prim
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, ShapeError

OFFSETS = {"nearest": (0,), "linear": (0, 1), "cubic": (-1, 0, 1, 2)}
PADDINGS = ("zeros", "border", "reflection")


def reflect(x: Any, low: float, high: float) -> Any:
    """x reflected at two borders until it lies between them."""
    span = high - low
    if span <= 0:
        return prim.where(prim.eq(x, x), low, low)
    away = prim.abs(x - low)
    times = prim.floor(away / span)
    rest = away - times * span
    even = prim.eq(times, prim.floor(times * 0.5) * 2)
    return prim.where(even, rest + low, high - rest)


def taps(
    x: Any,
    coordinates: Sequence[Any],
    mode: str,
    padding: str = "zeros",
    align_corners: bool = False,
    batch: Any = None,
) -> Any:
    """Weighted elements of x around coordinates: `[*places, *taps, channels]`, one axis of taps for each
    spatial one.

    Args:
        x: `[n, channels, *size]`.
        coordinates: one tensor for each spatial axis, all of the shape `places`.
        mode: `nearest`, `linear` or `cubic`.
        padding: what lies outside of x: `zeros`, its `border` or its `reflection`.
        align_corners: reflect at the centres of the border elements instead of at their edges.
        batch: the sample each place reads, by default the index on the first axis.
    """
    if mode not in OFFSETS or padding not in PADDINGS:
        raise ArgumentError(f"sampling: mode {mode!r} with padding {padding!r} is unknown")
    places, rank = shape_of(coordinates[0]), len(coordinates)
    offsets = np.array(OFFSETS[mode], dtype_of(coordinates[0]).numpy)
    whole = (*places, *(len(offsets),) * rank)
    indices, weight, inside = [], None, None
    for k, (at, extent) in enumerate(zip(coordinates, shape_of(x)[2:], strict=True)):
        at = reshape(at, (*places, *(1,) * rank))
        low = prim.round(at) if mode == "nearest" else prim.floor(at)
        along = [1] * (len(places) + rank)
        along[len(places) + k] = len(offsets)
        near = low + constant_like(at, offsets.reshape(along))
        if mode != "nearest":
            distance = prim.abs(at - near)
            own = 1 - distance if mode == "linear" else keys_kernel(distance)
            weight = own if weight is None else weight * own
        size = static(extent, "sampling")
        if padding == "reflection":
            near = reflect(near, *_edges(size, align_corners))
        elif padding == "zeros":
            own = prim.and_(prim.le(0, near), prim.le(near, size - 1))
            inside = own if inside is None else prim.and_(inside, own)
        indices.append(expand(convert(clamp(near, 0, size - 1), dtypes.i64), whole))
    if batch is None:
        batch = iota_like(x, whole, 0)
    else:
        batch = expand(reshape(batch, (*shape_of(batch), *(1,) * (len(whole) - rank_of(batch)))), whole)
    values = prim.gather(x, batch, *indices, axes=(0, *range(2, 2 + rank)))
    if inside is not None:
        values = prim.where(reshape(inside, (*shape_of(inside), 1)), values, 0)
    return values if weight is None else values * reshape(weight, (*shape_of(weight), 1))


def _edges(size: int, align_corners: bool) -> tuple[float, float]:
    return (0.0, size - 1.0) if align_corners else (-0.5, size - 0.5)


def sample(
    x: Any,
    coordinates: Sequence[Any],
    mode: str,
    padding: str = "zeros",
    align_corners: bool = False,
    batch: Any = None,
) -> Any:
    """x interpolated at coordinates: `[places[0], channels, *places[1:]]`; arguments as of `taps`."""
    values = taps(x, coordinates, mode, padding, align_corners, batch)
    first = rank_of(coordinates[0])
    total = prim.sum(values, axes=tuple(range(first, first + len(coordinates))))
    return movedim(total, -1, 1)


@composition
def grid_sample(
    x: Any,
    grid: Any,
    mode: str = "linear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
) -> Any:
    """x `[n, c, *size]` at the places of a grid `[n, *places, axes]`, whose last axis holds coordinates
    from -1 to 1 across x, those of the last axis of x first."""
    rank = rank_of(x) - 2
    if rank_of(grid) != rank + 2 or shape_of(grid)[-1] != rank or shape_of(grid)[0] != shape_of(x)[0]:
        raise ShapeError(f"grid_sample: x is {list(shape_of(x))} but the grid {list(shape_of(grid))}")
    places = shape_of(grid)[:-1]
    coordinates = []
    for k, extent in enumerate(shape_of(x)[2:]):
        size, axis = static(extent, "grid_sample"), rank - 1 - k
        own = prim.slice(
            grid,
            start=(*(0 for _ in places), axis),
            stop=(*places, axis + 1),
            step=(1,) * (len(places) + 1),
        )
        at = reshape(own, places)
        coordinates.append((at + 1) * ((size - 1) / 2) if align_corners else ((at + 1) * size - 1) * 0.5)
    return sample(x, coordinates, mode, padding_mode, align_corners)


@composition
def affine_grid(theta: Any, size: Sequence[int], align_corners: bool = False) -> Any:
    """The grid `[n, *size, axes]` of an affine map `[n, axes, axes + 1]` of coordinates from -1 to 1."""
    rank = len(size)
    if shape_of(theta)[1:] != (rank, rank + 1):
        raise ShapeError(f"affine_grid: theta is {list(shape_of(theta))} for {rank} spatial axes")
    axes = []
    for extent in size:
        steps = np.arange(extent) * 2.0
        axes.append(steps / max(extent - 1, 1) - 1 if align_corners else (steps + 1) / extent - 1)
    grid = np.stack([*reversed(np.meshgrid(*axes, indexing="ij")), np.ones(size)], axis=-1)
    points = constant_like(theta, grid.reshape(-1, rank + 1).astype(dtype_of(theta).numpy))
    made = prim.dot(theta, points, spec="nax,px->npa")
    return reshape(made, (shape_of(theta)[0], *size, rank))


@composition
def deform_conv(
    x: Any,
    weight: Any,
    offset: Any,
    mask: Any,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilations: Sequence[int],
    groups: int,
    offset_groups: int,
) -> Any:
    """Convolution that reads every element of its window displaced by an offset, linearly interpolated.

    Args:
        x: `[n, c, *size]`, weight `[out, c / groups, *kernel]`.
        offset: `[n, offset_groups * taps * axes, *places]`; mask, or None: `[n, offset_groups * taps,
            *places]`, factors of the elements read.
    """
    rank = rank_of(x) - 2
    n, channels = shape_of(x)[:2]
    kernel = [static(e, "deform_conv") for e in shape_of(weight)[2:]]
    count, places = int(np.prod(kernel)), shape_of(offset)[2:]
    moved = reshape(offset, (n * offset_groups, count, rank, *places))
    whole = (n * offset_groups, count, *places)
    coordinates = []
    for k in range(rank):
        start = np.indices(kernel)[k].reshape(1, -1, *(1,) * rank) * dilations[k] - padding[k][0]
        base = iota_like(x, whole, 2 + k) * strides[k] + constant_like(x, start)
        own = prim.slice(
            moved,
            start=tuple(k if axis == 2 else 0 for axis in range(3 + rank)),
            stop=(*whole[:2], k + 1, *places),
            step=(1,) * (3 + rank),
        )
        coordinates.append(convert(base, dtype_of(offset)) + reshape(own, whole))
    if channels % offset_groups or channels % groups:
        raise ShapeError(f"deform_conv: {channels} channels for {groups} and {offset_groups} groups")
    apart = reshape(x, (n * offset_groups, channels // offset_groups, *shape_of(x)[2:]))
    columns = sample(apart, coordinates, "linear")
    if mask is not None:
        columns = columns * reshape(mask, (n * offset_groups, 1, count, *places))
    columns = reshape(columns, (n, groups, channels // groups, count, *places))
    weights = reshape(weight, (groups, -1, channels // groups, count))
    letters = "pqs"[:rank]
    y = prim.dot(columns, weights, spec=f"ngck{letters},gock->ngo{letters}")
    return reshape(y, (n, -1, *places))
