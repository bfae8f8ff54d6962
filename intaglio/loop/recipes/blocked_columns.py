"""Register tiles over blocks that stay in the caches.

* A long reduction runs block by block: tiles add to partial sums, which go through the epilogue at the end.
* A panel of the right operand is packed right before the tiles that read it, not all panels before all tiles.
* Where steps of the reduction lie pages apart in the left operand, a block of rows is copied together first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from intaglio.loop.ir import Alloc, Block, Buffer, Stmt, Store
from intaglio.loop.lower_group import combine_identity
from intaglio.loop.recipes.anchor import Nest
from intaglio.loop.recipes.axes import Dim, Env, count
from intaglio.loop.recipes.columns import FAR_BYTES, ColumnTiles
from intaglio.loop.recipes.nests import along_lanes, lanes, loop, parallel, tile, tiled, turn, unroll
from intaglio.loop.recipes.tiles import Panels, panels
from intaglio.loop.threads import worth_threads
from intaglio.ops.expr import Expr, Read, cast
from intaglio.shared.index import IndexLike, product, upper

LONG = 8192  # steps from which a reduction runs in blocks
DEEP = 1024  # the same, where rows of the left operand displace each other from a cache
BLOCK = 512  # steps of such a block
DEEP_ROWS = 64  # rows from which that pays for the partial sums
FAR_COLUMNS = 64  # columns from which it pays to copy rows that are far apart
STACK_BYTES = 64 << 10  # of a packed block
MOST_BLOCKS = 8  # more than the least number of row blocks, when looking for blocks of one size

Body = Callable[..., Sequence[Stmt]]
Range = tuple[IndexLike, int]
"""Where a block starts, and its extent."""


@dataclass
class BlockedColumns(ColumnTiles):
    """Columns of blocks: `block` are the most rows and steps of one."""

    block: tuple[int, int] = (0, 0)
    partial: Buffer | None = None
    near: dict[Panels, Buffer] = field(default_factory=dict)
    rows_packed: bool = False

    @staticmethod
    def of(whole: ColumnTiles) -> ColumnTiles:
        """The same tiles in blocks, where that pays."""
        fixed = all(isinstance(dim.extent, int) for dim in (whole.row, *whole.reduced))
        if len(whole.reduced) != 1 or not whole.row.parts or not fixed:
            return whole
        names = ("contraction", "target", "lanes", "column", "row", "outer", "reduced", "packed", "tile")
        made = BlockedColumns(**{n: getattr(whole, n) for n in names}, cycles=whole.cycles)
        return made if made.choose_blocks() else whole

    def choose_blocks(self) -> bool:
        """Decide on the blocks; False when one block is everything, and nothing is packed on the way."""
        depth, rows = count(self.reduced), count([self.row])
        size = self.contraction.anchor.dtype.size
        deep = self.deep_rows(depth, rows, size)
        self.rows_packed = not deep and self.far_left(depth, rows, size)
        most = STACK_BYTES // (depth * size) // self.tile[0] * self.tile[0] if self.rows_packed else rows
        self.block = (deep or most, BLOCK if deep else depth)
        return bool(deep or self.rows_packed or self.packs_near)

    def deep_rows(self, depth: int, rows: int, size: int) -> int:
        """Rows of a block when the reduction runs in blocks, else 0."""
        columns = count([self.column])
        if rows < DEEP_ROWS or self.outer or not self.is_too_long(depth, columns, size):
            return 0
        most = max(self.tile[0], self.target.l2 // 2 // (BLOCK * size))
        threads = worth_threads(2 * depth * rows * columns)
        least = max(-(-rows // most), 2 if threads else 1)
        even = (k for k in range(least, least + MOST_BLOCKS) if rows % k == 0)
        return rows // next(even, least) if not threads else next((rows // k for k in even), 0)

    def is_too_long(self, depth: int, columns: int, size: int) -> bool:
        """Whether a panel is beyond the second cache, or rows of the left operand displace each other from
        the first one."""
        lines = [abs(s or 0) * size for s in self.contraction.dim_strides(self.row).left]
        clash = all(d and d % FAR_BYTES == 0 for d in lines)
        near = depth * columns * size <= 2 * self.target.l2
        return depth >= LONG or (depth >= DEEP and clash and near)

    def far_left(self, depth: int, rows: int, size: int) -> bool:
        """Whether rows of the left operand lie side by side, but steps of the reduction pages apart: out of
        reach of the cache, or in places of it that displace each other."""
        along, across = self.contraction.dim_strides(self.reduced[0]), self.contraction.dim_strides(self.row)
        distances = [abs(s or 0) * size for s in along.left]
        clash = all(d >= FAR_BYTES and d % FAR_BYTES == 0 for d in distances)
        beyond = all(d >= FAR_BYTES for d in distances) and rows * depth * size > self.target.l2
        return (
            (clash or beyond)
            and count([self.column]) >= FAR_COLUMNS
            and depth * size * self.tile[0] * 2 <= STACK_BYTES
            and all(s == 1 for s in across.left)
        )

    @property
    def packs_near(self) -> bool:
        """Whether each panel is packed right before the tiles that read it."""
        width = self.tile[1] * self.lanes * self.contraction.anchor.dtype.size
        return (
            self.packed
            and self.contraction.right.data is None
            and not self.packs_once
            and not self.inner_panels
            and width * self.block[1] <= STACK_BYTES
            and len(self.pack_outer) == len(self.outer)
            and count([self.row]) <= self.block[0]
        )

    @property
    def far_cycles(self) -> float:
        return 0.0 if self.packs_near else super().far_cycles

    @property
    def is_deep(self) -> bool:
        return self.block[1] < count(self.reduced)

    @property
    def inner_panels(self) -> bool:
        return not self.is_deep and self.rows_first

    @property
    def name(self) -> str:
        return f"{super().name} in blocks"

    def nest(self) -> Nest:
        """The loops."""
        assert isinstance(self.column.extent, int)
        names, dtype = self.names, self.contraction.anchor.dtype
        groups = panels(self.column.extent, self.tile[1], self.lanes)
        scratch: list[Buffer] = []
        before: list[Stmt] = []
        if self.is_deep:
            shape = (self.row.extent, self.column.extent)
            self.partial = Buffer(names.fresh("partial"), dtype, shape, "scratch")
            scratch.append(self.partial)
        if self.packed and not self.packs_near:
            self.packs = [(group, self.pack_buffer(group)) for group in groups]
            scratch += [buffer for _, buffer in self.packs]
            if self.contraction.right.data is None:
                before = [s for group, buffer in self.packs for s in self.pack(group, buffer)]
        main = self.over(
            self.outer,
            self.contraction.fixed,
            lambda env: tiled(
                names["r0"],
                self.row.extent,
                self.block[0],
                lambda first, size: self.row_block(groups, env, first, size),
            ),
        )
        work = upper(product(tuple(self.contraction.extents.values())))
        work = None if work is None else 2 * work
        independent = {names["r0"], names["i0"], names["j0"], *(names.axis(d.names) for d in self.outer)}
        once, before = (before, []) if self.packs_once else ([], before)
        body = parallel([*before, *main], work, independent)
        return Nest(body, self.notes(), tuple(scratch), Block(tuple(once)))

    def notes(self) -> tuple[str, ...]:
        rows, vectors = self.tile
        found = [
            f"tile rows {self.row.names} by {rows} and columns {self.column.names} by {vectors} vectors of "
            f"{self.lanes}, accumulators in registers"
        ]
        if self.is_deep:
            found.append(f"{self.depth.names} in blocks of {self.block[1]}, with partial sums")
        if self.packed:
            when = ", each before it is read" if self.packs_near else self.packing_time
            found.append(f"pack the operand with {self.column.names} into panels{when}")
        if self.rows_packed:
            found.append(f"pack rows {self.row.names} by {self.block[0]}")
        return tuple(found)

    @property
    def depth(self) -> Dim:
        return self.reduced[0]

    def row_block(self, groups: list[Panels], env: Env, first: IndexLike, size: int) -> list[Stmt]:
        """All columns of a block of rows."""
        steps = tiled(
            self.names["k1"],
            self.depth.extent,
            self.block[1],
            lambda start, extent: self.depth_block(groups, env, (first, size), (start, extent)),
        )
        if not self.is_deep:
            return steps
        assert self.partial is not None
        partial = self.partial
        zero = combine_identity(self.contraction.anchor.combine, partial.dtype)
        return [
            *self.over_partial(first, size, lambda row, place: [Store(partial, (row, place), zero)]),
            *steps,
            *self.over_partial(
                first,
                size,
                lambda row, place: self.contraction.finish(
                    env | self.row.bind(row) | self.column.bind(place),
                    Read(partial, (row, place), partial.dtype),
                ),
            ),
        ]

    def over_partial(self, first: IndexLike, size: int, body: Body) -> list[Stmt]:
        assert isinstance(self.column.extent, int)
        extent = self.column.extent
        return loop(
            self.names["i2"],
            size,
            lambda i: along_lanes(self.names, extent, self.lanes, lambda place: body(first + i, place)),
        )

    def depth_block(self, groups: list[Panels], env: Env, rows: Range, steps: Range) -> list[Stmt]:
        """All columns of a block of rows and steps."""
        first, size = rows
        before: list[Stmt] = []
        left: Buffer | None = None
        if self.rows_packed:
            left = Buffer(
                self.names.fresh("rows"), self.contraction.anchor.dtype, (steps[1], size), "local", "stack"
            )
            before = [Alloc(left), *self.pack_rows(left, env, first, steps[0])]

        def tiles(body: Body) -> list[Stmt]:
            return tiled(self.names["i0"], size, self.tile[0], body)

        def panel(group: Panels, number: IndexLike) -> list[Stmt]:
            packing = self.pack_near(group, number, env, steps) if self.packs_near else []
            return [
                *packing,
                *tiles(lambda row, n: self.block_tile(env, (first, row, n), group, number, steps, left)),
            ]

        def over_panels(row: IndexLike, n: int) -> list[Stmt]:
            return [
                s
                for group in groups
                for s in loop(
                    self.names["j0"],
                    group.count,
                    lambda number: self.block_tile(env, (first, row, n), group, number, steps, left),
                )
            ]

        if self.inner_panels:
            return [*before, *tiles(over_panels)]
        return [
            *before,
            *(
                s
                for group in groups
                for s in loop(self.names["j0"], group.count, lambda number: panel(group, number))
            ),
        ]

    def block_tile(
        self,
        env: Env,
        rows: tuple[IndexLike, IndexLike, int],
        group: Panels,
        number: IndexLike,
        steps: Range,
        left: Buffer | None,
    ) -> list[Stmt]:
        """One register tile over one block of steps."""
        (first, row, size), (start, depth), contraction = rows, steps, self.contraction
        shape = (size, group.vectors, group.lanes)
        acc = Buffer(self.names.fresh("acc"), contraction.anchor.dtype, shape, "local", "register")

        def each(body: Body) -> list[Stmt]:
            return tile(self.names, size, group, body)

        def place_of(j: IndexLike, lane: IndexLike) -> IndexLike:
            return j * group.lanes + lane

        def step(k: IndexLike) -> list[Stmt]:
            def term(i: IndexLike, place: IndexLike) -> Expr:
                full = env | self.row.bind(first + row + i) | self.at(group, number, place)
                full |= self.depth.bind(start + k)
                factor = None if left is None else Read(left, (k, row + i), left.dtype)
                return contraction.term(full, self.right_factor(full, group, number, k, place), factor)

            return each(
                lambda i, j, lane: [contraction.accumulate(acc, (i, j, lane), term(i, place_of(j, lane)))]
            )

        def keep(i: IndexLike, place: IndexLike, value: Expr) -> list[Stmt]:
            if self.partial is not None:
                column = number * group.width + (place + group.start)
                return [contraction.accumulate(self.partial, (first + row + i, column), value)]
            full = env | self.row.bind(first + row + i) | self.at(group, number, place)
            return contraction.finish(full, value)

        return [
            Alloc(acc),
            *each(lambda i, j, lane: [contraction.clear(acc, (i, j, lane))]),
            *loop(self.names.axis(self.depth.names), depth, step),
            *each(lambda i, j, lane: keep(i, place_of(j, lane), Read(acc, (i, j, lane), acc.dtype))),
        ]

    def right_factor(
        self, env: Env, group: Panels, number: IndexLike, k: IndexLike, place: IndexLike
    ) -> Expr | None:
        """The packed right factor; None when it is read where it is."""
        if not self.packed:
            return None
        if self.packs_near:
            buffer = self.near[group]
            return Read(buffer, (k, place), buffer.dtype)
        buffer = next(b for g, b in self.packs if g is group)
        index = (*self.pack_index(env), number, *self.depth_index(env), place)
        return Read(buffer, index, buffer.dtype)

    def pack_rows(self, left: Buffer, env: Env, first: IndexLike, start: IndexLike) -> list[Stmt]:
        """Copy the left operand's elements of a block."""
        depth, size = left.shape
        assert isinstance(size, int)

        def copy(k: IndexLike, row: IndexLike) -> list[Stmt]:
            full = env | self.row.bind(first + row) | self.depth.bind(start + k)
            return [Store(left, (k, row), cast(self.contraction.left.at(full), left.dtype))]

        return loop(
            self.names["k2"],
            depth,
            lambda k: along_lanes(self.names, size, self.lanes, lambda row: copy(k, row)),
        )

    def pack_near(self, group: Panels, number: IndexLike, env: Env, steps: Range) -> list[Stmt]:
        """Copy one panel of the right operand, for some steps of the reduction."""
        start, depth = steps
        dtype = self.contraction.anchor.dtype
        buffer = Buffer(self.names.fresh("panel"), dtype, (depth, group.width), "local", "stack")
        self.near[group] = buffer

        def copy(k: IndexLike, place: IndexLike) -> Stmt:
            full = env | self.at(group, number, place) | self.depth.bind(start + k)
            return Store(buffer, (k, place), cast(self.contraction.right.at(full), dtype))

        if any(s != 1 for s in self.contraction.dim_strides(self.column).right):
            return [Alloc(buffer), *turn(self.names, depth, group.width, copy)]

        def line(k: IndexLike) -> list[Stmt]:
            return unroll(
                self.names["j1"],
                group.vectors,
                lambda j: lanes(
                    self.names["lane"], group.lanes, lambda lane: [copy(k, j * group.lanes + lane)]
                ),
            )

        return [Alloc(buffer), *loop(self.names["k2"], depth, line)]
