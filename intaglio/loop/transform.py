"""What is done to every plain nest, so that C compilers make vectors of it; built on the schedule's verbs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from intaglio.loop import places
from intaglio.loop.ir import Alloc, Block, Buffer, For, If, Reduce, Stmt, Store, While, walk
from intaglio.loop.names import unique_name
from intaglio.loop.schedule.inward import inward
from intaglio.loop.schedule.loops import split
from intaglio.loop.schedule.nest import chain, names_of
from intaglio.ops.expr import Apply, Expr, IndexValue, Read
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import Div, Dynamic, IndexLike, Max, Min, Mod, Product

MOST_TERMS = 32  # iterations inside of a loop that may move inward
LANES = (4, 512)  # iterations of a loop that is worth moving, and whose scalars may become arrays
NEAR = 4  # elements between neighbours that a vector may still load one by one
LARGEST_DIVISOR = 16


def tidy(body: Block) -> Block:
    """Plain nests in a form that compilers make vectors of: no divisions of loop variables, windows outside.

    Loops over results whose indices divide their variable are split by the divisor; loops over results
    move inside of small windows that choose (the place of the greatest element).
    """
    return _moved(_divided(body, names_of(body)))


def _divided(body: Block, names: set[str]) -> Block:
    """Every loop split by what indices in it divide its variable by."""
    return Block(tuple(_divided_statement(s, names) for s in body))


def _divided_statement(statement: Stmt, names: set[str]) -> Stmt:
    if isinstance(statement, If):
        orelse = None if statement.orelse is None else _divided(statement.orelse, names)
        return If(statement.condition, _divided(statement.then, names), orelse)
    if not isinstance(statement, For):
        return statement
    size = _divisor(statement)
    if size is None:
        return replace(statement, body=_divided(statement.body, names))
    outer, inner = (unique_name(f"{statement.var.name}{k}", names) for k in (0, 1))
    made = split(statement, size, (outer, inner))
    if not any(isinstance(s, (For, While)) for s in walk(statement.body)):
        made = replace(made, body=Block(tuple(replace(s, kind="unroll") for s in chain(made)[1:2])))
    return replace(made, body=_divided(made.body, names))


def _divisor(loop: For) -> int | None:
    """The smallest number that an index divides the loop's variable by and that divides its extent."""
    if (
        loop.start != 0
        or loop.step != 1
        or not isinstance(loop.stop, int)
        or loop.kind in ("vector", "unroll")
    ):
        return None
    stop = loop.stop
    found = {
        atom.den
        for s in walk(loop.body)
        for index in _indices(s)
        for atom in _quotients(index)
        if isinstance(atom.den, int) and atom.num.coefficient(loop.var)
    }
    fits = [d for d in found if 1 < d <= LARGEST_DIVISOR and d < stop and stop % d == 0]
    return min(fits, default=None)


def _indices(statement: Stmt) -> Iterator[IndexLike]:
    """Every index a statement itself holds."""
    if isinstance(statement, (Store, Reduce)):
        yield from statement.index
        yield from _value_indices(statement.value)
    elif isinstance(statement, (If, While)):
        yield from _value_indices(statement.condition)


def _value_indices(value: Expr) -> Iterator[IndexLike]:
    if isinstance(value, Read):
        yield from value.index
    elif isinstance(value, IndexValue):
        yield value.index
    elif isinstance(value, Apply):
        for argument in value.args:
            yield from _value_indices(argument)


def _quotients(index: IndexLike) -> Iterator[Div | Mod]:
    if isinstance(index, int):
        return
    for atom, _ in index.terms:
        if isinstance(atom, (Div, Mod)):
            yield atom
            yield from _quotients(atom.num)
        elif isinstance(atom, (Min, Max, Product)):
            yield from _quotients(atom.a)
            yield from _quotients(atom.b)
        elif isinstance(atom, Dynamic) and isinstance(atom.value, Expr):
            for inner in _value_indices(atom.value):
                yield from _quotients(inner)


def _moved(body: Block) -> Block:
    """Loops over results with small windows inside, moved inward where that is legal."""
    made: list[Stmt] = []
    for statement in body:
        if isinstance(statement, For) and statement.kind == "serial" and _is_window_loop(statement):
            try:
                made.extend(inward(statement))
                continue
            except UnsupportedError:
                pass
        if isinstance(statement, For):
            statement = replace(statement, body=_moved(statement.body))
        made.append(statement)
    return Block(tuple(made))


def _is_window_loop(loop: For) -> bool:
    """Whether a loop's neighbours are near each other in memory and its body loops over a few terms."""
    if not isinstance(loop.stop, int) or not LANES[0] <= loop.stop <= LANES[1]:
        return False
    if not _chooses(loop.body):  # compilers make vectors of the others as they are
        return False
    terms = _terms(loop.body)
    if terms is None or not 1 < terms <= MOST_TERMS:
        return False
    for statement in walk(loop.body):
        touched = [(r.source, r.index) for r in places.statement_reads(statement)]
        if isinstance(statement, Store):
            touched.append((statement.buffer, statement.index))
        for source, index in touched:
            step = places.stride(source, index, loop.var) if isinstance(source, Buffer) else 0
            if step is None or abs(step) > NEAR:
                return False
    return True


def _chooses(body: Block) -> bool:
    """Whether an inner loop sets a scalar that was declared outside of it (the place of the greatest)."""
    outer = {s.buffer for s in body if isinstance(s, Alloc)}
    inner = (t for s in body if isinstance(s, For) for t in walk(s.body))
    return any(isinstance(t, Store) and t.buffer in outer for t in inner)


def _terms(body: Block) -> int | None:
    """Iterations of the deepest loops of a body; 1 without loops, None when not constant."""
    most = 1
    for statement in body:
        if isinstance(statement, For):
            inner = _terms(statement.body)
            if inner is None or not isinstance(statement.extent, int):
                return None
            most = max(most, statement.extent * inner)
    return most
