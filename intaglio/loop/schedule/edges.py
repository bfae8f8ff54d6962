"""specialise: edges of a loop in copies of their own, where guards and shorter tiles are decided."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from intaglio.loop import places
from intaglio.loop.ir import Alloc, Block, Buffer, For, Stmt, block
from intaglio.loop.recipes.nests import variable_of
from intaglio.loop.schedule.guards import simplified
from intaglio.loop.schedule.nest import Nest, Path, constant_extent, with_bodies
from intaglio.loop.schedule.records import Record
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import IndexLike, upper, variable


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
        if not isinstance(statement, For):
            made.append(with_bodies(statement, decided))
        elif statement.extent == 1 and not any(isinstance(s, Alloc) for s in statement.body):
            once = places.substitute_block(statement.body, {statement.var: statement.start})
            made.extend(decided(once))
        elif (most := upper(statement.extent)) is None or most > 0:
            loop = _narrowed(statement)
            made.append(replace(loop, body=decided(loop.body)))
    return Block(tuple(made))


def _narrowed(loop: For) -> For:
    """The loop with the bounds that a constant number of iterations gives its variable."""
    if loop.start != 0 or loop.step != 1 or not isinstance(loop.stop, int) or loop.var.hi == loop.stop - 1:
        return loop
    index = variable(loop.var.name, loop.stop)
    body = places.substitute_block(loop.body, {loop.var: index})
    return replace(loop, var=variable_of(index), body=body)


def _renamed(nest: Nest, body: Block) -> Block:
    """A copy of statements whose arrays have names of their own, for a block that holds others."""
    new: dict[Buffer, Buffer] = {}
    for statement in body:
        if isinstance(statement, Alloc):
            old = statement.buffer
            new[old] = Buffer(nest.unique(old.name), old.dtype, old.shape, old.role, old.space)
    return places.substitute_block(body, {}, new) if new else body
