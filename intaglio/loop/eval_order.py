"""Which nests the interpreter may run statement by statement, each for all iterations at once."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.loop import places
from intaglio.loop.independence import disjoint
from intaglio.loop.ir import Alloc, Block, Buffer, Comment, For, Prefetch, Reduce, Stmt, Store
from intaglio.shared.index import IndexLike, product, upper

MAX_ELEMENTS = 1 << 22


@dataclass(frozen=True)
class Leaf:
    """One statement of a nest and the loops of the nest around it, outermost first."""

    loops: tuple[For, ...] = ()
    statement: Store | Reduce | None = None


def leaves(loop: For) -> list[Leaf] | None:
    """The statements of a nest with their loops; None when it branches or its loops are no rectangle."""
    found: list[Leaf] = []

    def visit(statement: Stmt, loops: tuple[For, ...]) -> bool:
        if isinstance(statement, (Store, Reduce)):
            found.append(Leaf(loops, statement))
            return True
        if isinstance(statement, For):
            outer = {other.var for other in loops}
            bounds = (statement.start, statement.stop)
            if any(
                outer & places.index_variables(b) or any(True for _ in places.dynamics(b)) for b in bounds
            ):
                return False
            return all(visit(inner, (*loops, statement)) for inner in statement.body)
        return isinstance(statement, (Alloc, Prefetch, Comment))

    return found if visit(loop, ()) else None


def may_distribute(nest: For, found: list[Leaf]) -> bool:
    """Whether each statement may be run for all iterations before the next one is."""
    for leaf in found:
        size = upper(product(tuple(loop.extent for loop in leaf.loops)))
        if size is not None and size > MAX_ELEMENTS:
            return False
    private = _private(nest)
    touched: dict[Buffer, list[tuple[Leaf, tuple[IndexLike, ...], bool]]] = {}
    for leaf in found:
        statement = leaf.statement
        assert statement is not None
        value_reads = [*places.reads(statement.value), *places.index_reads(*statement.index)]
        for read in value_reads:
            assert isinstance(read.source, Buffer)
            touched.setdefault(read.source, []).append((leaf, read.index, False))
        touched.setdefault(statement.buffer, []).append((leaf, statement.index, True))
    return all(
        _ordered(buffer, accesses, private.get(buffer, ()))
        for buffer, accesses in touched.items()
        if any(write for _, _, write in accesses)
    )


def _private(nest: For) -> dict[Buffer, tuple[For, ...]]:
    """Local buffers of a nest and the loops around their declaration."""
    found: dict[Buffer, tuple[For, ...]] = {}

    def visit(body: Block, loops: tuple[For, ...]) -> None:
        for statement in body:
            if isinstance(statement, Alloc):
                found[statement.buffer] = loops
            elif isinstance(statement, For):
                visit(statement.body, (*loops, statement))

    visit(Block((nest,)), ())
    return found


def _ordered(
    buffer: Buffer, accesses: list[tuple[Leaf, tuple[IndexLike, ...], bool]], private: tuple[For, ...]
) -> bool:
    """Whether accesses of one place, one of them a write, always belong to the same common iteration."""
    for k, (leaf, index, write) in enumerate(accesses):
        for other, other_index, other_write in accesses[k + 1 :]:
            if not (write or other_write):
                continue
            common = [a for a, b in zip(leaf.loops, other.loops, strict=False) if a is b and a not in private]
            if not all(disjoint(buffer, [index, other_index], loop) for loop in common):
                return False
    return True
