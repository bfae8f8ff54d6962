"""Transposed convolution with strides, as one convolution for every phase of the stride.

A result place `q` reads the taps that fall on a source place, and which ones those are depends on `q` modulo
the stride alone. So the results of one phase are a convolution with some of the taps at unit stride: no
product with an inserted zero is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product as combinations

import numpy as np

from intaglio.loop.ir import Alloc, Block, Stmt, walk
from intaglio.loop.recipes.anchor import Anchor, Nest, Place
from intaglio.loop.recipes.geometry import Geometry
from intaglio.loop.recipes.images import Window
from intaglio.loop.recipes.nests import Names, loop
from intaglio.ops.expr import Const, Expr
from intaglio.shared.index import IndexLike
from intaglio.shared.types import TensorType

MOST_PHASES = 16  # each has loops of its own

Lower = Callable[[Anchor, Geometry], Nest | None]


def spread(anchor: Anchor, geometry: Geometry, lower: Lower) -> Nest | None:
    """The nests of all phases, one behind the other; None where `lower` has none for one of them."""
    windows = geometry.windows
    if any(w.spread > 1 and w.dilation > 1 for w in windows):
        return lower(anchor, geometry)
    nests = []
    taken = anchor.taken
    for phase in combinations(*(range(min(w.spread, w.out)) for w in windows)):
        part = _phase(replace(anchor, taken=taken), windows, phase)
        taps = [_taps(w, f) for w, f in zip(windows, phase, strict=True)]
        nest = lower(part, _some(geometry, phase, taps)) if all(map(len, taps)) else _zeros(part)
        if nest is None:
            return None
        nests.append(nest)
        local = {s.buffer.name for s in walk(nest.body) if isinstance(s, Alloc)}
        taken = taken | {buffer.name for buffer in nest.scratch} | local
    notes = dict.fromkeys(note for nest in nests for note in nest.notes)
    return Nest(
        Block(tuple(s for nest in nests for s in nest.body)),
        (f"{len(nests)} phases of the stride, each a convolution", *notes),
        tuple(buffer for nest in nests for buffer in nest.scratch),
        Block(tuple(s for nest in nests for s in nest.first)),
    )


def _taps(window: Window, phase: int) -> range:
    """The taps that fall on the source for results of a phase."""
    return range((window.low - phase) % window.spread, window.kernel, window.spread)


def _phase(anchor: Anchor, windows: tuple[Window, ...], phase: tuple[int, ...]) -> Anchor:
    """The results of a phase alone."""

    def finish(index: Place, value: Expr) -> list[Stmt]:
        places = (f + k * w.spread for k, f, w in zip(index[2:], phase, windows, strict=True))
        return anchor.finish((*index[:2], *places), value)

    extents = (-(-(w.out - f) // w.spread) for w, f in zip(windows, phase, strict=True))
    shape = (*anchor.result.shape[:2], *extents)
    return replace(anchor, result=TensorType(anchor.result.dtype, shape), finish=finish)


def _some(geometry: Geometry, phase: tuple[int, ...], taps: list[range]) -> Geometry:
    """The convolution that makes the results of a phase."""
    windows = tuple(
        replace(
            w,
            out=-(-(w.out - f) // w.spread),
            kernel=len(own),
            low=(w.low - f - own.start) // w.spread,
            spread=1,
        )
        for w, f, own in zip(geometry.windows, phase, taps, strict=True)
    )

    def weight(g: IndexLike, o: IndexLike, c: IndexLike, place: Place) -> Expr:
        whole = tuple(own.start + k * own.step for k, own in zip(place, taps, strict=True))
        return geometry.weight(g, o, c, whole)

    data = geometry.data
    if data is not None:
        chosen = (slice(None),) * 3 + tuple(slice(own.start, None, own.step) for own in taps)
        data = np.ascontiguousarray(data[chosen])
    return replace(geometry, windows=windows, weight=weight, data=data)


def _zeros(anchor: Anchor) -> Nest:
    """Results that no tap reaches."""
    names, zero = Names(anchor.names), Const(0.0, anchor.dtype)

    def over(place: Place) -> list[Stmt]:
        axis = len(place)
        if axis == len(anchor.result.shape):
            return anchor.finish(place, zero)
        return loop(names[f"y{axis}"], anchor.result.shape[axis], lambda k: over((*place, k)))

    return Nest(Block(tuple(over(()))), ())
