"""Verbs that change loops: split, tile, reorder, fuse, unroll, vectorize, parallel, specialise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from intaglio.loop import places
from intaglio.loop.independence import carried, shared_buffer
from intaglio.loop.ir import Block, Buffer, For, Reduce, Stmt, Store, block, walk
from intaglio.loop.recipes.nests import variable_of
from intaglio.loop.recipes.tiles import balanced
from intaglio.loop.schedule.nest import Nest, Path, chain, constant_extent, rebuilt
from intaglio.loop.schedule.records import Record
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import minimum, variable

MOST_UNROLLED = 64

# Primitives on one loop; passes use them too


def split(loop: For, size: int, names: tuple[str, str]) -> For:
    """`for i in range(n)` as `for i0 in range(n / size): for i1 in range(size)`.

    Raises:
        UnsupportedError: the loop does not run from 0 a multiple of `size` times.
    """
    stop = loop.stop
    if loop.start != 0 or loop.step != 1 or not isinstance(stop, int) or stop % size:
        raise UnsupportedError(
            f"split: range({loop.start}, {stop}, {loop.step}) is no multiple of {size}",
            hint="add rest (a shorter last tile) or balanced (two sizes of tiles that differ by one)",
        )
    return _tiles(loop, 0, size, stop // size, names)


def split_rest(loop: For, size: int, names: tuple[str, str]) -> For:
    """The same for any extent: the last iteration of the outer loop may have fewer of the inner one."""
    if loop.start != 0 or loop.step != 1:
        raise UnsupportedError(f"split: the loop over {loop.var} does not count from 0 by 1")
    outer = variable(names[0], (loop.stop + (size - 1)) // size)
    inner = variable(names[1], size)
    stop = minimum(size, loop.stop - outer * size)
    body = places.substitute_block(loop.body, {loop.var: outer * size + inner})
    second = For(variable_of(inner), stop, body)
    return For(variable_of(outer), (loop.stop + (size - 1)) // size, block(second), loop.kind)


def split_balanced(loop: For, most: int, names: tuple[str, str]) -> list[Stmt]:
    """Tiles of at most `most` iterations in two sizes that differ by one, each size in a nest of its own."""
    extent = constant_extent("split", loop)
    made: list[Stmt] = []
    for run in balanced(extent, most):
        assert isinstance(run.start, int)
        assert isinstance(run.count, int)
        made.append(_tiles(loop, run.start, run.size, run.count, names))
    return made


def _tiles(loop: For, start: int, size: int, count: int, names: tuple[str, str]) -> For:
    outer, inner = variable(names[0], count), variable(names[1], size)
    body = places.substitute_block(loop.body, {loop.var: outer * size + inner + start})
    return For(variable_of(outer), count, block(For(variable_of(inner), size, body)), loop.kind)


def parallelize(loop: For) -> For:
    """The loop's iterations on several threads.

    Raises:
        UnsupportedError: two iterations may touch the same element, and one of them writes it.
    """
    shared = shared_buffer(loop)
    if shared is not None:
        raise UnsupportedError(
            f"parallelize: iterations over {loop.var} may touch the same element of {shared!r}"
        )
    return replace(loop, kind="parallel")


def unrolled(loop: For) -> For:
    """The loop written out. Raises UnsupportedError where that is too much."""
    if constant_extent("unroll", loop) > MOST_UNROLLED:
        raise UnsupportedError(
            f"unroll: {loop.stop} iterations over {loop.var} are more than {MOST_UNROLLED}",
            hint="split the loop first",
        )
    return replace(loop, kind="unroll")


# Legality


def only_reduced(body: Block, buffer: Buffer) -> bool:
    """Whether all that happens to a buffer is one kind of reduction whose order is free."""
    kinds = set()
    for statement in walk(body):
        own = isinstance(statement, Reduce) and statement.buffer is buffer
        if isinstance(statement, Reduce) and own:
            kinds.add((statement.combine, statement.ordered))
        elif isinstance(statement, Store) and statement.buffer is buffer:
            return False
        reads = [r for r in places.statement_reads(statement) if r.source is buffer]
        if len(reads) > (1 if own else 0):
            return False
    return len(kinds) == 1 and not next(iter(kinds))[1]


def check_order(verb: str, nest: Nest, loops: list[For]) -> None:
    """Refuse to change the order of loops of a perfect nest where a result could depend on it.

    With at most one loop whose iterations share memory, everything that happens to one element keeps its
    order. With more, the shared arrays must be reductions of free order.
    """
    for buffer, sharing in carried(loops).items():
        if len(sharing) < 2:
            continue
        if not only_reduced(loops[0].body, buffer):
            names = " and ".join(str(loop.var) for loop in sharing)
            raise UnsupportedError(
                f"{verb}: iterations over {names} share {buffer!r}, whose accesses would change their order"
            )
        nest.reassociates = True


def check_bounds(verb: str, loops: list[For]) -> None:
    """Refuse an order of loops in which bounds use variables of loops further in."""
    for k, loop in enumerate(loops):
        used = places.index_variables(loop.start) | places.index_variables(loop.stop)
        for inner in loops[k:]:
            if inner.var in used:
                raise UnsupportedError(f"{verb}: the bounds of the loop over {loop.var} use {inner.var}")


# Records


@dataclass(frozen=True)
class Split(Record, verb="split"):
    """`size` iterations of an inner loop for each of an outer one. An extent that is no multiple needs `rest`
    (the last tile is shorter) or `balanced` (tiles of at most `size`, in two sizes that differ by one)."""

    made: ClassVar[tuple[int, ...]] = (2,)
    loop: str
    size: int
    rest: bool = False
    balanced: bool = False
    into: tuple[str, ...] = ()

    def apply(self, nest: Nest) -> None:
        if self.size < 1 or (self.rest and self.balanced):
            raise UnsupportedError(f"{self}: the size is positive, and rest or balanced excludes the other")
        nest.fresh(*self.into)
        names = (self.into[0], self.into[1])

        def made(loop: For, _: Path) -> Iterable[Stmt]:
            if self.balanced:
                return split_balanced(loop, self.size, names)
            return [split_rest(loop, self.size, names) if self.rest else split(loop, self.size, names)]

        nest.rewrite(self.loop, made)


@dataclass(frozen=True)
class Reorder(Record, verb="reorder"):
    """Loops of a perfect nest in another order, the first one outermost."""

    spread: ClassVar[bool] = True
    order: tuple[str, ...]

    def apply(self, nest: Nest) -> None:
        if len(set(self.order)) != len(self.order) or not all(nest.loops(name) for name in self.order):
            raise UnsupportedError(f"{self}: a loop is named twice")

        def made(loop: For, _: Path) -> Iterable[Stmt]:
            loops = chain(loop)
            places_of = [k for k, one in enumerate(loops) if one.var.name in self.order]
            if len(places_of) != len(self.order):
                found = ", ".join(one.var.name for one in loops)
                raise UnsupportedError(
                    f"{self}: the loops are no perfect nest; under {loop.var} it goes {found}",
                    hint="cache_write moves loops inside of one that stands beside other statements",
                )
            loops = loops[: places_of[-1] + 1]
            check_order("reorder", nest, loops)
            by_name = {one.var.name: one for one in loops}
            order = list(loops)
            for k, name in zip(places_of, self.order, strict=True):
                order[k] = by_name[name]
            check_bounds("reorder", order)
            return rebuilt(order, loops[-1].body)

        outer = min(self.order, key=lambda name: min(len(path) for _, path in nest.loops(name)))
        nest.rewrite(outer, made)


@dataclass(frozen=True)
class Tile(Record, verb="tile"):
    """Two loops of a perfect nest in tiles: both split, the loops within a tile innermost."""

    made: ClassVar[tuple[int, ...]] = (4,)
    outer: str
    inner: str
    outer_size: int
    inner_size: int
    into: tuple[str, ...] = ()

    def apply(self, nest: Nest) -> None:
        i0, j0, i1, j1 = self.into
        Split(self.outer, self.outer_size, into=(i0, i1)).apply(nest)
        Split(self.inner, self.inner_size, into=(j0, j1)).apply(nest)
        Reorder((i0, j0, i1, j1)).apply(nest)


@dataclass(frozen=True)
class Fuse(Record, verb="fuse"):
    """Two loops, one directly inside of the other, as one."""

    made: ClassVar[tuple[int, ...]] = (1,)
    outer: str
    inner: str
    into: tuple[str, ...] = ()

    def apply(self, nest: Nest) -> None:
        nest.fresh(*self.into)

        def made(loop: For, _: Path) -> Iterable[Stmt]:
            loops = chain(loop)
            if len(loops) < 2 or loops[1].var.name != self.inner:
                raise UnsupportedError(f"{self}: {self.inner} is not the loop directly inside of {loop.var}")
            m, n = (constant_extent("fuse", one) for one in loops[:2])
            index = variable(self.into[0], m * n)
            env = {loop.var: index // n, loops[1].var: index % n}
            body = places.substitute_block(loops[1].body, env)
            return [For(variable_of(index), m * n, body, loop.kind)]

        nest.rewrite(self.outer, made)


@dataclass(frozen=True)
class Unroll(Record, verb="unroll"):
    """The C compiler is told to write the iterations of a loop out."""

    loop: str

    def apply(self, nest: Nest) -> None:
        nest.rewrite(self.loop, lambda loop, _: [unrolled(loop)])


@dataclass(frozen=True)
class Parallel(Record, verb="parallel"):
    """The iterations of an outermost loop on several threads."""

    loop: str

    def apply(self, nest: Nest) -> None:
        def made(loop: For, path: Path) -> Iterable[Stmt]:
            if path or not any(loop is statement for statement in nest.body):
                raise UnsupportedError(f"parallel: the loop over {loop.var} is not outermost")
            return [parallelize(loop)]

        nest.rewrite(self.loop, made)
