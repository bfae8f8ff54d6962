"""Small builders of loops that the recipes share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from intaglio.loop.ir import Block, For, LoopKind, Stmt, block
from intaglio.loop.lower_group import worth_threads
from intaglio.shared.index import Index, IndexLike, Var, variable

Body = Callable[[IndexLike], Sequence[Stmt]]


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


def stepped(name: str, start: IndexLike, step: int, count: IndexLike, body: Body) -> list[Stmt]:
    """A serial loop over `start`, `start + step`, ..., as a count from 0; its body for a count of 1."""
    return loop(name, count, lambda number: body(start + number * step))


def lanes(name: str, extent: int, body: Body) -> list[Stmt]:
    """A vector loop; the plain body for a single lane."""
    return loop(name, extent, body, "vector")


def unroll(name: str, extent: int, body: Body) -> list[Stmt]:
    """A loop that is written out."""
    return loop(name, extent, body, "unroll")


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
