"""Register tiles of integer contractions: lanes along an axis of the result, groups along the reduction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from intaglio.loop.ir import Alloc, Buffer, Reduce, Stmt, Store
from intaglio.loop.recipes.axes import Contraction, Dim, Env, count
from intaglio.loop.recipes.columns import MOVE_CYCLES, Finish
from intaglio.loop.recipes.integer_panels import ZERO, Factors, IntegerPanels
from intaglio.loop.recipes.nests import loop, tile, unroll
from intaglio.loop.recipes.tiles import Panels, best_tile
from intaglio.loop.recipes.turned_columns import TurnedColumns
from intaglio.ops.expr import Const, Expr, Read, cast
from intaglio.shared import dtypes
from intaglio.shared.index import IndexLike
from intaglio.shared.target import Target

PACK_CYCLES = 2.0  # to carry one byte into a group


@dataclass
class IntegerTiles(IntegerPanels):
    """Columns as groups of narrow integers, in tiles that start from what zero points ask for."""

    @classmethod
    def made(
        cls,
        contraction: Contraction,
        target: Target,
        factors: Factors,
        loops: tuple[Dim, Dim, list[Dim], list[Dim]],
        rank: int,
    ) -> IntegerTiles:
        """The tiles with the least estimated cycles for loops over column, row, outer and reduced axes."""
        column, row, outer, reduced = loops
        group, width = factors.form.group, target.lanes(4)
        assert isinstance(column.extent, int)
        groups = count(reduced[:-1]) * -(-reduced[-1].fixed // group)
        rows, vectors, cycles = best_tile(row.extent, column.extent, groups, width, target, rank)
        if factors.right.data is None:
            cycles += groups * group * column.extent * PACK_CYCLES
        if not factors.in_place and factors.left.data is None:
            cycles += groups * group * count([row]) * MOVE_CYCLES
        shape = (rows, vectors)
        cycles *= count(outer)
        return cls(
            contraction, target, width, column, row, outer, reduced, True, shape, cycles, factors=factors
        )

    def prepare(self) -> list[Stmt]:
        """Panels, rows that do not lie as they are needed, and the sums that zero points ask for."""
        before = super().prepare()
        fixed, factors = self.contraction.variables, self.factors
        if not factors.in_place:
            before += self.copy_rows()
        if not factors.right.is_centred(fixed):
            before += self.add_rows()
        if not factors.left.is_centred(fixed):
            before += [s for group, panel in self.packs for s in self.add_columns(group, panel)]
        return before

    def add_columns(self, group: Panels, panel: Buffer) -> list[Stmt]:
        """The sums of the columns of panels, as accumulators need them."""
        right, names = self.factors.right, self.names
        outer = len(self.pack_outer)
        shape = (*panel.shape[: outer + 1], group.width)
        sums = Buffer(names.fresh("sums"), dtypes.i32, shape, "scratch", "heap")
        self.sums.append((group, sums))
        terms = prod(d.fixed for d in self.reduced)
        if panel.data is not None:
            shift = right.offset(self.contraction.variables)
            assert isinstance(shift, Const)
            between = tuple(range(outer + 1, panel.data.ndim - 2))
            total = panel.data.astype(np.int64).sum((*between, -1)) - terms * int(shift.value)
            sums.role, sums.data = "constant", total.astype(np.int32)
            return []
        if self.ones is None:
            data = np.ones(self.group, self.factors.left.dtype.numpy)
            self.ones = Buffer(
                names.fresh("ones"), self.factors.left.dtype, data.shape, "constant", data=data
            )
        ones = self.ones

        def store(env: Env, number: IndexLike) -> list[Stmt]:
            def finish(_: IndexLike, place: IndexLike, value: Expr) -> list[Stmt]:
                offset = right.offset(env | self.at(group, number, place))
                if offset != ZERO:
                    value = value - offset * Const(terms, dtypes.i32)
                return [Store(sums, (*self.index(self.pack_outer, env), number, place), value)]

            return self.tiles(
                env,
                1,
                group,
                number,
                lambda *_: ZERO,
                lambda env_, i, k: Read(ones, (k % self.group,), ones.dtype),
                finish,
            )

        return self.over(
            self.pack_outer,
            self.contraction.fixed,
            lambda env: loop(names["j0"], group.count, lambda number: store(env, number)),
        )

    def tile_body(
        self, env: Env, row: IndexLike, rows: int, group: Panels, number: IndexLike, finish: Finish
    ) -> list[Stmt]:
        """One register tile: start from what zero points ask for, add groups, finish."""

        def start(i: IndexLike, place: IndexLike) -> Expr:
            return self.start(
                env | self.row.bind(row + i) | self.at(group, number, place), group, number, place
            )

        def factor(full: Env, i: IndexLike, k: IndexLike) -> Expr:
            return self.factor(full | self.row.bind(row + i), k)

        return self.tiles(env, rows, group, number, start, factor, finish)

    def tiles(
        self,
        env: Env,
        rows: int,
        group: Panels,
        number: IndexLike,
        start: Callable[[IndexLike, IndexLike], Expr],
        factor: Callable[[Env, IndexLike, IndexLike], Expr],
        finish: Finish,
    ) -> list[Stmt]:
        """A tile from starts to ends, its rows' factors given."""
        names = self.names
        panel = next(buffer for own, buffer in self.packs if own is group)
        acc = Buffer(names.fresh("acc"), dtypes.i32, (rows, group.vectors, group.lanes), "local", "register")

        def each(body: Callable[[IndexLike, IndexLike, IndexLike], list[Stmt]]) -> list[Stmt]:
            return tile(names, rows, group, body)

        def step(full: Env, k: IndexLike) -> list[Stmt]:
            at = (*self.index(self.pack_outer, full), number, *self.index(self.reduced[:-1], full), k)

            def add(i: IndexLike, j: IndexLike, lane: IndexLike, q: IndexLike) -> list[Stmt]:
                first = cast(factor(full, i, k * self.group + q), dtypes.i32)
                second = Read(panel, (*at, j * group.lanes + lane, q), panel.dtype)
                return [Reduce(acc, (i, j, lane), "add", first * cast(second, dtypes.i32))]

            return each(lambda i, j, lane: unroll(names["q"], self.group, lambda q: add(i, j, lane, q)))

        return [
            Alloc(acc),
            *each(lambda i, j, lane: [Store(acc, (i, j, lane), start(i, j * group.lanes + lane))]),
            *self.over(
                self.reduced[:-1],
                env,
                lambda full: loop(names["k0"], self.groups, lambda k: step(full, k)),
            ),
            *each(lambda i, j, lane: finish(i, j * group.lanes + lane, Read(acc, (i, j, lane), acc.dtype))),
        ]

    def start(self, env: Env, group: Panels, number: IndexLike, place: IndexLike) -> Expr:
        """What an accumulator starts from: products of the offsets with the sums, taken off."""
        value: Expr = ZERO
        sums = next((buffer for own, buffer in self.sums if own is group), None)
        if sums is not None:
            at = (*self.index(self.pack_outer, env), number, place)
            value = value - self.factors.left.offset(env) * Read(sums, at, sums.dtype)
        if self.row_sums is not None:
            total = Read(self.row_sums, self.index(self.row_dims, env), dtypes.i32)
            value = value - self.factors.right.offset(env) * total
        return value


@dataclass
class TurnedIntegers(IntegerTiles, TurnedColumns):
    """Columns as groups of narrow integers, turned before the epilogue."""
