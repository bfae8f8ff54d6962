"""Axes of windows cut where the taps that meet a place change, so that loops need no conditions.

Inside of a section every window (or every place) meets the same taps: the edges of an axis are sections of
their own, and all between them is one. So loops over a section read without asking whether a tap leaves the
source, and compilers make vectors of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from intaglio.loop.ir import Stmt
from intaglio.loop.recipes.anchor import Place
from intaglio.loop.recipes.images import Window
from intaglio.loop.recipes.nests import Names, ranged

SPATIAL = "pqs"


@dataclass(frozen=True)
class Phase:
    """Results `step` apart from `first` on; `taps` pairs each tap with how far before it its window lies."""

    first: int
    taps: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Section:
    """Places `start .. stop - 1` of an axis that meet the same taps, phase by phase."""

    start: int
    stop: int
    phases: tuple[Phase, ...]

    @property
    def terms(self) -> int:
        return sum(len(phase.taps) for phase in self.phases)


def _sections(patterns: Sequence[tuple[Phase, ...]], first: int) -> list[Section]:
    """Runs of places with equal patterns; the first pattern is that of place `first`."""
    found, start = [], first
    for phases, run in groupby(patterns):
        stop = start + sum(1 for _ in run)
        found.append(Section(start, stop, phases))
        start = stop
    return [section for section in found if section.phases]


def window_sections(window: Window) -> list[Section]:
    """The windows of an axis, by which of their taps are inside of the source."""

    def inside(p: int) -> tuple[Phase, ...]:
        at = {r: p * window.stride + r * window.dilation - window.low for r in range(window.kernel)}
        return (Phase(0, tuple((r, 0) for r, q in at.items() if 0 <= q < window.size)),)

    return _sections([inside(p) for p in range(window.out)], 0)


def place_sections(size: int, window: Window) -> list[Section]:
    """The places of an axis of `size`, `window.stride` at a time, by which windows meet them.

    `window.out` windows read it; place `a` of a section stands for `a * stride + phase.first`.
    """
    step, low = window.stride, window.low

    def meets(a: int, phase: int) -> Phase:
        ahead = [
            (r, (r * window.dilation - phase) // step)
            for r in range(window.kernel)
            if r * window.dilation % step == phase
        ]
        return Phase(phase - low, tuple((r, back) for r, back in ahead if 0 <= a - back < window.out))

    def phases(a: int) -> tuple[Phase, ...]:
        return tuple(meets(a, f) for f in range(step) if 0 <= a * step + f - low < size)

    first, last = low // step, (size - 1 + low) // step
    return _sections([phases(a) for a in range(first, last + 1)], first)


def over_sections(
    names: Names,
    axes: Sequence[Sequence[Section]],
    body: Callable[[Place, tuple[Section, ...]], list[Stmt]],
    place: Place = (),
    chosen: tuple[Section, ...] = (),
) -> list[Stmt]:
    """`body(place, sections)` for all places of all axes."""
    axis = len(place)
    if axis == len(axes):
        return body(place, chosen)
    return [
        s
        for section in axes[axis]
        for s in ranged(
            names[SPATIAL[axis]],
            section.start,
            section.stop,
            lambda p: over_sections(names, axes, body, (*place, p), (*chosen, section)),
        )
    ]
