"""Addresses as sums of strides: which loops walk a list of places.

`factor` finds extents so that every given list is affine over the same nest of loops:
0 1 2 10 11 12 20 21 22 is a loop of 3 with stride 10 around a loop of 3 with stride 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from intaglio.scalar.sweeps import Array

MOST_LOOPS = 6


@dataclass(frozen=True, slots=True)
class Axis:
    """A loop: its extent, and for each list the stride it takes."""

    extent: int
    strides: tuple[int, ...]


def factor(lists: Array) -> tuple[Axis, ...] | None:
    """The loops, outermost first, that walk every row of `lists`; None when there are none.

    One loop of extent 1 is no loop. Every list starts at `lists[:, 0]`.
    """
    axes: list[Axis] = []
    current = lists
    while current.shape[1] > 1:
        if len(axes) == MOST_LOOPS:
            return None
        steps = np.diff(current, axis=1)
        first = steps[:, :1]
        breaks = np.flatnonzero((steps != first).any(axis=0))
        count = current.shape[1]
        run = int(breaks[0]) + 1 if len(breaks) else count
        if count % run:
            return None
        blocks = current.reshape(len(current), count // run, run)
        starts = blocks[:, :, :1]
        if not np.array_equal(blocks - starts, np.broadcast_to(blocks[:, :1] - starts[:, :1], blocks.shape)):
            return None
        if run == 1:
            return None
        axes.append(Axis(run, tuple(int(s) for s in first[:, 0])))
        current = np.ascontiguousarray(starts[:, :, 0])
    return tuple(reversed(axes))


def separate(places: Array) -> tuple[Array, ...] | None:
    """Lists along each axis of an array of places of which it is the sum; None when it is not one."""
    base = places[(0,) * places.ndim]
    total = np.full((1,) * places.ndim, base)
    parts = []
    for axis in range(places.ndim):
        line = places[tuple(slice(None) if d == axis else 0 for d in range(places.ndim))]
        parts.append(line)
        shape = [1] * places.ndim
        shape[axis] = -1
        total = total + (line - base).reshape(shape)
    return tuple(parts) if np.array_equal(total, places) else None
