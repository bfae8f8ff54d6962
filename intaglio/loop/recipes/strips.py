"""A contraction for some rows at a time, as attention runs its two products.

The right operand is packed once for all rows, where its lanes do not lie side by side or its elements are
computed; the rows of the left one are packed where they are computed. Tiles of accumulators go through all
columns of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from intaglio.loop.ir import Alloc, Buffer, Stmt, Store
from intaglio.loop.recipes.axes import Contraction, Dim, Env, Factor, count
from intaglio.loop.recipes.blocked_columns import STACK_BYTES
from intaglio.loop.recipes.columns import ColumnTiles
from intaglio.loop.recipes.nests import along_lanes, loop
from intaglio.loop.recipes.tiles import Panels, panels, rows_for
from intaglio.loop.recipes.turned_columns import in_lanes
from intaglio.ops.expr import Expr, Read, cast
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import IndexLike, product
from intaglio.shared.target import Target

Epilogue = Callable[[IndexLike, Expr], Expr]
"""What is done to the value of a row (counted from the first) before it is finished."""


@dataclass
class StripProduct:
    """A contraction whose left factor has the axis `row`, its right one the axis `column`."""

    contraction: Contraction
    row: str
    column: str
    target: Target
    tile: tuple[int, int] = (0, 0)
    near: bool = True
    first: IndexLike = 0
    scratch: list[Buffer] = field(default_factory=list)

    def __post_init__(self) -> None:
        whole = self.contraction
        right = replace(whole.right, data=None)
        self.contraction = replace(whole, right=right)
        self.reduced = self.contraction.dims(self.contraction.axes(lambda left, right, out: not out))
        self.lanes = self.target.lanes(whole.anchor.dtype.size)
        self.check()

    def check(self) -> None:
        """Raise UnsupportedError with the reason when it cannot run in tiles."""
        contraction, size = self.contraction, self.contraction.anchor.dtype.size
        letters = (self.row, self.column, *(a for d in self.reduced for a, _ in d.parts))
        if not contraction.is_plain or not all(isinstance(d.extent, int) for d in self.reduced):
            raise UnsupportedError("elements of an operand depend on their place")
        if not self.reduced or any(None in contraction.strides(a).all for a in letters):
            raise UnsupportedError("an operand or the result is stored in an irregular order")
        along = contraction.strides(self.column)
        if not in_lanes(along):
            raise UnsupportedError("columns of the result do not lie side by side")
        depth, columns = count(self.reduced), contraction.extents[self.column]
        assert isinstance(columns, int)
        left, right = (f.at(contraction.variables) for f in (contraction.left, contraction.right))
        self.computed = not isinstance(left, Read)
        self.packed = not isinstance(right, Read) or any(s != 1 for s in along.right)
        self.near = columns * depth * size <= STACK_BYTES

    @property
    def columns(self) -> int:
        extent = self.contraction.extents[self.column]
        assert isinstance(extent, int)
        return extent

    def vectors(self, rows: int) -> int:
        """Vectors of a tile of so many rows."""
        fits = (
            v for v in range(4, 1, -1) if rows_for(v, self.target) >= rows and v * self.lanes <= self.columns
        )
        return next(fits, 1)

    def prepare(self, rows: int, outer: Sequence[Dim], near: bool) -> None:
        """Decide on tiles of at most so many rows; `outer` are axes around all rows. Panels for one place of
        those may lie on the stack where they are `near`."""
        self.near = self.near and near
        self.tile = (rows, self.vectors(rows))
        contraction, extents = self.contraction, self.contraction.extents
        column = Dim(extents[self.column], ((self.column, extents[self.column]),))
        row = Dim(extents[self.row], ((self.row, extents[self.row]),))
        around = [] if self.near else [d for d in outer if d.names in contraction.right.axes]
        self.tiles = ColumnTiles(
            contraction,
            self.target,
            self.lanes,
            column,
            row,
            around,
            self.reduced,
            self.packed,
            self.tile,
            0.0,
        )
        self.groups = panels(self.columns, self.tile[1], self.lanes)
        if self.packed:
            self.tiles.packs = [(group, self.pack_buffer(group)) for group in self.groups]

    def pack_buffer(self, group: Panels) -> Buffer:
        """Where panels lie: on the stack while they are small, else in scratch with a place for each."""
        buffer = self.tiles.pack_buffer(group)
        if self.near:
            buffer.role, buffer.space = "local", "stack"
        else:
            self.scratch.append(buffer)
        return buffer

    def pack_all(self) -> list[Stmt]:
        """Panels for all values of the outer axes, where they lie in scratch."""
        if self.near or not self.packed:
            return []
        return [s for group, buffer in self.tiles.packs for s in self.tiles.pack(group, buffer)]

    def pack_here(self, env: Env) -> list[Stmt]:
        """Panels for these values of the outer axes, where they lie on the stack."""
        if not self.near or not self.packed:
            return []
        return [
            s
            for group, buffer in self.tiles.packs
            for s in (Alloc(buffer), *self.tiles.pack_panels(group, buffer, env))
        ]

    def pack_rows(self, env: Env, rows: int) -> list[Stmt]:
        """Rows of a computed left factor, next to each other."""
        *outer, last = self.reduced
        left, dtype, names = self.contraction.left, self.contraction.anchor.dtype, self.contraction.names
        shape = (rows, *(d.extent for d in self.reduced))
        buffer = Buffer(names.fresh("rows"), dtype, shape, "local", "stack")

        def place(full: Env) -> tuple[IndexLike, ...]:
            return (full[self.row] - self.first, *(d.join(full) for d in self.reduced))

        def copy(full: Env) -> list[Stmt]:
            return [Store(buffer, place(full), cast(left.at(full), dtype))]

        def line(full: Env) -> list[Stmt]:
            if all(s in (0, 1) for s in self.contraction.dim_strides(last).left):
                return along_lanes(names, last.fixed, self.lanes, lambda k: copy(full | last.bind(k)))
            return loop(names["k2"], last.fixed, lambda k: copy(full | last.bind(k)))

        made = loop(
            names["i2"],
            rows,
            lambda i: self.tiles.over(outer, env | {self.row: self.first + i}, line),
        )
        factor = Factor(left.axes, lambda full: Read(buffer, place(full), dtype))
        self.tiles.contraction = replace(self.contraction, left=factor)
        return [Alloc(buffer), *made]

    @property
    def panel_width(self) -> int | None:
        """Columns of a panel, if all are alike."""
        return self.groups[0].width if len(self.groups) == 1 else None

    def make(
        self,
        env: Env,
        first: IndexLike,
        rows: int,
        epilogue: Epilogue,
        columns: int | None = None,
        depth: int | None = None,
    ) -> list[Stmt]:
        """`rows` rows from `first` on: all columns and steps of the sums, or as many of them as is said."""
        self.first = first
        if depth is not None:
            self.tiles.reduced = [replace(d, extent=depth) for d in self.reduced]
        names = self.contraction.names
        before = self.pack_rows(env, rows) if self.computed else []

        def panel(group: Panels, number: IndexLike) -> list[Stmt]:
            def finish(i: IndexLike, place: IndexLike, value: Expr) -> list[Stmt]:
                full = env | {self.row: first + i} | self.tiles.at(group, number, place)
                return self.contraction.finish(full, epilogue(i, value))

            return self.tiles.tile_body(env, first, rows, group, number, finish)

        return [
            *before,
            *(
                s
                for group in self.groups
                for s in loop(
                    names["j0"],
                    group.count if columns is None else columns // group.width,
                    lambda number: panel(group, number),
                )
            ),
        ]

    @property
    def note(self) -> str:
        """How it was made."""
        rows, vectors = self.tile
        packed = ", packed into panels" if self.packed else ""
        tile = f"{rows} and columns {self.column} by {vectors} vectors of {self.lanes}"
        return f"tile rows {self.row} by {tile}{packed}"

    @property
    def work(self) -> int | None:
        """Products it adds up."""
        size = product(tuple(self.contraction.extents.values()))
        return size if isinstance(size, int) else None
