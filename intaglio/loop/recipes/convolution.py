"""Convolution and its gradient with respect to the image: register tiles over padded copies of images.

The places of a result are numbered as those of the padded image, row behind row, so that the lanes of a
tile run over them at unit stride whatever the width; the few places between rows are computed and
dropped. Tiles go to a small buffer of `wide` rows first, and from there through the epilogue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from intaglio.loop.ir import Alloc, Buffer, Reduce, Stmt, Store
from intaglio.loop.recipes.anchor import Anchor, Nest, Place
from intaglio.loop.recipes.axes import Contraction, Factor
from intaglio.loop.recipes.contraction import best_plan
from intaglio.loop.recipes.images import Image, Window
from intaglio.loop.recipes.nests import Names, lanes, loop, parallel, stepped, unroll
from intaglio.loop.recipes.tiles import Panels, Run, balanced, best_tile, panels
from intaglio.ops.expr import Const, Expr, Read
from intaglio.shared.index import IndexLike, upper
from intaglio.shared.target import Target

IMAGE_BYTES = 96 << 10  # a larger padded image lives in scratch memory, not on the stack
WIDE_BYTES = 48 << 10  # rows of the wide buffer are cut so that it stays in a cache
SPATIAL = "pqs"
TAPS = "uvw"


@dataclass(frozen=True)
class Geometry:
    """A convolution of either direction, per group: `outs` channels from `ins` channels."""

    groups: int
    outs: int
    ins: int
    windows: tuple[Window, ...]
    weight: Callable[[IndexLike, IndexLike, IndexLike, Place], Expr]

    @staticmethod
    def of(anchor: Anchor) -> Geometry:
        forward = anchor.op == "conv"
        attrs, groups = anchor.attrs, anchor.attrs["groups"]
        source, w = anchor.operands
        shape = w.type.shape
        kernel = shape[2:]
        windows, axes = (
            [],
            zip(
                source.type.shape[2:],
                anchor.result.shape[2:],
                kernel,
                attrs["strides"],
                attrs["dilations"],
                attrs["padding"],
                strict=True,
            ),
        )
        for size, out, k, stride, dilation, (low, _) in axes:
            if forward:
                windows.append(Window(size, out, k, stride, dilation, low))
            else:
                windows.append(Window(size, out, k, 1, dilation, (k - 1) * dilation - low, stride))
        outer, inner = shape[0] // groups, shape[1]

        def weight(g: IndexLike, o: IndexLike, c: IndexLike, taps: Place) -> Expr:
            if forward:
                return w[(g * outer + o, c, *taps)]
            return w[(g * outer + c, o, *(k - 1 - r for k, r in zip(kernel, taps, strict=True)))]

        assert isinstance(outer, int)
        assert isinstance(inner, int)
        outs, ins = (outer, inner) if forward else (inner, outer)
        return Geometry(groups, outs, ins, tuple(windows), weight)

    @property
    def taps(self) -> int:
        return prod(w.kernel for w in self.windows)


def lower_convolution(anchor: Anchor, target: Target) -> Nest | None:
    """A fast nest for `conv` or `conv_dx`; None where plain loops do."""
    shapes = [
        anchor.result.shape[1:],
        *(x.type.shape[k:] for k, x in zip((1, 0), anchor.operands, strict=True)),
    ]
    if not all(isinstance(extent, int) for shape in shapes for extent in shape):
        return None
    lanes_ = target.lanes(anchor.dtype.size)
    dtypes = {anchor.result.dtype, *(x.type.dtype for x in anchor.operands)}
    if lanes_ < 4 or len(dtypes) > 1 or not anchor.dtype.is_float:
        return None
    geometry = Geometry.of(anchor)
    if all(w == Window(w.size, w.size, 1) for w in geometry.windows) and geometry.groups == 1:
        return _pointwise(anchor, geometry, target)
    return _Tiles(anchor, geometry, target, lanes_).nest()


def _pointwise(anchor: Anchor, geometry: Geometry, target: Target) -> Nest | None:
    """A kernel of one tap is a contraction of channels."""
    source, axes = anchor.operands[0], SPATIAL[: len(geometry.windows)]
    still = tuple(0 for _ in axes)
    left = Factor("oc", lambda env: geometry.weight(0, env["o"], env["c"], still))
    right = Factor.operand(source, "nc" + axes)
    extents = dict(zip("no" + axes, anchor.result.shape, strict=True)) | {"c": geometry.ins}
    return best_plan(Contraction.made(anchor, left, right, "no" + axes, extents), target)


@dataclass
class _Tiles:
    anchor: Anchor
    geometry: Geometry
    target: Target
    lanes: int

    def __post_init__(self) -> None:
        g = self.geometry
        self.image = Image(g.ins, g.windows, self.lanes)
        self.names = Names(self.anchor.names)
        self.blocks = self.cut()

    def cut(self) -> list[Run]:
        """Blocks of the first spatial axis whose wide rows stay small, and the register tile."""
        first, stride = self.geometry.windows[0], self.image.strides[0]
        rows = min(self.geometry.outs, 14)
        most = max(1, WIDE_BYTES // (rows * stride * self.anchor.dtype.size))
        blocks = balanced(first.out, min(first.out, most))
        depth = self.geometry.ins * self.geometry.taps
        self.tile = best_tile(self.geometry.outs, self.width(blocks[0].size), depth, self.lanes, self.target)[
            :2
        ]
        return blocks

    def width(self, block: int) -> int:
        """Flat places of a block, in whole vectors."""
        skipped = (self.geometry.windows[0].out - block) * self.image.strides[0]
        return -(-(self.image.length - skipped) // self.lanes) * self.lanes

    def nest(self) -> Nest:
        batch, g = self.anchor.result.shape[0], self.geometry
        size = self.image.size
        work = (upper(batch) or 64) * g.groups * g.outs * g.ins * g.taps * self.image.length * 2
        local = size * self.anchor.dtype.size <= IMAGE_BYTES and (batch != 1 or g.groups > 1)
        shape = (size,) if local else (batch, g.groups, size)
        image = Buffer(
            "image", self.anchor.dtype, shape, "local" if local else "scratch", "stack" if local else "heap"
        )
        over: Callable[[Callable[[IndexLike, IndexLike], list[Stmt]]], list[Stmt]]
        over = lambda body: loop(
            self.names["n"], batch, lambda n: loop(self.names["g"], g.groups, lambda k: body(n, k))
        )
        if local:
            body = over(
                lambda n, k: [Alloc(image), *self.fill(image, (), n, k), *self.convolve(image, (), n, k)]
            )
        else:
            body = [
                *over(lambda n, k: self.fill(image, (n, k), n, k)),
                *over(lambda n, k: self.convolve(image, (n, k), n, k)),
            ]
        notes = (
            f"pad images into {'a local copy' if local else 'scratch'}",
            f"tile channels by {self.tile[0]} and places by {self.tile[1]} vectors of {self.lanes}",
        )
        independent = {self.names[name] for name in ("n", "g", "b0", "o0")}
        return Nest(parallel(body, work, independent), notes, () if local else (image,))

    def fill(self, image: Buffer, prefix: Place, n: IndexLike, group: IndexLike) -> list[Stmt]:
        """The padded copy of one image's channels of a group."""
        source, ins = self.anchor.operands[0], self.geometry.ins
        return list(
            self.image.copy(image, prefix, self.names, lambda c, place: source[(n, group * ins + c, *place)])
        )

    def convolve(self, image: Buffer, prefix: Place, n: IndexLike, group: IndexLike) -> list[Stmt]:
        """Blocks of places, tiles of channels in each."""
        return [
            s
            for block in self.blocks
            for s in stepped(
                self.names["b0"],
                block.start,
                block.size,
                block.count,
                lambda first: [
                    t
                    for run in balanced(self.geometry.outs, self.tile[0])
                    for t in stepped(
                        self.names["o0"],
                        run.start,
                        run.size,
                        run.count,
                        lambda o: self.rows(image, prefix, n, group, first, block.size, o, run.size),
                    )
                ],
            )
        ]

    def rows(
        self,
        image: Buffer,
        prefix: Place,
        n: IndexLike,
        group: IndexLike,
        first: IndexLike,
        block: int,
        o: IndexLike,
        rows: int,
    ) -> list[Stmt]:
        """Some channels of a block: every panel of places into the wide buffer, then the epilogue."""
        width = self.width(block)
        wide = Buffer(self.names.fresh("wide"), self.anchor.dtype, (rows, width), "local", "stack")
        origin = first * self.image.strides[0]
        groups = panels(width, self.tile[1], self.lanes)
        return [
            Alloc(wide),
            *(
                s
                for group_ in groups
                for s in loop(
                    self.names["j0"],
                    group_.count,
                    lambda number: self.panel(image, prefix, group, origin, o, rows, wide, group_, number),
                )
            ),
            *self.finish(n, group, first, block, o, rows, wide),
        ]

    def panel(
        self,
        image: Buffer,
        prefix: Place,
        group: IndexLike,
        origin: IndexLike,
        o: IndexLike,
        rows: int,
        wide: Buffer,
        panel: Panels,
        number: IndexLike,
    ) -> list[Stmt]:
        """One register tile."""
        dtype = self.anchor.dtype
        acc = Buffer(self.names.fresh("acc"), dtype, (rows, panel.vectors, panel.lanes), "local", "register")

        def each(body: Callable[[IndexLike, IndexLike, IndexLike], Stmt]) -> list[Stmt]:
            return unroll(
                self.names["o1"],
                rows,
                lambda i: unroll(
                    self.names["j1"],
                    panel.vectors,
                    lambda j: lanes(self.names["lane"], panel.lanes, lambda lane: [body(i, j, lane)]),
                ),
            )

        def column(j: IndexLike, lane: IndexLike) -> IndexLike:
            return number * panel.width + (j * panel.lanes + lane + panel.start)

        def step(c: IndexLike, taps: Place) -> list[Stmt]:
            start = self.image.tap(c, taps) + origin
            return each(
                lambda i, j, lane: Reduce(
                    acc,
                    (i, j, lane),
                    "add",
                    self.geometry.weight(group, o + i, c, taps)
                    * Read(image, (*prefix, start + column(j, lane)), dtype),
                )
            )

        return [
            Alloc(acc),
            *each(lambda i, j, lane: Store(acc, (i, j, lane), Const(0.0, dtype))),
            *loop(self.names["c"], self.geometry.ins, lambda c: self.over_taps(lambda taps: step(c, taps))),
            *each(lambda i, j, lane: Store(wide, (i, column(j, lane)), Read(acc, (i, j, lane), dtype))),
        ]

    def over_taps(self, body: Callable[[Place], list[Stmt]], taps: Place = ()) -> list[Stmt]:
        if len(taps) == len(self.geometry.windows):
            return body(taps)
        axis = len(taps)
        window = self.geometry.windows[axis]
        if window.stride > 1:  # the plane changes with the tap
            return [s for r in range(window.kernel) for s in self.over_taps(body, (*taps, r))]
        return loop(self.names[TAPS[axis]], window.kernel, lambda r: self.over_taps(body, (*taps, r)))

    def finish(
        self,
        n: IndexLike,
        group: IndexLike,
        first: IndexLike,
        block: int,
        o: IndexLike,
        rows: int,
        wide: Buffer,
    ) -> list[Stmt]:
        """From the wide buffer through the epilogue, the places between rows left out."""
        outs = self.geometry.outs
        extents = [block, *(w.out for w in self.geometry.windows[1:])]

        def element(i: IndexLike, place: Place) -> list[Stmt]:
            value = Read(wide, (i, self.image.flat(place)), wide.dtype)
            index = (n, group * outs + o + i, place[0] + first, *place[1:])
            return self.anchor.finish(index, value)

        def along(i: IndexLike, place: Place) -> list[Stmt]:
            axis = len(place)
            if axis == len(extents) - 1:
                return [
                    s
                    for panel in panels(extents[axis], 4, self.lanes)
                    for s in loop(
                        self.names["j0"],
                        panel.count,
                        lambda number: unroll(
                            self.names["j1"],
                            panel.vectors,
                            lambda j: lanes(
                                self.names["lane"],
                                panel.lanes,
                                lambda lane: element(
                                    i, (*place, number * panel.width + (j * panel.lanes + lane + panel.start))
                                ),
                            ),
                        ),
                    )
                ]
            return loop(self.names[SPATIAL[axis]], extents[axis], lambda p: along(i, (*place, p)))

        return loop(self.names["o1"], rows, lambda i: along(i, ()))
