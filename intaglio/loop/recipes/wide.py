"""Convolution with lanes along the places of the result.

The places are numbered as those of the padded image, row behind row, so that the lanes of a tile run
over them at unit stride whatever the width; the few places between rows are computed and dropped. Tiles
go to a small buffer of `wide` rows first, and from there through the epilogue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from intaglio.loop.ir import Alloc, Buffer, Reduce, Stmt, Store
from intaglio.loop.recipes.anchor import Place
from intaglio.loop.recipes.geometry import SPATIAL, ImageTiles
from intaglio.loop.recipes.nests import along_lanes, loop, stepped, tile, tiled
from intaglio.loop.recipes.tiles import Panels, Run, balanced, best_tile, panels
from intaglio.ops.expr import Const, Read
from intaglio.shared.index import IndexLike

WIDE_BYTES = 48 << 10  # rows of the wide buffer are cut so that it stays in a cache
STORE_CYCLES = 0.2  # to carry an element through the wide buffer


@dataclass
class WideTiles(ImageTiles):
    """Rows of the tile are output channels, columns are vectors of places."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.blocks = self.cut()

    def cut(self) -> list[Run]:
        """Blocks of the first spatial axis whose wide rows stay small, and the register tile."""
        g, first = self.geometry, self.geometry.windows[0]
        row = min(g.outs, 14) * self.image.strides[0] * self.anchor.dtype.size
        blocks = balanced(first.out, min(first.out, max(1, WIDE_BYTES // row)))
        *self.tile, cycles = best_tile(
            g.outs, self.width(blocks[0].size), g.ins * g.taps, self.lanes, self.target, self.rank
        )
        self.block_cycles = cycles
        return blocks

    @property
    def cycles(self) -> float:
        g = self.geometry
        stored = g.outs * prod(w.out for w in g.windows) * STORE_CYCLES
        blocks = self.block_cycles * self.geometry.windows[0].out / self.blocks[0].size
        return blocks + stored + self.pooled_apart

    @property
    def name(self) -> str:
        return f"lanes of places {self.tile[0]}x{self.tile[1]}"

    @property
    def notes(self) -> tuple[str, ...]:
        return (f"tile channels by {self.tile[0]} and places by {self.tile[1]} vectors of {self.lanes}",)

    @property
    def loops(self) -> tuple[str, ...]:
        return "b0", "o0"

    def width(self, block: int) -> int:
        """Flat places of a block, in whole vectors."""
        skipped = (self.geometry.windows[0].out - block) * self.image.strides[0]
        return -(-(self.image.length - skipped) // self.lanes) * self.lanes

    def convolve(self, image: Buffer, prefix: Place, n: IndexLike, group: IndexLike) -> list[Stmt]:
        """Blocks of places, tiles of channels in each."""
        return [
            s
            for block in self.blocks
            for s in stepped(
                self.names["b0"],
                block.start,
                block.size,
                block.count,
                lambda first: tiled(
                    self.names["o0"],
                    self.geometry.outs,
                    self.tile[0],
                    lambda o, size: self.rows(image, prefix, n, group, first, block.size, o, size),
                ),
            )
        ]

    def rows(
        self,
        image: Buffer,
        prefix: Place,
        n: IndexLike,
        group: IndexLike,
        first: IndexLike,
        block: int,
        o: IndexLike,
        rows: int,
    ) -> list[Stmt]:
        """Some channels of a block: every panel of places into the wide buffer, then the epilogue."""
        width = self.width(block)
        wide = Buffer(self.names.fresh("wide"), self.anchor.dtype, (rows, width), "local", "stack")
        origin = first * self.image.strides[0]
        groups = panels(width, self.tile[1], self.lanes)
        return [
            Alloc(wide),
            *(
                s
                for group_ in groups
                for s in loop(
                    self.names["j0"],
                    group_.count,
                    lambda number: self.panel(image, prefix, group, origin, o, rows, wide, group_, number),
                )
            ),
            *self.finish(n, group, first, block, o, rows, wide),
        ]

    def panel(
        self,
        image: Buffer,
        prefix: Place,
        group: IndexLike,
        origin: IndexLike,
        o: IndexLike,
        rows: int,
        wide: Buffer,
        panel: Panels,
        number: IndexLike,
    ) -> list[Stmt]:
        """One register tile."""
        dtype = self.anchor.dtype
        acc = Buffer(self.names.fresh("acc"), dtype, (rows, panel.vectors, panel.lanes), "local", "register")

        def each(body: Callable[[IndexLike, IndexLike, IndexLike], Stmt]) -> list[Stmt]:
            return tile(self.names, rows, panel, lambda i, j, lane: [body(i, j, lane)], "o1")

        def column(j: IndexLike, lane: IndexLike) -> IndexLike:
            return number * panel.width + (j * panel.lanes + lane + panel.start)

        def step(c: IndexLike, taps: Place) -> list[Stmt]:
            start = self.image.tap(c, taps) + origin
            return each(
                lambda i, j, lane: Reduce(
                    acc,
                    (i, j, lane),
                    "add",
                    self.geometry.weight(group, o + i, c, taps)
                    * Read(image, (*prefix, start + column(j, lane)), dtype),
                )
            )

        return [
            Alloc(acc),
            *each(lambda i, j, lane: Store(acc, (i, j, lane), Const(0.0, dtype))),
            *loop(self.names["c"], self.geometry.ins, lambda c: self.over_taps(lambda taps: step(c, taps))),
            *each(lambda i, j, lane: Store(wide, (i, column(j, lane)), Read(acc, (i, j, lane), dtype))),
        ]

    def finish(
        self,
        n: IndexLike,
        group: IndexLike,
        first: IndexLike,
        block: int,
        o: IndexLike,
        rows: int,
        wide: Buffer,
    ) -> list[Stmt]:
        """From the wide buffer through the epilogue, the places between rows left out."""
        outs = self.geometry.outs
        extents = [block, *(w.out for w in self.geometry.windows[1:])]

        def element(i: IndexLike, place: Place) -> list[Stmt]:
            value = Read(wide, (i, self.image.flat(place)), wide.dtype)
            index = (n, group * outs + o + i, place[0] + first, *place[1:])
            return self.anchor.finish(index, value)

        def along(i: IndexLike, place: Place) -> list[Stmt]:
            axis = len(place)
            if axis == len(extents) - 1:
                return along_lanes(
                    self.names, extents[axis], self.lanes, lambda last: element(i, (*place, last))
                )
            return loop(self.names[SPATIAL[axis]], extents[axis], lambda p: along(i, (*place, p)))

        return loop(self.names["o1"], rows, lambda i: along(i, ()))
