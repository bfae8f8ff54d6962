"""What every member of a family computes: one template, and for each operand the rows of all members."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from intaglio.scalar.capture import CONST, INPUT, PARAM
from intaglio.scalar.dag import Dag
from intaglio.scalar.operators import FOLD
from intaglio.scalar.reroll.families import Facts, Family
from intaglio.scalar.reroll.repeats import find_repeats
from intaglio.scalar.sweeps import Array
from intaglio.shared.errors import VerifyError

MOST_TERM_PERIOD = 4


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant that all members share."""

    value: float


@dataclass(frozen=True, slots=True)
class Slot:
    """An operand in memory; `number` is its place among the body's slots."""

    number: int


@dataclass(frozen=True, slots=True)
class Node:
    """An operator of templates; `k` is a power's exponent."""

    op: int
    k: float
    parts: tuple[Template, ...]


Template: TypeAlias = "Literal | Slot | Node"


@dataclass(frozen=True, slots=True)
class Segment:
    """Terms of an ordered sum: `count` rounds of the templates, one after the other.

    `updates` are slots that get a new value in each round before its terms read them.
    """

    count: int
    templates: tuple[Template, ...]
    updates: tuple[tuple[int, Template], ...] = ()


@dataclass(eq=False)
class Body:
    """The template of a family. `slots` are rows [turns, members], or with a last axis of rounds.

    A sum starts with `value` and adds its `segments` in order; without segments it is the value.
    """

    value: Template
    segments: tuple[Segment, ...] = ()
    slots: list[Array] = field(default_factory=list)


def body_of(dag: Dag, facts: Facts, family: Family) -> Body:
    """The template of a family. Raises VerifyError when its members are not equal after all."""
    builder = _Builder(dag, facts)
    rows = family.rows
    if int(dag.op[rows.flat[0]]) != FOLD:
        return Body(builder.expand(rows, top=True), (), builder.slots)
    builder.check(rows)
    start = builder.expand(dag.a[rows])
    return Body(start, tuple(builder.segments(rows)), builder.slots)


class _Builder:
    def __init__(self, dag: Dag, facts: Facts) -> None:
        self.dag = dag
        self.facts = facts
        self.slots: list[Array] = []
        self.first = 0

    def check(self, rows: Array) -> int:
        """The operator of rows that must all have the same."""
        ops = self.dag.op[rows]
        op = int(ops.flat[0])
        if rows.size > 1 and not (ops == op).all():
            raise VerifyError("re-rolling: two different expressions have the same hash")
        return op

    def expand(self, rows: Array, *, top: bool = False) -> Template:
        """The template of rows of any shape."""
        first = int(rows.flat[0])
        if self.facts.stored[first] and not top:
            if not self.facts.stored[rows].all():
                raise VerifyError("re-rolling: a stored and a computed operand have the same hash")
            return self.slot(rows)
        op = self.check(rows)
        if op == CONST:
            values = self.dag.k[rows]
            if (values.view(np.int64) == values.view(np.int64).flat[0]).all():
                return Literal(float(values.flat[0]))
        if op in (CONST, PARAM, INPUT):
            return self.slot(rows)
        parts = [column[rows] for column in (self.dag.a, self.dag.b, self.dag.c) if column[first] >= 0]
        return Node(op, float(self.dag.k[first]), tuple(self.expand(part) for part in parts))

    def slot(self, rows: Array) -> Slot:
        for number, known in enumerate(self.slots):
            if (
                (known.ndim == 2 or number >= self.first)
                and known.shape == rows.shape
                and np.array_equal(known, rows)
            ):
                return Slot(number)
        self.slots.append(rows)
        return Slot(len(self.slots) - 1)

    def segments(self, rows: Array) -> list[Segment]:
        """The terms of folds as rounds of equal ones."""
        dag = self.dag
        first = int(rows.flat[0])
        kinds = self.facts.seen[dag.terms[dag.b[first] : dag.b[first] + dag.c[first]]]
        starts = dag.b[rows][..., None]
        made = []
        for place, period, count in find_repeats(kinds, MOST_TERM_PERIOD):
            self.first = len(self.slots)
            templates = []
            for offset in range(period):
                at = dag.terms[starts + (place + offset + period * np.arange(count, dtype=np.int32))]
                templates.append(self.expand(at if count > 1 else at[..., 0]))
            made.append(Segment(count, tuple(templates)))
        return made
