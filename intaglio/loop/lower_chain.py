"""Chains of convolutions as one kernel: rings of rows, and each member's recipe on one row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from intaglio.graph.ir import Value
from intaglio.loop.access import Place
from intaglio.loop.chains import Chain, Rows
from intaglio.loop.ir import Block, Buffer, For, Stmt
from intaglio.loop.layout import is_pointwise
from intaglio.loop.lower_anchor import describe_anchor
from intaglio.loop.lower_group import GroupLowering, total_work
from intaglio.loop.recipes.anchor import Accuracy, Anchor, Nest, Operand
from intaglio.loop.recipes.convolution import lower_convolution
from intaglio.loop.recipes.geometry import Geometry
from intaglio.loop.recipes.lines import LineTiles
from intaglio.loop.recipes.nests import Names, between, loop
from intaglio.loop.schedule.nest import names_of, with_bodies
from intaglio.loop.threads import worth_threads
from intaglio.ops.expr import Expr
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import IndexLike, maximum, minimum
from intaglio.shared.target import Target
from intaglio.shared.types import TensorType

RowBody = Callable[[IndexLike, IndexLike], list[Stmt]]
"""The statements that make a row of an image."""


@dataclass(frozen=True)
class OneRow:
    """One row of an operand's image, as an image of its own."""

    base: Operand
    image: IndexLike
    row: IndexLike

    @property
    def type(self) -> TensorType:
        _, channels, _, *rest = self.base.type.shape
        return TensorType(self.base.type.dtype, (1, channels, 1, *rest))

    @property
    def data(self) -> None:
        return None

    def __getitem__(self, index: Any) -> Expr:
        return self.base[(self.image, index[1], self.row, *index[3:])]


@dataclass
class ChainLowering:
    """What the lowering of one chain knows; `lowerings` are those of its groups, which share their names."""

    chain: Chain
    lowerings: list[GroupLowering]
    target: Target
    accuracy: Accuracy
    part: IndexLike = 0
    extra: list[Buffer] = field(default_factory=list)
    before: list[Stmt] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.strips = self.chain.strips
        self.parts = self.chain.groups[-1].shape[0] * self.strips
        for value, rows in zip(self.chain.images, self.chain.rows, strict=False):
            self.keep(value, rows)
        self.anchors = [
            describe_anchor(one, one.group.anchor, self.accuracy)
            for one in self.lowerings
            if one.group.anchor is not None
        ]
        self.names = Names(frozenset().union(*(anchor.names for anchor in self.anchors)))

    def lower(self) -> Nest:
        """The kernel's nest. Raises UnsupportedError when a member's recipe does not fit."""
        members = [self.member(k) for k in range(len(self.anchors))]
        body = loop(self.names["part"], self.parts, lambda part: self.strip(part, members))
        work = [total_work(one.group) for one in self.lowerings]
        total = None if None in work else sum(w or 0 for w in work)
        if worth_threads(total) and isinstance(body[0], For):
            body[0] = replace(body[0], kind="parallel")
        note = f"row by row through {len(members)} operators, {self.strips} strips"
        made = Block((*self.before, *body))
        if self.target.tuning is not None:
            self.target.tuning.made(made)
        return Nest(made, (note, *self.notes), tuple(self.extra))

    def keep(self, value: Value, rows: Rows) -> None:
        """A ring of rows with channels last for an image between two members, one for each strip."""
        _, channels, _, *rest = value.shape
        name = self.lowerings[0].unique("rows")
        ring = Buffer(name, value.dtype, (self.parts, rows.count, *rest, channels), "scratch", "heap")
        self.extra.append(ring)

        def at(index: Place) -> tuple[Buffer, Place]:
            _, channel, row, *place = index
            return ring, (self.part, row % rows.count, *place, channel)

        for one in self.lowerings:
            one.kept[value] = at

    def strip(self, part: IndexLike, members: list[RowBody]) -> list[Stmt]:
        """All rows of one strip: each member makes the rows that are new before the next one reads them."""
        self.part = part
        height = self.anchors[-1].result.shape[2]
        assert isinstance(height, int)
        size = height // self.strips
        image, first = (part, 0) if self.strips == 1 else (0, part * size)
        takes = self.chain.rows
        early = max(-(-(rows.count - rows.step) // rows.step) for rows in takes)

        def step(number: IndexLike) -> list[Stmt]:
            made: list[Stmt] = []
            for k, (rows, member) in enumerate(zip(takes[:-1], members, strict=False)):
                extent = self.anchors[k].result.shape[2]
                assert isinstance(extent, int)
                stop = (number + first - early) * rows.step + (rows.first + rows.count)
                start = maximum(stop - rows.step, first * rows.step + rows.first)
                made += between(
                    self.names[f"row{k}"],
                    maximum(0, start),
                    minimum(extent, stop),
                    extent,
                    partial(member, image),
                )
            made += between(
                self.names["row"],
                maximum(0, number - early),
                number - early + 1,
                size,
                lambda row: members[-1](image, row + first),
            )
            return made

        return loop(self.names["step"], size + early, step)

    def member(self, number: int) -> RowBody:
        """How a member makes one of its rows."""
        node = self.lowerings[number].group.anchor
        assert node is not None
        return self.pointwise(number) if is_pointwise(node) else self.windowed(number)

    def described(self, number: int) -> Anchor:
        """A member's anchor, with the names that are taken by now."""
        anchor = self.anchors[number]
        return replace(anchor, taken=anchor.taken | self.names.taken)

    def windowed(self, number: int) -> RowBody:
        def body(image: IndexLike, row: IndexLike) -> list[Stmt]:
            anchor = self.described(number)
            tiles = LineTiles.made(anchor, Geometry.of(anchor), self.target)
            if tiles is None:
                raise UnsupportedError("a member of the chain does not read and write channels last")
            self.extra.append(tiles.weights)
            self.before += tiles.packed()
            self.notes.append(tiles.note)
            return self.claimed(tiles.lines({"n": image, "p": row}, 1), (tiles.weights,))

        return body

    def pointwise(self, number: int) -> RowBody:
        def body(image: IndexLike, row: IndexLike) -> list[Stmt]:
            whole = self.described(number)
            _, channels, _, *rest = whole.result.shape
            source, weights = whole.operands
            anchor = replace(
                whole,
                operands=(OneRow(source, image, row), weights),
                result=TensorType(whole.result.dtype, (1, channels, 1, *rest)),
                finish=lambda index, value: whole.finish((image, index[1], row, *index[3:]), value),
            )
            nest = lower_convolution(anchor, self.target)
            if nest is None:
                raise UnsupportedError("a member of the chain has no recipe for single rows")
            self.extra += nest.scratch
            self.notes += nest.notes
            return self.claimed([*_serial(nest.body)], nest.scratch)

        return body

    def claimed(self, statements: list[Stmt], arrays: tuple[Buffer, ...]) -> list[Stmt]:
        """The statements of a member; nobody after it takes its names."""
        self.names.taken |= names_of(Block(tuple(statements))) | {buffer.name for buffer in arrays}
        return statements


def _serial(body: Block) -> Block:
    """The body without threads of its own."""

    def one(statement: Stmt) -> Stmt:
        inner = with_bodies(statement, _serial)
        return replace(inner, kind="serial") if isinstance(inner, For) and inner.kind == "parallel" else inner

    return Block(tuple(map(one, body)))
