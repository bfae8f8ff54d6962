"""Pooling over 1, 2 or 3 spatial axes with PyTorch's arguments. x is `[n, c, *size]`, or `[c, *size]`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from intaglio.ops.compositions.basic import (
    constant_like,
    dtype_of,
    expand,
    full_like,
    iota_like,
    rank_of,
    reshape,
    shape_of,
    static,
    transpose,
    unsqueeze,
)
from intaglio.ops.compositions.convolution import Size, per_axis
from intaglio.ops.compositions.indexing import slice_axis
from intaglio.ops.dispatch import composition
from intaglio.ops.operators import power
from intaglio.ops.registry import prim
from intaglio.shared.errors import ArgumentError, ShapeError

MOST_SIDE_BY_SIDE = 4  # elements along an axis of windows that a sliding view serves better than a reshape


def _places(
    size: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int, ceil_mode: bool
) -> int:
    """How many windows an axis has; with `ceil_mode` also one that starts inside but ends behind."""
    span = size + sum(padding) - dilation * (kernel - 1) - 1
    places = (-(-span // stride) if ceil_mode else span // stride) + 1
    if ceil_mode and (places - 1) * stride >= size + padding[0]:
        places -= 1
    return places


class _Windows:
    """The windows of a pooling: settings per axis, and the padding that makes the last one fit."""

    def __init__(
        self,
        name: str,
        x: Any,
        rank: int,
        kernel_size: Size,
        stride: Size | None,
        padding: Size | Sequence[tuple[int, int]],
        dilation: Size,
        ceil_mode: bool,
    ) -> None:
        shape = shape_of(x)
        if len(shape) != rank + 2:
            raise ShapeError(f"{name}: x is {list(shape)}; {rank + 1} or {rank + 2} dimensions are expected")
        self.kernel = per_axis(kernel_size, rank, "kernel_size")
        self.strides = self.kernel if stride is None or stride == [] else per_axis(stride, rank, "stride")
        self.dilations = per_axis(dilation, rank, "dilation")
        self.given = _pairs(padding, rank)
        if isinstance(padding, int) or (len(padding) and isinstance(padding[0], int)):
            _check_half(name, self.given, self.kernel)
        self.size = shape[2:]
        self.fixed = all(isinstance(extent, int) for extent in self.size)
        self.padding: Sequence[tuple[int, int]] = self.given
        if self.fixed or ceil_mode:
            self._fit(name, ceil_mode)

    def _fit(self, name: str, ceil_mode: bool) -> None:
        """Padding behind known extents so that all windows fit, the last one of `ceil_mode` too."""
        size = [static(extent, name) for extent in self.size]
        settings = zip(size, self.kernel, self.strides, self.given, self.dilations, strict=True)
        self.places = [_places(n, k, s, p, d, ceil_mode) for n, k, s, p, d in settings]
        if any(p < 1 for p in self.places):
            raise ShapeError(f"{name}: a window of {list(self.kernel)} does not fit into {size}")
        ends = [
            (p - 1) * s + d * (k - 1) + 1
            for p, s, d, k in zip(self.places, self.strides, self.dilations, self.kernel, strict=True)
        ]
        self.padding = tuple(
            (low, end - n - low) for (low, _), end, n in zip(self.given, ends, size, strict=True)
        )

    def of(self, x: Any, value: float) -> Any:
        """The windows as `[n, c, *places, *kernel]`, `value` outside of x."""
        wide = max(self.kernel) > MOST_SIDE_BY_SIDE
        disjoint = (
            wide and self.fixed and self.strides == self.kernel and all(low == 0 for low, _ in self.padding)
        )
        if disjoint and set(self.dilations) == {1} and all(high <= 0 for _, high in self.padding):
            return self._disjoint(x)
        return prim.unfold(
            x,
            kernel=self.kernel,
            strides=self.strides,
            dilations=self.dilations,
            padding=tuple((low, max(high, 0)) for low, high in self.padding),
            value=value,
        )

    def _disjoint(self, x: Any) -> Any:
        """Windows side by side are only another shape of x; so is their derivative."""
        rank, shape = len(self.kernel), shape_of(x)
        for k, (places, kernel) in enumerate(zip(self.places, self.kernel, strict=True)):
            x = slice_axis(x, 2 + k, 0, places * kernel)
        pairs = [e for pair in zip(self.places, self.kernel, strict=True) for e in pair]
        order = (0, 1, *(2 + 2 * k for k in range(rank)), *(3 + 2 * k for k in range(rank)))
        return transpose(reshape(x, (*shape[:2], *pairs)), order)

    @property
    def inner(self) -> tuple[int, ...]:
        """The axes of the window in what `of` makes."""
        rank = len(self.kernel)
        return tuple(range(2 + rank, 2 + 2 * rank))


def _check_half(name: str, padding: Sequence[tuple[int, int]], kernel: Sequence[int]) -> None:
    """Raise ArgumentError for symmetric padding that PyTorch refuses; pairs may be of any size."""
    for low_high, extent in zip(padding, kernel, strict=True):
        if max(low_high) * 2 > extent:
            raise ArgumentError(f"{name}: padding {low_high} exceeds half of the kernel {extent}")


def _pairs(padding: Size | Sequence[tuple[int, int]], rank: int) -> tuple[tuple[int, int], ...]:
    if not isinstance(padding, int) and len(padding) and not isinstance(padding[0], int):
        return tuple((int(low), int(high)) for low, high in padding)  # type: ignore[misc]
    return tuple((p, p) for p in per_axis(padding, rank, "padding"))  # type: ignore[arg-type]


def _batched(function: Callable[..., Any], rank: int, x: Any, *args: Any) -> Any:
    """The function on a batch of one when x has no batch."""
    if rank_of(x) != rank + 1:
        return function(rank, x, *args)
    y = function(rank, unsqueeze(x, 0), *args)
    first = tuple(reshape(part, shape_of(part)[1:]) for part in (y if isinstance(y, tuple) else (y,)))
    return first if isinstance(y, tuple) else first[0]


@composition
def max_pool(
    rank: int,
    x: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size | Sequence[tuple[int, int]] = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of every window; its derivative goes to the first one that equals it.

    With `return_indices` also its row-major position in the spatial axes of x.
    """
    settings = (kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    return _batched(_max_pool, rank, x, *settings)


def _max_pool(
    rank: int,
    x: Any,
    kernel_size: Size,
    stride: Size | None,
    padding: Any,
    dilation: Size,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    windows = _Windows("max_pool", x, rank, kernel_size, stride, padding, dilation, ceil_mode)
    laid_out = windows.of(x, _lowest(x))
    y = prim.reduce_max(laid_out, axes=windows.inner, ties="first")
    if not return_indices:
        return y
    inside = prim.argmax(laid_out, axes=windows.inner)
    return y, _positions(windows, inside)


def _lowest(x: Any) -> float:
    dtype = dtype_of(x)
    return -math.inf if dtype.is_float else dtype.least


def _positions(windows: _Windows, inside: Any) -> Any:
    """Row-major positions in x of places in windows."""
    shape, rest = shape_of(inside), inside
    at: list[Any] = []
    for k in reversed(range(len(windows.kernel))):
        offset = prim.remainder(rest, windows.kernel[k])
        rest = prim.floor_div(rest, windows.kernel[k])
        start = iota_like(inside, shape, 2 + k) * windows.strides[k] - windows.given[k][0]
        at.insert(0, start + offset * windows.dilations[k])
    position: Any = 0
    for place, extent in zip(at, windows.size, strict=True):
        position = position * static(extent, "max_pool with indices") + place
    return position


@composition
def avg_pool(
    rank: int,
    x: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size | Sequence[tuple[int, int]] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: Size = 1,
) -> Any:
    """The mean of every window; padding counts as elements of 0 unless `count_include_pad` is false."""
    settings = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation)
    return _batched(_avg_pool, rank, x, *settings)


def _avg_pool(
    rank: int,
    x: Any,
    kernel_size: Size,
    stride: Size | None,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    dilation: Size,
) -> Any:
    windows = _Windows("avg_pool", x, rank, kernel_size, stride, padding, dilation, ceil_mode)
    total = prim.sum(windows.of(x, 0.0), axes=windows.inner)
    if divisor_override is not None:
        if divisor_override == 0:
            raise ArgumentError("avg_pool: divisor_override is 0")
        return total * (1 / divisor_override)
    if not windows.fixed:
        return total / _counts_at_run_time(windows, x, count_include_pad)
    counts = _counts(windows, count_include_pad)
    if counts.size and (counts == counts.flat[0]).all():
        return total * (1 / float(counts.flat[0]))
    return total * constant_like(x, (1 / counts).astype(dtype_of(x).numpy))


def _counts_at_run_time(windows: _Windows, x: Any, include_pad: bool) -> Any:
    """How many elements every window counts when extents are symbols, in which all windows fit."""
    if include_pad or all(pair == (0, 0) for pair in windows.given):
        return float(math.prod(windows.kernel))
    ones = full_like(x, 1, (1, 1, *windows.size))
    return prim.sum(windows.of(ones, 0.0), axes=windows.inner)


def _counts(windows: _Windows, include_pad: bool) -> Any:
    """How many elements every window counts, at least one."""
    counts = np.ones((), np.float64)
    for k, places in enumerate(windows.places):
        low, high = windows.given[k] if include_pad else (0, 0)
        start = np.arange(places) * windows.strides[k] - windows.given[k][0]
        size = static(windows.size[k], "avg_pool")
        first, end = (-((start - at) // windows.dilations[k]) for at in (-low, size + high))
        counts = counts[..., None] * np.maximum(np.minimum(end, windows.kernel[k]) - np.maximum(first, 0), 0)
    return np.maximum(counts, 1)


@composition
def lp_pool(
    rank: int,
    x: Any,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None = None,
    ceil_mode: bool = False,
    padding: Size | Sequence[tuple[int, int]] = 0,
    dilation: Size = 1,
) -> Any:
    """The p-norm of every window, of its elements as they are."""
    return _batched(_lp_pool, rank, x, norm_type, kernel_size, stride, ceil_mode, padding, dilation)


def _lp_pool(
    rank: int,
    x: Any,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None,
    ceil_mode: bool,
    padding: Any,
    dilation: Size,
) -> Any:
    windows = _Windows("lp_pool", x, rank, kernel_size, stride, padding, dilation, ceil_mode)
    total = prim.sum(windows.of(power(x, norm_type), 0.0), axes=windows.inner)
    positive = prim.lt(0, total)
    rooted = power(prim.where(positive, total, 1), 1 / norm_type)
    return prim.where(positive, rooted, 0)


@composition
def adaptive_avg_pool(rank: int, x: Any, output_size: int | Sequence[int | None]) -> Any:
    """Means over as many windows as the result has places."""
    return _batched(_adaptive_avg, rank, x, output_size)


@composition
def adaptive_max_pool(
    rank: int, x: Any, output_size: int | Sequence[int | None], return_indices: bool = False
) -> Any:
    """Largest elements of as many windows as the result has places."""
    return _batched(_adaptive_max, rank, x, output_size, return_indices)


def _wanted(rank: int, x: Any, output_size: int | Sequence[int | None]) -> tuple[list[int], list[int]]:
    if rank_of(x) != rank + 2:
        raise ShapeError(f"adaptive pooling: x is {list(shape_of(x))}; {rank + 2} dimensions are expected")
    size = [static(extent, "adaptive pooling") for extent in shape_of(x)[2:]]
    given = (output_size,) * rank if isinstance(output_size, int) else tuple(output_size)
    if len(given) != rank:
        raise ArgumentError(f"adaptive pooling: {len(given)} output sizes for {rank} spatial dimensions")
    return size, [n if w is None else w for n, w in zip(size, given, strict=True)]


def _adaptive_avg(rank: int, x: Any, output_size: int | Sequence[int | None]) -> Any:
    size, wanted = _wanted(rank, x, output_size)
    if all(w and n % w == 0 for n, w in zip(size, wanted, strict=True)):
        return avg_pool(rank, x, [n // w for n, w in zip(size, wanted, strict=True)])
    windows, inside, _ = _adaptive_windows(x, size, wanted)
    counts = inside.sum(axis=tuple(range(rank, 2 * rank)))
    kept = prim.where(constant_like(x, inside), windows, 0)
    total = prim.sum(kept, axes=tuple(range(2 + rank, 2 + 2 * rank)))
    return total * constant_like(x, (1 / counts).astype(dtype_of(x).numpy))


def _adaptive_max(rank: int, x: Any, output_size: int | Sequence[int | None], return_indices: bool) -> Any:
    size, wanted = _wanted(rank, x, output_size)
    if all(w and n % w == 0 for n, w in zip(size, wanted, strict=True)):
        kernel = [n // w for n, w in zip(size, wanted, strict=True)]
        return max_pool(rank, x, kernel, return_indices=return_indices)
    windows, inside, positions = _adaptive_windows(x, size, wanted)
    kept = prim.where(constant_like(x, inside), windows, _lowest(x))
    axes = tuple(range(2 + rank, 2 + 2 * rank))
    y = prim.reduce_max(kept, axes=axes, ties="first")
    if not return_indices:
        return y
    best = prim.argmax(kept, axes=axes)
    table = constant_like(x, positions.reshape(*wanted, -1))
    own = [iota_like(best, shape_of(best), 2 + k) for k in range(rank)]
    return y, prim.gather(table, *own, best, axes=tuple(range(rank + 1)))


def _adaptive_windows(x: Any, size: list[int], wanted: list[int]) -> tuple[Any, Any, Any]:
    """Windows that differ in width as `[n, c, *places, *widest]`, whether their elements are really in
    them, and the positions of these in x. All of one axis are gathered at once."""
    rank = len(size)
    inside, places = np.ones((), bool), []
    for k, (n, w) in enumerate(zip(size, wanted, strict=True)):
        start = np.arange(w) * n // w
        width = -(-(np.arange(w) + 1) * n // w) - start
        offset = np.arange(width.max(initial=0))
        at = np.minimum(start[:, None] + offset, n - 1)
        shape = [1] * (2 * rank)
        shape[k], shape[rank + k] = at.shape
        places.append(at.reshape(shape))
        inside = inside & (offset < width[:, None]).reshape(shape)
    whole = np.broadcast_shapes(*(p.shape for p in places))
    indices = [constant_like(x, np.broadcast_to(p, whole)) for p in places]
    gathered = prim.gather(x, *indices, axes=tuple(range(2, 2 + rank)))
    windows = transpose(gathered, (2 * rank, 2 * rank + 1, *range(2 * rank)))
    position = np.zeros((), np.int64)
    for place, n in zip(places, size, strict=True):
        position = position * n + place
    return windows, inside, np.broadcast_to(position, whole)


@composition
def max_unpool(rank: int, x: Any, indices: Any, output_size: Sequence[int]) -> Any:
    """Zeros with the elements of x at row-major positions of the spatial axes, which `max_pool` gave."""
    shape = shape_of(x)
    flat, at = reshape(x, (*shape[:2], -1)), reshape(indices, (*shape[:2], -1))
    count = math.prod(output_size)
    zeros = expand(constant_like(x, np.zeros((), dtype_of(x).numpy)), (*shape[:2], count))
    places = [iota_like(at, shape_of(at), 0), iota_like(at, shape_of(at), 1), at]
    return reshape(prim.scatter(zeros, flat, *places, axes=(0, 1, 2), mode="set"), (*shape[:2], *output_size))
