"""Register tiles whose lanes run along an axis of the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import gcd

import numpy as np

from intaglio.loop.ir import Alloc, Block, Buffer, Stmt, Store
from intaglio.loop.recipes.anchor import Nest
from intaglio.loop.recipes.axes import Array, Contraction, Dim, Env, by_dims, count
from intaglio.loop.recipes.nests import Names, ask_for, lanes, loop, parallel, tile, tiled, turn, unroll
from intaglio.loop.recipes.tiles import Panels, best_tile, panels
from intaglio.ops.expr import Expr, Read, cast
from intaglio.shared.index import IndexLike, minimum, product, upper
from intaglio.shared.target import Target

PACK_ROWS = 4  # fewer rows than this do not pay for packing
FAR_BYTES = 4096  # rows of the right operand at multiples of this compete for the same places of a cache
FAR_ROWS = 1.25  # what that costs
WAYS = 9  # rows of the left operand, a multiple of `FAR_BYTES` apart, that the first cache holds
FAR_STORES = 4096  # bytes between rows of the result that are pages of their own
MOVE_CYCLES = 0.25  # to copy one element of a row
TURN_CYCLES = 0.6  # to copy one element across rows
FAR_MOVE_CYCLES = 1.0  # more, where the copy is beyond the second cache

Finish = Callable[[IndexLike, IndexLike, Expr], list[Stmt]]
"""What to do with the value of a row at a place of a panel."""


@dataclass
class ColumnTiles:
    """One way to run a contraction: rows of the left operand against columns of the right one."""

    contraction: Contraction
    target: Target
    lanes: int
    column: Dim
    row: Dim
    outer: list[Dim]
    reduced: list[Dim]
    packed: bool
    tile: tuple[int, int]
    cycles: float
    packs: list[tuple[Panels, Buffer]] = field(default_factory=list)

    @classmethod
    def plan(
        cls,
        contraction: Contraction,
        target: Target,
        lanes: int,
        column: Dim,
        row: Dim,
        outer: list[Dim],
        reduced: list[Dim],
        packed: bool,
        rank: int,
    ) -> ColumnTiles:
        depth, times = count(reduced), count(outer)
        assert isinstance(column.extent, int)
        room = row_room(contraction, row)
        rows, vectors, cycles = best_tile(row.extent, column.extent, depth, lanes, target, rank, room)
        strides = contraction.dim_strides(column).right
        if packed and contraction.right.data is not None:
            pass  # packed when compiling
        elif packed:
            turned = any(s != 1 for s in strides)
            packing = depth * column.extent * (TURN_CYCLES if turned else MOVE_CYCLES)
            cycles += packing / contraction.repeats
        elif _far_rows(contraction, reduced) and (upper(row.extent) or PACK_ROWS) >= PACK_ROWS:
            cycles *= FAR_ROWS
        tile = (rows, vectors)
        return cls(contraction, target, lanes, column, row, outer, reduced, packed, tile, cycles * times)

    @property
    def far_cycles(self) -> float:
        """What it costs to write a packed operand beyond the second cache and to read it from there."""
        elements = count([*self.pack_outer, *self.reduced, self.column])
        far = elements * self.contraction.anchor.dtype.size > self.target.l2
        dynamic = self.packed and self.contraction.right.data is None
        return elements * FAR_MOVE_CYCLES if dynamic and far else 0.0

    @property
    def name(self) -> str:
        packed = "packed " if self.packed else ""
        return f"columns {self.column.names} {packed}{self.tile[0]}x{self.tile[1]}"

    def nest(self) -> Nest:
        """The loops."""
        assert isinstance(self.column.extent, int)
        groups = panels(self.column.extent, self.tile[1], self.lanes)
        self.packs = [(group, self.pack_buffer(group)) for group in groups] if self.packed else []
        work = upper(product(tuple(self.contraction.extents.values())))
        work = None if work is None else 2 * work
        before = self.prepare()
        main = self.over(
            self.outer,
            self.contraction.fixed,
            lambda env: self.panel_loops(groups, env),
        )
        rows, vectors = self.tile
        notes = [
            f"tile rows {self.row.names or '-'} by {rows} and columns {self.column.names} by "
            f"{vectors} vectors of {self.lanes}, accumulators in registers"
        ]
        if self.packed:
            notes.append(f"pack the operand with {self.column.names} into panels{self.packing_time}")
        independent = {self.names["i0"], self.names["j0"], *(self.names.axis(d.names) for d in self.outer)}
        first, before = (before, []) if self.packs_once else ([], before)
        body = parallel([*before, *main], work, independent)
        return Nest(body, tuple(notes), self.scratch, Block(tuple(first)))

    @property
    def packs_once(self) -> bool:
        """Whether panels are made once for many runs of the kernel."""
        return self.packed and self.contraction.right.data is None and self.contraction.repeats > 1

    @property
    def packing_time(self) -> str:
        """When panels are made, where that is not in every run."""
        if self.contraction.right.data is not None:
            return " when compiling"
        return " before the loop" if self.packs_once else ""

    def prepare(self) -> list[Stmt]:
        """What comes before all tiles."""
        constant = self.contraction.right.data is not None
        return [s for group, buffer in self.packs if not constant for s in self.pack(group, buffer)]

    @property
    def scratch(self) -> tuple[Buffer, ...]:
        """The buffers it wants."""
        return tuple(buffer for _, buffer in self.packs)

    @property
    def names(self) -> Names:
        return self.contraction.names

    def over(self, dims: list[Dim], env: Env, body: Callable[[Env], list[Stmt]]) -> list[Stmt]:
        """Serial loops over dims around a body that gets the values of all axes so far."""
        if not dims:
            return list(body(env))
        first = dims[0]
        return loop(
            self.names.axis(first.names),
            first.extent,
            lambda index: self.over(dims[1:], env | first.bind(index), body),
        )

    def panel_loops(self, groups: list[Panels], env: Env) -> list[Stmt]:
        """All rows against each panel, or all panels against each tile of rows."""

        def body(group: Panels, number: IndexLike, row: IndexLike, rows: int) -> list[Stmt]:
            def finish(i: IndexLike, place: IndexLike, value: Expr) -> list[Stmt]:
                full = env | self.row.bind(row + i) | self.at(group, number, place)
                return self.contraction.finish(full, value)

            return self.tile_body(env, row, rows, group, number, finish)

        def over_panels(body: Callable[[Panels, IndexLike], list[Stmt]]) -> list[Stmt]:
            return [s for g in groups for s in loop(self.names["j0"], g.count, partial(body, g))]

        def over_rows(body: Callable[[IndexLike, int], list[Stmt]]) -> list[Stmt]:
            return tiled(self.names["i0"], self.row.extent, self.tile[0], body)

        if self.rows_first:
            return over_rows(lambda row, rows: over_panels(lambda g, number: body(g, number, row, rows)))
        return over_panels(lambda g, number: over_rows(lambda row, rows: body(g, number, row, rows)))

    @property
    def rows_first(self) -> bool:
        """Whether the loop over rows is the outer one: where the right operand stays in the second cache, and
        the left one does not, or the rows of the result are so far apart that few should be open at once."""
        if not self.row.parts:
            return False
        depth, size = count(self.reduced), self.contraction.anchor.dtype.size
        rows, columns = (upper(d.extent) or 64 for d in (self.row, self.column))
        far = any(abs(s or 0) * size >= FAR_STORES for s in self.contraction.dim_strides(self.row).stores)
        near = depth * columns * size <= self.target.l2
        return near and (depth * rows * size > self.target.l2 or far)

    def at(self, group: Panels, number: IndexLike, place: IndexLike) -> Env:
        """The values of the column's axes at a place of a panel."""
        return self.column.bind(number * group.width + (place + group.start))

    def tile_body(
        self, env: Env, row: IndexLike, rows: int, group: Panels, number: IndexLike, finish: Finish
    ) -> list[Stmt]:
        """One register tile: clear, accumulate over the reduction, finish each row at each place."""
        acc = Buffer(
            self.names.fresh("acc"),
            self.contraction.anchor.dtype,
            (rows, group.vectors, group.lanes),
            "local",
            "register",
        )

        def each(body: Callable[[IndexLike, IndexLike, IndexLike], list[Stmt]]) -> list[Stmt]:
            return tile(self.names, rows, group, body)

        def term(env: Env, i: IndexLike, place: IndexLike) -> Expr:
            full = env | self.row.bind(row + i) | self.at(group, number, place)
            return self.term(full, group, number, place)

        def step(full: Env) -> list[Stmt]:
            products = each(
                lambda i, j, lane: [
                    self.contraction.accumulate(acc, (i, j, lane), term(full, i, j * group.lanes + lane))
                ]
            )
            return [*self.ask_ahead(full, group, number), *products]

        return [
            Alloc(acc),
            *each(lambda i, j, lane: [self.contraction.clear(acc, (i, j, lane))]),
            *self.over(self.reduced, env, step),
            *each(lambda i, j, lane: finish(i, j * group.lanes + lane, Read(acc, (i, j, lane), acc.dtype))),
        ]

    def term(self, env: Env, group: Panels, number: IndexLike, place: IndexLike) -> Expr:
        """One product; the right factor comes from the packed panel when there is one."""
        if not self.packed:
            return self.contraction.term(env)
        buffer = next(b for g, b in self.packs if g is group)
        index = (*self.pack_index(env), number, *self.depth_index(env), place)
        return self.contraction.term(env, Read(buffer, index, buffer.dtype))

    def ask_ahead(self, env: Env, group: Panels, number: IndexLike) -> list[Stmt]:
        """Ask for a row of the next panel of constants, which the first tile of rows would wait for."""
        constant = self.packed and self.contraction.right.data is not None
        if not constant or self.rows_first or group.count == 1 or not self.row.parts:
            return []
        buffer = next(b for g, b in self.packs if g is group)
        ahead = minimum(number + 1, group.count - 1)
        place = (*self.pack_index(env), ahead, *self.depth_index(env))
        return ask_for(self.names, buffer, place, self.target.line)

    # Packing: [batch and further columns][panel][reduction][columns of the panel]

    @property
    def pack_outer(self) -> list[Dim]:
        return [d for d in self.outer if d.names[0] in self.contraction.right.axes]

    def pack_buffer(self, group: Panels) -> Buffer:
        dims = [d.extent for d in self.pack_outer] + [group.count] + [d.extent for d in self.reduced]
        buffer = Buffer(
            self.names.fresh("panel"), self.contraction.anchor.dtype, (*dims, group.width), "scratch"
        )
        if self.contraction.right.data is not None:
            buffer.role, buffer.data = "constant", self.packed_data(group, buffer)
        return buffer

    def packed_data(self, group: Panels, buffer: Buffer) -> Array:
        """The content of a constant operand's panels."""
        right = self.contraction.right
        assert right.data is not None
        array = by_dims(right.data, right.axes, [*self.pack_outer, *self.reduced, self.column])
        array = array[..., group.start : group.start + group.count * group.width]
        panels = array.reshape(*array.shape[:-1], group.count, group.width)
        moved = np.moveaxis(panels, -2, len(self.pack_outer))
        return np.ascontiguousarray(moved, dtype=buffer.dtype.numpy)

    def pack_index(self, env: Env) -> tuple[IndexLike, ...]:
        return tuple(d.join(env) for d in self.pack_outer)

    def depth_index(self, env: Env) -> tuple[IndexLike, ...]:
        return tuple(d.join(env) for d in self.reduced)

    def pack(self, group: Panels, buffer: Buffer) -> list[Stmt]:
        """Copy the right operand into the panels of one group."""
        return self.over(
            self.pack_outer, self.contraction.fixed, lambda env: self.pack_panels(group, buffer, env)
        )

    def pack_panels(self, group: Panels, buffer: Buffer, env: Env) -> list[Stmt]:
        """Copy what the right operand has at some values of the outer axes."""
        turned = any(s != 1 for s in self.contraction.dim_strides(self.column).right)

        def copy(env: Env, number: IndexLike, place: IndexLike) -> Stmt:
            full = env | self.column.bind(number * group.width + (place + group.start))
            index = (*self.pack_index(env), number, *self.depth_index(env), place)
            return Store(buffer, index, cast(self.contraction.right.at(full), buffer.dtype))

        def panel(env: Env, number: IndexLike) -> list[Stmt]:
            if turned:
                *outer, last = self.reduced
                return self.over(
                    outer,
                    env,
                    lambda full: turn(
                        self.names,
                        last.fixed,
                        group.width,
                        lambda k, place: copy(full | last.bind(k), number, place),
                    ),
                )
            return self.over(
                self.reduced,
                env,
                lambda full: unroll(
                    self.names["j1"],
                    group.vectors,
                    lambda j: lanes(
                        self.names["lane"],
                        group.lanes,
                        lambda lane: [copy(full, number, j * group.lanes + lane)],
                    ),
                ),
            )

        return loop(self.names["j0"], group.count, lambda number: panel(env, number))


def _far_rows(contraction: Contraction, reduced: list[Dim]) -> bool:
    """Whether consecutive steps of the reduction read rows of the right operand that displace each other."""
    if not reduced:
        return False
    distances = [
        abs(s or 0) * contraction.anchor.dtype.size for s in contraction.dim_strides(reduced[-1]).right
    ]
    return any(d and d % FAR_BYTES == 0 for d in distances)


def row_room(contraction: Contraction, row: Dim) -> int:
    """How many rows of the left operand stay in the first cache next to each other."""
    size = contraction.anchor.dtype.size
    distances = [abs(s or 0) * size for s in contraction.dim_strides(row).left] if row.parts else []
    return WAYS * min((FAR_BYTES // gcd(d, FAR_BYTES) for d in distances if d), default=FAR_BYTES)
