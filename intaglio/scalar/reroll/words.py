"""What loops and statements compute, in words for the comments above them: `h = relu(z1)`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from intaglio.loop.ir import Buffer
from intaglio.scalar import operators as ops
from intaglio.scalar.capture import CONST, INPUT, PARAM
from intaglio.scalar.dag import Dag
from intaglio.scalar.reroll.bodies import Body, Literal, Node, Slot, Template
from intaglio.scalar.reroll.families import Facts, Family
from intaglio.scalar.reroll.storage import Storage, target_rows
from intaglio.scalar.sweeps import Array

FORMULAS = {
    ops.ADD: "{0} + {1}", ops.MUL: "{0} * {1}", ops.POW: "pow({0}, {k})", ops.RELU: "relu({0})",
    ops.EXP: "exp({0})", ops.LOG: "log({0})", ops.TANH: "tanh({0})", ops.MAX: "max({0}, {1})",
    ops.POSITIVE: "({0} > 0)", ops.RECIPROCAL: "1 / {0}", ops.ONE_MINUS: "(1 - {0})",
    ops.LEFT_WINS: "({0} > {1} ? {2} : 0)", ops.RIGHT_WINS: "({0} > {1} ? 0 : {2})",
    ops.UPDATE: "lr * {1}",
}  # fmt: skip

LOOSE = {ops.MUL: ({ops.ADD}, {ops.ADD, ops.MUL, ops.RECIPROCAL}), ops.ADD: (set(), {ops.ADD}),
         ops.ONE_MINUS: ({ops.ADD},), ops.RECIPROCAL: ({ops.ADD, ops.MUL, ops.RECIPROCAL},),
         ops.UPDATE: (set(), {ops.ADD, ops.MUL, ops.RECIPROCAL})}  # fmt: skip
"""Operators whose first and second operand need brackets, and when."""

MOST_TOLD = 4
"""Single statements of one function that its comment tells."""


@dataclass(frozen=True, eq=False)
class Words:
    """Tells what families and rows compute. That a copy adds to 0 is left unsaid."""

    dag: Dag
    facts: Facts
    storage: Storage
    buffers: list[Buffer]

    def family(self, family: Family, body: Body) -> str:
        """A loop's result and what it is."""
        result = self.place(target_rows(self.dag, family.rows))
        if not body.segments:
            return self.assigned(result, body.value, body)
        terms = [
            f"sum of {segment.count} ({', '.join(self.template(t, body) for t in segment.templates)})"
            for segment in body.segments
        ]
        if not _is_zero(body.value):
            terms.insert(0, self.template(body.value, body))
        return f"{result} = {' + '.join(terms)}"

    def assigned(self, result: str, template: Template, body: Body) -> str:
        """An update tells by how much, anything else what the result is."""
        is_update = isinstance(template, Node) and template.op == ops.UPDATE and not template.k
        return f"{result} {'-=' if is_update else '='} {self.template(template, body)}"

    def statements(self, rows: list[int]) -> tuple[str, ...]:
        """A few statements, or how many there are."""
        if len(rows) > MOST_TOLD:
            return (f"{len(rows)} single statements",)
        return tuple(self.row(row) for row in rows)

    def row(self, row: int) -> str:
        """A single statement; of a sum the first and the last term."""
        result, body = self.place(target_rows(self.dag, _one(row))), Body(Literal(0.0))
        if self.dag.op[row] != ops.FOLD:
            return self.assigned(result, self.expand(row, body, top=True), body)
        first, count = int(self.dag.b[row]), int(self.dag.c[row])
        ends = [self.expand(int(self.dag.terms[at]), body) for at in (first, first + count - 1)]
        start = self.expand(int(self.dag.a[row]), body)
        terms = [self.template(ends[0], body), "...", self.template(ends[1], body)]
        if not _is_zero(start):
            terms.insert(0, self.template(start, body))
        return f"{result} = {' + '.join(terms)}"

    def expand(self, row: int, body: Body, *, top: bool = False) -> Template:
        """The template of one row."""
        dag, op = self.dag, int(self.dag.op[row])
        if op == CONST:
            return Literal(float(dag.k[row]))
        if op in (PARAM, INPUT) or op == ops.FOLD or (self.facts.stored[row] and not top):
            body.slots.append(_one(row))
            return Slot(len(body.slots) - 1)
        parts = (int(column[row]) for column in (dag.a, dag.b, dag.c) if column[row] >= 0)
        return Node(op, float(dag.k[row]), tuple(self.expand(part, body) for part in parts))

    def template(self, template: Template, body: Body) -> str:
        """An expression."""
        template = _uncopied(template)
        if isinstance(template, Literal):
            return f"{template.value:g}"
        if isinstance(template, Slot):
            rows = body.slots[template.number]
            return "constant" if self.dag.op[rows.flat[0]] == CONST else self.place(rows)
        if template.op == ops.UPDATE and template.k:
            return self.template(template.parts[1], body)
        loose = LOOSE.get(template.op, ())
        parts = []
        for place, part in enumerate(map(_uncopied, template.parts)):
            text = self.template(part, body)
            bracketed = isinstance(part, Node) and place < len(loose) and part.op in loose[place]
            parts.append(f"({text})" if bracketed else text)
        return FORMULAS[template.op].format(*parts, k=f"{template.k:g}")

    def place(self, rows: Array) -> str:
        """The array, and the place in it if it is one of several."""
        row = int(rows.flat[0])
        buffer = self.buffers[int(self.storage.array[row])]
        one = buffer.shape[0] != 1 and (rows == row).all()
        return f"{buffer.name}[{int(self.storage.place[row])}]" if one else buffer.name


def _one(row: int) -> Array:
    return np.array([[row]])


def _is_zero(template: Template) -> bool:
    return isinstance(template, Literal) and template.value == 0


def _uncopied(template: Template) -> Template:
    while isinstance(template, Node) and template.op == ops.COPY:
        (template,) = template.parts
    return template
