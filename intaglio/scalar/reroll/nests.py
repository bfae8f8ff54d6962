"""Families as loop nests. Sums keep their order: lanes are members, never terms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from intaglio.loop.ir import Alloc, Block, Buffer, For, LoopKind, Reduce, Stmt, Store, block
from intaglio.ops.expr import Const, Expr, Read, apply, where
from intaglio.scalar import operators as ops
from intaglio.scalar.reroll.addresses import RESULT, Domain, Walk, element, indices, place_of, variables
from intaglio.scalar.reroll.bodies import Body, Literal, Segment, Slot, Template
from intaglio.shared import dtypes
from intaglio.shared.index import IndexLike, Var, var_index
from intaglio.shared.target import Target

F64 = dtypes.f64
MOST_PLAIN = 8
"""Sums side by side where there are no lanes: enough to hide an addition's latency."""

SIMPLE: dict[int, Callable[..., Expr]] = {
    ops.ADD: lambda a, b: a + b,
    ops.MUL: lambda a, b: a * b,
    ops.RELU: lambda a: where(a < 0.0, Const(0.0, F64), a),
    ops.EXP: lambda a: apply("exp", a),
    ops.LOG: lambda a: apply("log", a),
    ops.TANH: lambda a: apply("tanh", a),
    ops.MAX: lambda a, b: where(a < b, b, a),
    ops.POSITIVE: lambda a: where(a > 0.0, Const(1.0, F64), Const(0.0, F64)),
    ops.RECIPROCAL: lambda a: 1.0 / a,
    ops.ONE_MINUS: lambda a: 1.0 - a,
    ops.LEFT_WINS: lambda a, b, g: where(b < a, g, Const(0.0, F64)),
    ops.RIGHT_WINS: lambda a, b, g: where(b < a, Const(0.0, F64), g),
    ops.COPY: lambda a: 0.0 + a,
}


def compose(op: int, k: float, parts: list[Expr], rate: Buffer) -> Expr:
    """An operator of expressions. A copy adds to 0, which turns -0 into 0."""
    if op == ops.POW:
        return apply("pow", parts[0], Const(k, F64))
    if op == ops.UPDATE:
        return parts[1] if k else parts[0] - Read(rate, (0,), F64) * parts[1]
    return SIMPLE[op](*parts)


def instantiate(template: Template, slot: Callable[[int], Expr], rate: Buffer) -> Expr:
    """A template with its operands put in."""
    if isinstance(template, Literal):
        return Const(template.value, F64)
    if isinstance(template, Slot):
        return slot(template.number)
    return compose(template.op, template.k, [instantiate(p, slot, rate) for p in template.parts], rate)


Updates: TypeAlias = tuple[tuple[int, Template], ...]
Make: TypeAlias = Callable[[list[IndexLike], Buffer, tuple[IndexLike, ...]], "Stmt | Block"]
"""A statement for members, a variable of sums and the place in it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Sums kept in registers together: `vectors` groups of `lanes` members from `offset` on."""

    offset: int
    vectors: int
    lanes: int


@dataclass(eq=False)
class Nest:
    """Builds the loops of one family inside of a loop over turns."""

    body: Body
    domain: Domain
    target: Target
    rate: Buffer
    numbers: Iterator[int]
    turn: IndexLike = 0

    def _local(self, shape: tuple[int, ...]) -> Buffer:
        """A local variable for sums."""
        number = next(self.numbers)
        return Buffer(f"sum{number}" if number > 1 else "sum", F64, shape, space="register")

    def build(self) -> Block:
        """The loops."""
        if not self.body.segments:
            return self._elementwise()
        return self._sum()

    def value(self, template: Template, members: list[IndexLike], rounds: list[IndexLike]) -> Expr:
        """What a template computes for members in rounds."""

        def slot(number: int) -> Expr:
            walk = self.domain.walks[number]
            own = walk if isinstance(walk, Walk) else walk.walk
            return element(walk, self.turn, members, rounds if own.rounds else [])

        return instantiate(template, slot, self.rate)

    def stored(self, members: list[IndexLike], value: Expr, rounds: list[IndexLike] | None = None,
               number: int = RESULT) -> Store:  # fmt: skip
        """Store the result, or a slot's new value."""
        walk = self.domain.walks[number]
        buffer = walk.buffer if isinstance(walk, Walk) else walk.target
        assert buffer is not None
        return Store(buffer, (place_of(walk, self.turn, members, rounds or []),), value)

    def _elementwise(self) -> Block:
        loops = variables("i", self.domain.members)
        members = indices(loops)
        body = block(self.stored(members, self.value(self.body.value, members, [])))
        return _loops(loops, self.domain.members, body)

    # Ordered sums

    def _sum(self) -> Block:
        extents = self.domain.members
        loops = variables("i", extents)
        members = indices(loops)
        across = self._best_axis()
        if across is None:
            return _loops(loops, extents, self._single(members))
        inner = self._tiled(members, across)
        rest = [d for d in range(len(extents)) if d != across]
        return _loops([loops[d] for d in rest], tuple(extents[d] for d in rest), inner)

    def _single(self, members: list[IndexLike]) -> Block:
        """One sum in one variable."""
        total = self._local(())
        statements: list[Stmt | Block] = [
            Alloc(total),
            Store(total, (), self.value(self.body.value, members, [])),
        ]
        for segment, rounds, loop in self._segments():
            terms = [self._add(term, rounds, members, total, (), updates)
                     for term, updates in _terms(segment)]  # fmt: skip
            statements.append(loop(block(*terms)))
        return block(*statements, self.stored(members, Read(total, (), F64)))

    def _segments(self) -> list[tuple[Segment, list[IndexLike], Callable[[Block], Block]]]:
        """Every segment with its round variables and the loops around its terms."""
        made: list[tuple[Segment, list[IndexLike], Callable[[Block], Block]]] = []
        for number, segment in enumerate(self.body.segments):
            extents = self.domain.rounds[number]
            loops = variables("k", extents)

            made.append((segment, indices(loops), partial(_loops, loops, extents)))
        return made

    def _steps(self, axis: int) -> list[int]:
        """Strides of everything along an axis of members; what a table scatters counts as far apart."""
        walks = self.domain.walks.values()
        return [w.members[axis] if isinstance(w, Walk) else 2 * w.walk.members[axis] for w in walks]

    def _best_axis(self) -> int | None:
        """The axis along which sums are kept side by side: most unit strides, then the innermost."""
        extents = self.domain.members
        if not extents:
            return None
        near = [sum(step in (0, 1) for step in self._steps(d)) for d in range(len(extents))]
        return max(range(len(extents)), key=lambda d: (near[d], min(extents[d], MOST_PLAIN), d))

    def _tiled(self, members: list[IndexLike], across: int) -> Block:
        extent = self.domain.members[across]
        lanes = self.target.lanes(F64.size)
        near = lanes > 1 and extent > 1 and all(step in (0, 1) for step in self._steps(across))
        plan = vector_tiles(extent, lanes, self.target.registers) if near else plain_tiles(extent)
        statements: list[Block] = []
        for start, count, width, pieces in plan:
            tile = Var("tile", 0, count - 1)
            first = (var_index(tile) if count > 1 else 0) * width + start
            body = self._tile(members, across, first, pieces)
            statements.append(block(For(tile, count, body)) if count > 1 else body)
        return block(*statements)

    def _tile(self, members: list[IndexLike], across: int, first: IndexLike, pieces: list[Piece]) -> Block:
        """Sums of one tile: set, add all terms in order, store."""
        sums = [self._local((p.vectors, p.lanes)) for p in pieces]

        def each(make: Make) -> Block:
            return block(*(self._piece(members, across, first, piece, total, make)
                           for piece, total in zip(pieces, sums, strict=True)))  # fmt: skip

        statements: list[Stmt | Block] = [*map(Alloc, sums)]
        statements.append(each(lambda m, s, at: Store(s, at, self.value(self.body.value, m, []))))
        for segment, rounds, loop in self._segments():
            terms = [each(partial(self._add, term, rounds, updates=updates))
                     for term, updates in _terms(segment)]  # fmt: skip
            statements.append(loop(block(*terms)))
        statements.append(each(lambda m, s, at: self.stored(m, Read(s, at, F64))))
        return block(*statements)

    def _add(self, term: Template, rounds: list[IndexLike], members: list[IndexLike], total: Buffer,
             at: tuple[IndexLike, ...], updates: Updates = ()) -> Block:  # fmt: skip
        """`total[at] += term`, behind the updates of what it reads."""
        moved = [self.stored(members, self.value(new, members, rounds), rounds, number)
                 for number, new in updates]  # fmt: skip
        return block(*moved, Reduce(total, at, "add", self.value(term, members, rounds), ordered=True))

    def _piece(self, members: list[IndexLike], across: int, first: IndexLike, piece: Piece, total: Buffer,
               make: Make) -> Block:  # fmt: skip
        """A statement for every sum of a piece."""
        vector, lane = Var("v", 0, piece.vectors - 1), Var("lane", 0, piece.lanes - 1)
        v: IndexLike = var_index(vector) if piece.vectors > 1 else 0
        at = list(members)
        at[across] = first + piece.offset + v * piece.lanes + (var_index(lane) if piece.lanes > 1 else 0)
        index = (v, var_index(lane) if piece.lanes > 1 else 0)
        inner = block(make(at, total, index))
        if piece.lanes > 1:
            inner = block(For(lane, piece.lanes, inner, "vector"))
        return inner if piece.vectors == 1 else block(For(vector, piece.vectors, inner, "unroll"))


def _terms(segment: Segment) -> Iterator[tuple[Template, Updates]]:
    """Every term of a round, the first one with the updates that come before it."""
    for place, term in enumerate(segment.templates):
        yield term, () if place else segment.updates


def vector_tiles(extent: int, lanes: int, registers: int) -> list[tuple[int, int, int, list[Piece]]]:
    """Tiles as (start, how many, width, pieces): balanced full ones, then one with the rest."""
    most = 12 if registers >= 32 else 6
    vectors, rest = divmod(extent, lanes)
    tiles = max(1, -(-vectors // most))
    per = -(-vectors // tiles) if vectors else 0
    full = vectors // per if per else 0
    tail: list[Piece] = []
    left = vectors - full * per
    if left == 0 and full and rest:
        full, left = full - 1, per
    offset = 0
    if left:
        tail.append(Piece(0, left, lanes))
        offset = left * lanes
    width = lanes // 2
    while rest:
        if rest >= width:
            tail.append(Piece(offset, 1, width))
            offset, rest = offset + width, rest - width
        width //= 2
    plan = [(0, full, per * lanes, [Piece(0, per, lanes)])] if full else []
    return plan + ([(full * per * lanes, 1, 0, tail)] if tail else [])


def plain_tiles(extent: int) -> list[tuple[int, int, int, list[Piece]]]:
    """Tiles without lanes."""
    width = min(extent, MOST_PLAIN)
    full, rest = divmod(extent, width)
    plan = [(0, full, width, [Piece(0, width, 1)])]
    return plan + ([(full * width, 1, 0, [Piece(0, rest, 1)])] if rest else [])


def _loops(loops: list[Var], extents: tuple[int, ...], body: Block, kind: LoopKind = "serial") -> Block:
    for var, extent in zip(reversed(loops), reversed(extents), strict=True):
        body = block(For(var, extent, body, kind))
    return body
