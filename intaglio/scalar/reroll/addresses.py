"""Operands of a family as index expressions: affine where the places are, read from a table where not."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

import numpy as np

from intaglio.loop.ir import Buffer
from intaglio.ops.expr import Expr, Read, as_index
from intaglio.scalar.capture import CONST
from intaglio.scalar.dag import Dag
from intaglio.scalar.reroll.affine import Axis, factor, separate
from intaglio.scalar.reroll.bodies import Body, Node, Slot
from intaglio.scalar.reroll.families import Family
from intaglio.scalar.reroll.storage import Storage, target_rows
from intaglio.scalar.sweeps import Array
from intaglio.shared import dtypes
from intaglio.shared.index import IndexLike, Var, var_index

RESULT = -1
"""The number of a family's result beside the numbers of its slots."""


@dataclass(frozen=True, slots=True)
class Walk:
    """Where a slot goes: from `base`, by a stride for each axis of turns, members and rounds."""

    buffer: Buffer
    base: int
    turn: int
    members: tuple[int, ...]
    rounds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Places, or constants, listed one by one: a buffer walked row-major over turns, members, rounds."""

    entries: Buffer
    target: Buffer | None
    walk: Walk


@dataclass(eq=False)
class Domain:
    """The loops of a family: axes of members, for each segment axes of rounds, and every slot's walk."""

    turns: int
    members: tuple[int, ...]
    rounds: dict[int, tuple[int, ...]]
    walks: dict[int, Walk | Table] = field(default_factory=dict)

    @property
    def tables(self) -> int:
        return sum(isinstance(walk, Table) for walk in self.walks.values())


class Tables:
    """Constant tables of a program, shared where equal."""

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.known: dict[bytes, Buffer] = {}

    def add(self, values: Array, name: str) -> Buffer:
        """A constant buffer with these values."""
        flat = np.ascontiguousarray(values.reshape(-1))
        key = flat.dtype.str.encode() + flat.tobytes()
        if key not in self.known:
            taken = {buffer.name for buffer in self.buffers}
            number = next(n for n in count(len(self.buffers)) if f"{name}{n}" not in taken)
            self.known[key] = buffer = Buffer(f"{name}{number}", dtypes.from_numpy(flat.dtype),
                                              flat.shape, "constant", data=flat)  # fmt: skip
            self.buffers.append(buffer)
        return self.known[key]


def index_of(walk: Walk, turn: IndexLike, members: list[IndexLike], rounds: list[IndexLike]) -> IndexLike:
    """The place of a slot for values of the loop variables."""
    index: IndexLike = turn * walk.turn + walk.base
    for stride, var in zip(walk.members, members, strict=True):
        index = index + var * stride
    for stride, var in zip(walk.rounds, rounds, strict=bool(walk.rounds)):
        index = index + var * stride
    return index


def place_of(
    walk: Walk | Table, turn: IndexLike, members: list[IndexLike], rounds: list[IndexLike]
) -> IndexLike:
    """The place in the array, through the table where there is one."""
    if isinstance(walk, Walk):
        return index_of(walk, turn, members, rounds)
    assert walk.target is not None
    entry = Read(walk.entries, (index_of(walk.walk, turn, members, rounds),), dtypes.i32)
    size = walk.target.shape[0]
    assert isinstance(size, int)
    return as_index(entry, 0, size - 1)


def element(walk: Walk | Table, turn: IndexLike, members: list[IndexLike], rounds: list[IndexLike]) -> Expr:
    """The value of a slot."""
    if isinstance(walk, Table) and walk.target is None:
        return Read(walk.entries, (index_of(walk.walk, turn, members, rounds),), dtypes.f64)
    buffer = walk.buffer if isinstance(walk, Walk) else walk.target
    assert buffer is not None
    return Read(buffer, (place_of(walk, turn, members, rounds),), dtypes.f64)


def variables(name: str, extents: tuple[int, ...]) -> list[Var]:
    """Loop variables `i`, or `i0`, `i1`, ..."""
    if len(extents) == 1:
        return [Var(name, 0, extents[0] - 1)]
    return [Var(f"{name}{d}", 0, extent - 1) for d, extent in enumerate(extents)]


def indices(loops: list[Var]) -> list[IndexLike]:
    return [var_index(var) for var in loops]


class Addresses:
    """Finds the domains of families."""

    def __init__(self, dag: Dag, storage: Storage, buffers: list[Buffer], tables: Tables) -> None:
        self.dag = dag
        self.storage = storage
        self.buffers = buffers
        self.tables = tables

    def domain(self, family: Family, body: Body) -> Domain:
        """The loops and walks of a family; members are taken in the order of their results."""
        rows = target_rows(self.dag, family.rows)
        result = self.storage.place[rows]
        slots: dict[int, Array] = {RESULT: result}
        targets: dict[int, Buffer | None] = {RESULT: self.buffers[self.storage.array[rows.flat[0]]]}
        for number, members in enumerate(body.slots):
            constant = self.dag.op[members.flat[0]] == CONST
            slots[number] = self.dag.k[members] if constant else self.storage.place[members]
            targets[number] = None if constant else self.buffers[self.storage.array[members.flat[0]]]
        if (np.diff(result[0]) < 0).any():
            order = np.argsort(result[0])
            slots = {number: places[:, order] for number, places in slots.items()}
        return self._fit(family, body, slots, targets)

    def _fit(self, family: Family, body: Body, slots: dict[int, Array],
             targets: dict[int, Buffer | None]) -> Domain:  # fmt: skip
        parts = {n: p for n, s in slots.items() if targets[n] is not None and (p := separate(s)) is not None}
        parts = {
            n: p
            for n, p in parts.items()
            if len(factor(p[0][None]) or ()) <= 1 and factor(p[0][None]) is not None
        }
        segment_of = slots_of_segments(body)
        members, parts = _joint(parts, list(parts), 1)
        columns = {n: place for place, n in enumerate(parts)}
        rounds: dict[int, tuple[Axis, ...]] = {}
        for segment, numbers in segment_of.items():
            some = [n for n in numbers if n in parts and len(parts[n]) == 3]
            others = {n: p for n, p in parts.items() if n not in some}
            rounds[segment], kept = _joint({n: parts[n] for n in some}, some, 2)
            if not kept and body.segments[segment].count > 1:
                rounds[segment] = (Axis(body.segments[segment].count, ()),)
            parts = others | kept
        if not parts and family.members > 1:
            members = (Axis(family.members, ()),)
        domain = Domain(family.turns, tuple(a.extent for a in members),
                        {s: tuple(a.extent for a in axes) for s, axes in rounds.items()})  # fmt: skip
        self._walks(domain, slots, targets, parts, members, columns, rounds, segment_of)
        return domain

    def _walks(self, domain: Domain, slots: dict[int, Array], targets: dict[int, Buffer | None],
               parts: dict[int, tuple[Array, ...]], members: tuple[Axis, ...], columns: dict[int, int],
               rounds: dict[int, tuple[Axis, ...]], segment_of: dict[int, list[int]]) -> None:  # fmt: skip
        segment = {n: s for s, numbers in segment_of.items() for n in numbers}
        fitted = [n for n in slots if n in parts]
        for n, places in slots.items():
            buffer = targets[n]
            if n not in parts or buffer is None:
                own = domain.rounds[segment[n]] if places.ndim == 3 else ()
                domain.walks[n] = self._table(domain, places, buffer, own)
                continue
            turns = parts[n][0]
            along: tuple[int, ...] = ()
            if len(parts[n]) == 3:
                some = [m for m in fitted if m in segment_of[segment[n]] and len(parts[m]) == 3]
                along = tuple(axis.strides[some.index(n)] for axis in rounds[segment[n]])
            turn = int(turns[1] - turns[0]) if len(turns) > 1 else 0
            across = tuple(axis.strides[columns[n]] for axis in members)
            domain.walks[n] = Walk(buffer, int(places.flat[0]), turn, across, along)

    def _table(self, domain: Domain, places: Array, target: Buffer | None, rounds: tuple[int, ...]) -> Table:
        """List places or constants; axes along which nothing changes are left out."""
        shape = (domain.turns, *domain.members, *rounds)
        full = places.reshape(shape)
        strides = [0] * len(shape)
        kept = [d for d in range(len(shape)) if shape[d] > 1 and not (full == np.take(full, [0], d)).all()]
        size = 1
        for d in reversed(kept):
            strides[d] = size
            size *= shape[d]
        values = full[tuple(slice(None) if d in kept else 0 for d in range(len(shape)))]
        entries = self.tables.add(values if target is None else values.astype(np.int32),
                                  "constant" if target is None else "table")  # fmt: skip
        at = 1 + len(domain.members)
        return Table(entries, target, Walk(entries, 0, strides[0], tuple(strides[1:at]), tuple(strides[at:])))


def slots_of_segments(body: Body) -> dict[int, list[int]]:
    """For every segment the slots of its terms."""
    found: dict[int, list[int]] = {}
    for number, segment in enumerate(body.segments):
        stack = [*segment.templates, *(template for _, template in segment.updates)]
        found[number] = []
        while stack:
            template = stack.pop()
            if isinstance(template, Slot) and template.number not in found[number]:
                found[number].append(template.number)
            elif isinstance(template, Node):
                stack.extend(template.parts)
        found[number].sort()
    return found


def _joint(parts: dict[int, tuple[Array, ...]], numbers: list[int], axis: int
           ) -> tuple[tuple[Axis, ...], dict[int, tuple[Array, ...]]]:  # fmt: skip
    """Loops that fit every slot along an axis of its places; slots that fit no loops are left out."""
    if not numbers:
        return (), {}
    axes = factor(np.stack([parts[n][axis] for n in numbers]))
    if axes is not None:
        return axes, {n: parts[n] for n in numbers}
    good = [n for n in numbers if factor(parts[n][axis][None]) is not None]
    if len(good) == len(numbers):
        good = good[:-1]
    return _joint(parts, good, axis)
