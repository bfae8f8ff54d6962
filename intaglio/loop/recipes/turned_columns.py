"""Register tiles whose lanes run along an axis that the result does not store side by side."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from intaglio.loop.ir import Alloc, Buffer, Stmt, Store
from intaglio.loop.recipes.axes import Contraction, Dim, Env, Strides, count
from intaglio.loop.recipes.columns import FAR_BYTES, ColumnTiles
from intaglio.loop.recipes.nests import along_lanes, loop, tiled, turn
from intaglio.loop.recipes.tiles import Panels
from intaglio.ops.expr import Expr, Read
from intaglio.shared.index import IndexLike

FINISH_CYCLES = 1.0  # to carry one element through the buffers of a turned tile
CHUNK = 64  # rows of such buffers
FAR_STEPS = 0.5  # more time, at most, where steps read the left operand pages apart
FEW_STEPS = 0.25  # of a row's length


@dataclass
class TurnedColumns(ColumnTiles):
    """Columns that the result does not store side by side, but rows: tiles are turned before the epilogue."""

    @staticmethod
    def fits(contraction: Contraction, row: Dim) -> bool:
        """Whether the result can be finished in vectors of rows."""
        rows = isinstance(row.extent, int) and row.extent > 1
        return rows and in_lanes(contraction.dim_strides(row))

    def __post_init__(self) -> None:
        assert isinstance(self.row.extent, int)
        assert isinstance(self.column.extent, int)
        self.cycles += self.row.extent * self.column.extent * FINISH_CYCLES * count(self.outer)

    @property
    def far_cycles(self) -> float:
        """Steps that lie pages apart in a left operand beyond the second cache wait for it, unless there are
        few of them for a row's length."""
        size, depth = self.contraction.anchor.dtype.size, count(self.reduced)
        near = depth * count([self.row]) * size <= self.target.l2
        lines = self.contraction.dim_strides(self.reduced[-1]).left if self.reduced else ()
        apart = max((abs(s or 0) * size for s in lines), default=0)
        waits = 0.0 if near or apart < FAR_BYTES else min(1.0, max(0.0, depth * size / apart - FEW_STEPS))
        return super().far_cycles + FAR_STEPS * waits * self.cycles

    @property
    def name(self) -> str:
        return f"turned {super().name}"

    def panel_loops(self, groups: list[Panels], env: Env) -> list[Stmt]:
        """Chunks of rows against each panel."""

        def chunks(group: Panels, number: IndexLike) -> list[Stmt]:
            return tiled(
                self.names["r0"],
                self.row.extent,
                CHUNK,
                lambda first, size: self.chunk(env, first, size, group, number),
            )

        return [s for g in groups for s in loop(self.names["j0"], g.count, partial(chunks, g))]

    def chunk(self, env: Env, first: IndexLike, size: int, group: Panels, number: IndexLike) -> list[Stmt]:
        """Tiles into a buffer, that turned, column by column through the epilogue."""
        names, dtype = self.names, self.contraction.anchor.dtype
        made = Buffer(names.fresh("made"), dtype, (size, group.width), "local", "stack")
        back = Buffer(names.fresh("back"), dtype, (group.width, size), "local", "stack")

        def tiles(start: IndexLike, rows: int) -> list[Stmt]:
            def keep(i: IndexLike, place: IndexLike, value: Expr) -> list[Stmt]:
                return [Store(made, (start + i, place), value)]

            return self.tile_body(env, first + start, rows, group, number, keep)

        def finish(place: IndexLike, row: IndexLike) -> list[Stmt]:
            full = env | self.row.bind(first + row) | self.at(group, number, place)
            return self.contraction.finish(full, Read(back, (place, row), dtype))

        return [
            Alloc(made),
            *tiled(names["i0"], size, self.tile[0], tiles),
            Alloc(back),
            *turn(names, group.width, size, lambda p, r: Store(back, (p, r), Read(made, (r, p), dtype))),
            *loop(
                names["o1"],
                group.width,
                lambda place: along_lanes(names, size, self.lanes, lambda row: finish(place, row)),
            ),
        ]


def in_lanes(strides: Strides) -> bool:
    """Whether results along an axis can be finished as vectors."""
    return all(s == 1 for s in strides.stores) and all(s in (0, 1) for s in strides.reads)
