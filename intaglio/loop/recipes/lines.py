"""Convolution line by line into an image that stores its channels side by side, along which the lanes run.

Two kinds need no copy of the image: of each channel by itself, where every read of an image with channels
last is a whole vector wherever the window lies, and of a few channels into many, as a first layer is, where
one element is broadcast. A register tile is some neighbouring places of the last axis; tiles at the ends of a
line leave out the taps that leave the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product as combinations
from math import prod

import numpy as np

from intaglio.loop.ir import Alloc, Buffer, Stmt, Store
from intaglio.loop.recipes.anchor import Anchor, Nest, Place
from intaglio.loop.recipes.axes import Contraction, Env, Factor
from intaglio.loop.recipes.geometry import POOLING_CYCLES, SPATIAL, Geometry
from intaglio.loop.recipes.images import TAPS, Window, over_taps
from intaglio.loop.recipes.nests import Names, loop, parallel, stepped, tile, tiled
from intaglio.loop.recipes.result_rows import NEAR, ResultRows, stores_channels_last
from intaglio.loop.recipes.tiles import Panels, balanced, panels, rows_for
from intaglio.loop.recipes.turned_columns import in_lanes
from intaglio.ops.expr import Expr, Read
from intaglio.shared.index import IndexLike, upper
from intaglio.shared.target import Target

Put = Callable[[IndexLike, IndexLike, Sequence[Expr]], list[Stmt]]
"""What to do with the values of a window, or of one place: channel of the panel and place of the line."""
TILE_32 = 8
TILE_16 = 4
FEW_CHANNELS = 8
MOST_TAPS = 16
"""Taps of the last axis, which are written out for every place of a tile."""


@dataclass(frozen=True)
class Piece:
    """`count` tiles of `size` places of a line from `start` on; the taps of `whole` ones are all inside."""

    start: int
    size: int
    count: int
    whole: bool


@dataclass(frozen=True)
class Tile:
    """A register tile: places from `start` on, of a line of an image, by a panel of channels from `first` on.

    `outer` is the place of the line, or of its windows where results are pooled.
    """

    image: IndexLike
    outer: Place
    first: IndexLike
    panel: Panels
    piece: Piece
    start: IndexLike


@dataclass
class LineTiles:
    """The nest of one convolution whose lanes run along its channels; `ins` are those each one adds up."""

    anchor: Anchor
    geometry: Geometry
    target: Target
    contraction: Contraction
    ins: int
    weights: Buffer = field(init=False)

    @staticmethod
    def made(anchor: Anchor, geometry: Geometry, target: Target) -> LineTiles | None:
        """The recipe for an anchor; None where it does not fit."""
        windows = geometry.windows
        alone = geometry.groups > 1 and geometry.ins == geometry.outs == 1
        few = geometry.groups == 1 and geometry.ins <= FEW_CHANNELS and geometry.taps > 1
        if not (alone or few) or anchor.op != "conv" or windows[-1].kernel > MOST_TAPS:
            return None
        if any(w.spread > 1 or (w.dilation > 1 and w.pads) for w in windows[:-1]) or windows[-1].spread > 1:
            return None
        contraction = _contraction(anchor, geometry, alone)
        strides = contraction.strides("o")
        finished = anchor.pooling is not None or in_lanes(strides)
        if not finished or any(s != int(alone) for s in strides.right):
            return None
        tiles = LineTiles(anchor, geometry, target, contraction, 1 if alone else geometry.ins)
        return tiles if anchor.pooling is None or tiles.pooling_pays else None

    def __post_init__(self) -> None:
        *kernel, last = (w.kernel for w in self.geometry.windows)
        self.names = Names(self.anchor.names)
        shape = (*kernel, self.ins, last, self.channels)
        self.weights = Buffer(self.names.fresh("taps"), self.anchor.dtype, shape, "scratch")
        data = self.geometry.data
        if data is not None:
            moved = np.moveaxis(data.reshape(self.channels, self.ins, *kernel, last), (0, 1), (-1, -3))
            self.weights.role = "constant"
            self.weights.data = np.ascontiguousarray(moved, dtype=self.anchor.dtype.numpy)

    @property
    def last(self) -> Window:
        return self.geometry.windows[-1]

    @property
    def channels(self) -> int:
        """Channels of the result."""
        return self.geometry.groups * self.geometry.outs

    @property
    def lanes(self) -> int:
        return self.target.lanes(self.anchor.dtype.size)

    @property
    def vectors(self) -> int:
        """Vectors of channels of a tile: reads of an image that are whole vectors serve one; of windows of
        results one, where two would leave registers unused."""
        if self.geometry.groups > 1 or self.channels < 2 * self.lanes:
            return 1
        one, two = (rows_for(k, self.target) // prod(self.pooled) for k in (1, 2))
        return 1 if one > 2 * two else 2

    @property
    def places(self) -> int:
        """Places of a tile at most."""
        if self.geometry.groups == 1:
            return rows_for(self.vectors, self.target)
        return TILE_32 if self.target.registers >= 32 else TILE_16

    @property
    def pooled(self) -> tuple[int, ...]:
        """Results of which one is stored, along each axis."""
        pooling = self.anchor.pooling
        return (1,) * len(self.geometry.windows) if pooling is None else pooling.kernel

    @property
    def pooling_pays(self) -> bool:
        """Whether windows of results fit the registers, and waiting for additions of the few accumulators of
        one line costs less than to store and load the results."""
        target, line = self.target, self.places // prod(self.pooled) * self.pooled[-1] * self.vectors
        waits = max(0.0, target.fma_latency / line - 1 / target.fma_per_cycle) if line else 0.0
        return line > 0 and waits * self.ins * self.geometry.taps < POOLING_CYCLES

    def nest(self) -> Nest:
        """Images around lines, channels and the pieces of a line."""
        names, batch, g = self.names, self.anchor.result.shape[0], self.geometry
        body = loop(names["n"], batch, lambda n: self.lines({"n": n}, 0))
        work = 2 * self.channels * self.ins * g.taps * prod(w.out for w in g.windows) * (upper(batch) or 64)
        independent = {names[name] for name in ("n", "o0", "b0", *SPATIAL)}
        return Nest(parallel([*self.packed(), *body], work, independent), (self.note,), (self.weights,))

    @property
    def note(self) -> str:
        """How it runs, in short."""
        return f"{self.lanes} lanes along channels, tiles of up to {self.places} places in registers"

    def packed(self) -> list[Stmt]:
        """Taps with their channels side by side, copied when they are known at run time only."""
        if self.weights.data is not None:
            return []
        names, shape, one = self.names, self.weights.shape, self.geometry.groups == 1

        def over(at: Place) -> list[Stmt]:
            axis = len(at)
            if axis < len(shape):
                return loop(names[f"y{axis}"], shape[axis], lambda k: over((*at, k)))
            *outer, channel, last, out = at
            group, out, channel = (0, out, channel) if one else (out, 0, 0)
            return [Store(self.weights, at, self.geometry.weight(group, out, channel, (*outer, last)))]

        return over(())

    def lines(self, env: Env, axis: int) -> list[Stmt]:
        """Loops over all spatial axes but the last, then panels of channels."""
        windows = self.geometry.windows
        if axis < len(windows) - 1:
            name, extent = SPATIAL[axis], windows[axis].out // self.pooled[axis]
            if axis == len(windows) - 2 and not stores_channels_last(self.anchor):
                return self.blocks(env, name, extent)
            return loop(self.names[name], extent, lambda p: self.lines(env | {name: p}, axis + 1))
        return self.over_panels(lambda panel, number: self.some(lambda _: env, 1, panel, number))

    def over_panels(self, body: Callable[[Panels, IndexLike], list[Stmt]]) -> list[Stmt]:
        return [
            s
            for panel in panels(self.channels, self.vectors, self.lanes)
            for s in loop(self.names["o0"], panel.count, lambda number: body(panel, number))
        ]

    def blocks(self, env: Env, name: str, extent: int) -> list[Stmt]:
        """Lines along an axis, some of which wait for each other and are turned together."""

        def panel_of(panel: Panels, number: IndexLike) -> list[Stmt]:
            line = self.last.out // self.pooled[-1] * panel.width * self.anchor.dtype.size
            return tiled(
                self.names["b0"],
                extent,
                max(1, NEAR // line),
                lambda first, size: self.some(lambda k: env | {name: first + k}, size, panel, number),
            )

        return self.over_panels(panel_of)

    def some(
        self, env_of: Callable[[IndexLike], Env], count: int, panel: Panels, number: IndexLike
    ) -> list[Stmt]:
        """Some lines of a panel, or as many as their windows have for each, piece by piece."""
        first, places = number * panel.width + panel.start, self.last.out // self.pooled[-1]
        rows = ResultRows(self.names, self.anchor, self.lanes, panel.width, places, places, count)

        def at(k: IndexLike, o: IndexLike, x: IndexLike) -> Place:
            env = env_of(k)
            outer = (env[name] for name in SPATIAL[: len(self.geometry.windows) - 1])
            return (env["n"], first + o, *outer, x)

        def line(k: IndexLike) -> list[Stmt]:
            image, _, *outer, _ = at(k, 0, 0)

            def piece_of(piece: Piece, start: IndexLike) -> list[Stmt]:
                made = Tile(image, tuple(outer), first, panel, piece, start)

                def put(o: IndexLike, x: IndexLike, values: Sequence[Expr]) -> list[Stmt]:
                    return rows.put(at(k, o, x), (k, x, o), values)

                return self.tile_body(made, put)

            return [
                s
                for piece in self.pieces()
                for s in stepped(
                    self.names["x0"], piece.start, piece.size, piece.count, partial(piece_of, piece)
                )
            ]

        return [*rows.begin(), *loop(self.names["k0"], count, line), *rows.end(at, count)]

    def pieces(self) -> list[Piece]:
        """A line in tiles: those whose windows are inside of the image run in loops, others by themselves."""
        w, found, step = self.last, list[Piece](), self.pooled[-1]
        for run in balanced(w.out // step, self.places // prod(self.pooled)):
            assert isinstance(run.start, int)
            assert isinstance(run.count, int)
            for k in range(run.count):
                start, size = (run.start + k * run.size) * step, run.size * step
                whole = w.reads(start, 0) and w.reads(start + size - 1, w.kernel - 1)
                before = found[-1] if found else None
                if before and before.whole and whole and before.size == size:
                    found[-1] = replace(before, count=before.count + 1)
                else:
                    found.append(Piece(start, size, 1, whole))
        return found

    def tile_body(self, made: Tile, put: Put) -> list[Stmt]:
        """One register tile: clear, add up all taps, finish each place."""
        names, contraction, panel, size = self.names, self.contraction, made.panel, made.piece.size
        *high, wide = self.pooled
        spots = list(combinations(*map(range, high)))
        shape = (len(spots) * size, panel.vectors, panel.lanes)
        acc = Buffer(names.fresh("acc"), self.anchor.dtype, shape, "local", "register")

        def clear(i: IndexLike, j: IndexLike, lane: IndexLike) -> list[Stmt]:
            return [contraction.clear(acc, (i, j, lane))]

        def finish(i: IndexLike, j: IndexLike, lane: IndexLike) -> list[Stmt]:
            o, x = j * panel.lanes + lane, made.start // wide + i
            of_window = ((number * size + i * wide + r) for number in range(len(spots)) for r in range(wide))
            values = [Read(acc, (k, j, lane), acc.dtype) for k in of_window]
            return put(o, x, values)

        return [
            Alloc(acc),
            *tile(names, shape[0], panel, clear),
            *(s for number, spot in enumerate(spots) for s in self.added(made, acc, number * size, spot)),
            *tile(names, size // wide, panel, finish),
        ]

    def added(self, made: Tile, acc: Buffer, number: int, spot: tuple[int, ...]) -> list[Stmt]:
        """All taps of a line of a tile, whose accumulators begin at `number`; `spot` is where the line is in
        the windows of results."""
        names, panel, piece, w = self.names, made.panel, made.piece, self.last
        axes = SPATIAL[: len(self.geometry.windows)]
        line = tuple(p * k + a for p, k, a in zip(made.outer, self.pooled, spot, strict=False))
        fixed = dict(zip(axes, line, strict=False)) | {"n": made.image}

        def add(outer: Place, c: IndexLike, r: IndexLike, first: int, count: int) -> list[Stmt]:
            def one(i: IndexLike, j: IndexLike, lane: IndexLike) -> list[Stmt]:
                place = made.start + first + i
                env = fixed | {"o": made.first + (j * panel.lanes + lane), axes[-1]: place, "c": c}
                term = self.term(env, (*outer, r))
                return [self.contraction.accumulate(acc, (number + first + i, j, lane), term)]

            return tile(names, count, panel, one)

        def taps(outer: Place, c: IndexLike) -> list[Stmt]:
            found: list[Stmt] = []
            for r in range(w.kernel):
                inside = [i for i in range(piece.size) if piece.whole or w.reads(piece.start + i, r)]
                if inside:
                    found += add(outer, c, r, inside[0], len(inside))
            return found

        def over_last(outer: Place) -> list[Stmt]:
            if not piece.whole or self.geometry.groups > 1:
                return loop(names["c"], self.ins, partial(taps, outer))
            # Neighbouring taps read the same elements. Channels between them keep compilers from holding
            # these in registers that accumulators need.
            return loop(
                names[TAPS[len(outer)]],
                w.kernel,
                lambda r: loop(names["c"], self.ins, lambda c: add(outer, c, r, 0, piece.size)),
            )

        return over_taps(names, self.geometry.windows, line, over_last)

    def term(self, env: Env, taps: Place) -> Expr:
        """One product."""
        *outer, last = taps
        weight = Read(self.weights, (*outer, env["c"], last, env["o"]), self.weights.dtype)
        return weight * self.contraction.right.at(env | dict(zip(TAPS, taps, strict=False)))


def _contraction(anchor: Anchor, geometry: Geometry, alone: bool) -> Contraction:
    """The convolution as products summed over taps, and over channels where they are not `alone`."""
    windows = geometry.windows
    axes, taps = SPATIAL[: len(windows)], TAPS[: len(windows)]
    source, channel = anchor.operands[0], "o" if alone else "c"

    def read(env: Env) -> Expr:
        places = (w.place(env[p], env[u]) for p, u, w in zip(axes, taps, windows, strict=True))
        return source[(env["n"], env[channel], *places)]

    def weight(env: Env) -> Expr:
        group, out, channel = (env["o"], 0, 0) if alone else (0, env["o"], env["c"])
        return geometry.weight(group, out, channel, tuple(env[u] for u in taps))

    extents = dict(zip("no" + axes, anchor.result.shape, strict=True))
    extents |= {} if alone else {"c": geometry.ins}
    extents |= {u: w.kernel for u, w in zip(taps, windows, strict=True)}
    left = Factor("o" + taps if alone else "oc" + taps, weight)
    return Contraction.made(anchor, left, Factor("n" + channel + axes + taps, read), "no" + axes, extents)
