"""Convolution with lanes along the output channels, for images too narrow for lanes along their rows.

The weights are turned to panels, [channel, tap][output channel of the panel], first. A tile is some places
of one row against vectors of output channels: no place between rows is computed. A finished row is turned
back before it goes through the epilogue, unless its channels are stored side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from intaglio.loop.ir import Alloc, Buffer, Reduce, Stmt, Store
from intaglio.loop.recipes.anchor import Place
from intaglio.loop.recipes.geometry import SPATIAL, Array, ImageTiles
from intaglio.loop.recipes.images import TAPS
from intaglio.loop.recipes.nests import loop, tile, tiled
from intaglio.loop.recipes.result_rows import ResultRows
from intaglio.loop.recipes.tiles import Panels, best_tile, panels
from intaglio.ops.expr import Const, Expr, Read
from intaglio.ops.movement import flat_index
from intaglio.shared.index import IndexLike

SPARED = 2  # registers that compilers want for the loops over channels and taps
TURN_CYCLES = 1.0  # to turn an element back and carry it through the row buffers

Put = Callable[[IndexLike, IndexLike, Expr], list[Stmt]]
"""What to do with the value at a place of the row, of a channel of the panel."""


@dataclass(frozen=True)
class Panel:
    """Some output channels of a group of an image, whose padded copy is `image[prefix]`."""

    image: Buffer
    prefix: Place
    batch: IndexLike
    group: IndexLike
    panel: Panels
    number: IndexLike


@dataclass
class TurnedTiles(ImageTiles):
    """Rows of the tile are places of a row, columns are vectors of output channels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        g = self.geometry
        self.depth = g.ins * g.taps
        self.kernel = tuple(w.kernel for w in g.windows)
        self.width = g.windows[-1].out
        spared = replace(self.target, registers=self.target.registers - SPARED)
        *self.tile, self.row_cycles = best_tile(self.width, g.outs, self.depth, self.lanes, spared, self.rank)

    @property
    def cycles(self) -> float:
        g = self.geometry
        rows = prod(w.out for w in g.windows[:-1])
        turned = 0.0 if g.data is not None else g.outs * self.depth / (self.outer_work / g.groups)
        useful = prod(w.useful for w in g.windows[:-1])
        kept = self.width * g.outs * TURN_CYCLES
        return rows * (self.row_cycles * useful + kept) + turned + self.pooled_apart

    @property
    def name(self) -> str:
        return f"lanes of channels {self.tile[0]}x{self.tile[1]}"

    @property
    def notes(self) -> tuple[str, ...]:
        when = " when compiling" if self.geometry.data is not None else ""
        return (
            f"turn weights to panels of [channel, tap][output channel]{when}, tile places by {self.tile[0]} "
            f"and output channels by {self.tile[1]} vectors of {self.lanes}",
        )

    @property
    def loops(self) -> tuple[str, ...]:
        return ("j0", *SPATIAL[: len(self.kernel) - 1])

    def prepare(self) -> tuple[list[Stmt], tuple[Buffer, ...]]:
        """The turned weights: an array per kind of panel, panel behind panel."""
        g, names = self.geometry, self.names
        self.panels = panels(g.outs, self.tile[1], self.lanes)
        self.weights = {
            panel: Buffer(
                names.fresh("turned"),
                self.anchor.dtype,
                (g.groups, panel.count, self.depth, panel.width),
                "scratch",
            )
            for panel in self.panels
        }
        buffers = tuple(self.weights.values())
        if g.data is not None:
            for panel, buffer in self.weights.items():
                buffer.role, buffer.data = "constant", self.turned_data(g.data, panel)
            return [], buffers
        return [s for panel in self.panels for s in self.turn_weights(panel)], buffers

    def turned_data(self, data: Array, panel: Panels) -> Array:
        """The content of a panel's array for constant weights `[group, out, in, *taps]`."""
        groups = len(data)
        own = data[:, panel.start : panel.start + panel.count * panel.width]
        split = own.reshape(groups, panel.count, panel.width, self.depth)
        return np.ascontiguousarray(split.swapaxes(-1, -2))

    def turn_weights(self, panel: Panels) -> list[Stmt]:
        """Fill a panel's array at run time."""
        g, names, buffer = self.geometry, self.names, self.weights[panel]

        def taps(group: IndexLike, number: IndexLike, c: IndexLike, done: Place) -> list[Stmt]:
            axis = len(done)
            if axis < len(self.kernel):
                return loop(
                    names[TAPS[axis]], self.kernel[axis], lambda r: taps(group, number, c, (*done, r))
                )
            first = number * panel.width + panel.start
            place = (group, number, self.row(c, done))
            return loop(
                names["e"],
                panel.width,
                lambda o: [Store(buffer, (*place, o), g.weight(group, first + o, c, done))],
            )

        return loop(
            names["g"],
            g.groups,
            lambda group: loop(
                names["j0"],
                panel.count,
                lambda number: loop(names["c"], g.ins, lambda c: taps(group, number, c, ())),
            ),
        )

    def row(self, c: IndexLike, taps: Place) -> IndexLike:
        """The row of the turned weights for a channel and a tap."""
        return flat_index((c, *taps), (self.geometry.ins, *self.kernel))

    def convolve(self, image: Buffer, prefix: Place, n: IndexLike, group: IndexLike) -> list[Stmt]:
        """Panel by panel of output channels, so that the weights of one stay in a cache for all rows."""

        def along(outer: Place, panel: Panels, number: IndexLike) -> list[Stmt]:
            axis = len(outer)
            if axis < len(self.kernel) - 1:
                extent = self.geometry.windows[axis].out
                return loop(self.names[SPATIAL[axis]], extent, lambda p: along((*outer, p), panel, number))
            return self.line(Panel(image, prefix, n, group, panel, number), outer)

        return [
            s
            for panel in self.panels
            for s in loop(self.names["j0"], panel.count, lambda number: along((), panel, number))
        ]

    def line(self, made: Panel, outer: Place) -> list[Stmt]:
        """One row of places for one panel: tiles, through the epilogue."""
        panel = made.panel
        rows = ResultRows(self.names, self.anchor, self.lanes, panel.width, self.width, self.width)
        first = made.group * self.geometry.outs + made.number * panel.width + panel.start

        def at(_: IndexLike, o: IndexLike, x: IndexLike) -> Place:
            return (made.batch, first + o, *outer, x)

        def put(x: IndexLike, o: IndexLike, value: Expr) -> list[Stmt]:
            return rows.put(at(0, o, x), (0, x, o), [value])

        return [*rows.begin(), *self.tiles(made, outer, put), *rows.end(at, 1)]

    def tiles(self, made: Panel, outer: Place, put: Put) -> list[Stmt]:
        """The register tiles of a row of places."""
        return tiled(
            self.names["b0"],
            self.width,
            self.tile[0],
            lambda x, size: self.tile_body(made, outer, x, size, put),
        )

    def tile_body(self, made: Panel, outer: Place, x: IndexLike, rows: int, put: Put) -> list[Stmt]:
        """One register tile."""
        names, dtype, panel = self.names, self.anchor.dtype, made.panel
        acc = Buffer(names.fresh("acc"), dtype, (rows, panel.vectors, panel.lanes), "local", "register")

        def each(body: Callable[[IndexLike, IndexLike, IndexLike], list[Stmt]]) -> list[Stmt]:
            return tile(names, rows, panel, body)

        def at(j: IndexLike, lane: IndexLike) -> IndexLike:
            return j * panel.lanes + lane

        def step(c: IndexLike, taps: Place) -> list[Stmt]:
            start, row = self.image.tap(c, taps) + self.image.flat((*outer, x)), self.row(c, taps)
            return each(
                lambda i, j, lane: [
                    Reduce(
                        acc,
                        (i, j, lane),
                        "add",
                        Read(made.image, (*made.prefix, start + i), dtype)
                        * Read(self.weights[panel], (made.group, made.number, row, at(j, lane)), dtype),
                    )
                ]
            )

        return [
            Alloc(acc),
            *each(lambda i, j, lane: [Store(acc, (i, j, lane), Const(0.0, dtype))]),
            *loop(names["c"], self.geometry.ins, lambda c: self.over_taps(lambda taps: step(c, taps), outer)),
            *each(lambda i, j, lane: put(x + i, at(j, lane), Read(acc, (i, j, lane), dtype))),
        ]
