"""Verbs that change loops: split, tile, reorder, fuse, unroll, vectorize, parallel, specialise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from intaglio.loop import places
from intaglio.loop.independence import bound_in, carried, shared_buffer, shared_buffers
from intaglio.loop.ir import Alloc, Block, Buffer, For, If, Reduce, Stmt, Store, While, block, walk
from intaglio.loop.recipes.nests import variable_of
from intaglio.loop.recipes.tiles import balanced
from intaglio.loop.schedule.guards import simplified
from intaglio.loop.schedule.nest import Nest, Path, chain, constant_extent, rebuilt
from intaglio.loop.schedule.records import Record
from intaglio.ops.expr import Apply, Expr
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import IndexLike, Var, minimum, variable

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
                raise UnsupportedError(
                    f"{self}: the loop over {self.inner} is not all there is in {loop.var}"
                )
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
        def made(loop: For, _: Path) -> Iterable[Stmt]:
            if constant_extent("unroll", loop) > MOST_UNROLLED:
                raise UnsupportedError(
                    f"unroll: {loop.stop} iterations over {loop.var} are more than {MOST_UNROLLED}",
                    hint="split the loop first",
                )
            return [replace(loop, kind="unroll")]

        nest.rewrite(self.loop, made)


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


@dataclass(frozen=True)
class Vectorize(Record, verb="vectorize"):
    """The iterations of a loop as lanes of vectors: a power of two of them, each array in it at unit stride
    or the same for all lanes. Reductions into one place are added up across the lanes."""

    loop: str

    def apply(self, nest: Nest) -> None:
        def made(loop: For, _: Path) -> Iterable[Stmt]:
            extent = constant_extent("vectorize", loop)
            if extent & (extent - 1) or extent < 2:
                raise UnsupportedError(
                    f"vectorize: {extent} iterations over {loop.var} are no power of two",
                    hint="split the loop by the lanes of the machine",
                )
            for buffer in shared_buffers(loop, bound_in(loop)):
                if not only_reduced(loop.body, buffer):
                    raise UnsupportedError(f"vectorize: iterations over {loop.var} share {buffer!r}")
                nest.reassociates = True
            check_lanes(loop)
            return [replace(loop, kind="vector")]

        nest.rewrite(self.loop, made)


def check_lanes(loop: For) -> None:
    """Refuse a loop whose body has no form in vectors, with the reason."""
    for statement in walk(loop.body):
        if isinstance(statement, While) or (isinstance(statement, For) and statement.kind == "vector"):
            raise UnsupportedError(f"vectorize: the loop over {loop.var} holds a loop without vector form")
        if isinstance(statement, Alloc) and statement.buffer.shape:
            raise UnsupportedError(f"vectorize: {statement.buffer!r} is declared in the loop over {loop.var}")
        if isinstance(statement, For) and loop.var in (
            places.index_variables(statement.start) | places.index_variables(statement.stop)
        ):
            raise UnsupportedError(f"vectorize: the bounds of the loop over {statement.var} use {loop.var}")
        if isinstance(statement, If) and loop.var in places.variables(statement.condition):
            raise UnsupportedError(f"vectorize: lanes of {loop.var} take different branches")
        touched = [(r.source, r.index) for r in places.statement_reads(statement)]
        if isinstance(statement, (Store, Reduce)):
            touched.append((statement.buffer, statement.index))
            _check_guards(statement.value, loop.var)
        for source, index in touched:
            stride = places.stride(source, index, loop.var) if isinstance(source, Buffer) else 0
            if stride not in (0, 1):
                raise UnsupportedError(
                    f"vectorize: lanes of {loop.var} lie {stride or 'irregularly'} apart in {source!r}",
                    hint="pack or layout puts them side by side",
                )


def _check_guards(value: Expr, lane: Var) -> None:
    if not isinstance(value, Apply):
        return
    guard = value.fn == "where" and lane in places.variables(value.args[0]) and _guards_place(value.args[0])
    if guard and any(True for side in value.args[1:] for _ in places.reads(side)):
        raise UnsupportedError(
            f"vectorize: a guard on lanes of {lane} keeps places inside of an array",
            hint="specialise peels the edges off, pad reads from a padded copy",
        )
    for argument in value.args:
        _check_guards(argument, lane)


def _guards_place(condition: Expr) -> bool:
    """Whether a condition asks about indices."""
    return not any(True for _ in places.reads(condition))


@dataclass(frozen=True)
class Specialise(Record, verb="specialise"):
    """The first and last iterations of a loop in copies of their own, so that guards and shorter tiles in
    them, and in the iterations between, are decided when compiling."""

    loop: str
    first: int = 0
    last: int = 0

    def apply(self, nest: Nest) -> None:
        def made(loop: For, _: Path) -> Iterable[Stmt]:
            extent = constant_extent("specialise", loop)
            inner = extent - self.first - self.last
            if inner < 1:
                raise UnsupportedError(f"{self}: the loop has {extent} iterations")
            if loop.kind != "serial":
                raise UnsupportedError(f"{self}: the loop is {loop.kind}", hint="specialise comes first")
            copies = [_renamed(nest, _iteration(loop, k)) for k in range(extent)[: self.first + (inner == 1)]]
            between = [_shifted(loop, self.first, inner)] if inner > 1 else []
            last = [_renamed(nest, _iteration(loop, k)) for k in range(extent - self.last, extent)]
            return block(*copies, *between, *last)

        nest.rewrite(self.loop, made)


def _iteration(loop: For, value: int) -> Block:
    return decided(places.substitute_block(loop.body, {loop.var: value}))


def _shifted(loop: For, start: int, extent: IndexLike) -> For:
    """The loop over `extent` iterations from `start` on, counted from 0."""
    index = variable(loop.var.name, extent)
    body = places.substitute_block(loop.body, {loop.var: index + start})
    return For(variable_of(index), extent, decided(body), loop.kind)


def decided(body: Block) -> Block:
    """Guards and bounds of loops that the bounds of variables decide; loops of one iteration become it."""
    made: list[Stmt] = []
    for statement in simplified(body):
        if isinstance(statement, For) and isinstance(statement.stop, int) and statement.var.hi is not None:
            extent = statement.extent
            if extent == 0:
                continue
            if statement.start == 0 and statement.step == 1 and statement.stop <= statement.var.hi:
                index = variable(statement.var.name, statement.stop)
                inner = places.substitute_block(statement.body, {statement.var: index})
                statement = For(
                    variable_of(index), statement.stop, decided(simplified(inner)), statement.kind
                )
            else:
                statement = replace(statement, body=decided(statement.body))
        elif isinstance(statement, For):
            statement = replace(statement, body=decided(statement.body))
        made.append(statement)
    return Block(tuple(made))


def _renamed(nest: Nest, body: Block) -> Block:
    """A copy of statements whose arrays have names of their own, for a block that holds others."""
    new: dict[Buffer, Buffer] = {}
    for statement in body:
        if isinstance(statement, Alloc):
            old = statement.buffer
            new[old] = Buffer(nest.unique(old.name), old.dtype, old.shape, old.role, old.space)
    return places.substitute_block(body, {}, new) if new else body
