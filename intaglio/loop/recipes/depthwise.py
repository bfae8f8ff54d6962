"""Convolution of each channel by itself, where images store their channels side by side.

Lanes run along channels, so that every read is a whole vector wherever a window lies. A register tile is a
few neighbouring places of the last axis; tiles at the ends of a line leave out the taps that leave the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from intaglio.loop.ir import Alloc, Buffer, Stmt, Store
from intaglio.loop.recipes.anchor import Anchor, Nest, Place
from intaglio.loop.recipes.axes import Contraction, Env, Factor
from intaglio.loop.recipes.geometry import SPATIAL, TAPS, Geometry
from intaglio.loop.recipes.images import Window
from intaglio.loop.recipes.nests import Names, between, lanes, loop, parallel, stepped, tile
from intaglio.loop.recipes.tiles import Panels, balanced, panels
from intaglio.loop.recipes.turned_columns import in_lanes
from intaglio.ops.expr import Expr, Read
from intaglio.shared.index import IndexLike, upper
from intaglio.shared.target import Target

TILE_32 = 8
TILE_16 = 4
MOST_TAPS = 16
"""Taps of the last axis, which are written out for every place of a tile."""


@dataclass(frozen=True)
class Piece:
    """`count` tiles of `size` places of a line from `start` on; the taps of `whole` ones are all inside."""

    start: int
    size: int
    count: int
    whole: bool


@dataclass
class DepthwiseTiles:
    """The nest of one depthwise convolution."""

    anchor: Anchor
    geometry: Geometry
    target: Target
    contraction: Contraction
    weights: Buffer = field(init=False)

    @staticmethod
    def made(anchor: Anchor, geometry: Geometry, target: Target) -> DepthwiseTiles | None:
        """The recipe for an anchor; None where it does not fit."""
        windows = geometry.windows
        one_to_one = geometry.groups > 1 and geometry.ins == geometry.outs == 1
        if not one_to_one or anchor.op != "conv" or windows[-1].kernel > MOST_TAPS:
            return None
        if any(w.spread > 1 or (w.dilation > 1 and w.pads) for w in windows[:-1]) or windows[-1].spread > 1:
            return None
        contraction = _contraction(anchor, geometry)
        strides = contraction.strides("g")
        if not in_lanes(strides) or any(s != 1 for s in strides.right):
            return None
        return DepthwiseTiles(anchor, geometry, target, contraction)

    def __post_init__(self) -> None:
        kernel = tuple(w.kernel for w in self.geometry.windows)
        self.names = Names(self.anchor.names)
        self.weights = Buffer(
            self.names.fresh("taps"), self.anchor.dtype, (*kernel, self.geometry.groups), "scratch"
        )
        data = self.geometry.data
        if data is not None:
            moved = np.moveaxis(data[:, 0, 0], 0, -1)
            self.weights.role = "constant"
            self.weights.data = np.ascontiguousarray(moved, dtype=self.anchor.dtype.numpy)

    @property
    def last(self) -> Window:
        return self.geometry.windows[-1]

    def nest(self) -> Nest:
        """Images around lines, channels and the pieces of a line."""
        names, batch, g = self.names, self.anchor.result.shape[0], self.geometry
        body = loop(names["n"], batch, lambda n: self.lines({"n": n}, 0))
        work = 2 * g.groups * g.taps * (upper(batch) or 64)
        for window in g.windows:
            work *= window.out
        independent = {names["n"], *(names[axis] for axis in SPATIAL)}
        return Nest(parallel([*self.packed(), *body], work, independent), (self.note,), (self.weights,))

    @property
    def note(self) -> str:
        """How it runs, in short."""
        lanes_ = self.target.lanes(self.anchor.dtype.size)
        return f"{lanes_} lanes along channels, tiles of up to {self.places} places in registers"

    def packed(self) -> list[Stmt]:
        """Taps with their channels side by side, copied when they are known at run time only."""
        if self.weights.data is not None:
            return []
        kernel, names = self.weights.shape[:-1], self.names

        def over(taps: Place) -> list[Stmt]:
            axis = len(taps)
            if axis < len(kernel):
                return loop(names[TAPS[axis]], kernel[axis], lambda r: over((*taps, r)))
            return loop(
                names["g"],
                self.geometry.groups,
                lambda g: [Store(self.weights, (*taps, g), self.geometry.weight(g, 0, 0, taps))],
            )

        return over(())

    def lines(self, env: Env, axis: int) -> list[Stmt]:
        """Loops over all spatial axes but the last, then panels of channels."""
        windows = self.geometry.windows
        if axis < len(windows) - 1:
            name = SPATIAL[axis]
            return loop(self.names[name], windows[axis].out, lambda p: self.lines(env | {name: p}, axis + 1))
        width = self.target.lanes(self.anchor.dtype.size)
        return [
            s
            for panel in panels(self.geometry.groups, 1, width)
            for s in loop(
                self.names["g0"],
                panel.count,
                lambda number: [
                    t
                    for piece in self.pieces()
                    for t in stepped(
                        self.names["x0"],
                        piece.start,
                        piece.size,
                        piece.count,
                        lambda first: self.tile_body(env, panel, number, piece, first),
                    )
                ],
            )
        ]

    @property
    def places(self) -> int:
        """Places of a tile at most."""
        return TILE_32 if self.target.registers >= 32 else TILE_16

    def pieces(self) -> list[Piece]:
        """A line in tiles: those whose windows are inside of the image run in loops, others by themselves."""
        w, found = self.last, list[Piece]()
        for run in balanced(w.out, self.places):
            assert isinstance(run.start, int)
            assert isinstance(run.count, int)
            for start in range(run.start, run.start + run.size * run.count, run.size):
                whole = w.reads(start, 0) and w.reads(start + run.size - 1, w.kernel - 1)
                before = found[-1] if found else None
                if before and before.whole and whole and before.size == run.size:
                    found[-1] = replace(before, count=before.count + 1)
                else:
                    found.append(Piece(start, run.size, 1, whole))
        return found

    def tile_body(
        self, env: Env, panel: Panels, number: IndexLike, piece: Piece, first: IndexLike
    ) -> list[Stmt]:
        """One register tile: clear, add up all taps, finish each place."""
        names, contraction = self.names, self.contraction
        size, axis = piece.size, SPATIAL[len(self.geometry.windows) - 1]
        acc = Buffer(names.fresh("acc"), self.anchor.dtype, (size, panel.lanes), "local", "register")

        def each(body: Callable[[IndexLike, IndexLike], list[Stmt]]) -> list[Stmt]:
            return tile(names, size, panel, lambda i, _, lane: body(i, lane))

        def channel(lane: IndexLike) -> IndexLike:
            return number * panel.width + (lane + panel.start)

        def value(i: IndexLike, lane: IndexLike) -> list[Stmt]:
            at = env | {"g": channel(lane), axis: first + i}
            return contraction.finish(at, Read(acc, (i, lane), acc.dtype))

        def add(taps: Place, r: int, i: int) -> list[Stmt]:
            return lanes(
                names["lane"],
                panel.lanes,
                lambda lane: [
                    contraction.accumulate(
                        acc,
                        (i, lane),
                        self.term(env | {"g": channel(lane), axis: first + i}, (*taps, r)),
                    )
                ],
            )

        def taps(outer: Place) -> list[Stmt]:
            w = self.last
            return [
                s
                for r in range(w.kernel)
                for i in range(size)
                if piece.whole or w.reads(piece.start + i, r)
                for s in add(outer, r, i)
            ]

        return [
            Alloc(acc),
            *each(lambda i, lane: [contraction.clear(acc, (i, lane))]),
            *self.over_taps(env, taps, ()),
            *each(value),
        ]

    def over_taps(self, env: Env, body: Callable[[Place], list[Stmt]], taps: Place) -> list[Stmt]:
        """Serial loops over the taps of all axes but the last that read the image."""
        axis = len(taps)
        if axis == len(self.geometry.windows) - 1:
            return body(taps)
        window = self.geometry.windows[axis]
        start, stop = window.reading(env[SPATIAL[axis]])
        return between(
            self.names[TAPS[axis]],
            start,
            stop,
            window.kernel,
            lambda r: self.over_taps(env, body, (*taps, r)),
        )

    def term(self, env: Env, taps: Place) -> Expr:
        """One product."""
        weight = Read(self.weights, (*taps, env["g"]), self.weights.dtype)
        return weight * self.contraction.right.at(env | dict(zip(TAPS, taps, strict=False)))


def _contraction(anchor: Anchor, geometry: Geometry) -> Contraction:
    """The convolution as products summed over taps; channels are an axis of both factors."""
    windows = geometry.windows
    axes, taps = SPATIAL[: len(windows)], TAPS[: len(windows)]
    source = anchor.operands[0]

    def read(env: Env) -> Expr:
        places = (w.place(env[p], env[u]) for p, u, w in zip(axes, taps, windows, strict=True))
        return source[(env["n"], env["g"], *places)]

    left = Factor("g" + taps, lambda env: geometry.weight(env["g"], 0, 0, tuple(env[u] for u in taps)))
    extents = dict(zip("ng" + axes, anchor.result.shape, strict=True))
    extents |= {u: w.kernel for u, w in zip(taps, windows, strict=True)}
    return Contraction.made(anchor, left, Factor("ng" + axes + taps, read), "ng" + axes, extents)
