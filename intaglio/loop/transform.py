"""Rewrites of loop nests, each checked: a primitive refuses with the reason, `tidy` applies those that pay.

* `split`: one loop becomes two, `size` iterations of the inner one for each of the outer one;
* `inward`: a loop moves inside of the loops of its body, its scalars become arrays;
* `parallelize`: the iterations of a loop run on several threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from intaglio.loop import places
from intaglio.loop.independence import shared_buffer
from intaglio.loop.ir import Alloc, Block, Buffer, Comment, For, If, Reduce, Stmt, Store, While, block, walk
from intaglio.ops.expr import Apply, Expr, IndexValue, Read
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import (
    Div,
    Dynamic,
    Index,
    IndexLike,
    Max,
    Min,
    Mod,
    Product,
    Var,
    substitute,
    var_index,
    variable,
)

MOST_TERMS = 32  # iterations inside of a loop that may move inward
LANES = (4, 512)  # iterations of a loop that is worth moving, and whose scalars may become arrays
NEAR = 4  # elements between neighbours that a vector may still load one by one
LARGEST_DIVISOR = 16


def tidy(body: Block) -> Block:
    """Plain nests in a form that compilers make vectors of: no divisions of loop variables, windows outside.

    Loops over results whose indices divide their variable are split by the divisor; loops over results
    move inside of small windows that choose (the place of the greatest element).
    """
    names = {s.var.name for s in walk(body) if isinstance(s, For)}
    names |= {s.buffer.name for s in walk(body) if isinstance(s, (Store, Reduce, Alloc))}
    names |= {
        r.source.name for s in walk(body) for r in places.statement_reads(s) if isinstance(r.source, Buffer)
    }
    return _moved(_divided(body, names))


# Splitting


def split(loop: For, size: int, names: tuple[str, str]) -> For:
    """`for i in range(n)` as `for i0 in range(n / size): for i1 in range(size)`.

    Raises:
        UnsupportedError: the loop does not run from 0 a multiple of `size` times.
    """
    stop = loop.stop
    if loop.start != 0 or loop.step != 1 or not isinstance(stop, int) or stop % size:
        raise UnsupportedError(f"split: range({loop.start}, {stop}, {loop.step}) is no multiple of {size}")
    outer, inner = variable(names[0], stop // size), variable(names[1], size)
    body = places.substitute_block(loop.body, {loop.var: outer * size + inner})
    innermost = not any(isinstance(s, (For, While)) for s in walk(loop.body))
    second = For(_variable(inner), size, body, "unroll" if innermost else "serial")
    return For(_variable(outer), stop // size, block(second), loop.kind)


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
    made = split(
        statement, size, (_fresh(statement.var.name + "0", names), _fresh(statement.var.name + "1", names))
    )
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


# Moving inward


def inward(loop: For) -> Block:
    """The loop inside of all loops of its body; scalars declared in it become arrays over its iterations.

    Raises:
        UnsupportedError: iterations share memory, or the body is more than loops and assignments.
    """
    if not isinstance(loop.stop, int) or loop.start != 0 or loop.step != 1:
        raise UnsupportedError(f"inward: the loop over {loop.var} has no constant extent")
    shared = shared_buffer(loop)
    if shared is not None:
        raise UnsupportedError(f"inward: iterations over {loop.var} share {shared!r}")
    local: dict[Buffer, Buffer] = {}
    for statement in walk(loop.body):
        if not isinstance(statement, (For, Store, Reduce, Alloc, Comment)):
            raise UnsupportedError(f"inward: the loop over {loop.var} holds a {type(statement).__name__}")
        if isinstance(statement, For) and loop.var in (
            places.index_variables(statement.start) | places.index_variables(statement.stop)
        ):
            raise UnsupportedError(f"inward: the loop over {statement.var} depends on {loop.var}")
    return _inside(loop, loop.body, loop.stop, local)


def _inside(loop: For, body: Block, extent: int, local: dict[Buffer, Buffer]) -> Block:
    """Runs of assignments under the moved loop, inner loops and scalars that outlive a run around it."""
    has_loops = any(isinstance(s, For) for s in body)
    made: list[Stmt] = []
    run: list[Stmt] = []

    def flush() -> None:
        if run:
            made.append(replace(loop, body=Block(tuple(run)), kind="serial"))
            run.clear()

    for statement in body:
        if isinstance(statement, (Store, Reduce)):
            run.append(_indexed(statement, loop.index, local))
        elif isinstance(statement, Alloc) and has_loops:
            flush()
            scalar = statement.buffer
            if scalar.shape:
                raise UnsupportedError(f"inward: {scalar!r} is an array already")
            local[scalar] = Buffer(scalar.name, scalar.dtype, (extent,), "local", "stack")
            made.append(Alloc(local[scalar]))
        elif isinstance(statement, For):
            flush()
            made.append(replace(statement, body=_inside(loop, statement.body, extent, local)))
        else:
            run.append(statement)
    flush()
    return Block(tuple(made))


def _indexed(statement: Store | Reduce, at: Index, local: dict[Buffer, Buffer]) -> Store | Reduce:
    """The assignment with every scalar that became an array read and written at the loop's variable."""
    buffer, index = statement.buffer, tuple(_indexed_index(i, at, local) for i in statement.index)
    if buffer in local:
        buffer, index = local[buffer], (at,)
    return replace(statement, buffer=buffer, index=index, value=_indexed_value(statement.value, at, local))


def _indexed_value(value: Expr, at: Index, local: dict[Buffer, Buffer]) -> Expr:
    if isinstance(value, Read):
        if isinstance(value.source, Buffer) and value.source in local:
            return Read(local[value.source], (at,), value.dtype)
        return replace(value, index=tuple(_indexed_index(i, at, local) for i in value.index))
    if isinstance(value, IndexValue):
        return replace(value, index=_indexed_index(value.index, at, local))
    if isinstance(value, Apply):
        return Apply(value.fn, tuple(_indexed_value(a, at, local) for a in value.args), value.dtype)
    return value


def _indexed_index(index: IndexLike, at: Index, local: dict[Buffer, Buffer]) -> IndexLike:
    """The same inside of an index: a scalar may be read there at run time."""

    def indexed(atom: Dynamic) -> IndexLike:
        value = _indexed_value(atom.value, at, local) if isinstance(atom.value, Expr) else atom.value
        return var_index(Dynamic(value, atom.lo, atom.hi))

    return index if isinstance(index, int) else substitute(index, {}, indexed)


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


# Threads


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


def _fresh(name: str, names: set[str]) -> str:
    wanted, k = name, 0
    while name in names:
        k += 1
        name = f"{wanted}_{k}"
    names.add(name)
    return name


def _variable(index: IndexLike) -> Var:
    assert isinstance(index, Index)
    var = index.terms[0][0]
    assert isinstance(var, Var)
    return var
