"""Verbs that keep values near: cache_write, cache_read, pad."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from intaglio.loop import places
from intaglio.loop.independence import Places, Variables, accesses, bound_in
from intaglio.loop.ir import Alloc, Block, Buffer, For, Reduce, Space, Stmt, Store, block, walk
from intaglio.loop.schedule.guards import conjuncts
from intaglio.loop.schedule.inward import nest_inward
from intaglio.loop.schedule.nest import Nest, Path, chain, loops_in
from intaglio.loop.schedule.records import Record
from intaglio.loop.schedule.regions import (
    MOST_LOCAL,
    Place,
    Region,
    bytes_of,
    fill_copy,
    redirected,
    region_of,
    with_values,
)
from intaglio.ops.expr import Apply, Const, Expr, IndexValue, Read
from intaglio.shared import dtypes
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import IndexLike

MOST_REGISTERS = 8 << 10
"""Bytes of accumulators that may ask for registers."""


@dataclass(frozen=True)
class CacheWrite(Record, verb="cache_write"):
    """Accumulate near: a scalar declared in the innermost of some loops becomes an array over these loops,
    from `loop` inwards, in registers (or on the `stack`), and they move inside of the reduction, with a nest
    for the initial values before and one for the epilogue behind it. An array of the kernel is held in a
    scalar of the name behind the arrow while `loop` works on one element of it."""

    made: ClassVar[tuple[int, ...]] = (0, 1)
    array: str
    loop: str
    stack: bool = False
    into: tuple[str, ...] = ()

    def apply(self, nest: Nest) -> None:
        nest.fresh(*self.into)
        nest.rewrite(self.loop, self._promoted if self.into else self._expanded)

    def _expanded(self, loop: For, _: Path) -> Iterable[Stmt]:
        loops = chain(loop)
        declared = [s.buffer for s in loops[-1].body if isinstance(s, Alloc)]
        if self.array not in {buffer.name for buffer in declared}:
            names = ", ".join(b.name for b in declared)
            raise UnsupportedError(
                f"{self}: the innermost loop under {self.loop} declares {names or 'nothing'}",
                hint="name the scalar that is to hold an array's element: cache_write(y, k) -> acc",
            )
        space: Space = "stack" if self.stack else "register"
        made = nest_inward(loops, space)
        size = sum(bytes_of(s.buffer) for s in made if isinstance(s, Alloc))
        if size > (MOST_LOCAL if self.stack else MOST_REGISTERS):
            raise UnsupportedError(f"{self}: {size} bytes are too many", hint="split the loops first")
        return made

    def _promoted(self, loop: For, _: Path) -> Iterable[Stmt]:
        found, written = accesses(loop.body)
        inside = {s.buffer for s in walk(loop.body) if isinstance(s, Alloc)}
        buffer = next((b for b in written if b.name == self.array and b not in inside), None)
        if buffer is None:
            raise UnsupportedError(f"{self}: the loop over {loop.var} writes no outer array {self.array}")
        place = found[buffer][0]
        used = frozenset[object]().union(*map(places.index_variables, place))
        if (
            set(found[buffer]) != {place}
            or used & bound_in(loop)
            or any(True for _ in places.index_reads(*place))
        ):
            raise UnsupportedError(
                f"{self}: the loop over {loop.var} works on several elements of {buffer!r}"
            )
        scalar = Buffer(self.into[0], buffer.dtype.arithmetic, (), "local", "register")
        if scalar.dtype != buffer.dtype:
            raise UnsupportedError(f"{self}: elements of {buffer!r} are rounded at each step")
        held = redirected(loop.body, buffer, lambda _: (scalar, ()))
        return [
            Alloc(scalar),
            Store(scalar, (), Read(buffer, place, buffer.dtype)),
            replace(loop, body=held),
            Store(buffer, place, Read(scalar, (), scalar.dtype)),
        ]


def _copied(
    record: Record,
    nest: Nest,
    buffer: Buffer,
    where: str,
    name: str,
    change: Callable[[Block, Places], tuple[Block, list[Callable[[Place], Expr]], Const]],
) -> None:
    """Read from a copy: of what one iteration of a loop reads, or of what the whole kernel does, made first.

    `change` gives the statements without guards, the guards to fill the copy with, and what it holds where
    they say no.
    """

    def staged(body: Block, free: Variables, local: bool) -> tuple[Buffer, Block]:
        found, written = accesses(body)
        if buffer not in found or buffer in written:
            what = "written" if buffer in written else "not read"
            raise UnsupportedError(f"{record}: {buffer!r} is {what} there")
        body, guards, outside = change(body, found[buffer])
        region = region_of(str(record), buffer, found[buffer], free)
        copy = Buffer(name, buffer.dtype, region.extent, "local", "stack")
        if local and bytes_of(copy) > MOST_LOCAL:
            raise UnsupportedError(
                f"{record}: {copy!r} has {bytes_of(copy)} bytes, more than {MOST_LOCAL}",
                hint="name a loop further in, or none for a copy in the program's memory",
            )
        fill = fill_copy(nest, copy, buffer, region, lambda p: [g(p) for g in guards], outside)
        return copy, block(fill, _moved(body, buffer, copy, region))

    if not where:
        before, behind = _behind_writes(nest.body, buffer)
        free = frozenset(loop.var for loop, _ in loops_in(behind))
        copy, body = staged(behind, free, local=False)
        copy.role, copy.space = "scratch", "heap"
        nest.body = block(before, body)
        nest.add_param(copy)
        return

    def made(loop: For, _: Path) -> Iterable[Stmt]:
        copy, body = staged(loop.body, bound_in(loop) - {loop.var}, local=True)
        return [replace(loop, body=block(Alloc(copy), body))]

    nest.rewrite(where, made)


def _behind_writes(body: Block, buffer: Buffer) -> tuple[Block, Block]:
    """A kernel's statements up to the last one that writes an array, and those behind it."""
    writing = [k for k, s in enumerate(body) if buffer in accesses(Block((s,)))[1]]
    first = writing[-1] + 1 if writing else 0
    return Block(body.statements[:first]), Block(body.statements[first:])


def _moved(body: Block, buffer: Buffer, copy: Buffer, region: Region) -> Block:
    return redirected(body, buffer, lambda index: (copy, region.inside(index)))


@dataclass(frozen=True)
class CacheRead(Record, verb="cache_read"):
    """Read near: the part of an array that one iteration of a loop reads is copied into a small array first;
    without a loop, the part that the kernel reads, into memory of the program."""

    made: ClassVar[tuple[int, ...]] = (1,)
    array: str
    loop: str = ""
    into: tuple[str, ...] = ()

    def apply(self, nest: Nest) -> None:
        nest.fresh(*self.into)
        buffer = nest.buffer(self.array)
        zero = Const(0.0 if buffer.dtype.is_float else 0, buffer.dtype)
        _copied(self, nest, buffer, self.loop, self.into[0], lambda body, _: (body, [], zero))


@dataclass(frozen=True)
class Pad(Record, verb="pad"):
    """Guarded reads, `where(inside, x[i], 0)`, come from a copy with a border, made at each iteration of a
    loop for the part it reads, or once without a loop: the loops inside need no guards."""

    made: ClassVar[tuple[int, ...]] = (1,)
    array: str
    loop: str = ""
    into: tuple[str, ...] = ()

    def apply(self, nest: Nest) -> None:
        nest.fresh(*self.into)
        buffer = nest.buffer(self.array)

        def change(body: Block, found: Places) -> tuple[Block, list[Callable[[Place], Expr]], Const]:
            guarded = list(_guarded_reads(body, buffer))
            if not guarded or len(guarded) < len(found):
                raise UnsupportedError(f"{self}: not every read of {buffer!r} stands behind a guard")
            kinds = {_guard_shape(self, one, buffer) for one in guarded}
            if len(kinds) != 1:
                raise UnsupportedError(f"{self}: reads of {buffer!r} have different guards")
            conditions, outside = kinds.pop()
            body = with_values(body, lambda v: v.args[1] if _guards(v, buffer) else None)  # type: ignore[union-attr]
            return body, [condition.at for condition in conditions], outside

        _copied(self, nest, buffer, self.loop, self.into[0], change)


@dataclass(frozen=True)
class _Condition:
    """A guard says `low <= place[axis] + offset`, or `place[axis] + offset <= high`, or so with `<`."""

    fn: str
    axis: int
    offset: int
    bound: int
    bound_first: bool

    def at(self, place: Place) -> Expr:
        own, bound = IndexValue(place[self.axis] + self.offset), IndexValue(self.bound)
        return Apply(self.fn, (bound, own) if self.bound_first else (own, bound), dtypes.bool_)


def _guards(value: Expr, buffer: Buffer) -> bool:
    if not isinstance(value, Apply) or value.fn != "where" or not isinstance(value.args[2], Const):
        return False
    return isinstance(value.args[1], Read) and value.args[1].source is buffer


def _guarded_reads(body: Block, buffer: Buffer) -> Iterator[Apply]:
    for statement in walk(body):
        values = [statement.value] if isinstance(statement, (Store, Reduce)) else []
        while values:
            value = values.pop()
            if isinstance(value, Apply) and _guards(value, buffer):
                yield value
            elif isinstance(value, Apply):
                values.extend(value.args)


def _guard_shape(record: Record, guard: Apply, buffer: Buffer) -> tuple[tuple[_Condition, ...], Const]:
    """What a guard says about the place it guards, and what there is elsewhere."""
    read, outside = guard.args[1], guard.args[2]
    assert isinstance(read, Read)
    assert isinstance(outside, Const)
    found = []
    for condition in conjuncts(guard.args[0]):
        made = _condition(condition, read.index)
        if made is None:
            raise UnsupportedError(
                f"{record}: the guard {condition} asks for more than a place in {buffer!r}"
            )
        found.append(made)
    return tuple(dict.fromkeys(found)), outside


def _condition(condition: Expr, index: Place) -> _Condition | None:
    if not isinstance(condition, Apply) or condition.fn not in ("lt", "le"):
        return None
    left, right = (a.index if isinstance(a, IndexValue) else None for a in condition.args)
    for bound, said, first in ((left, right, True), (right, left, False)):
        axis_of: list[IndexLike] = [i for i in index if not isinstance(i, int)]
        if not isinstance(bound, int) or said is None:
            continue
        for own in axis_of:
            if isinstance(offset := said - own, int):
                return _Condition(condition.fn, index.index(own), offset, bound, first)
    return None
