"""Strassen's product: seven products of blocks half as long in each axis, in place of eight.

Winograd's variant: rows, columns and the reduction are halved, sums of the blocks of each operand are
multiplied, and the results come as sums of those products:

    S1 = A21 + A22   S2 = S1 - A11    S3 = A11 - A21    S4 = A12 - S2
    T1 = B12 - B11   T2 = B22 - T1    T3 = B22 - B12    T4 = T2 - B21
    C11 = A11 B11 + A12 B21                U2 = A11 B11 + S2 T2    U3 = U2 + S3 T3
    C21 = U3 - A22 T4    C22 = U3 + S1 T1    C12 = U2 + S1 T1 + S4 B22

Products that add up run on in the same accumulators; what several results want, a tile keeps in the first
cache. Source: Strassen, Gaussian Elimination is not Optimal, 1969; Huang et al., Strassen's Algorithm
Reloaded, 2016. The large elements of a block round off digits of the small ones in another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from intaglio.loop.ir import Alloc, Buffer, Stmt, Store
from intaglio.loop.recipes.anchor import Nest
from intaglio.loop.recipes.axes import Array, Contraction, Dim, Env, by_dims
from intaglio.loop.recipes.columns import row_room
from intaglio.loop.recipes.nests import along_lanes, ask_for, loop, parallel, stepped, tile
from intaglio.loop.recipes.tiles import Panels, Run, balanced, best_tile, panels
from intaglio.loop.recipes.turned_columns import in_lanes
from intaglio.ops.expr import Expr, Read, cast
from intaglio.shared.index import IndexLike, minimum
from intaglio.shared.target import Target

PRODUCTS = 7
SHORTEST = 16  # steps of half the reduction, below which sums cost more than a product
STRIP = 112  # rows of a half whose sums of products stay in the first caches
NEAR_BYTES = 1024  # rows at multiples of this compete for the same places of the first cache
PLAIN = {0: (0, 0), 1: (0, 1), 4: (1, 1)}  # products whose left factor is a block as it is, and which
SUM_CYCLES = 5.0  # per vector of sums of an operand that is not constant
FAR_BYTES = 8.0  # per cycle, of weights that do not stay in the second cache: there are 7 / 4 of them
FAR_SHARE = 0.75  # of the second cache that weights may take
KEEP_CYCLES = 8.0  # per vector of a half of the result, to keep and fetch what several results want

Halves = tuple[int, int]
"""Which half along the rows of a block, and which along its columns."""


@dataclass
class StrassenTiles:
    """One way to run a product of two operands, both lengths and the reduction cut in halves."""

    contraction: Contraction
    target: Target
    lanes: int
    column: Dim
    row: Dim
    depth: Dim
    rank: int = 0

    @staticmethod
    def plans(contraction: Contraction, target: Target, lanes: int, rank: int) -> Iterator[StrassenTiles]:
        """Such tiles for a constant right operand, where the accuracy allows them and they fit."""
        roles, anchor = contraction.roles, contraction.anchor
        loops = (roles.columns, roles.rows, roles.reduced)
        if anchor.accuracy != "relaxed" or contraction.right.data is None or anchor.combine != "add":
            return
        if anchor.dtype.is_float and not roles.batch and all(len(dims) == 1 for dims in loops):
            column, row, depth = (dims[0] for dims in loops)
            if StrassenTiles.fit(contraction, lanes, column, row, depth):
                yield StrassenTiles(contraction, target, lanes, column, row, depth, rank)

    @staticmethod
    def fit(contraction: Contraction, lanes: int, column: Dim, row: Dim, depth: Dim) -> bool:
        """Whether halves are whole vectors and long enough, and everything is read and stored in vectors."""
        sizes = (column.extent, row.extent, depth.extent)
        return (
            contraction.is_regular
            and all(isinstance(size, int) for size in sizes)
            and column.fixed % (2 * lanes) == 0
            and row.fixed > 1
            and depth.fixed % 2 == 0
            and depth.fixed >= 2 * SHORTEST
            and in_lanes(contraction.dim_strides(column))
            and all(s == 1 for s in contraction.dim_strides(depth).left)
        )

    def __post_init__(self) -> None:
        self.names = self.contraction.names
        self.dtype = self.contraction.anchor.dtype
        self.half_rows = -(-self.row.fixed // 2)
        self.low_rows = self.row.fixed - self.half_rows  # where the second half starts; it may share a row
        self.half_columns = self.column.fixed // 2
        self.half_depth = self.depth.fixed // 2
        sizes = (self.half_rows, self.half_columns, self.half_depth)
        *self.tile, self.product_cycles = best_tile(*sizes, self.lanes, self.target, self.rank)
        clash = row_room(self.contraction, self.row) < self.tile[0]
        self.stored = [p for p in range(PRODUCTS) if clash or p not in PLAIN]

    @property
    def name(self) -> str:
        return f"strassen {self.column.names} {self.tile[0]}x{self.tile[1]}"

    @property
    def cycles(self) -> float:
        """Estimated cycles: products, sums of operands, and what is kept between products."""
        rows, columns, depth = self.half_rows, self.half_columns / self.lanes, self.half_depth
        sums = len(self.stored) * rows * depth / self.lanes
        weights = PRODUCTS * self.half_depth * self.half_columns * self.dtype.size
        far = (1 - 4 / PRODUCTS) * weights / FAR_BYTES if weights > self.target.l2 * FAR_SHARE else 0.0
        return PRODUCTS * self.product_cycles + SUM_CYCLES * sums + KEEP_CYCLES * rows * columns + far

    def nest(self) -> Nest:
        """Sums of both operands' blocks, then panel by panel of the result's halves all seven products."""
        names = self.names
        pitch = self.half_depth + (self.lanes if self.half_depth * self.dtype.size % NEAR_BYTES == 0 else 0)
        shape = (len(self.stored), self.half_rows, pitch)
        self.sums = Buffer(names.fresh("sums"), self.dtype, shape, "scratch")
        self.panels = panels(self.half_columns, self.tile[1], self.lanes)
        self.weights = {group: self.panel_buffer(group) for group in self.panels}
        body = [
            *self.fill(),
            *(
                s
                for group in self.panels
                for s in loop(names["j0"], group.count, lambda number: self.strips(group, number))
            ),
        ]
        work = 2 * self.row.fixed * self.column.fixed * self.depth.fixed
        notes = (
            f"Strassen: seven products of halves of {self.row.names}, {self.column.names} and "
            f"{self.depth.names}, sums of constants when compiling",
            f"tile rows by {self.tile[0]} and columns by {self.tile[1]} vectors of {self.lanes}, "
            "accumulators in registers",
        )
        independent = {names[name] for name in ("r1", "j0", "r0")}
        return Nest(parallel(body, work, independent), notes, (self.sums, *self.weights.values()))

    # Left factors: [A11, A12, S2, S3, A22, S1, S4][row of a half][step of half the reduction], without blocks
    # that are read where they are

    def block(self, half: Halves, row: IndexLike, k: IndexLike) -> Expr:
        """An element of a block of the left operand."""
        env = self.row.bind(row + half[0] * self.low_rows) | self.depth.bind(k + half[1] * self.half_depth)
        return cast(self.contraction.left.at(self.contraction.fixed | env), self.dtype)

    def left(self, product: int, row: IndexLike, k: IndexLike) -> Expr:
        """The left factor of a product at a row of the half and a step of half the reduction."""
        if product in self.stored:
            return Read(self.sums, (self.stored.index(product), row, k), self.dtype)
        return self.block(PLAIN[product], row, k)

    def fill(self) -> list[Stmt]:
        """Store left factors."""

        def element(row: IndexLike, k: IndexLike) -> list[Stmt]:
            made = _left_factors(*(self.block((i, j), row, k) for i in (0, 1) for j in (0, 1)))
            return [Store(self.sums, (n, row, k), made[p]) for n, p in enumerate(self.stored)]

        return loop(
            self.names["r1"],
            self.half_rows,
            lambda row: along_lanes(self.names, self.half_depth, self.lanes, lambda k: element(row, k)),
        )

    # Blocks of the right operand and their sums, in the order in which products read them:
    # [panel][B11, B21, T2, T3, -T4, T1, B22][step of half the reduction][column of the panel]

    def panel_buffer(self, group: Panels) -> Buffer:
        right = self.contraction.right
        assert right.data is not None
        data = by_dims(right.data, right.axes, [self.depth, self.column]).astype(np.float64)
        quarters = [block for half in np.split(data, 2) for block in np.split(half, 2, axis=1)]
        own = slice(group.start, group.start + group.count * group.width)
        made = np.stack([block[:, own] for block in _right_factors(*quarters)])
        split = made.reshape(PRODUCTS, self.half_depth, group.count, group.width)
        panel = np.ascontiguousarray(np.moveaxis(split, 2, 0), dtype=self.dtype.numpy)
        return Buffer(self.names.fresh("panel"), self.dtype, panel.shape, "constant", data=panel)

    def at(self, group: Panels, number: IndexLike, place: IndexLike, half: int) -> Env:
        """The values of the column's axes at a place of a panel, in one of the halves."""
        return self.column.bind(number * group.width + (place + (group.start + half * self.half_columns)))

    # Products

    def strips(self, group: Panels, number: IndexLike) -> list[Stmt]:
        """All rows against the panels of one range of columns, in both halves."""
        return _tiled(
            self.names["r0"],
            self.half_rows,
            STRIP,
            self.row.fixed % 2 == 1,
            lambda first, rows, shared: _Strip(self, group, number, first, rows, shared).products(),
        )


@dataclass
class _Strip:
    """Some rows of both halves against the panels of one range of columns."""

    tiles: StrassenTiles
    group: Panels
    number: IndexLike
    first: IndexLike
    rows: int
    shared: bool
    """Whether the first row of the second half is the last one of the first half, which finishes it."""

    def products(self) -> list[Stmt]:
        """All seven, in three chains of sums."""
        tiles, names = self.tiles, self.tiles.names
        shape = (self.rows, self.group.width)
        start, u2, u3 = (
            Buffer(names.fresh(name), tiles.dtype, shape, "local", "stack") for name in ("start", "u2", "u3")
        )

        def over_rows(chain: Callable[[IndexLike, int, int], Sequence[Stmt]]) -> list[Stmt]:
            return _tiled(
                names["i0"],
                self.rows,
                tiles.tile[0],
                self.shared,
                lambda row, rows, shared: chain(row, rows, int(shared)),
            )

        def above(row: IndexLike, rows: int, _: int) -> list[Stmt]:
            acc = self.accumulators(rows)
            return [
                Alloc(acc),
                *self.each(acc, lambda i, place, at: [tiles.contraction.clear(acc, at)]),
                *self.multiply(acc, row, 0),
                *self.keep(acc, row, start),
                *self.multiply(acc, row, 1),
                *self.finish(acc, row, (0, 0)),
            ]

        def left(row: IndexLike, rows: int, done: int) -> list[Stmt]:
            acc = self.accumulators(rows)
            return [
                Alloc(acc),
                *self.each(acc, lambda i, place, at: [Store(acc, at, self.read(start, row + i, place))]),
                *self.multiply(acc, row, 2),
                *self.keep(acc, row, u2),
                *self.multiply(acc, row, 3),
                *self.keep(acc, row, u3),
                *self.multiply(acc, row, 4),
                *self.finish(acc, row, (1, 0), done),
            ]

        def right(row: IndexLike, rows: int, done: int) -> list[Stmt]:
            acc = self.accumulators(rows)
            return [
                Alloc(acc),
                *self.each(acc, lambda i, place, at: [tiles.contraction.clear(acc, at)]),
                *self.multiply(acc, row, 5),
                *self.finish(acc, row, (1, 1), done, u3),
                *self.each(
                    acc,
                    lambda i, place, at: [
                        tiles.contraction.accumulate(acc, at, self.read(u2, row + i, place))
                    ],
                ),
                *self.multiply(acc, row, 6),
                *self.finish(acc, row, (0, 1)),
            ]

        kept = [Alloc(start), *over_rows(above), Alloc(u2), Alloc(u3)]
        return [*kept, *over_rows(left), *over_rows(right)]

    def accumulators(self, rows: int) -> Buffer:
        shape = (rows, self.group.vectors, self.group.lanes)
        return Buffer(self.tiles.names.fresh("acc"), self.tiles.dtype, shape, "local", "register")

    def each(
        self,
        acc: Buffer,
        body: Callable[[IndexLike, IndexLike, tuple[IndexLike, ...]], Sequence[Stmt]],
        done: int = 0,
    ) -> list[Stmt]:
        """`body(row, place, index)` for each accumulator, without the first rows that are done."""
        rows = acc.shape[0]
        assert isinstance(rows, int)
        return tile(
            self.tiles.names,
            rows - done,
            self.group,
            lambda i, j, lane: body(i + done, j * self.group.lanes + lane, (i + done, j, lane)),
        )

    def read(self, kept: Buffer, row: IndexLike, place: IndexLike) -> Expr:
        return Read(kept, (row, place), kept.dtype)

    def multiply(self, acc: Buffer, row: IndexLike, product: int) -> list[Stmt]:
        """Add one product of blocks to a tile."""
        weights, names = self.tiles.weights[self.group], self.tiles.names

        def step(k: IndexLike) -> list[Stmt]:
            def term(i: IndexLike, place: IndexLike) -> Expr:
                factor = Read(weights, (self.number, product, k, place), acc.dtype)
                return self.tiles.left(product, self.first + row + i, k) * factor

            products = self.each(
                acc, lambda i, place, at: [self.tiles.contraction.accumulate(acc, at, term(i, place))]
            )
            return [*self.ask_ahead(product, k), *products]

        return loop(names.axis(self.tiles.depth.names), self.tiles.half_depth, step)

    def ask_ahead(self, product: int, k: IndexLike) -> list[Stmt]:
        """Ask for a line of the panel after the next, which the first tile of rows would wait for."""
        later, ahead = divmod(product + 2, PRODUCTS)
        number = minimum(self.number + later, self.group.count - 1)
        weights = self.tiles.weights[self.group]
        return ask_for(self.tiles.names, weights, (number, ahead, k), self.tiles.target.line)

    def keep(self, acc: Buffer, row: IndexLike, kept: Buffer) -> list[Stmt]:
        """Store what a tile has so far."""
        return self.each(acc, lambda i, place, at: [Store(kept, (row + i, place), Read(acc, at, acc.dtype))])

    def finish(
        self, acc: Buffer, row: IndexLike, half: Halves, done: int = 0, more: Buffer | None = None
    ) -> list[Stmt]:
        """A tile, and what else belongs to its result, through the epilogue."""
        tiles = self.tiles

        def element(i: IndexLike, place: IndexLike, at: tuple[IndexLike, ...]) -> list[Stmt]:
            value: Expr = Read(acc, at, acc.dtype)
            if more is not None:
                value = value + self.read(more, row + i, place)
            env = tiles.contraction.fixed | tiles.at(self.group, self.number, place, half[1])
            env |= tiles.row.bind(self.first + row + i + half[0] * tiles.low_rows)
            return tiles.contraction.finish(env, value)

        return self.each(acc, element, done)


def _tiled(
    name: str,
    extent: int,
    most: int,
    shared: bool,
    body: Callable[[IndexLike, int, bool], Sequence[Stmt]],
) -> list[Stmt]:
    """`tiled`, with the first tile by itself where its first row is `shared` between the halves."""
    first, *rest = balanced(extent, most)
    assert isinstance(first.count, int)
    runs = [(Run(0, first.size, 1), True), (replace(first, start=first.size, count=first.count - 1), False)]
    runs = [*(runs if shared else [(first, False)]), *((run, False) for run in rest)]
    return [
        s
        for run, alone in runs
        for s in stepped(name, run.start, run.size, run.count, lambda row: body(row, run.size, alone))
    ]


def _left_factors(a11: Expr, a12: Expr, a21: Expr, a22: Expr) -> tuple[Expr, ...]:
    s1 = a21 + a22
    s2 = s1 - a11
    return a11, a12, s2, a11 - a21, a22, s1, a12 - s2


def _right_factors(b11: Array, b12: Array, b21: Array, b22: Array) -> tuple[Array, ...]:
    t1 = b12 - b11
    t2 = b22 - t1
    return b11, b21, t2, b22 - b12, b21 - t2, t1, b22
