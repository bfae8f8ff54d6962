"""Boxes and arrows in the plane: layers from left to right, few crossings, short arrows.

Sugiyama's method. An arrow over several layers bends at a point of its own in each of them; the boxes of
a layer are sorted by the mean place of their neighbours, then drawn towards it without overlapping.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]

GAP, ROW = 36.0, 10.0
"""Space between layers, and between the boxes of a layer."""

SWEEPS = 8
MOST_BENDS = 64
"""Layers that an arrow bends in; longer ones run straight."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Upper left corners of boxes, the points of every arrow, and the size of it all."""

    corners: list[Point]
    routes: list[list[Point]]
    width: float
    height: float


def layers_of(count: int, arrows: Sequence[tuple[int, int]]) -> list[int]:
    """A layer for every box, behind those it depends on; boxes that depend on none stand next to a reader.

    Every arrow runs from a smaller number to a larger one.
    """
    layer = [0] * count
    into: list[list[int]] = [[] for _ in range(count)]
    out: list[list[int]] = [[] for _ in range(count)]
    for a, b in arrows:
        into[b].append(a)
        out[a].append(b)
    for box in range(count):
        layer[box] = max((layer[a] + 1 for a in into[box]), default=0)
    for box in range(count):
        if not into[box] and out[box]:
            layer[box] = min(layer[b] for b in out[box]) - 1
    return layer


def arrange(sizes: Sequence[Point], arrows: Sequence[tuple[int, int]]) -> Arrangement:
    """Place boxes of these sizes."""
    layer = layers_of(len(sizes), arrows)
    extents = list(sizes)
    chains: list[list[int]] = []
    for a, b in arrows:
        bends = range(layer[a] + 1, layer[b]) if layer[b] - layer[a] <= MOST_BENDS else ()
        chains.append([a, *range(len(extents), len(extents) + len(bends)), b])
        layer += bends
        extents += [(0.0, 0.0)] * len(bends)
    links = [pair for chain in chains for pair in pairwise(chain)]
    near: list[list[int]] = [[] for _ in extents]
    for a, b in links:
        near[a].append(b)
        near[b].append(a)
    rows = _sorted_rows(layer, near)
    centres = _centres(rows, near, extents)
    return _placed(rows, centres, extents, chains, len(sizes))


def _sorted_rows(layer: list[int], near: list[list[int]]) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(max(layer, default=0) + 1)]
    for box, number in enumerate(layer):
        rows[number].append(box)
    place = [0.0] * len(layer)
    for row in rows:
        _space_evenly(row, place)
    for sweep in range(SWEEPS):
        step = 1 if sweep % 2 == 0 else -1
        for row in rows[::step]:
            number = layer[row[0]] if row else 0
            wish = {box: [place[b] for b in near[box] if (layer[b] - number) * step < 0] for box in row}
            row.sort(key=lambda box: sum(wish[box]) / len(wish[box]) if wish[box] else place[box])
            _space_evenly(row, place)
    return rows


def _space_evenly(row: list[int], place: list[float]) -> None:
    """Places between 0 and 1 in the order of the row."""
    for number, box in enumerate(row):
        place[box] = (number + 0.5) / len(row)


def _centres(rows: list[list[int]], near: list[list[int]], extents: list[Point]) -> list[float]:
    """Vertical centres: close to the neighbours', in the order of the rows, without overlaps."""
    centre = [0.0] * len(extents)
    for sweep in range(2 * SWEEPS):
        for row in rows[:: 1 if sweep % 2 == 0 else -1]:
            wish = [sum(centre[b] for b in near[box]) / len(near[box]) if near[box] else 0.0 for box in row]
            for box, y in zip(row, spread(wish, [extents[box][1] for box in row]), strict=True):
                centre[box] = y
    return centre


def spread(wish: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Centres closest to wishes, in order and without overlaps: regression by pooling neighbours."""
    offset, offsets = 0.0, []
    for number, height in enumerate(heights):
        offset += (heights[number - 1] + height) / 2 + ROW if number else 0.0
        offsets.append(offset)
    pools: list[tuple[float, int]] = []
    for want, off in zip(wish, offsets, strict=True):
        mean, size = want - off, 1
        while pools and pools[-1][0] >= mean:
            before, count = pools.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        pools.append((mean, size))
    level = [mean for mean, size in pools for _ in range(size)]
    return [y + off for y, off in zip(level, offsets, strict=True)]


def _placed(rows: list[list[int]], centre: list[float], extents: list[Point], chains: list[list[int]],
            boxes: int) -> Arrangement:  # fmt: skip
    left = [0.0] * len(extents)
    x = ROW
    for row in rows:
        wide = max((extents[box][0] for box in row), default=0.0)
        for box in row:
            left[box] = x + (wide - extents[box][0]) / 2
        x += wide + GAP
    top = min((y - size[1] / 2 for y, size in zip(centre, extents, strict=True)), default=0.0) - ROW
    middle = [y - top for y in centre]
    corners = [(left[b], middle[b] - extents[b][1] / 2) for b in range(boxes)]
    routes = [[(left[chain[0]] + extents[chain[0]][0], middle[chain[0]]),
               *((left[b], middle[b]) for b in chain[1:])] for chain in chains]  # fmt: skip
    bottom = max((y + size[1] / 2 for y, size in zip(middle, extents, strict=True)), default=0.0)
    return Arrangement(corners, routes, x - GAP + ROW, bottom + ROW)
