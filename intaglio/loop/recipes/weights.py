"""The gradient of a convolution with respect to its weights.

Lanes run over the output channels: the gradient is turned to [place][channel] first, so that each place
gives vectors of it, and every tap of the window is one broadcast element of the padded image. Sums over
places stay in registers, sums over images in a small buffer [channel][tap][output channel]. Blocks of
input channels are independent of one another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

from intaglio.loop.ir import Alloc, Buffer, Reduce, Stmt, Store, block
from intaglio.loop.recipes.anchor import Anchor, Nest, Place
from intaglio.loop.recipes.axes import Contraction, Factor
from intaglio.loop.recipes.contraction import best_plan
from intaglio.loop.recipes.images import Image, Window
from intaglio.loop.recipes.nests import (
    Names,
    lanes,
    loop,
    parallel,
    ranged,
    stepped,
    turn,
    unroll,
)
from intaglio.loop.recipes.tiles import Panels, Run, balanced, panels, rows_for
from intaglio.loop.recipes.winograd_transforms import TRANSFORMS
from intaglio.loop.recipes.winograd_weights import WinogradWeights
from intaglio.loop.search import choose
from intaglio.loop.threads import worth_threads
from intaglio.ops.expr import Const, Expr, Read
from intaglio.ops.movement import flat_index
from intaglio.shared.index import IndexLike, upper
from intaglio.shared.target import Target

STACK_BYTES = 256 << 10  # the most that one local array may have
LOCAL_BYTES = 96 << 10  # padded image and sums of a block of channels, on the stack
BLOCKS = 8  # of channels at least, where threads pay
FEWEST = 4  # output channels for this form to be worth it
SPATIAL = "pqs"
TAPS = "uvw"


def lower_weights(anchor: Anchor, target: Target) -> Nest | None:
    """A fast nest for `conv_dw`; None where plain loops do."""
    x, g = anchor.operands
    attrs = anchor.attrs
    shapes = (anchor.result.shape, x.type.shape[1:], g.type.shape[1:])
    dtypes = {anchor.result.dtype, x.type.dtype, g.type.dtype}
    width = target.lanes(anchor.dtype.size)
    if not all(isinstance(e, int) for shape in shapes for e in shape) or len(dtypes) > 1:
        return None
    axes = zip(
        x.type.shape[2:],
        g.type.shape[2:],
        anchor.result.shape[2:],
        attrs["strides"],
        attrs["dilations"],
        attrs["padding"],
        strict=True,
    )
    windows = tuple(Window(size, out, k, s, d, low) for size, out, k, s, d, (low, _) in axes)
    if all(w == Window(w.size, w.size, 1) for w in windows) and attrs["groups"] == 1:
        return _pointwise(anchor, target)
    outs = anchor.result.shape[0] // attrs["groups"]
    assert isinstance(outs, int)
    taps = prod(w.kernel for w in windows)
    if width < 4 or not anchor.dtype.is_float or outs < FEWEST:
        return None

    def plans(rank: int) -> Iterator[_WeightTiles | WinogradWeights]:
        if rank == 0 and max(Image(1, windows, 0).size, taps * outs) * anchor.dtype.size <= STACK_BYTES:
            yield _WeightTiles(anchor, target, windows, outs)
        if WinogradWeights.fits(anchor, windows, width):
            for transform in TRANSFORMS[anchor.accuracy]:
                yield WinogradWeights(anchor, windows, target, transform, rank)

    plan = choose(anchor, target, plans)
    return None if plan is None else plan.nest()


def _pointwise(anchor: Anchor, target: Target) -> Nest | None:
    """A kernel of one tap is a contraction over images and places."""
    x, g = anchor.operands
    axes = SPATIAL[: x.type.rank - 2]
    kernel = TAPS[: len(axes)]
    left, right = Factor.operand(g, "no" + axes), Factor.operand(x, "nc" + axes)
    extents = dict(zip("no" + axes, g.type.shape, strict=True)) | {"c": x.type.shape[1]}
    ones: dict[str, IndexLike] = dict.fromkeys(kernel, 1)
    return best_plan(Contraction.made(anchor, left, right, "oc" + kernel, extents | ones), target)


@dataclass
class _WeightTiles:
    anchor: Anchor
    target: Target
    windows: tuple[Window, ...]
    outs: int

    def __post_init__(self) -> None:
        self.names = Names(self.anchor.names)
        self.dtype = self.anchor.dtype
        self.groups: int = self.anchor.attrs["groups"]
        channels, batch = self.anchor.result.shape[1], self.anchor.operands[0].type.shape[0]
        assert isinstance(channels, int)
        self.channels, self.batch = channels, batch
        self.taps = prod(w.kernel for w in self.windows)
        self.places = prod(w.out for w in self.windows)
        most = self.target.lanes(self.dtype.size)
        vectors = max(1, min(3, 28 // self.taps, self.outs // most))
        self.panels = panels(self.outs, vectors, most)
        self.work = 2 * (upper(batch) or 64) * self.groups * self.outs * channels * self.taps * self.places
        self.blocks = self.cut()

    @property
    def name(self) -> str:
        return "taps"

    @property
    def cycles(self) -> float:
        """Estimated cycles: products, the sums of every image, and turning the gradient."""
        batch, lanes_ = upper(self.batch) or 64, self.target.lanes(self.dtype.size)
        tiles = self.groups * self.channels * self.taps * -(-self.outs // lanes_) * batch
        return tiles * (self.places + 3.0) + self.groups * self.outs * self.places * batch

    def cut(self) -> list[Run]:
        """Blocks of input channels: few enough to fit the stack, enough of them for threads."""
        one = (Image(1, self.windows, 0).size + self.taps * self.outs) * self.dtype.size
        most = max(1, LOCAL_BYTES // one)
        if worth_threads(self.work):
            most = min(most, -(-self.channels // BLOCKS))
        return balanced(self.channels, most)

    def nest(self) -> Nest:
        """Turn the gradient, then sum block by block."""
        names, shape = self.names, (self.places, self.outs)
        size = prod(shape) * self.dtype.size
        once = len(self.blocks) == self.blocks[0].count == 1 and size <= STACK_BYTES
        turned = Buffer(names.fresh("turned"), self.dtype, shape, "local", "stack")
        if not once:
            turned = Buffer(turned.name, self.dtype, (self.batch, self.groups, *shape), "scratch")
        main = loop(names["g"], self.groups, lambda group: self.over_blocks(turned, group))
        before = parallel([] if once else self.turn(turned), self.work, {names["n"]})
        body = block(before, parallel(main, self.work, {names["g"], names["c0"]}))
        where = "image by image, " if once else ""
        notes = (
            f"turn the gradient to [place][channel], {where}{self.panels[0].lanes} lanes of output channels",
            "a register tile of all taps, sums over images in a local buffer",
        )
        return Nest(body, notes, () if once else (turned,))

    def over_blocks(self, turned: Buffer, group: IndexLike) -> list[Stmt]:
        """Every block of input channels of a group."""
        return [
            s
            for run in self.blocks
            for s in stepped(
                self.names["c0"],
                run.start,
                run.size,
                run.count,
                lambda first: self.channels_of(turned, group, first, run.size),
            )
        ]

    def turn(self, turned: Buffer) -> list[Stmt]:
        """The gradient of all images with its channels last."""
        names = self.names
        return loop(
            names["n"],
            self.batch,
            lambda n: loop(
                names["g"], self.groups, lambda group: self.turn_image(turned, (n, group), n, group)
            ),
        )

    def turn_image(self, turned: Buffer, prefix: Place, n: IndexLike, group: IndexLike) -> list[Stmt]:
        """The gradient of a group of an image, in `turned[prefix]`."""
        gradient, names = self.anchor.operands[1], self.names

        def copy(outer: Place, place: IndexLike, o: IndexLike) -> Stmt:
            flat = flat_index((*outer, place), tuple(w.out for w in self.windows))
            value = gradient[(n, group * self.outs + o, *outer, place)]
            return Store(turned, (*prefix, flat, o), value)

        def along(outer: Place) -> list[Stmt]:
            axis = len(outer)
            if axis < len(self.windows) - 1:
                return loop(names[SPATIAL[axis]], self.windows[axis].out, lambda p: along((*outer, p)))
            return turn(names, self.windows[-1].out, self.outs, lambda place, o: copy(outer, place, o))

        return along(())

    def channels_of(self, turned: Buffer, group: IndexLike, first: IndexLike, size: int) -> list[Stmt]:
        """All images for some input channels."""
        names, x = self.names, self.anchor.operands[0]
        picture = Image(size, self.windows, 0)
        image = Buffer(names.fresh("image"), self.dtype, (picture.size,), "local", "stack")
        sums = Buffer(names.fresh("sums"), self.dtype, (size, self.taps, self.outs), "local", "stack")
        zero = Const(0.0, self.dtype)

        local = turned.space == "stack"

        def one(n: IndexLike) -> list[Stmt]:
            copy = picture.copy(
                image, (), names, lambda c, place: x[(n, group * self.channels + first + c, *place)]
            )
            at = () if local else (n, group)
            return [
                *(self.turn_image(turned, at, n, group) if local else []),
                *copy,
                *loop(
                    names["c"],
                    size,
                    lambda c: [
                        s
                        for panel in self.panels
                        for s in loop(
                            names["j0"],
                            panel.count,
                            lambda number: [
                                t
                                for cut in self.tap_cuts(panel)
                                for t in self.tile(picture, image, sums, turned, at, c, panel, number, cut)
                            ],
                        )
                    ],
                ),
            ]

        return [
            Alloc(sums),
            *loop(
                names["c"],
                size,
                lambda c: loop(
                    names["k"],
                    self.taps,
                    lambda k: ranged(names["e"], 0, self.outs, lambda o: [Store(sums, (c, k, o), zero)]),
                ),
            ),
            Alloc(image),
            *([Alloc(turned)] if local else []),
            *loop(names["n"], self.batch, one),
            *self.finish(sums, group, first, size),
        ]

    def tap_cuts(self, panel: Panels) -> list[tuple[int, int]]:
        """Ranges of the first axis of taps whose tile fits the registers."""
        rows = max(1, rows_for(panel.vectors, self.target) * self.windows[0].kernel // self.taps)
        found = []
        for run in balanced(self.windows[0].kernel, rows):
            assert isinstance(run.start, int)
            assert isinstance(run.count, int)
            found += [(run.start + k * run.size, run.size) for k in range(run.count)]
        return found

    def over_taps(self, rows: int, body: Callable[[Place], list[Stmt]], done: Place = ()) -> list[Stmt]:
        """The taps of a tile, written out: `rows` along the first axis, all along the others."""
        axis = len(done)
        if axis == len(self.windows):
            return body(done)
        window = self.windows[axis]
        extent = rows if axis == 0 else window.kernel
        if window.stride > 1:  # the plane changes with the tap
            return [s for k in range(extent) for s in self.over_taps(rows, body, (*done, k))]
        return unroll(self.names[TAPS[axis]], extent, lambda k: self.over_taps(rows, body, (*done, k)))

    def over_places(self, body: Callable[[Place], list[Stmt]], done: Place = ()) -> list[Stmt]:
        axis = len(done)
        if axis == len(self.windows):
            return body(done)
        return loop(
            self.names[SPATIAL[axis]], self.windows[axis].out, lambda p: self.over_places(body, (*done, p))
        )

    def tile(
        self,
        picture: Image,
        image: Buffer,
        sums: Buffer,
        turned: Buffer,
        at: Place,
        c: IndexLike,
        panel: Panels,
        number: IndexLike,
        cut: tuple[int, int],
    ) -> list[Stmt]:
        """One register tile: some taps against one panel of output channels, over all places."""
        names = self.names
        start, rows = cut
        kernel, extents = [w.kernel for w in self.windows], [w.out for w in self.windows]
        shape = (rows * self.taps // kernel[0], panel.vectors, panel.lanes)
        acc = Buffer(names.fresh("acc"), self.dtype, shape, "local", "register")

        def each(body: Callable[[Place, IndexLike, IndexLike], Stmt]) -> list[Stmt]:
            return self.over_taps(
                rows,
                lambda taps: unroll(
                    names["j1"],
                    panel.vectors,
                    lambda j: lanes(names["lane"], panel.lanes, lambda lane: [body(taps, j, lane)]),
                ),
            )

        def held(taps: Place, j: IndexLike, lane: IndexLike) -> Place:
            return flat_index(taps, tuple(kernel)), j, lane

        def kept(taps: Place, j: IndexLike, lane: IndexLike) -> Place:
            column = number * panel.width + (j * panel.lanes + lane + panel.start)
            return c, flat_index((taps[0] + start, *taps[1:]), tuple(kernel)), column

        def term(place: Place, taps: Place, j: IndexLike, lane: IndexLike) -> Expr:
            tap = picture.tap(c, (taps[0] + start, *taps[1:]))
            element = Read(image, (tap + picture.flat(place),), self.dtype)
            row = (*at, flat_index(place, tuple(extents)), kept(taps, j, lane)[2])
            return element * Read(turned, row, self.dtype)

        return [
            Alloc(acc),
            *each(lambda *t: Store(acc, held(*t), Read(sums, kept(*t), self.dtype))),
            *self.over_places(lambda place: each(lambda *t: Reduce(acc, held(*t), "add", term(place, *t)))),
            *each(lambda *t: Store(sums, kept(*t), Read(acc, held(*t), self.dtype))),
        ]

    def finish(self, sums: Buffer, group: IndexLike, first: IndexLike, size: int) -> list[Stmt]:
        """Every sum through the epilogue."""
        names = self.names
        kernel = tuple(w.kernel for w in self.windows)

        def over_taps(o: IndexLike, c: IndexLike, done: Place) -> list[Stmt]:
            axis = len(done)
            if axis == len(kernel):
                value = Read(sums, (c, flat_index(done, kernel), o), self.dtype)
                return self.anchor.finish((group * self.outs + o, first + c, *done), value)
            return loop(names[TAPS[axis]], kernel[axis], lambda k: over_taps(o, c, (*done, k)))

        return loop(names["e"], self.outs, lambda o: loop(names["c"], size, lambda c: over_taps(o, c, ())))
