"""compute_at: an intermediate array is made where it is read, a part at a time.

for r in range(8)                     for r in range(2)                # rows of h above the window of i = 0
    h[r] = ...                            ring[r % 3] = ...
for i in range(8)           ->        for i in range(8)
    y[i] = h[i-1] + h[i] + h[i+1]         for r in range(max(0, i + 1), min(8, i + 2))
                                              ring[r % 3] = ...
                                          y[i] = ring[(i-1) % 3] + ring[i % 3] + ring[(i+1) % 3]

Without `fold` the whole window is computed again for each i, and the array holds one window. With it, the
array is a ring of as many rows as the window has, and each iteration computes the rows that are new.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from intaglio.loop import places
from intaglio.loop.independence import accesses, bound_in
from intaglio.loop.ir import Alloc, Block, Buffer, For, Reduce, Stmt, Store, block, walk
from intaglio.loop.recipes.nests import variable_of
from intaglio.loop.schedule.edges import decided
from intaglio.loop.schedule.nest import Nest, Path, chain, constant_extent, rebuilt, with_bodies
from intaglio.loop.schedule.records import Record
from intaglio.loop.schedule.regions import Place, axis_bounds, bytes_of, redirected
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import Index, IndexLike, Var, maximum, minimum, substitute, variable

STACK = 32 << 10
"""Bytes of a window or ring that may lie on the stack."""


@dataclass(frozen=True)
class Rows:
    """What the consumer needs of an axis at an iteration: `fixed + low .. fixed + high`; `step` is how far
    that moves from one iteration to the next."""

    axis: int
    loop: For
    fixed: IndexLike
    low: int
    high: int
    step: int

    @property
    def window(self) -> int:
        return self.high - self.low + 1


@dataclass(frozen=True)
class ComputeAt(Record, verb="compute_at"):
    """The nest that makes an array moves into a loop that reads it, and makes what one iteration needs, halo
    included. `fold`: rows that the last iteration has made are kept, in a ring."""

    made: ClassVar[tuple[int, ...]] = (0,)
    array: str
    loop: str
    fold: bool = False

    def apply(self, nest: Nest) -> None:
        buffer = nest.buffer(self.array)
        if nest.is_param(buffer) and buffer not in nest.extra:
            raise UnsupportedError(
                f"{self}: {buffer!r} is an array of the program",
                hint="schedule the kernels that make and read it together, as one",
            )
        found = nest.loops(self.loop)
        if found[0][0].step != 1:
            raise UnsupportedError(f"{self}: the loop does not count by 1")
        if len(found) != 1:
            raise UnsupportedError(f"{self}: there are {len(found)} loops {self.loop}", hint="name one: i[0]")
        at, path = found[0]
        _Move(self, nest, buffer, at, path).run()


class _Move:
    """One application."""

    def __init__(self, record: ComputeAt, nest: Nest, buffer: Buffer, at: For, path: Path) -> None:
        self.record, self.nest, self.buffer, self.at = record, nest, buffer, at
        self.producer = self.find_producer(path[0] if path else at)
        self.chain = chain(self.producer)
        self.reads = accesses(at.body)[0].get(buffer, [])

    def refuse(self, why: str) -> UnsupportedError:
        return UnsupportedError(f"{self.record}: {why}")

    def find_producer(self, consumer: For) -> For:
        """The statement of the kernel that makes the array; nothing but the loop may read it."""
        touching = [s for s in self.nest.body if self.buffer in places.buffers_of(Block((s,)))]
        if len(touching) != 2 or touching[1] is not consumer or not isinstance(touching[0], For):
            raise self.refuse(f"{self.buffer!r} is not made by one nest and read by one behind it")
        inside = sum(r.source is self.buffer for s in walk(self.at.body) for r in places.statement_reads(s))
        whole = sum(r.source is self.buffer for s in walk(consumer.body) for r in places.statement_reads(s))
        if inside != whole:
            raise self.refuse(f"{self.buffer!r} is read outside of the loop over {self.at.var} too")
        producer = touching[0]
        inside_producer = {s.buffer for s in walk(producer.body) if isinstance(s, Alloc)}
        if other := [b for b in accesses(producer.body)[1] if b not in {self.buffer, *inside_producer}]:
            raise self.refuse(f"the nest that makes {self.buffer.name} makes {other[0]!r} too")
        read = {r.source for s in walk(producer.body) for r in places.statement_reads(s)} - {self.buffer}
        between = self.nest.body.statements[self.nest.body.statements.index(producer) + 1 :]
        for statement in between:
            written = accesses(Block((statement,)))[1]
            if clash := [b for b in written if b in read or b is self.buffer]:
                raise self.refuse(f"{clash[0]!r} is written behind the nest that makes {self.buffer.name}")
        return producer

    def rows(self) -> list[Rows]:
        """The axes of which the consumer needs a part only, each the variable of a loop of the producer."""
        free = bound_in(self.at) - {self.at.var}
        stores = [
            s.index for s in walk(self.producer.body)
            if isinstance(s, (Store, Reduce)) and s.buffer is self.buffer
        ]  # fmt: skip
        read_back = [
            r.index for s in walk(self.producer.body) for r in places.statement_reads(s)
            if r.source is self.buffer
        ]  # fmt: skip
        found: list[Rows] = []
        for loop in self.chain:
            own = loop.index
            axes = [k for k in range(len(self.buffer.shape)) if all(i[k] == own for i in stores + read_back)]
            others = [
                k for k in range(len(self.buffer.shape)) for i in stores
                if k not in axes and loop.var in places.index_variables(i[k])
            ]  # fmt: skip
            if len(axes) != 1 or others:
                continue
            fixed, low, high = axis_bounds(
                str(self.record), self.buffer, axes[0], [i[axes[0]] for i in self.reads], free
            )
            if isinstance(fixed, Index):
                constant_extent("compute_at", loop)
                step = fixed.coefficient(self.at.var)
                if step is None or step < 0:
                    raise self.refuse(f"axis {axes[0]} of {self.buffer!r} does not follow {self.at.var}")
                found.append(Rows(axes[0], loop, fixed, low, high, step))
        return found

    def run(self) -> None:
        rows = self.rows()
        moving = [r for r in rows if r.step]
        if not moving:
            raise self.refuse(
                f"no loop that makes {self.buffer!r} follows {self.at.var}; "
                f"the loops of its nest are {', '.join(str(one.var) for one in self.chain)}"
            )
        ring = moving[0] if self.record.fold else None
        if ring is not None and (len(moving) > 1 or self.at.kind == "parallel" or self.at.start != 0):
            raise self.refuse(f"a ring follows one axis of a serial loop, here {len(moving)}")
        new = self.storage(rows)

        def place(index: Place) -> tuple[Buffer, Place]:
            moved = list(index)
            for r in rows:
                if r is ring:
                    moved[r.axis] = index[r.axis] % r.window
                else:
                    moved[r.axis] = index[r.axis] - maximum(0, r.fixed + r.low)
            return new, tuple(moved)

        body = redirected(self.at.body, self.buffer, place)
        starts = {r.loop.var: (r, self.start(r, ring)) for r in rows}
        inner = redirected(self.produce(starts), self.buffer, place)
        before = self.halo(rows, ring)
        moved = block(*redirected(before, self.buffer, place), replace(self.at, body=block(inner, body)))
        self.replace(new, moved)

    def storage(self, rows: list[Rows]) -> Buffer:
        shape = list(self.buffer.shape)
        for r in rows:
            shape[r.axis] = r.window
        new = Buffer(self.buffer.name, self.buffer.dtype, tuple(shape), "local", "stack")
        if bytes_of(new) > STACK:
            new.role, new.space = "scratch", "heap"
        return new

    @staticmethod
    def start(r: Rows, ring: Rows | None) -> IndexLike:
        """The first row that an iteration makes."""
        first = max(r.low, r.high + 1 - r.step) if r is ring else r.low
        return r.fixed + first

    def produce(self, starts: dict[Var, tuple[Rows, IndexLike]]) -> Block:
        """The producer's nest over the rows of one iteration, counted from 0, where the array has them."""
        loops: list[For] = []
        env: dict[Var, IndexLike] = {}
        for loop in self.chain:
            if loop.var not in starts:
                loops.append(loop)
                continue
            r, start = starts[loop.var]
            assert isinstance(loop.stop, int)
            first = maximum(0, start)
            most = r.high + 1 - (start - r.fixed)
            assert isinstance(most, int)
            stop = minimum(loop.stop - first, minimum(most, r.fixed + r.high + 1))
            row = variable(loop.var.name, min(most, loop.stop))
            env[loop.var] = row + first
            loops.append(replace(loop, var=variable_of(row), stop=stop, kind="serial"))
        body = places.substitute_block(self.chain[-1].body, env)
        return rebuilt(loops, body)

    def halo(self, rows: list[Rows], ring: Rows | None) -> Block:
        """With a ring: the rows that the first iteration reads and does not make, made before the loop."""
        if ring is None:
            return Block()
        at_zero = {self.at.var: 0}
        fixed = substitute(ring.fixed, at_zero)
        first, stop = fixed + ring.low, fixed + max(ring.low, ring.high + 1 - ring.step)
        loop = ring.loop
        assert isinstance(loop.stop, int)
        begin = maximum(0, first)
        end = minimum(loop.stop, stop)
        count = end - begin
        if isinstance(count, int) and count <= 0:
            return Block()
        row = variable(loop.var.name, min(ring.window, loop.stop))
        if isinstance(count, int):
            row = variable(loop.var.name, count)
        loops = [
            replace(one, var=variable_of(row), stop=count, kind="serial") if one is loop else one
            for one in self.chain
        ]
        others = {r.loop.var for r in rows if r is not ring}
        if others:
            raise self.refuse("a ring next to a window of another axis")
        body = places.substitute_block(self.chain[-1].body, {loop.var: row + begin})
        return decided(rebuilt(loops, body))

    def replace(self, new: Buffer, moved: Block) -> None:
        """The kernel without the producer's nest, with the array declared where it now lives."""
        local = new.role == "local"
        inside = local and not self.record.fold

        def statement(old: Stmt) -> list[Stmt]:
            if old is self.producer or (isinstance(old, Alloc) and old.buffer is self.buffer):
                return []
            if old is self.at:
                if inside:
                    loop = moved.statements[-1]
                    assert isinstance(loop, For)
                    return [replace(loop, body=block(Alloc(new), loop.body))]
                return [*([Alloc(new)] if local else []), *moved]
            return [with_bodies(old, lambda b: Block(tuple(s for o in b for s in statement(o))))]

        self.nest.body = Block(tuple(s for old in self.nest.body for s in statement(old)))
        if self.nest.is_param(self.buffer):
            self.nest.replace_param(self.buffer, None if local else new)
        elif not local:
            self.nest.add_param(new)
