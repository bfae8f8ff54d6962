"""Families that are known contractions: named, and computed by fast nests where the order of sums is free."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

from intaglio.loop.ir import Block, Buffer, For, Stmt, Store
from intaglio.loop.recipes import Anchor, lower_anchor
from intaglio.ops.expr import Expr
from intaglio.scalar.dag import Dag
from intaglio.scalar.operators import MUL
from intaglio.scalar.reroll.addresses import RESULT, Domain, Walk, element, place_of
from intaglio.scalar.reroll.bodies import Body, Node, Segment, Slot, Template
from intaglio.scalar.reroll.nests import F64, instantiate
from intaglio.shared.index import IndexLike
from intaglio.shared.target import Target
from intaglio.shared.types import TensorType

MEMBERS, ROUNDS = "abcdef", "rstuvw"
MOST_BESIDE = 4
"""Terms of a sum besides those of its contraction."""


@dataclass(frozen=True, eq=False)
class Contraction:
    """A family whose results are sums over `rounds` of products of two factors.

    Axes are letters: `left` and `right` are those that the factors depend on, in the order of `extents`.
    """

    segment: Segment
    extents: dict[str, int]
    left: str
    right: str

    @property
    def spec(self) -> str:
        """Index notation, `ar,r->a` for a matrix times a vector."""
        return f"{self.left},{self.right}->{''.join(a for a in self.extents if a in MEMBERS)}"

    def count(self, axes: Collection[str]) -> int:
        return prod(self.extents[axis] for axis in axes)


def find_contraction(body: Body, domain: Domain) -> Contraction | None:
    """The contraction that a family of sums is, a few terms aside."""
    number = main_segment(body)
    if number is None:
        return None
    segment = body.segments[number]
    term = segment.templates[0]
    if not isinstance(term, Node) or term.op != MUL:
        return None
    extents = dict(zip(MEMBERS, domain.members, strict=False)) | dict(
        zip(ROUNDS, domain.rounds[number], strict=False)
    )
    left, right = ("".join(sorted(axes_of(part, domain))) for part in term.parts)
    reduced = {axis for axis in extents if axis in ROUNDS}
    if not reduced or not reduced <= set(left) & set(right) or set(extents) - set(left + right):
        return None
    return Contraction(segment, extents, left, right)


def main_segment(body: Body) -> int | None:
    """The segment that has all but a few terms, when its terms are all of one kind."""
    long = [number for number, segment in enumerate(body.segments) if segment.count > 1]
    if len(long) != 1 or len(body.segments[long[0]].templates) != 1 or body.segments[long[0]].updates:
        return None
    beside = sum(len(segment.templates) for segment in body.segments) - 1
    return long[0] if beside <= MOST_BESIDE else None


def axes_of(template: Template, domain: Domain) -> set[str]:
    """The loops that an expression's operands move along."""
    found: set[str] = set()
    for number in _slots(template):
        walk = domain.walks[number]
        own = walk if isinstance(walk, Walk) else walk.walk
        found |= {axis for axis, stride in zip(MEMBERS, own.members, strict=False) if stride}
        found |= {axis for axis, stride in zip(ROUNDS, own.rounds, strict=False) if stride}
    return found


def _slots(template: Template) -> Iterator[int]:
    if isinstance(template, Slot):
        yield template.number
    elif isinstance(template, Node):
        for part in template.parts:
            yield from _slots(part)


def describe(dag: Dag, body: Body, domain: Domain) -> str | None:
    """What a family is in the field's words; None when it is no known contraction."""
    if not body.segments:
        return _outer_product(body.value, domain)
    found = find_contraction(body, domain)
    if found is None:
        return None
    rows = [axis for axis in found.extents if axis in found.left and axis not in found.right]
    columns = [axis for axis in found.extents if axis in found.right and axis not in found.left]
    batch = [axis for axis in MEMBERS if axis in found.left and axis in found.right]
    m, n, k = found.count(rows), found.count(columns), found.count([a for a in found.extents if a in ROUNDS])
    term = found.segment.templates[0]
    assert isinstance(term, Node)
    if any(_overlaps(part, domain) for part in term.parts):
        text = f"convolution, {max(m, n)} places of {min(m, n)} channels, {k} terms"
    elif rows and columns:
        text = f"matrix product {m} x {k} x {n}"
    elif rows or columns:
        turned = _is_transposed(dag, body, term.parts[0] if rows else term.parts[1])
        text = f"{'transposed ' if turned else ''}matrix-vector product {max(m, n)} x {k}"
    else:
        text = f"dot product of {k}"
    return f"{found.count(batch)} times {text}" if batch else text


def _outer_product(template: Template, domain: Domain) -> str | None:
    if not isinstance(template, Node):
        return None
    if template.op == MUL:
        left, right = (axes_of(part, domain) for part in template.parts)
        extents = dict(zip(MEMBERS, domain.members, strict=False))
        if left and right and not left & right and left | right == set(extents):
            m, n = (prod(extents[axis] for axis in axes) for axes in (left, right))
            return f"outer product {m} x {n}"
    return next((text for part in template.parts if (text := _outer_product(part, domain))), None)


def _overlaps(template: Template, domain: Domain) -> bool:
    """Whether an operand is read in windows that share elements."""
    if not isinstance(template, Slot) or not isinstance(walk := domain.walks[template.number], Walk):
        return False
    extents = (*domain.members, *next((r for r in domain.rounds.values() if len(r) == len(walk.rounds)), ()))
    reach = 0
    for stride, extent in sorted(zip(map(abs, (*walk.members, *walk.rounds)), extents, strict=False)):
        if 0 < stride <= reach:
            return True
        reach += stride * (extent - 1)
    return False


def _is_transposed(dag: Dag, body: Body, matrix: Template) -> bool:
    """Whether results belong to columns of a matrix, by the order in which its values were made."""
    if not isinstance(matrix, Slot):
        return False
    rows = body.slots[matrix.number]
    first, next_member, next_round = (int(dag.born[rows[0, m, k]]) for m, k in ((0, 0), (1, 0), (0, 1)))
    return abs(next_member - first) < abs(next_round - first)


# Fast nests


@dataclass(frozen=True, eq=False)
class _Operand:
    """An expression of a family's loops, as recipes read it."""

    axes: str
    type: TensorType
    at: Callable[[dict[str, IndexLike]], Expr]
    data: None = None

    def __getitem__(self, index: Any) -> Expr:
        return self.at(dict(zip(self.axes, index, strict=True)))


@dataclass(frozen=True, eq=False)
class FastSum:
    """A family of sums in any order, for the recipes of the loop level."""

    body: Body
    domain: Domain
    number: int
    rate: Buffer
    turn: IndexLike
    taken: frozenset[str]

    def nest(self, target: Target) -> Block | None:
        """A fast nest; None where plain loops are as good, or where it wants memory of its own."""
        found = find_contraction(self.body, self.domain)
        members, rounds = MEMBERS[: len(self.domain.members)], ROUNDS[: len(self.domain.rounds[self.number])]
        term = self.body.segments[self.number].templates[0]
        result = TensorType(F64, self.domain.members)
        if found is not None and isinstance(term, Node):
            operands = tuple(map(self._operand, term.parts, (found.left, found.right)))
            anchor = Anchor("dot", {"spec": found.spec}, operands, result, self._finish, taken=self.taken)
        else:
            axes = tuple(range(len(members), len(members) + len(rounds)))
            operand = self._operand(term, members + rounds)
            anchor = Anchor("sum", {"axes": axes}, (operand,), result, self._finish, taken=self.taken)
        nest = lower_anchor(anchor, target)
        return None if nest is None or nest.scratch else _serial(nest.body)

    def _operand(self, template: Template, axes: str) -> _Operand:
        extents = dict(zip(MEMBERS, self.domain.members, strict=False)) | dict(
            zip(ROUNDS, self.domain.rounds[self.number], strict=False)
        )
        shape = tuple(extents[axis] for axis in axes)
        return _Operand(axes, TensorType(F64, shape), partial(self._value, template))

    def _value(self, template: Template, env: dict[str, IndexLike]) -> Expr:
        members: list[IndexLike] = [env.get(axis, 0) for axis in MEMBERS[: len(self.domain.members)]]
        rounds: list[IndexLike] = [env.get(a, 0) for a in ROUNDS[: len(self.domain.rounds[self.number])]]

        def slot(number: int) -> Expr:
            walk = self.domain.walks[number]
            own = walk if isinstance(walk, Walk) else walk.walk
            return element(walk, self.turn, members, rounds if own.rounds else [])

        return instantiate(template, slot, self.rate)

    def _finish(self, index: tuple[IndexLike, ...], total: Expr) -> list[Stmt]:
        env = dict(zip(MEMBERS, index, strict=False))
        value = self._value(self.body.value, env) + total
        for number, segment in enumerate(self.body.segments):
            for template in segment.templates if number != self.number else ():
                value = value + self._value(template, env)
        walk = self.domain.walks[RESULT]
        buffer = walk.buffer if isinstance(walk, Walk) else walk.target
        assert buffer is not None
        return [Store(buffer, (place_of(walk, self.turn, list(index), []),), value)]


def _serial(body: Block) -> Block:
    """The loops on one thread."""
    return Block(tuple(replace(s, kind="serial") if isinstance(s, For) and s.kind == "parallel" else s
                       for s in body))  # fmt: skip
