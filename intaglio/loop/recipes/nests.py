"""Small builders of loops that the recipes share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from intaglio.loop.ir import Block, Buffer, For, LoopKind, Prefetch, Stmt, block
from intaglio.loop.recipes.tiles import Panels, balanced, panels
from intaglio.loop.threads import may_thread
from intaglio.shared.index import Index, IndexLike, Var, variable

Body = Callable[[IndexLike], Sequence[Stmt]]
SQUARES = (8, 4)  # sides of squares that registers turn


class Names:
    """Names that nothing else has for loop variables and local buffers; `names["i0"]` stays the same."""

    def __init__(self, taken: Collection[str]) -> None:
        self.taken = set(taken)
        self.known: dict[str, str] = {}

    def fresh(self, name: str) -> str:
        """A name that was not given before."""
        wanted, k = name, 0
        while name in self.taken:
            k += 1
            name = f"{wanted}_{k}"
        self.taken.add(name)
        return name

    def __getitem__(self, name: str) -> str:
        return self._once(name, name)

    def axis(self, name: str) -> str:
        """The name of the loop over an axis of the user's notation."""
        return self._once(f"axis {name}", name)

    def _once(self, key: str, name: str) -> str:
        if key not in self.known:
            self.known[key] = self.fresh(name)
        return self.known[key]


def loop(name: str, extent: IndexLike, body: Body, kind: LoopKind = "serial") -> list[Stmt]:
    """A loop from 0, or just its body for an extent of 1."""
    if extent == 1:
        return list(body(0))
    if extent == 0:
        return []
    index = variable(name, extent)
    return [For(variable_of(index), extent, block(*body(index)), kind)]


def ranged(name: str, start: int, stop: int, body: Body) -> list[Stmt]:
    """A serial loop from `start` to `stop`."""
    return loop(name, stop - start, lambda number: body(number + start))


def between(name: str, start: IndexLike, stop: IndexLike, most: int, body: Body) -> list[Stmt]:
    """A serial loop over part of `0 .. most - 1`."""
    if isinstance(start, int) and isinstance(stop, int):
        return ranged(name, start, stop, body)
    index = variable(name, most)
    return [For(variable_of(index), stop, block(*body(index)), "serial", start)]


def stepped(name: str, start: IndexLike, step: int, count: IndexLike, body: Body) -> list[Stmt]:
    """A serial loop over `start`, `start + step`, ..., as a count from 0; its body for a count of 1."""
    return loop(name, count, lambda number: body(start + number * step))


def tiled(
    name: str, extent: IndexLike, most: int, body: Callable[[IndexLike, int], Sequence[Stmt]]
) -> list[Stmt]:
    """Serial loops over balanced tiles of at most `most`: `body(first, size)`."""
    return [
        s
        for run in balanced(extent, most)
        for s in stepped(name, run.start, run.size, run.count, lambda first: body(first, run.size))
    ]


def lanes(name: str, extent: int, body: Body) -> list[Stmt]:
    """A vector loop; the plain body for a single lane."""
    return loop(name, extent, body, "vector")


def unroll(name: str, extent: int, body: Body) -> list[Stmt]:
    """A loop that is written out."""
    return loop(name, extent, body, "unroll")


def along_lanes(names: Names, extent: int, width: int, body: Body) -> list[Stmt]:
    """All of `0 .. extent - 1` as vectors of `width` lanes, narrower ones at the end."""
    return [
        s
        for panel in panels(extent, 4, width)
        for s in loop(
            names["x0"],
            panel.count,
            lambda number: unroll(
                names["x1"],
                panel.vectors,
                lambda j: lanes(
                    names["lane"],
                    panel.lanes,
                    lambda lane: body(number * panel.width + (j * panel.lanes + lane + panel.start)),
                ),
            ),
        )
    ]


def tile(
    names: Names,
    rows: int,
    panel: Panels,
    body: Callable[[IndexLike, IndexLike, IndexLike], Sequence[Stmt]],
    row: str = "i1",
) -> list[Stmt]:
    """A register tile, written out: `body(row, vector, lane)` for `rows` rows of a panel's vectors."""
    return unroll(
        names[row],
        rows,
        lambda i: unroll(
            names["j1"],
            panel.vectors,
            lambda j: lanes(names["lane"], panel.lanes, lambda lane: body(i, j, lane)),
        ),
    )


def ask_for(names: Names, buffer: Buffer, place: tuple[IndexLike, ...], line: int) -> list[Stmt]:
    """Ask for the cache lines, of `line` bytes, of all along a buffer's last axis."""
    width, step = buffer.shape[-1], line // buffer.dtype.size
    assert isinstance(width, int)
    return unroll(names["l"], -(-width // step), lambda j: [Prefetch(buffer, (*place, j * step))])


def over_images(
    names: Names, batch: IndexLike, groups: int, body: Callable[[IndexLike, IndexLike], list[Stmt]]
) -> list[Stmt]:
    """Serial loops over images and groups of channels."""
    return loop(names["n"], batch, lambda n: loop(names["g"], groups, lambda k: body(n, k)))


def turn(names: Names, rows: int, columns: int, copy: Callable[[IndexLike, IndexLike], Stmt]) -> list[Stmt]:
    """`copy(row, column)` for all, in squares that are turned in registers.

    Where squares do not cover the extents the last ones overlap, so that a copy may run twice.
    """

    def block_of(row: IndexLike, height: int, column: IndexLike, width: int) -> list[Stmt]:
        side = min(height, width) if min(height, width) in SQUARES else 0
        return [
            s
            for i in range(0, height, side or height)
            for j in range(0, width, side or width)
            for s in square(row + i, side or height, column + j, side or width)
        ]

    def square(row: IndexLike, height: int, column: IndexLike, width: int) -> list[Stmt]:
        return unroll(
            names["t2"], height, lambda i: unroll(names["t3"], width, lambda j: [copy(row + i, column + j)])
        )

    def band(row: IndexLike, height: int) -> list[Stmt]:
        return [
            s
            for start, width, count in _cover(columns)
            for s in loop(names["t1"], count, lambda k: block_of(row, height, k * width + start, width))
        ]

    return [
        s
        for start, height, count in _cover(rows)
        for s in loop(names["t0"], count, lambda k: band(k * height + start, height))
    ]


def _cover(extent: int) -> list[tuple[int, int, int]]:
    """Sides of squares that cover an extent: where the first begins, the side, and how many there are."""
    side = next((s for s in SQUARES if s <= extent), extent)
    if side == 0:
        return []
    runs = [(0, side, extent // side)]
    return [*runs, (extent - side, side, 1)] if extent % side else runs


def parallel(statements: Sequence[Stmt], work: int | None, names: Collection[str]) -> Block:
    """The statements with the outermost loops of these names on several threads, where the work pays."""
    if not may_thread(work):
        return Block(tuple(statements))
    return Block(
        tuple(
            replace(s, kind="parallel")
            if isinstance(s, For) and s.var.name in names and s.kind == "serial"
            else s
            for s in statements
        )
    )


def variable_of(index: IndexLike) -> Var:
    """The variable an index consists of."""
    assert isinstance(index, Index)
    var = index.terms[0][0]
    assert isinstance(var, Var)
    return var
