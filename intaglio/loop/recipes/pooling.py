"""Reductions over sliding windows: pooling.

A window slides along the last axis over a line that was combined along the other axes first, so that an
element is read once per window across and once along instead of once per place of the window. Taps outside
of the source are left out, which padding with the reduction's neutral element means.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from intaglio.loop.ir import Alloc, Buffer, Reduce, Stmt, Store
from intaglio.loop.lower_group import combine_identity
from intaglio.loop.recipes.anchor import Anchor, Nest, Place
from intaglio.loop.recipes.images import TAPS, Window, over_taps
from intaglio.loop.recipes.nests import Names, along_lanes, loop, parallel, ranged, tile
from intaglio.loop.recipes.tiles import Panels, panels
from intaglio.ops.expr import Expr, Read, apply
from intaglio.shared.index import IndexLike, product, upper
from intaglio.shared.target import Target

LONGEST = 1 << 12  # elements of a line, which lives on the stack
WIDEST = 32  # taps along the line, which are written out
SPATIAL = "pq"
COMBINES = ("add", "max", "min")


def lower_pooling(anchor: Anchor, target: Target) -> Nest | None:
    """A nest for a reduction over the windows of its operand; None where plain loops do."""
    attrs = anchor.windows
    assert attrs is not None
    shape = anchor.operands[0].type.shape
    neutral = combine_identity(anchor.combine, anchor.dtype).value
    sizes = (*shape[2:], *anchor.result.shape[2:])
    if anchor.combine not in COMBINES or not all(isinstance(e, int) for e in sizes):
        return None
    windows = tuple(
        Window(size, out, k, s, d, low)
        for size, out, k, s, d, (low, _) in zip(
            shape[2:],
            anchor.result.shape[2:],
            *(attrs[name] for name in ("kernel", "strides", "dilations", "padding")),
            strict=True,
        )
    )
    if all(w.kernel <= w.stride and w.dilation == 1 and not w.pads for w in windows):
        return None  # every element is read once
    *outer, last = windows
    if len(windows) > len(TAPS) or (any(w.pads for w in windows) and attrs["value"] != neutral):
        return None
    if any(w.pads and w.dilation > 1 for w in outer) or target.lanes(anchor.dtype.size) == 1:
        return None
    if last.low < 0 or last.last + 1 > LONGEST or last.kernel > WIDEST:
        return None
    return _Pooling(anchor, target, windows).nest()


class _Pooling:
    """The nest of one pooling."""

    def __init__(self, anchor: Anchor, target: Target, windows: tuple[Window, ...]) -> None:
        self.anchor, self.windows = anchor, windows
        self.names = Names(anchor.names)
        self.lanes = target.lanes(anchor.dtype.size)
        self.neutral = combine_identity(anchor.combine, anchor.dtype)

    def nest(self) -> Nest:
        """Images and channels around rows of windows."""
        names, (batch, channels, *_) = self.names, self.anchor.operands[0].type.shape
        body = loop(names["n"], batch, lambda n: loop(names["c"], channels, lambda c: self.plane((n, c))))
        work = upper(product(self.anchor.result.shape))
        note = (
            f"windows of {' by '.join(str(w.kernel) for w in self.windows)}: across first, then along a line"
        )
        return Nest(parallel(body, None if work is None else 2 * work, {names["n"], names["c"]}), (note,))

    def plane(self, image: Place) -> list[Stmt]:
        """All rows of one channel; the line's padding is set once."""
        last = self.windows[-1]
        line = Buffer(self.names.fresh("line"), self.anchor.dtype, (last.last + 1,), "local", "stack")

        def pad(k: IndexLike) -> list[Stmt]:
            return [Store(line, (k,), self.neutral)]

        return [
            Alloc(line),
            *ranged(self.names["x"], 0, last.low, pad),
            *ranged(self.names["x"], min(last.low + last.size, last.last + 1), last.last + 1, pad),
            *self.rows(image, line, ()),
        ]

    def rows(self, image: Place, line: Buffer, place: Place) -> list[Stmt]:
        """Every row of windows: across into the line, then along it."""
        axis = len(place)
        if axis < len(self.windows) - 1:
            return loop(
                self.names[SPATIAL[axis]],
                self.windows[axis].out,
                lambda p: self.rows(image, line, (*place, p)),
            )
        return [*self.across(image, line, place), *self.along(image, line, place)]

    def across(self, image: Place, line: Buffer, place: Place) -> list[Stmt]:
        """The line: places of the source combined over all axes but the last."""
        names, last, source = self.names, self.windows[-1], self.anchor.operands[0]
        low = last.low

        def vectors(panel: Panels, number: IndexLike) -> list[Stmt]:
            acc = Buffer(names.fresh("acc"), line.dtype, (panel.vectors, panel.lanes), "local", "register")

            def each(body: Callable[[IndexLike, IndexLike], Stmt]) -> list[Stmt]:
                return tile(names, 1, panel, lambda _, j, lane: [body(j, lane)])

            def at(j: IndexLike, lane: IndexLike) -> IndexLike:
                return number * panel.width + (j * panel.lanes + lane + panel.start)

            def step(taps: Place) -> list[Stmt]:
                rows = tuple(w.place(p, r) for w, p, r in zip(self.windows, place, taps, strict=False))
                return each(
                    lambda j, lane: Reduce(
                        acc, (j, lane), self.anchor.combine, source[(*image, *rows, at(j, lane))]
                    )
                )

            return [
                Alloc(acc),
                *each(lambda j, lane: Store(acc, (j, lane), self.neutral)),
                *over_taps(names, self.windows, place, step),
                *each(
                    lambda j, lane: Store(line, (at(j, lane) + last.low,), Read(acc, (j, lane), acc.dtype))
                ),
            ]

        count = min(last.size, last.last + 1 - low)
        return [
            s
            for panel in panels(count, 4, self.lanes)
            for s in loop(names["x0"], panel.count, lambda number: vectors(panel, number))
        ]

    def along(self, image: Place, line: Buffer, place: Place) -> list[Stmt]:
        """Windows of the line, through the epilogue."""
        last, function = self.windows[-1], self.anchor.combine

        def element(q: IndexLike) -> list[Stmt]:
            places = (q * last.stride + r * last.dilation for r in range(last.kernel))
            reads: list[Expr] = [Read(line, (place,), line.dtype) for place in places]
            value = reduce(lambda a, b: apply(function, a, b), reads)
            return self.anchor.finish((*image, *place, q), value)

        if last.stride == 1:
            return along_lanes(self.names, last.out, self.lanes, element)
        return loop(self.names["x"], last.out, element)
