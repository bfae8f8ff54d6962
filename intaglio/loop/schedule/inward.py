"""Loops that move inside of the loops of their body; scalars that live across these become arrays."""

from __future__ import annotations

from dataclasses import replace

from intaglio.loop import places
from intaglio.loop.independence import carried
from intaglio.loop.ir import Alloc, Block, Buffer, Comment, For, Reduce, Space, Stmt, Store, walk
from intaglio.loop.schedule.nest import constant_extent, rebuilt
from intaglio.ops.expr import Apply, Expr, IndexValue, Read
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import Dynamic, IndexLike, substitute, var_index


def inward(loop: For, *, space: Space = "stack") -> Block:
    """The loop inside of all loops of its body; scalars declared in it become arrays over its iterations.

    Raises:
        UnsupportedError: iterations share memory, or the body is more than loops and assignments.
    """
    return nest_inward([loop], space)


def nest_inward(loops: list[For], space: Space) -> Block:
    """The same for the loops of a perfect nest, the first one outermost, in one go."""
    for buffer, sharing in carried(loops).items():
        raise UnsupportedError(f"inward: iterations over {sharing[0].var} share {buffer!r}")
    for loop in loops:
        _check(loop)
    return _Moving(loops, space).block(loops[-1].body)


def _check(loop: For) -> None:
    constant_extent("inward", loop)
    for statement in walk(loop.body):
        if not isinstance(statement, (For, Store, Reduce, Alloc, Comment)):
            raise UnsupportedError(f"inward: the loop over {loop.var} holds a {type(statement).__name__}")
        if isinstance(statement, For) and loop.var in (
            places.index_variables(statement.start) | places.index_variables(statement.stop)
        ):
            raise UnsupportedError(f"inward: the loop over {statement.var} depends on {loop.var}")


class _Moving:
    """Runs of assignments under the moved loops, inner loops and scalars that outlive a run around them."""

    def __init__(self, loops: list[For], space: Space) -> None:
        self.loops = [replace(loop, kind="serial") if loop.kind != "vector" else loop for loop in loops]
        self.extents = tuple(constant_extent("inward", loop) for loop in loops)
        self.at = tuple(loop.index for loop in loops)
        self.space = space
        self.arrays: dict[Buffer, Buffer] = {}

    def block(self, body: Block) -> Block:
        made: list[Stmt] = []
        run: list[Stmt] = []
        early = _used_in_one_run(body)
        scalars = {alloc.buffer for allocs in early.values() for alloc in allocs}

        def flush() -> None:
            if run:
                made.extend(rebuilt(self.loops, Block(tuple(run))))
                run.clear()

        for statement in body:
            if isinstance(statement, (Store, Reduce)):
                run.extend([*early.get(id(statement), ()), self.assignment(statement)])
            elif isinstance(statement, For):
                flush()
                made.append(replace(statement, body=self.block(statement.body)))
            elif not isinstance(statement, Alloc):
                run.append(statement)
            elif statement.buffer not in scalars:
                flush()
                made.append(Alloc(self.array(statement.buffer)))
        flush()
        return Block(tuple(made))

    def array(self, scalar: Buffer) -> Buffer:
        if scalar.shape:
            raise UnsupportedError(f"inward: {scalar!r} is an array already")
        made = Buffer(scalar.name, scalar.dtype, self.extents, "local", self.space)
        self.arrays[scalar] = made
        return made

    def assignment(self, statement: Store | Reduce) -> Store | Reduce:
        buffer, index = statement.buffer, tuple(map(self.index, statement.index))
        if buffer in self.arrays:
            buffer, index = self.arrays[buffer], self.at
        return replace(statement, buffer=buffer, index=index, value=self.value(statement.value))

    def value(self, value: Expr) -> Expr:
        if isinstance(value, Read):
            if isinstance(value.source, Buffer) and value.source in self.arrays:
                return Read(self.arrays[value.source], self.at, value.dtype)
            return replace(value, index=tuple(map(self.index, value.index)))
        if isinstance(value, IndexValue):
            return replace(value, index=self.index(value.index))
        if isinstance(value, Apply):
            return Apply(value.fn, tuple(map(self.value, value.args)), value.dtype)
        return value

    def index(self, index: IndexLike) -> IndexLike:
        """The same inside of an index: a scalar may be read there at run time."""

        def moved(atom: Dynamic) -> IndexLike:
            value = self.value(atom.value) if isinstance(atom.value, Expr) else atom.value
            return var_index(Dynamic(value, atom.lo, atom.hi))

        return index if isinstance(index, int) else substitute(index, {}, moved)


def _used_in_one_run(body: Block) -> dict[int, list[Alloc]]:
    """Scalars that only one run of assignments between loops touches, by the first statement that does."""
    segments: dict[Buffer, set[int]] = {}
    first: dict[Buffer, Stmt] = {}
    number = 0
    for statement in body:
        is_loop = isinstance(statement, For)
        number += is_loop
        for buffer in places.buffers_of(Block((statement,))):
            segments.setdefault(buffer, set()).add(number if not is_loop else -number)
            first.setdefault(buffer, statement)
        number += is_loop
    found: dict[int, list[Alloc]] = {}
    for statement in body:
        if not isinstance(statement, Alloc) or statement.buffer.shape:
            continue
        touched = segments.get(statement.buffer, set())
        if len(touched) == 1 and min(touched) >= 0:
            found.setdefault(id(first[statement.buffer]), []).append(statement)
    return found
