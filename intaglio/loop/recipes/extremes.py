"""The extreme of every window together with which of its elements it is.

As in pooling, a line is combined across the other axes first; beside it stands from which place of the
window, along those axes, each of its elements comes. Then windows slide along the line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product as combinations
from math import prod

from intaglio.loop.ir import Alloc, Buffer, Stmt, Store
from intaglio.loop.lower_group import combine_identity
from intaglio.loop.recipes.anchor import Anchor, Nest, Place
from intaglio.loop.recipes.images import Window
from intaglio.loop.recipes.nests import Names, loop, parallel
from intaglio.loop.recipes.sections import SPATIAL, Section, over_sections, window_sections
from intaglio.ops.expr import Apply, Const, Expr, Read, apply, cast, where
from intaglio.ops.movement import flat_index, split_index
from intaglio.shared import dtypes
from intaglio.shared.index import IndexLike, product, upper

LONGEST = 1 << 12  # elements of lines on the stack
MOST_TERMS = 320  # reads of all sections together, which are written out
NONE = 1 << 30  # a place behind all others


def lower_extremes(anchor: Anchor) -> Nest | None:
    """A nest for an extreme over windows whose place is wanted too; None where plain loops do."""
    attrs, shape, out = anchor.windows, anchor.operands[0].type.shape, anchor.result.shape[2:]
    if attrs is None or not all(isinstance(e, int) for e in (*shape[2:], *out)):
        return None
    settings = (attrs[name] for name in ("kernel", "strides", "dilations", "padding"))
    axes = zip(shape[2:], out, *settings, strict=True)
    windows = tuple(Window(size, p, k, s, d, low) for size, p, k, s, d, (low, _) in axes)
    neutral = combine_identity(anchor.combine, anchor.dtype).value
    if any(w.pads for w in windows) and attrs["value"] != neutral:
        return None
    sections = [window_sections(w) for w in windows]
    terms = prod(sum(section.terms for section in axis) for axis in sections)
    empty = any(not section.terms for axis in sections for section in axis)
    if terms > MOST_TERMS or empty or windows[-1].size > LONGEST:
        return None
    return _Extremes(anchor, windows, sections).nest()


@dataclass
class _Extremes:
    anchor: Anchor
    windows: tuple[Window, ...]
    sections: list[list[Section]]

    def __post_init__(self) -> None:
        names = self.names = Names(self.anchor.names)
        last, rows = self.windows[-1], prod(w.out for w in self.windows[:-1])
        self.whole = len(self.sections[-1]) == 1 and (last.low, last.out * last.stride) == (0, last.size)
        self.whole = self.whole and rows * last.size <= LONGEST
        size = (rows if self.whole else 1) * last.size
        self.line = Buffer(names.fresh("line"), self.anchor.dtype, (size,), "local", "stack")
        self.source = Buffer(names.fresh("source"), dtypes.i32, (size,), "local", "stack")

    def nest(self) -> Nest:
        """Images and channels around lines."""
        names, (batch, channels, *_) = self.names, self.anchor.result.shape
        body = loop(names["n"], batch, lambda n: loop(names["c"], channels, lambda c: self.plane((n, c))))
        work = upper(product(self.anchor.result.shape))
        note = "windows and the place of each extreme: across first, then along a line"
        return Nest(parallel(body, None if work is None else 4 * work, {names["n"], names["c"]}), (note,))

    def plane(self, image: Place) -> list[Stmt]:
        """All windows of one channel: line by line, or all lines and then all windows."""
        outs = tuple(w.out for w in self.windows)
        start = [Alloc(self.line), Alloc(self.source)]

        def lines(place: Place, chosen: tuple[Section, ...]) -> list[Stmt]:
            first = flat_index(place, outs[:-1]) * self.windows[-1].size if self.whole else 0
            across = self.across(image, place, chosen, first)
            return across if self.whole else [*across, *self.along(image, place)]

        made = over_sections(self.names, self.sections[:-1], lines)
        if not self.whole:
            return [*start, *made]
        taps = range(self.windows[-1].kernel)
        every = loop(
            self.names["x"],
            prod(outs),
            lambda m: self.window((*image, *split_index(m, outs)), m * self.windows[-1].stride, taps),
        )
        return [*start, *made, *every]

    def across(self, image: Place, place: Place, chosen: tuple[Section, ...], first: IndexLike) -> list[Stmt]:
        """A line: the extremes across windows, and the row-major places they come from."""
        last, outer = self.windows[-1], self.windows[:-1]
        taps = list(combinations(*([r for r, _ in section.phases[0].taps] for section in chosen)))
        kernel = tuple(w.kernel for w in self.windows)

        def element(x: IndexLike) -> list[Stmt]:
            rows = [
                tuple(
                    p * w.stride + r * w.dilation - w.low for w, p, r in zip(outer, place, tap, strict=True)
                )
                for tap in taps
            ]
            values: list[Expr] = [self.anchor.operands[0][(*image, *row, x)] for row in rows]
            numbers: list[Expr] = [_number(flat_index((*tap, 0), kernel)) for tap in taps]
            kept, value = self.best(values)
            return [
                *kept,
                Store(self.line, (first + x,), value),
                Store(self.source, (first + x,), number_of(values, numbers, value)),
            ]

        return loop(self.names["x0"], last.size, element)

    def along(self, image: Place, place: Place) -> list[Stmt]:
        """Windows of one line."""
        last = self.windows[-1]
        return [
            s
            for section in self.sections[-1]
            for s in loop(
                self.names[SPATIAL[len(place)]],
                section.stop - section.start,
                lambda q: self.window(
                    (*image, *place, q + section.start),
                    (q + section.start) * last.stride - last.low,
                    [r for r, _ in section.phases[0].taps],
                ),
            )
        ]

    def window(self, index: Place, first: IndexLike, taps: Sequence[int]) -> list[Stmt]:
        """One window of a line, through the epilogue."""
        at = [first + r * self.windows[-1].dilation for r in taps]
        values: list[Expr] = [Read(self.line, (k,), self.line.dtype) for k in at]
        numbers = [Read(self.source, (k,), dtypes.i32) + r for k, r in zip(at, taps, strict=True)]
        kept, value = self.best(values)
        behind = Const(NONE, dtypes.i32)
        hits = [hit(v, value, number, behind) for v, number in zip(values, numbers, strict=True)]
        place = reduce(lambda a, b: apply("min", a, b), hits) if len(hits) > 1 else numbers[0]
        number = Buffer(self.names.fresh("number"), dtypes.i32, (), "local", "register")
        assert self.anchor.finish_at is not None
        held = Read(number, (), dtypes.i32)
        return [
            *kept,
            Alloc(number),
            Store(number, (), place),
            *self.anchor.finish_at(index, value, cast(held, dtypes.i64)),
        ]

    def best(self, values: list[Expr]) -> tuple[list[Stmt], Expr]:
        """The extreme of some values in a variable of its own; a single one as it is."""
        best = Buffer(self.names.fresh("best"), self.anchor.dtype, (), "local", "register")
        function = self.anchor.combine
        value = reduce(lambda a, b: apply(function, a, b), values)
        return [Alloc(best), Store(best, (), value)], Read(best, (), best.dtype)


def number_of(values: list[Expr], numbers: list[Expr], extreme: Expr) -> Expr:
    """The number of the first value that is the extreme."""
    found = numbers[-1]
    for value, number in list(zip(values, numbers, strict=True))[-2::-1]:
        found = hit(value, extreme, number, found)
    return found


def hit(value: Expr, extreme: Expr, number: Expr, other: Expr) -> Expr:
    """A number where a value is the extreme, which NaN is; else another one."""
    if value.dtype.is_float:
        other = where(Apply("ne", (value, value), dtypes.bool_), number, other)
    return where(Apply("eq", (value, extreme), dtypes.bool_), number, other)


def _number(index: IndexLike) -> Const:
    assert isinstance(index, int)
    return Const(index, dtypes.i32)
