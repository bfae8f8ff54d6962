"""Rows of weights whose input is zero are left alone, where that changes no bit.

A picture is mostly paper. Where an input is 0 its weights' update subtracts 0 and its terms add 0. Both can
be left out if nothing is infinite, NaN, or a zero with the wrong sign:

* `w - lr * (0 + 0 * d)` is w when d is finite and lr is positive and finite;
* `z + w * 0` is z when w is finite and z is not -0, which a sum that does not start with -0 never becomes.

`reach` bounds every weight: it starts with the largest and grows by lr * the largest x * the largest d with
every update, so while it is small all are finite. Where it is not, or most inputs are not 0, the plain loops
run. Largest magnitudes are found as integers, which any compiler vectorises: the bits of doubles without the
sign are in the order of their magnitudes, behind them infinity, behind that NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from intaglio.loop.ir import Alloc, Block, Buffer, For, Kernel, Reduce, Stmt, Store, block
from intaglio.ops.expr import Apply, Const, Expr, IndexValue, Read, as_index, where
from intaglio.scalar.operators import COPY, MUL, UPDATE
from intaglio.scalar.reroll.addresses import Domain, Walk, index_of, indices, variables
from intaglio.scalar.reroll.bodies import Body, Literal, Node, Segment, Slot, Template
from intaglio.scalar.reroll.nests import F64, Nest
from intaglio.scalar.reroll.raising import kernel_of
from intaglio.shared import dtypes
from intaglio.shared.index import IndexLike, Var, var_index

LEAST_INPUTS = 64
"""Inputs of the smallest layer where leaving some out is worth the bookkeeping."""

LARGEST = 1e300
INFINITE = float("inf")
MAGNITUDE = 2**63 - 1
"""The bits of a double besides its sign."""


@dataclass(frozen=True, slots=True)
class Slots:
    """The parts of `w -= lr * (0 + old * d)` and `+= w * new` by their slots, and the segment they are in."""

    weight: int
    new: int
    old: int
    flow: int
    segment: int


@dataclass(frozen=True, eq=False)
class Listing:
    """Lists in `rows` which of the `extent` numbers of `values` from `base` on, `step` apart, are not 0."""

    values: Buffer
    base: int
    step: int
    extent: int
    rows: Buffer
    count: Buffer
    found: Buffer = field(default_factory=lambda: Buffer("found", dtypes.i32, (), space="register"))

    @property
    def doc(self) -> str:
        return f"{self.rows.name} = places where {self.values.name} is not 0"

    def kernel(self) -> Kernel:
        """The kernel that does nothing else."""
        k = Var("k", 0, self.extent - 1)
        body = self.around(For(k, self.extent, self.each(var_index(k))))
        return kernel_of(f"find_{self.values.name}", body, (self.doc,))

    def around(self, loop: Stmt) -> Block:
        """What stands around a loop in which `each` is done for one number after the other."""
        counted = Store(self.count, (0,), Read(self.found, (), dtypes.i32))
        return block(Alloc(self.found), Store(self.found, (), Const(0, dtypes.i32)), loop, counted)

    def each(self, k: IndexLike) -> Block:
        """List number k if it is not 0."""
        one, none = Const(1, dtypes.i32), Const(0, dtypes.i32)
        magnitude = _magnitude(Read(self.values, (k * self.step + self.base,), F64))
        is_zero = Apply("eq", (magnitude, Const(0, dtypes.i64)), dtypes.bool_)
        place = as_index(Read(self.found, (), dtypes.i32), 0, self.extent - 1)
        more = Read(self.found, (), dtypes.i32) + where(is_zero, none, one)
        return block(Store(self.rows, (place,), IndexValue(k, dtypes.i32)), Store(self.found, (), more))


@dataclass(frozen=True, eq=False)
class Zeros:
    """Kernels around an update and sums that leave zeros out; they run where `flag` is set.

    `start` runs once; for each sample `listing` lists the next one's inputs that are not 0, `guard` sets the
    flag, and `take` makes the next sample this one.
    """

    start: Kernel
    listing: Listing
    guard: Kernel
    update: Kernel
    sums: Kernel
    take: Kernel
    flag: Buffer
    buffers: tuple[Buffer, ...]


def leave_out(joined: Body, nest: Nest, names: tuple[str, str]) -> Zeros | None:
    """Kernels for sums joined with an update; None when zeros cannot be left out."""
    slots = _slots(joined, nest.domain)
    return None if slots is None else _Builder(joined, nest, slots, names).build()


def _slots(body: Body, domain: Domain) -> Slots | None:
    if isinstance(body.value, Node) or (isinstance(body.value, Literal) and str(body.value.value) == "-0.0"):
        return None
    for number, segment in enumerate(body.segments):
        found = _matched(segment, number) if segment.updates else None
        if found is None:
            continue
        walks = [domain.walks[n] for n in (found.weight, found.new, found.old, found.flow)]
        if not all(isinstance(walk, Walk) for walk in walks) or len(domain.rounds[number]) != 1:
            return None
        _, new, old, flow = walks
        assert isinstance(new, Walk)
        assert isinstance(old, Walk)
        assert isinstance(flow, Walk)
        same = (new.base, new.rounds) == (old.base, old.rounds)
        plain = not any((*new.members, *old.members, *flow.rounds, new.turn, old.turn))
        return found if same and plain and domain.rounds[number][0] >= LEAST_INPUTS else None
    return None


def _matched(segment: Segment, number: int) -> Slots | None:
    """The slots of a segment of the one form where zeros can be left out."""
    (weight, update), *more = segment.updates
    pair = _product(segment.templates[0])
    if more or len(segment.templates) != 1 or pair is None or weight not in pair:
        return None
    if not isinstance(update, Node) or update.op != UPDATE or update.k or len(update.parts) != 2:
        return None
    change = update.parts[1]
    flows = _product(change.parts[0]) if isinstance(change, Node) and change.op == COPY else None
    if flows is None or update.parts[0] != Slot(weight):
        return None
    new = pair[1] if pair[0] == weight else pair[0]
    return Slots(weight, new, flows[0], flows[1], number)


def _product(template: Template) -> tuple[int, int] | None:
    if not isinstance(template, Node) or template.op != MUL:
        return None
    a, b = template.parts
    return (a.number, b.number) if isinstance(a, Slot) and isinstance(b, Slot) else None


class _Listed(Nest):
    """A nest whose rounds of one segment are those in a list."""

    listed: tuple[int, Buffer, Buffer]

    def _segments(self) -> list[tuple[Segment, list[IndexLike], Callable[[Block], Block]]]:
        number, rows, many = self.listed
        made = super()._segments()
        place, loop = _over(rows, many)
        made[number] = (made[number][0], [place], loop)
        return made


def _over(rows: Buffer, many: Buffer, *, backwards: bool = False
          ) -> tuple[IndexLike, Callable[[Block], Block]]:  # fmt: skip
    """The row at a place of a list, and the loop over its places."""
    most = rows.shape[0]
    assert isinstance(most, int)
    t = Var("t", 0, most - 1)
    held = Buffer("k", dtypes.i32, (), space="register")
    stop = as_index(Read(many, (0,), dtypes.i32), 0, most)
    place = stop - 1 - var_index(t) if backwards else var_index(t)
    row = Store(held, (), Read(rows, (place,), dtypes.i32))

    def loop(body: Block) -> Block:
        return block(For(t, stop, block(Alloc(held), row, body)))

    return as_index(Read(held, (), dtypes.i32), 0, most - 1), loop


class _Builder:
    def __init__(self, joined: Body, nest: Nest, slots: Slots, names: tuple[str, str]) -> None:
        self.joined = joined
        self.nest = nest
        self.slots = slots
        self.domain = nest.domain
        self.names = names
        self.extent = self.domain.rounds[slots.segment][0]
        name = self.walk(slots.old).buffer.name
        self.rows, self.next_rows = (
            Buffer(f"{prefix}{name}_rows", dtypes.i32, (self.extent,), "state") for prefix in ("", "next_")
        )
        self.count, self.next_count = (
            Buffer(f"{prefix}{name}_count", dtypes.i32, (1,), "state") for prefix in ("", "next_")
        )
        self.reach = Buffer(f"{name}_reach", F64, (1,), "state")
        self.flag = Buffer(f"{name}_sparse", F64, (1,), "state")
        self.members = variables("i", self.domain.members)

    def walk(self, slot: int) -> Walk:
        walk = self.domain.walks[slot]
        assert isinstance(walk, Walk)
        return walk

    def build(self) -> Zeros:
        buffers = (self.rows, self.next_rows, self.count, self.next_count, self.reach, self.flag)
        return Zeros(self.start(), self.listing(), self.guard(), self.update(), self.sums(), self.take(),
                     self.flag, buffers)  # fmt: skip

    def read(self, slot: int, members: list[IndexLike], rounds: list[IndexLike]) -> Expr:
        walk = self.walk(slot)
        return Read(walk.buffer, (index_of(walk, 0, members, rounds),), F64)

    def start(self) -> Kernel:
        """`reach` bounds all weights; it is infinite when a sum starts with -0, as no update makes it."""
        k = Var("k", 0, self.extent - 1)
        weight = self.read(self.slots.weight, indices(self.members), [var_index(k)])
        largest, reached = _largest(
            "weights", weight, lambda body: block(For(k, self.extent, self.all_members(body)))
        )
        body = [largest, block(Store(self.reach, (0,), reached))]
        if isinstance(self.joined.value, Slot):
            start = self.read(self.joined.value.number, indices(self.members), [])
            wrong = where(1.0 / start < -1e308, Const(INFINITE, F64), Const(0.0, F64))
            body.append(self.all_members(block(Reduce(self.reach, (0,), "add", wrong))))
        doc = (f"{self.reach.name} = a bound of all of {self.walk(self.slots.weight).buffer.name}",)
        return kernel_of(f"bound_{self.walk(self.slots.weight).buffer.name}", block(*body), doc)

    def all_members(self, body: Block) -> Block:
        for var, extent in zip(reversed(self.members), reversed(self.domain.members), strict=True):
            body = block(For(var, extent, body))
        return body

    def listing(self) -> Listing:
        """The next sample's inputs that are not 0."""
        walk = self.walk(self.slots.new)
        (step,) = walk.rounds
        return Listing(walk.buffer, walk.base, step, self.extent, self.next_rows, self.next_count)

    def guard(self) -> Kernel:
        """`flag` is set when zeros may be left out, and there are enough of them."""
        k = Var("k", 0, self.extent - 1)
        zero, reach, rate = Const(0.0, F64), Read(self.reach, (0,), F64), Read(self.nest.rate, (0,), F64)
        value = self.read(self.slots.old, [0] * len(self.members), [var_index(k)])
        flow = self.read(self.slots.flow, indices(self.members), [0])
        inputs, largest_input = _largest("inputs", value, lambda body: block(For(k, self.extent, body)))
        flows, largest_flow = _largest("flows", flow, self.all_members)
        used = Read(self.count, (0,), dtypes.i32) + Read(self.next_count, (0,), dtypes.i32)
        few = Apply("le", (used, Const(self.extent, dtypes.i32)), dtypes.bool_)
        small = Apply("and", (few, reach < LARGEST), dtypes.bool_)
        grown = where(rate > 0.0, reach + rate * (largest_input * largest_flow), Const(INFINITE, F64))
        body = block(
            inputs, flows, Store(self.reach, (0,), grown),
            Store(self.flag, (0,), where(small, Const(1.0, F64), zero)),
        )  # fmt: skip
        doc = (
            f"{self.flag.name} = whether zeros of {self.walk(self.slots.old).buffer.name} can be left out",
        )
        return kernel_of(f"guard_{self.walk(self.slots.old).buffer.name}", body, doc)

    def update(self) -> Kernel:
        """The update of weights whose input is not 0, from the last one on.

        Sums before and behind it go forwards: what they left in the cache is used, and what this leaves.
        """
        ((number, new),) = self.joined.segments[self.slots.segment].updates
        row, loop = _over(self.rows, self.count, backwards=True)
        members = indices(self.members)
        store = self.nest.stored(members, self.nest.value(new, members, [row]), [row], number)
        doc = (
            f"update {self.walk(number).buffer.name} where {self.walk(self.slots.old).buffer.name} is not 0",
        )
        return kernel_of(f"{self.names[0]}_rows", loop(self.all_members(block(store))), doc)

    def sums(self) -> Kernel:
        """The next sample's sums over inputs that are not 0."""
        segments = [Segment(s.count, s.templates) for s in self.joined.segments]
        plain = Body(self.joined.value, tuple(segments), self.joined.slots)
        nest = _Listed(plain, self.domain, self.nest.target, self.nest.rate, count(1))
        nest.listed = (self.slots.segment, self.next_rows, self.next_count)
        doc = (f"{self.names[1]} where {self.walk(self.slots.new).buffer.name} is not 0",)
        return kernel_of(f"{self.names[1]}_rows", nest.build(), doc)

    def take(self) -> Kernel:
        """The next sample's list becomes this one's."""
        t = Var("t", 0, self.extent - 1)
        count = Read(self.next_count, (0,), dtypes.i32)
        copied = Store(self.rows, (var_index(t),), Read(self.next_rows, (var_index(t),), dtypes.i32))
        body = block(For(t, as_index(count, 0, self.extent), block(copied)), Store(self.count, (0,), count))
        return kernel_of(f"take_{self.next_rows.name}", body, (f"{self.rows.name} = {self.next_rows.name}",))


def _largest(name: str, value: Expr, loops: Callable[[Block], Block]) -> tuple[Block, Expr]:
    """Statements that find the largest magnitude of a value in loops, and that magnitude."""
    held = Buffer(name, dtypes.i64, (), space="register")
    larger = Reduce(held, (), "max", _magnitude(value))
    body = block(Alloc(held), Store(held, (), Const(0, dtypes.i64)), loops(block(larger)))
    return body, Apply("bitcast", (Read(held, (), dtypes.i64),), F64)


def _magnitude(value: Expr) -> Expr:
    """The bits of a double without its sign."""
    return Apply("bitcast", (value,), dtypes.i64) & Const(MAGNITUDE, dtypes.i64)
