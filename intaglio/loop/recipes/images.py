"""Padded copies of images, so that a convolution reads every window at unit stride and without guards.

A convolution over padded places `t = p * stride + r * dilation` reads plane `t % stride` at place
`p + r * dilation // stride`: the copy holds one plane per phase of the stride. A transposed convolution
spreads its source instead, `spread` places apart with zeros between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product as combinations
from math import prod

from intaglio.loop.ir import Buffer, Stmt, Store
from intaglio.loop.recipes.nests import Names, between, loop, ranged
from intaglio.ops.expr import Const, Expr
from intaglio.shared.index import IndexLike, maximum, minimum

Place = tuple[IndexLike, ...]
TAPS = "uvw"
"""Names of the loops over taps."""


@dataclass(frozen=True)
class Window:
    """One spatial axis: `size` places of the source, `out` places of the result, `kernel` taps.

    Tap `r` of result place `p` is source place `(p * stride + r * dilation - low) / spread`, and zero
    where that is no place.
    """

    size: int
    out: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    low: int = 0
    spread: int = 1

    @property
    def reach(self) -> int:
        """Places behind the first that the last tap reads, in a plane."""
        return (self.kernel - 1) * self.dilation // self.stride

    @property
    def extent(self) -> int:
        """Places of a plane."""
        return self.out + self.reach

    @property
    def last(self) -> int:
        """The last source place that is read, counted as if there were no padding."""
        return (self.out - 1) * self.stride + (self.kernel - 1) * self.dilation

    @property
    def pads(self) -> bool:
        """Whether taps leave the source."""
        return self.low > 0 or self.last - self.low >= self.size

    @property
    def phases(self) -> int:
        """Planes that taps read."""
        return min(self.stride, (self.kernel - 1) * self.dilation + 1)

    def filled(self, phase: int) -> tuple[int, int, int, int]:
        """Where a plane holds the source: first place, step, number of places, first source place."""
        if self.spread > 1:
            first = max(0, -(self.low // self.spread))
            count = min(
                self.size - first, (self.extent - 1 - self.low - first * self.spread) // self.spread + 1
            )
            return self.low + first * self.spread, self.spread, max(0, count), first
        first = max(0, -(-(self.low - phase) // self.stride))
        source = first * self.stride + phase - self.low
        count = min(self.extent - first, (self.size - 1 - source) // self.stride + 1)
        return first, 1, max(0, count), source

    def place(self, p: IndexLike, r: IndexLike) -> IndexLike:
        """The source place that tap `r` of result place `p` reads, where nothing is spread."""
        return p * self.stride + r * self.dilation - self.low

    def reads(self, p: int, r: int) -> bool:
        """Whether that place is inside of the source."""
        place = self.place(p, r)
        assert isinstance(place, int)
        return 0 <= place < self.size

    def reading(self, p: IndexLike) -> tuple[IndexLike, IndexLike]:
        """The range of taps of result place `p` that read the source; of dilated taps, those of a window
        that never leaves it."""
        if not self.pads:
            return 0, self.kernel
        first = self.place(p, 0)
        return maximum(0, first * -1), minimum(self.kernel, first * -1 + self.size)

    def inside(self, p: IndexLike) -> tuple[IndexLike, IndexLike]:
        """The range of taps of result place `p` that read the source, where each tap is one place further."""
        return self.reading(p) if (self.stride, self.dilation, self.spread) == (1, 1, 1) else (0, self.kernel)

    @property
    def useful(self) -> float:
        """The part of taps that `inside` leaves."""
        if (self.stride, self.dilation, self.spread) != (1, 1, 1):
            return 1.0
        first = min(max(0, self.low), self.out)
        last = max(first, min(self.out, self.size + self.low - self.kernel + 1))
        spans = [self.inside(p) for p in (*range(first), *range(last, self.out))]
        used = sum(stop - start for start, stop in spans) + (last - first) * self.kernel
        assert isinstance(used, int)
        return used / (self.kernel * self.out)

    def tap(self, r: IndexLike) -> tuple[IndexLike, IndexLike]:
        """The phase and the place a tap reads, relative to the result's."""
        return r * self.dilation % self.stride, r * self.dilation // self.stride


def over_taps(
    names: Names,
    windows: Sequence[Window],
    place: Place,
    body: Callable[[Place], list[Stmt]],
    taps: Place = (),
) -> list[Stmt]:
    """Serial loops over the taps of windows at a place of the result that read the source."""
    axis = len(taps)
    if axis == len(place):
        return body(taps)
    window = windows[axis]
    start, stop = window.reading(place[axis])
    return between(
        names[TAPS[axis]],
        start,
        stop,
        window.kernel,
        lambda r: over_taps(names, windows, place, body, (*taps, r)),
    )


@dataclass(frozen=True)
class Image:
    """Planes of several channels, one behind the other: [channel][phases][places], and `slack` at the end."""

    channels: int
    windows: tuple[Window, ...]
    slack: int

    @property
    def strides(self) -> tuple[int, ...]:
        """Distance of neighbours along each spatial axis."""
        extents = [w.extent for w in self.windows]
        return tuple(prod(extents[k + 1 :]) for k in range(len(extents)))

    @property
    def plane(self) -> int:
        return prod(w.extent for w in self.windows)

    @property
    def phases(self) -> int:
        return prod(w.phases for w in self.windows)

    @property
    def size(self) -> int:
        return self.channels * self.phases * self.plane + self.slack

    @property
    def length(self) -> int:
        """Flat places from the first to the last of the result."""
        return sum((w.out - 1) * s for w, s in zip(self.windows, self.strides, strict=True)) + 1

    def flat(self, place: Sequence[IndexLike]) -> IndexLike:
        """The flat place in a plane."""
        total: IndexLike = 0
        for k, stride in zip(place, self.strides, strict=True):
            total = total + k * stride
        return total

    def tap(self, channel: IndexLike, taps: Sequence[IndexLike]) -> IndexLike:
        """Where the window's element for the first result place lies."""
        phase: IndexLike = 0
        shift: list[IndexLike] = []
        for window, r in zip(self.windows, taps, strict=True):
            own, place = window.tap(r)
            phase = phase * window.phases + own
            shift.append(place)
        return (channel * self.phases + phase) * self.plane + self.flat(shift)

    @property
    def is_whole(self) -> bool:
        """Whether the source covers every place, so that nothing must be zero."""
        ranges = [w.filled(0) for w in self.windows]
        return self.phases == 1 and all(
            step == 1 and count == w.extent
            for (_, step, count, _), w in zip(ranges, self.windows, strict=True)
        )

    def copy(
        self, buffer: Buffer, prefix: Place, names: Names, source: Callable[[IndexLike, Place], Expr]
    ) -> Iterator[Stmt]:
        """Fill `buffer[prefix]` from `source(channel, place)`."""
        zero = Const(0.0 if buffer.dtype.is_float else 0, buffer.dtype)
        if not self.is_whole or self.slack:
            start = self.channels * self.plane if self.is_whole else 0
            yield from ranged(names["e"], start, self.size, lambda k: [Store(buffer, (*prefix, k), zero)])
        phases = list(combinations(*(range(w.phases) for w in self.windows)))
        for number, phase in enumerate(phases):
            yield from loop(
                names["c"],
                self.channels,
                lambda channel: self._plane(buffer, (*prefix,), names, source, channel, number, phase),
            )

    def _plane(
        self,
        buffer: Buffer,
        prefix: Place,
        names: Names,
        source: Callable[[IndexLike, Place], Expr],
        channel: IndexLike,
        number: int,
        phase: tuple[int, ...],
    ) -> list[Stmt]:
        base = (channel * self.phases + number) * self.plane

        def along(axis: int, place: Place, at: Place) -> list[Stmt]:
            if axis == len(self.windows):
                return [Store(buffer, (*prefix, base + self.flat(place)), source(channel, at))]
            first, step, count, start = self.windows[axis].filled(phase[axis])
            stride = self.windows[axis].stride
            return loop(
                names[f"y{axis}"],
                count,
                lambda k: along(axis + 1, (*place, k * step + first), (*at, k * stride + start)),
            )

        return along(0, (), ())
