"""Small builders of loops that the recipes share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from intaglio.loop.ir import Block, For, LoopKind, Stmt, block
from intaglio.loop.lower_group import worth_threads
from intaglio.loop.recipes.tiles import Panels, panels
from intaglio.shared.index import Index, IndexLike, Var, variable

Body = Callable[[IndexLike], Sequence[Stmt]]
SQUARE = 4


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
    if (start, stop) == (0, most):
        return loop(name, most, body)
    index = variable(name, most)
    return [For(variable_of(index), stop, block(*body(index)), "serial", start)]


def stepped(name: str, start: IndexLike, step: int, count: IndexLike, body: Body) -> list[Stmt]:
    """A serial loop over `start`, `start + step`, ..., as a count from 0; its body for a count of 1."""
    return loop(name, count, lambda number: body(start + number * step))


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


def over_images(
    names: Names, batch: IndexLike, groups: int, body: Callable[[IndexLike, IndexLike], list[Stmt]]
) -> list[Stmt]:
    """Serial loops over images and groups of channels."""
    return loop(names["n"], batch, lambda n: loop(names["g"], groups, lambda k: body(n, k)))


def turn(names: Names, rows: int, columns: int, copy: Callable[[IndexLike, IndexLike], Stmt]) -> list[Stmt]:
    """`copy(row, column)` for all, in squares small enough for the compiler to turn them in registers."""

    def square(row: IndexLike, height: int, column: IndexLike, width: int) -> list[Stmt]:
        return unroll(
            names["t2"], height, lambda i: unroll(names["t3"], width, lambda j: [copy(row + i, column + j)])
        )

    def band(row: IndexLike, height: int) -> list[Stmt]:
        whole, rest = divmod(columns, SQUARE)
        return [
            *loop(names["t1"], whole, lambda k: square(row, height, k * SQUARE, SQUARE)),
            *(square(row, height, whole * SQUARE, rest) if rest else ()),
        ]

    whole, rest = divmod(rows, SQUARE)
    return [
        *loop(names["t0"], whole, lambda k: band(k * SQUARE, SQUARE)),
        *(band(whole * SQUARE, rest) if rest else ()),
    ]


def parallel(statements: Sequence[Stmt], work: int | None, names: Collection[str]) -> Block:
    """The statements with the outermost loops of these names on several threads, where the work pays."""
    if not worth_threads(work):
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
