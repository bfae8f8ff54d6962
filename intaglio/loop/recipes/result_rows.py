"""Rows of results that come with their lanes along channels, on their way into arrays.

Where channels lie side by side in what is stored, vectors can go there as they come. Else a row is kept as
[place][channel] first and turned. Of windows that are pooled only what they are combined to goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import product as combinations

from intaglio.loop import places
from intaglio.loop.ir import Alloc, Buffer, Stmt, Store
from intaglio.loop.recipes.anchor import Anchor, Operand, Place
from intaglio.loop.recipes.extremes import number_of
from intaglio.loop.recipes.nests import Names, along_lanes, between, loop, turn, variable_of
from intaglio.ops.expr import Const, Expr, Read, apply, cast
from intaglio.shared import dtypes
from intaglio.shared.index import IndexLike, Var, variable

Element = Callable[[IndexLike, IndexLike], Place]
"""The element of a channel at a place."""
NARROW = 16
"""Places of a row that is turned with its neighbours: squares of places would cover it badly."""
NEAR = 16 << 10
"""Bytes of rows that wait for each other, so that they stay in the first cache."""


@dataclass
class ResultRows:
    """`count` rows of `width` places for some channels, of which the first `stored` places exist; of `ragged`
    ones some rows do not.

    Attributes:
        direct: whether vectors go where they belong as they come; all places must exist then.
    """

    names: Names
    anchor: Anchor
    lanes: int
    channels: int
    stored: int
    width: int
    count: int = 1
    ragged: bool = False
    kept: list[Buffer] = field(init=False)

    def __post_init__(self) -> None:
        self.along_channels = stores_channels_last(self.anchor)
        self.direct = self.along_channels and self.stored == self.width and not self.ragged
        pooling = self.anchor.pooling
        kinds = {"line": self.anchor.dtype}
        if pooling is not None and pooling.finish_at is not None:
            kinds["number"] = dtypes.i32
        shape = (self.count * self.width, self.channels)
        self.kept = [
            Buffer(self.names.fresh(name), dtype, shape, "local", "stack")
            for name, dtype in ({} if self.direct else kinds).items()
        ]

    def begin(self) -> list[Stmt]:
        """What comes before all vectors of the rows."""
        return [Alloc(buffer) for buffer in self.kept]

    def put(self, index: Place, at: Place, values: Sequence[Expr]) -> list[Stmt]:
        """Hand on one result: of the element `index`, at a row, place and channel, from the values of its
        window, or its own."""
        row, place, channel = at
        statements, found = combined(self.names, self.anchor, index, values)
        if self.direct:
            return [*statements, *self.finish(index, found)]
        where = (row * self.width + place, channel)
        stores = (Store(buffer, where, value) for buffer, value in zip(self.kept, found, strict=True))
        return [*statements, *stores]

    def end(self, index: Callable[[IndexLike, IndexLike, IndexLike], Place], rows: IndexLike) -> list[Stmt]:
        """Finish the first kept rows; `index(row, channel, place)` is an element."""
        if self.direct:
            return []
        narrow = self.stored == self.width < NARROW and not self.ragged
        if narrow and not self.along_channels:

            def flat(o: IndexLike, x: IndexLike) -> Place:
                return index(x // self.width, o, x % self.width)

            return self.turned(0, self.count * self.width, flat)

        def row(k: IndexLike) -> list[Stmt]:
            def element(o: IndexLike, x: IndexLike) -> Place:
                return index(k, o, x)

            finish = self.side_by_side if self.along_channels else self.turned
            return finish(k * self.width, self.stored, element)

        return between(self.names["a"], 0, rows, self.count, row)

    def side_by_side(self, first: IndexLike, places: int, index: Element) -> list[Stmt]:
        """Finish places from one on whose channels are stored as they are kept."""

        def element(o: IndexLike, x: IndexLike) -> list[Stmt]:
            return self.finish(index(o, x), [Read(b, (first + x, o), b.dtype) for b in self.kept])

        def place(x: IndexLike) -> list[Stmt]:
            return along_lanes(self.names, self.channels, self.lanes, lambda o: element(o, x))

        return loop(self.names["x"], places, place)

    def turned(self, first: IndexLike, places: int, index: Element) -> list[Stmt]:
        """Turn places from one on, and finish them channel by channel."""
        names, shape = self.names, (self.channels, places)
        back = [Buffer(names.fresh("back"), b.dtype, shape, "local", "stack") for b in self.kept]
        statements: list[Stmt] = []
        for line, column in zip(self.kept, back, strict=True):

            def copy(o: IndexLike, x: IndexLike, line: Buffer = line, column: Buffer = column) -> Stmt:
                return Store(column, (o, x), Read(line, (first + x, o), line.dtype))

            statements += [Alloc(column), *turn(names, *shape, copy)]

        def element(o: IndexLike, x: IndexLike) -> list[Stmt]:
            return self.finish(index(o, x), [Read(b, (o, x), b.dtype) for b in back])

        def channel(o: IndexLike) -> list[Stmt]:
            return along_lanes(names, places, self.lanes, lambda x: element(o, x))

        return [*statements, *loop(names["o1"], self.channels, channel)]

    def finish(self, index: Place, found: Sequence[Expr]) -> list[Stmt]:
        """Store a result, and the number of the element of its window where that is wanted."""
        pooling = self.anchor.pooling
        if pooling is None:
            return self.anchor.finish(index, found[0])
        if pooling.finish_at is None:
            return pooling.finish(index, found[0])
        return pooling.finish_at(index, found[0], cast(found[1], dtypes.i64))


def combined(
    names: Names, anchor: Anchor, index: Place, values: Sequence[Expr]
) -> tuple[list[Stmt], list[Expr]]:
    """What the elements of the window `index` are combined to, and the number of the chosen one where that is
    wanted; without pooling the value itself."""
    pooling = anchor.pooling
    if pooling is None:
        return [], list(values)
    statements: list[Stmt] = []

    def held(name: str, value: Expr) -> Expr:
        if isinstance(value, Read):
            return value
        buffer = Buffer(names.fresh(name), value.dtype, (), "local", "register")
        statements.extend((Alloc(buffer), Store(buffer, (), value)))
        return Read(buffer, (), buffer.dtype)

    def carried(spot: Sequence[int], value: Expr) -> Expr:
        steps = zip(index[2:], pooling.kernel, spot, strict=True)
        before, element = pooling.element((*index[:2], *(p * k + r for p, k, r in steps)), value)
        statements.extend(before)
        return held("element", element)

    def extreme(elements: Sequence[Expr]) -> Expr:
        return reduce(lambda a, b: held("best", apply(pooling.combine, a, b)), elements)

    spots = list(combinations(*(range(k) for k in pooling.kernel)))
    if pooling.rises and pooling.finish_at is None:
        return statements, [carried(spots[0], extreme([held("element", value) for value in values]))]
    elements = [carried(spot, value) for spot, value in zip(spots, values, strict=True)]
    best = extreme(elements)
    if pooling.finish_at is None:
        return statements, [best]
    numbers: list[Expr] = [Const(k, dtypes.i32) for k in range(len(elements))]
    return statements, [best, held("place", number_of(elements, numbers, best))]


def stores_channels_last(anchor: Anchor) -> bool:
    """Whether results are stored with their channels side by side."""
    stored = anchor if anchor.pooling is None else anchor.pooling
    place, channel = _along_channels(stored.result.shape)
    zero = Const(0, anchor.dtype)
    if stored.finish_at is not None:
        after = stored.finish_at(place, zero, Const(0, dtypes.i64))
    else:
        after = stored.finish(place, zero)
    stores = [s for s in after if isinstance(s, Store) and s.buffer.space != "register"]
    return channel is not None and all(places.stride(s.buffer, s.index, channel) == 1 for s in stores)


def reads_channels_last(image: Operand) -> bool:
    """Whether an image is stored with its channels side by side."""
    place, channel = _along_channels(image.type.shape)
    return channel is not None and places.strides(image[place], channel) == [1]


def _along_channels(shape: Place) -> tuple[Place, Var | None]:
    """The first place of an image with a variable for the channel, which single channels do not have."""
    index = variable("channel", shape[1])
    place: Place = (0, index, *(0 for _ in shape[2:]))
    return place, None if shape[1] == 1 else variable_of(index)
