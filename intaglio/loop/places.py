"""Where loop programs touch memory: reads of expressions, flat places, strides, substitution.

The verifier, the transforms and the recipes ask the same few questions; they are answered here, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from intaglio.loop.ir import (
    Alloc,
    Block,
    Buffer,
    Call,
    For,
    If,
    Prefetch,
    Reduce,
    Slice,
    Stmt,
    Store,
    While,
    walk,
)
from intaglio.ops.expr import Apply, Expr, IndexValue, Read
from intaglio.ops.movement import flat_index
from intaglio.shared import index as indices
from intaglio.shared.index import Div, Dynamic, Index, IndexLike, Max, Min, Mod, Product, Var, var_index

Env = Mapping[Var, IndexLike]
Buffers = Mapping[Buffer, Buffer]


def flat(buffer: Buffer, index: tuple[IndexLike, ...]) -> IndexLike:
    """Row-major position of an element."""
    return flat_index(index, buffer.shape)


def origin(place: Slice) -> tuple[IndexLike, ...]:
    """The index of a one-element slice in its array."""
    if not place.buffer.shape:
        return ()
    return (*(0 for _ in place.buffer.shape[1:]), place.offset)


def direction(index: IndexLike, var: Var) -> int | None:
    """1 where an index never falls as a variable grows, -1 where it never rises, 0 without it, else None."""
    ways = set()
    for atom, coef in index.terms if isinstance(index, Index) else ():
        if isinstance(atom, Var):
            way: int | None = int(atom == var)
        elif isinstance(atom, Div) and isinstance(atom.den, int):
            way = direction(atom.num, var)
        elif isinstance(atom, Product) and indices.interval(var_index(atom))[0] is not None:
            both = {direction(atom.a, var), direction(atom.b, var)} - {0}  # neither factor is negative
            way = next(iter(both), 0) if len(both) < 2 else None
        else:
            way = None if var in index_variables(var_index(atom)) else 0
        if way is None:
            return None
        ways.add(way if coef > 0 else -way)
    ways.discard(0)
    return None if len(ways) > 1 else next(iter(ways), 0)


def without_quotients(index: IndexLike) -> IndexLike:
    """A bound from above with `d * (x // d)` as `x` where x has a symbol, so that symbols cancel."""
    if isinstance(index, Index):
        for atom, coef in index.terms:
            if isinstance(atom, Div) and isinstance(atom.den, int) and coef > 0 and coef % atom.den == 0:
                return without_quotients(index - var_index(atom) * coef + atom.num * (coef // atom.den))
    return index


def multiplied_out(index: IndexLike) -> IndexLike:
    """Products of sums as sums of products, so that equal ones cancel."""
    if isinstance(index, int) or not any(isinstance(atom, Product) for atom, _ in index.terms):
        return index
    total: IndexLike = index.const
    for atom, coef in index.terms:
        if isinstance(atom, Product):
            left, right = _summands(multiplied_out(atom.a)), _summands(multiplied_out(atom.b))
            for a in left:
                for b in right:
                    total = total + a * b * coef
        else:
            total = total + var_index(atom) * coef
    return total


def _summands(index: IndexLike) -> list[IndexLike]:
    if isinstance(index, int):
        return [index]
    return [index.const, *(var_index(atom) * coef for atom, coef in index.terms)]


def without_minima(index: IndexLike) -> Iterator[IndexLike]:
    """Bounds from above of an index, with one side in place of each minimum (or maximum taken off)."""
    for atom, coef in index.terms if isinstance(index, Index) else ():
        if isinstance(atom, Min if coef > 0 else Max):
            rest = index - var_index(atom) * coef
            for side in (atom.a, atom.b):
                yield from without_minima(rest + side * coef)
            return
    yield index


def dynamics(index: IndexLike) -> Iterator[Dynamic]:
    """The values read at run time inside an index, innermost ones not included."""
    if isinstance(index, int):
        return
    for atom, _ in index.terms:
        if isinstance(atom, Dynamic):
            yield atom
        elif isinstance(atom, (Div, Mod)):
            yield from dynamics(atom.num)
            yield from dynamics(atom.den)
        elif isinstance(atom, (Min, Max, Product)):
            yield from dynamics(atom.a)
            yield from dynamics(atom.b)


def index_reads(*index: IndexLike) -> Iterator[Read]:
    """Elements that must be loaded to know an index."""
    for part in index:
        for atom in dynamics(part):
            if isinstance(atom.value, Expr):
                yield from reads(atom.value)


def reads(value: Expr) -> Iterator[Read]:
    """Every element an expression loads, those inside of indices too; shared parts are searched once."""
    waiting, seen = [value], {id(value)}
    while waiting:
        value = waiting.pop()
        if isinstance(value, Read):
            yield value
            yield from index_reads(*value.index)
        elif isinstance(value, IndexValue):
            yield from index_reads(value.index)
        elif isinstance(value, Apply):
            fresh = {id(a): a for a in value.args if id(a) not in seen}
            seen.update(fresh)
            waiting.extend(reversed(fresh.values()))


def variables(value: Expr) -> frozenset[Var]:
    """Loop variables and symbols an expression depends on."""
    found: set[Var] = set()
    waiting, seen = [value], {id(value)}
    while waiting:
        value = waiting.pop()
        if isinstance(value, Read):
            found.update(*(index_variables(i) for i in value.index))
        elif isinstance(value, IndexValue):
            found |= index_variables(value.index)
        elif isinstance(value, Apply):
            fresh = [a for a in value.args if id(a) not in seen]
            seen.update(map(id, fresh))
            waiting.extend(fresh)
    return frozenset(found)


def index_variables(index: IndexLike) -> frozenset[Var]:
    """Variables of an index, those inside of run-time values too."""
    if isinstance(index, int):
        return frozenset()
    inner = (variables(d.value) for d in dynamics(index) if isinstance(d.value, Expr))
    return index.variables.union(*inner)


def strides(value: Expr, var: Var) -> list[int | None]:
    """How far each read of an expression moves per step of a variable; None where that is not constant."""
    return [stride(read.source, read.index, var) for read in reads(value) if isinstance(read.source, Buffer)]


def stride(buffer: Buffer, index: tuple[IndexLike, ...], var: Var) -> int | None:
    """How far a place moves per step of a variable; None when that is not constant."""
    position = flat(buffer, index)
    if isinstance(position, int):
        return 0
    if var not in index_variables(position):
        return 0
    if any(var in variables(d.value) for d in dynamics(position) if isinstance(d.value, Expr)):
        return None
    return position.coefficient(var)


def is_even(index: IndexLike, var: Var) -> bool:
    """Whether every step of a variable moves an index equally far: by a number, or by one made of symbols."""
    if any(var in variables(d.value) for d in dynamics(index) if isinstance(d.value, Expr)):
        return False
    for atom, _ in index.terms if isinstance(index, Index) else ():
        if isinstance(atom, Product):
            own = [factor for factor in (atom.a, atom.b) if var in index_variables(factor)]
            if len(own) > 1 or not all(is_even(factor, var) for factor in own):
                return False
        elif not isinstance(atom, Var) and var in index_variables(var_index(atom)):
            return False
    return True


def substitute(value: Expr, env: Env, buffers: Buffers | None = None) -> Expr:
    """The expression with variables and buffers replaced; what it shares stays shared."""
    return _substitute(value, env, buffers, {})


def _substitute(value: Expr, env: Env, buffers: Buffers | None, made: dict[int, Expr]) -> Expr:
    if isinstance(value, Read):
        source = (
            (buffers or {}).get(value.source, value.source)
            if isinstance(value.source, Buffer)
            else value.source
        )
        return Read(source, tuple(substitute_index(i, env, buffers) for i in value.index), value.dtype)
    if isinstance(value, Apply):
        if id(value) not in made:
            arguments = tuple(_substitute(a, env, buffers, made) for a in value.args)
            made[id(value)] = Apply(value.fn, arguments, value.dtype)
        return made[id(value)]
    if isinstance(value, IndexValue):
        return IndexValue(substitute_index(value.index, env, buffers), value.dtype)
    return value


def substitute_index(index: IndexLike, env: Env, buffers: Buffers | None = None) -> IndexLike:
    """The index with variables (and buffers inside of run-time values) replaced."""
    if isinstance(index, int):
        return index
    return indices.substitute(index, env, partial(_substitute_dynamic, env, buffers))


def _substitute_dynamic(env: Env, buffers: Buffers | None, atom: Dynamic) -> Index:
    value = substitute(atom.value, env, buffers) if isinstance(atom.value, Expr) else atom.value
    return indices.var_index(Dynamic(value, atom.lo, atom.hi))


def substitute_stmt(statement: Stmt, env: Env, buffers: Buffers | None = None) -> Stmt:
    """The statement with variables and buffers replaced; `env` must not name its loop variables."""
    value: Callable[[Expr], Expr] = partial(substitute, env=env, buffers=buffers)
    place: Callable[[IndexLike], IndexLike] = partial(substitute_index, env=env, buffers=buffers)
    body: Callable[[Block], Block] = partial(substitute_block, env=env, buffers=buffers)
    swap = buffers or {}
    if isinstance(statement, (Store, Reduce)):
        return replace(
            statement,
            buffer=swap.get(statement.buffer, statement.buffer),
            index=tuple(map(place, statement.index)),
            value=value(statement.value),
        )
    if isinstance(statement, Prefetch):
        at = swap.get(statement.buffer, statement.buffer)
        return Prefetch(at, tuple(map(place, statement.index)))
    if isinstance(statement, For):
        return replace(
            statement, start=place(statement.start), stop=place(statement.stop), body=body(statement.body)
        )
    if isinstance(statement, If):
        orelse = None if statement.orelse is None else body(statement.orelse)
        return If(value(statement.condition), body(statement.then), orelse)
    if isinstance(statement, While):
        return While(value(statement.condition), body(statement.body))
    if isinstance(statement, Alloc):
        return Alloc(swap.get(statement.buffer, statement.buffer))
    if isinstance(statement, Call):
        args = (Slice(swap.get(a.buffer, a.buffer), place(a.offset)) for a in statement.args)
        return Call(statement.kernel, tuple(args))
    return statement


def substitute_block(body: Block, env: Env, buffers: Buffers | None = None) -> Block:
    """The block with variables and buffers replaced."""
    return Block(tuple(substitute_stmt(s, env, buffers) for s in body))


def statement_reads(statement: Stmt) -> Iterator[Read]:
    """Elements a statement itself loads; a loop's or branch's body is not searched."""
    if isinstance(statement, (Store, Reduce)):
        yield from reads(statement.value)
        yield from index_reads(*statement.index)
        if isinstance(statement, Reduce):
            yield Read(statement.buffer, statement.index, statement.buffer.dtype)
    elif isinstance(statement, For):
        yield from index_reads(statement.start, statement.stop)
    elif isinstance(statement, (If, While)):
        yield from reads(statement.condition)


def stored_in(body: Block) -> set[Buffer]:
    """Every array a body writes."""
    return {statement.buffer for statement in walk(body) if isinstance(statement, (Store, Reduce))}


def buffers_of(body: Block) -> set[Buffer]:
    """Every array a body reads or writes."""
    found = stored_in(body)
    for statement in walk(body):
        found |= {read.source for read in statement_reads(statement) if isinstance(read.source, Buffer)}
    return found


__all__ = [
    "Slice",
    "buffers_of",
    "dynamics",
    "flat",
    "index_reads",
    "index_variables",
    "reads",
    "statement_reads",
    "stride",
    "strides",
    "substitute",
    "substitute_block",
    "substitute_index",
    "substitute_stmt",
    "variables",
]
