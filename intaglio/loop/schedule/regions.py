"""Which part of an array statements touch, copies of such parts, and accesses sent elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from intaglio.loop import places
from intaglio.loop.independence import Variables
from intaglio.loop.ir import Block, Buffer, For, If, Prefetch, Reduce, Stmt, Store, While, block, walk
from intaglio.loop.recipes.nests import loop as loop_over
from intaglio.loop.schedule.guards import all_of, simplified_value
from intaglio.loop.schedule.nest import Nest, with_bodies
from intaglio.ops.expr import Apply, Const, Expr, IndexValue, Read, where
from intaglio.shared import dtypes
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import Index, IndexLike, interval, var_index

MOST_LOCAL = 64 << 10
"""Bytes of an array on the stack; larger ones become scratch of the program."""

Place = tuple[IndexLike, ...]


def bytes_of(buffer: Buffer) -> int:
    """The bytes of an array, in the worst case of symbolic extents."""
    size = interval(buffer.size)[1]
    if size is None:
        raise UnsupportedError(f"{buffer!r} has no upper bound", hint="give its symbols a bound")
    return size * buffer.dtype.size


def with_values(body: Block, function: Callable[[Apply | Read], Expr | None]) -> Block:
    """The statements with parts of their values replaced: `function` gives a new part, or None to look
    inside. What values share stays shared."""
    done: dict[int, tuple[Expr, Expr]] = {}

    def value(old: Expr) -> Expr:
        if not isinstance(old, (Apply, Read)):
            return old
        if id(old) not in done:
            new = function(old)
            if new is None:
                new = Apply(old.fn, tuple(map(value, old.args)), old.dtype) if isinstance(old, Apply) else old
            done[id(old)] = old, new
        return done[id(old)][1]

    def statement(old: Stmt) -> Stmt:
        if isinstance(old, (Store, Reduce)):
            return replace(old, value=value(old.value))
        if isinstance(old, (If, While)):
            old = replace(old, condition=value(old.condition))
        return with_bodies(old, lambda inner: Block(tuple(map(statement, inner))))

    return Block(tuple(map(statement, body)))


def redirected(body: Block, buffer: Buffer, to: Callable[[Place], tuple[Buffer, Place]]) -> Block:
    """The statements with every access of a buffer at an index sent to another place."""
    for held in walk(body):
        for index in _own_indices(held):
            if any(read.source is buffer for read in places.index_reads(index)):
                raise UnsupportedError(f"{buffer!r} is read inside of an index")

    def value(old: Apply | Read) -> Expr | None:
        if not isinstance(old, Read) or old.source is not buffer:
            return None
        source, index = to(old.index)
        return Read(source, index, old.dtype)

    def statement(old: Stmt) -> Stmt:
        if isinstance(old, (Store, Reduce, Prefetch)) and old.buffer is buffer:
            target, index = to(old.index)
            return replace(old, buffer=target, index=index)
        return with_bodies(old, lambda inner: Block(tuple(map(statement, inner))))

    return with_values(Block(tuple(map(statement, body))), value)


def _own_indices(statement: Stmt) -> Iterable[IndexLike]:
    for read in places.statement_reads(statement):
        yield from read.index
    if isinstance(statement, (Store, Reduce)):
        yield from statement.index
    elif isinstance(statement, For):
        yield from (statement.start, statement.stop)


@dataclass(frozen=True)
class Region:
    """What part of an array is touched: per axis from `low` on, `extent` elements. `low` depends on variables
    that are fixed for the whole region."""

    low: Place
    extent: tuple[int, ...]

    def inside(self, index: Place) -> Place:
        """The place in a copy of the region."""
        return tuple(i - lo for i, lo in zip(index, self.low, strict=True))


def region_of(verb: str, buffer: Buffer, indices: list[Place], free: Variables) -> Region:
    """The box around places of an array over all values of the free variables."""
    bounds = [
        axis_bounds(verb, buffer, axis, [index[axis] for index in indices], free)
        for axis in range(len(buffer.shape))
    ]
    lows = tuple(fixed + low for fixed, low, _ in bounds)
    return Region(lows, tuple(high - low + 1 for _, low, high in bounds))


def axis_bounds(
    verb: str, buffer: Buffer, axis: int, indices: list[IndexLike], free: Variables
) -> tuple[IndexLike, int, int]:
    """The part of an axis that is touched: from `fixed + low` to `fixed + high`; the whole axis where the
    places do not move together."""
    parts = [parted(index, free) for index in indices]
    outer = {fixed for fixed, _ in parts}
    spans = [interval(own) for _, own in parts]
    if len(outer) == 1 and all(lo is not None and hi is not None for lo, hi in spans):
        low = min(lo for lo, _ in spans if lo is not None)
        return outer.pop(), low, max(hi for _, hi in spans if hi is not None)
    extent = buffer.shape[axis]
    if not isinstance(extent, int):
        raise UnsupportedError(f"{verb}: axis {axis} of {buffer!r} is touched at places not known")
    return 0, 0, extent - 1


def parted(index: IndexLike, free: Variables) -> tuple[IndexLike, IndexLike]:
    """An index as a sum of what the free variables do not change and the rest."""
    fixed: IndexLike = 0
    for atom, coef in index.terms if isinstance(index, Index) else ():
        term = var_index(atom) * coef
        if not any(True for _ in places.dynamics(term)) and not free & places.index_variables(term):
            fixed = fixed + term
    return fixed, index - fixed


def fill_copy(
    nest: Nest,
    copy: Buffer,
    buffer: Buffer,
    region: Region,
    guard: Callable[[Place], list[Expr]],
    outside: Expr,
) -> Block:
    """The loops that fill a copy of a region; where the region leaves the array, or a guard does not hold, it
    gets `outside`."""
    names = [nest.unique(f"{copy.name}{axis}") for axis in range(len(region.extent))]

    def fill(index: Place) -> list[Stmt]:
        place = tuple(i + lo for i, lo in zip(index, region.low, strict=True))
        conditions = [simplified_value(c) for c in (*guard(place), *in_range(place, buffer))]
        condition = all_of(conditions)
        value: Expr = Read(buffer, place, buffer.dtype)
        if not isinstance(condition, Const):
            value = where(condition, value, outside)
        return [Store(copy, index, value)]

    def over(axis: int, index: Place) -> list[Stmt]:
        if axis == len(names):
            return fill(index)
        return loop_over(names[axis], region.extent[axis], lambda i: over(axis + 1, (*index, i)))

    return block(*over(0, ()))


def in_range(place: Place, buffer: Buffer) -> list[Expr]:
    """The conditions for a place to lie inside of its array, constant where bounds decide them."""
    found: list[Expr] = []
    for index, extent in zip(place, buffer.shape, strict=True):
        found.append(Apply("le", (IndexValue(0), IndexValue(index)), dtypes.bool_))
        found.append(Apply("le", (IndexValue(index + 1), IndexValue(extent)), dtypes.bool_))
    return found
