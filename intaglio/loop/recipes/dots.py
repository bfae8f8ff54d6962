"""Register tiles whose lanes run along the reduction, for operands that both store it contiguously."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from intaglio.loop.ir import Alloc, Buffer, Stmt
from intaglio.loop.recipes.anchor import Nest
from intaglio.loop.recipes.axes import ALONE, Contraction, Dim, Env, count
from intaglio.loop.recipes.nests import Names, lanes, loop, parallel, tiled, unroll
from intaglio.loop.recipes.tiles import Panels, balanced, panels, tile_cycles
from intaglio.ops.expr import Read
from intaglio.shared.index import IndexLike, product, upper
from intaglio.shared.target import Target

SMALLEST = 4  # lanes
SUM_CYCLES = 18  # to add up the lanes of one accumulator and finish the element
TILES_32 = ((4, 4), (1, 8), (2, 8), (8, 1), (8, 2), (3, 6), (6, 3), (5, 5))
TILES_16 = ((2, 4), (1, 6), (3, 3), (6, 1), (4, 2))


@dataclass
class DotTiles:
    """One way to run a contraction: rows of both operands against each other."""

    contraction: Contraction
    target: Target
    lanes: int
    row: Dim
    column: Dim
    outer: list[Dim]
    depth: Dim
    further: list[Dim]
    tile: tuple[int, int]
    cycles: float

    @staticmethod
    def plans(contraction: Contraction, target: Target, lanes: int, rank: int = 0) -> Iterator[DotTiles]:
        """At most one: the contiguous axis of the reduction, the longest rows and columns."""
        if not contraction.is_regular:
            return
        roles = contraction.roles
        batch, rows, columns, reduced = roles.batch, roles.rows, roles.columns, roles.reduced
        unit = [
            d
            for d in reduced
            if isinstance(d.extent, int)
            and d.extent >= SMALLEST
            and all(s == 1 for s in contraction.dim_strides(d).left + contraction.dim_strides(d).right)
        ]
        if not unit:
            return
        depth = unit[0]
        while lanes > depth.extent:  # type: ignore[operator]
            lanes //= 2
        row, column = (
            max(dims, key=lambda d: upper(d.extent) or 1 << 30, default=ALONE) for dims in (rows, columns)
        )
        outer = [*batch, *(d for d in (*rows, *columns) if d is not row and d is not column)]
        further = [d for d in reduced if d is not depth]
        tile, cycles = _best(row, column, depth, further, lanes, target, rank)
        yield DotTiles(
            contraction, target, lanes, row, column, outer, depth, further, tile, cycles * count(outer)
        )

    @property
    def name(self) -> str:
        return f"dots along {self.depth.names} {self.tile[0]}x{self.tile[1]}"

    def nest(self) -> Nest:
        """The loops."""
        work = upper(product(tuple(self.contraction.extents.values())))
        body = self.over(self.outer, self.contraction.fixed, self.columns)
        note = (
            f"tile rows {self.row.names or '-'} by {self.tile[0]} and columns {self.column.names or '-'} by "
            f"{self.tile[1]}, {self.lanes} lanes along {self.depth.names}, accumulators in registers"
        )
        independent = {self.names["i0"], self.names["j0"], *(self.names.axis(d.names) for d in self.outer)}
        return Nest(parallel(body, None if work is None else 2 * work, independent), (note,))

    @property
    def names(self) -> Names:
        return self.contraction.names

    def over(self, dims: list[Dim], env: Env, body: Callable[[Env], list[Stmt]]) -> list[Stmt]:
        if not dims:
            return body(env)
        first = dims[0]
        return loop(
            self.names.axis(first.names),
            first.extent,
            lambda index: self.over(dims[1:], env | first.bind(index), body),
        )

    def columns(self, env: Env) -> list[Stmt]:
        """Tiles of columns around tiles of rows."""
        return tiled(
            self.names["j0"],
            self.column.extent,
            self.tile[1],
            lambda column, columns: tiled(
                self.names["i0"],
                self.row.extent,
                self.tile[0],
                lambda row, rows: self.tile_body(env, row, rows, column, columns),
            ),
        )

    def tile_body(self, env: Env, row: IndexLike, rows: int, column: IndexLike, columns: int) -> list[Stmt]:
        """One register tile: totals from whole vectors, then from the narrower rest, then the epilogue."""
        names, contraction = self.names, self.contraction
        total = Buffer(names.fresh("total"), contraction.anchor.dtype, (rows, columns), "local", "register")

        def each(body: Callable[[IndexLike, IndexLike], list[Stmt]]) -> list[Stmt]:
            return unroll(names["i1"], rows, lambda i: unroll(names["j1"], columns, lambda j: body(i, j)))

        def at(env: Env, i: IndexLike, j: IndexLike) -> Env:
            return env | self.row.bind(row + i) | self.column.bind(column + j)

        def add(
            full: Env, into: Buffer, i: IndexLike, j: IndexLike, k: IndexLike, *lane: IndexLike
        ) -> list[Stmt]:
            value = contraction.term(at(full, i, j) | self.depth.bind(k))
            return [contraction.accumulate(into, (i, j, *lane), value)]

        def scalars(part: Panels) -> list[Stmt]:
            return self.over(
                self.further,
                env,
                lambda full: loop(
                    names["k0"],
                    part.count,
                    lambda k: each(lambda i, j: add(full, total, i, j, k + part.start)),
                ),
            )

        def vectors(part: Panels) -> list[Stmt]:
            acc = Buffer(names.fresh("acc"), total.dtype, (rows, columns, part.lanes), "local", "register")
            over_lanes = partial(lanes, names["lane"], part.lanes)
            return [
                Alloc(acc),
                *each(lambda i, j: over_lanes(lambda lane: [contraction.clear(acc, (i, j, lane))])),
                *self.over(
                    self.further,
                    env,
                    lambda full: loop(
                        names["k0"],
                        part.count,
                        lambda k: each(
                            lambda i, j: over_lanes(
                                lambda lane: add(full, acc, i, j, k * part.lanes + lane + part.start, lane)
                            )
                        ),
                    ),
                ),
                *each(
                    lambda i, j: over_lanes(
                        lambda lane: [
                            contraction.accumulate(total, (i, j), Read(acc, (i, j, lane), acc.dtype))
                        ]
                    )
                ),
            ]

        assert isinstance(self.depth.extent, int)
        return [
            Alloc(total),
            *each(lambda i, j: [contraction.clear(total, (i, j))]),
            *(
                s
                for part in panels(self.depth.extent, 1, self.lanes)
                for s in (vectors(part) if part.lanes > 1 else scalars(part))
            ),
            *each(lambda i, j: contraction.finish(at(env, i, j), Read(total, (i, j), total.dtype))),
        ]


def _best(
    row: Dim, column: Dim, depth: Dim, further: list[Dim], lanes: int, target: Target, rank: int
) -> tuple[tuple[int, int], float]:
    """The tile with the least estimated cycles, or one of a later rank."""
    found = []
    assert isinstance(depth.extent, int)
    steps = sum(part.count for part in panels(depth.extent, 1, lanes)) * count(further)
    for rows, columns in TILES_32 if target.registers >= 32 else TILES_16:
        cycles = 0.0
        for down in balanced(upper(row.extent) or 64, rows):
            for across in balanced(upper(column.extent) or 64, columns):
                assert isinstance(down.count, int)
                assert isinstance(across.count, int)
                size = down.size * across.size
                one = steps * tile_cycles(down.size, across.size, target) + SUM_CYCLES * size + 10
                cycles += one * down.count * across.count
        found.append((cycles, (rows, columns)))
    cycles, tile = sorted(found)[min(rank, len(found) - 1)]
    return tile, cycles
