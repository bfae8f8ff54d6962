"""Winograd's minimal filtering for the gradient of a convolution with respect to its weights.

The adjoint of the forward formulas: with a tile's source as `B' d B` and its part of the gradient as
`A g A'`, each frequency is one matrix product over all tiles of all images, from channels to output channels,
and `G' M G` makes the weights of it. Lanes run along output channels in the products, along channels in the
transforms: both operands are turned to [row][column][channel] first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from intaglio.loop.ir import Alloc, Buffer, Reduce, Stmt, Store
from intaglio.loop.recipes.anchor import Anchor, Nest, Operand, Place
from intaglio.loop.recipes.images import Window
from intaglio.loop.recipes.nests import Names, loop, parallel, tile, tiled, turn
from intaglio.loop.recipes.tiles import Panels, best_tile, panels
from intaglio.loop.recipes.winograd_transforms import Matrix, Transform, transform_square, transposed
from intaglio.loop.threads import worth_threads
from intaglio.ops.expr import Const, Expr, Read
from intaglio.shared.index import IndexLike
from intaglio.shared.target import Target

SPARED = 2  # registers that compilers want for the loops
TURN_CYCLES = 1.0  # to turn an element
TRANSFORM_CYCLES = 2.0  # per frequency of a vector of channels
NEAR_BYTES, FAR_BYTES = 32.0, 8.0  # per cycle, within the second cache and beyond it
PARTS = 4
MOST_SUMS = 4 << 20  # bytes
MOST_BYTES = 16 << 20  # of transformed tiles at a time
BLOCK = 16  # channels whose weights are finished together
TAPS = 3


@dataclass
class WinogradWeights:
    """One way to compute the weights' gradient of a convolution of 3 by 3 taps at every place."""

    anchor: Anchor
    windows: tuple[Window, ...]
    target: Target
    transform: Transform
    rank: int = 0

    @staticmethod
    def fits(anchor: Anchor, windows: Sequence[Window], lanes: int) -> bool:
        """Whether the convolution is of this kind, and has channels enough for vectors of them."""
        plain = all(
            (w.kernel, w.stride, w.dilation) == (TAPS, 1, 1) and w.low >= 0 and w.size > 0 for w in windows
        )
        known = isinstance(anchor.operands[0].type.shape[0], int) and anchor.attrs["groups"] == 1
        return plain and known and len(windows) == 2 and min(*_channels(anchor)) >= lanes

    def __post_init__(self) -> None:
        self.names, self.dtype = Names(self.anchor.names), self.anchor.dtype
        self.lanes = self.target.lanes(self.dtype.size)
        self.ins, self.outs = _channels(self.anchor)
        batch = self.anchor.operands[0].type.shape[0]
        assert isinstance(batch, int)
        m = self.transform.tile
        self.batch, self.points = batch, self.transform.frequencies**2
        self.down, self.across = (-(-w.out // m) for w in self.windows)
        self.rows = batch * self.down
        self.sum_bytes = self.points * self.ins * self.outs * self.dtype.size
        self.row_bytes = self.points * self.across * (self.ins + self.outs) * self.dtype.size
        self.work = 2 * batch * self.outs * self.ins * TAPS**2 * self.down * self.across * m * m
        self.parts = self.cut()
        own = self.rows // self.parts
        self.chunk = min(range(1, own + 1), key=self.traffic)
        if self.parts == 1 and worth_threads(self.work) and self.traffic(own) < float("inf"):
            self.chunk = own
        self.images = max(1, self.chunk // self.down)
        if self.chunk > self.down:
            self.chunk = self.images * self.down
        spared = replace(self.target, registers=self.target.registers - SPARED)
        depth = self.chunk * self.across
        *self.tile, cycles = best_tile(self.ins, self.outs, depth, self.lanes, spared, self.rank)
        self.product_cycles = cycles * self.points * self.rows / self.chunk

    def cut(self) -> int:
        """Parts of the images that threads sum up on their own; one where the sums are large."""
        if not worth_threads(self.work) or PARTS * self.sum_bytes > MOST_SUMS:
            return 1
        return max(k for k in range(1, PARTS + 1) if self.batch % k == 0)

    def traffic(self, chunk: int) -> float:
        """Cycles to move sums and transformed tiles when `chunk` rows of tiles are worked on at a time."""
        bytes_ = chunk * self.row_bytes
        if bytes_ > max(MOST_BYTES, self.row_bytes):
            return float("inf")
        near = self.target.l2 // 2
        sums = 2 * self.sum_bytes / (NEAR_BYTES if self.sum_bytes <= near else FAR_BYTES)
        tiles = 2 * self.row_bytes / (NEAR_BYTES if bytes_ <= near else FAR_BYTES)
        return sums * -(-self.rows // chunk) + tiles * self.rows

    @property
    def name(self) -> str:
        return f"winograd {self.transform.tile} {self.tile[0]}x{self.tile[1]}"

    @property
    def cycles(self) -> float:
        """Estimated cycles."""
        vectors = (self.ins + self.outs) / self.lanes * self.rows * self.across
        places = [w.size for w in self.windows], [w.out for w in self.windows]
        elements = self.ins * places[0][0] * places[0][1] + self.outs * places[1][0] * places[1][1]
        transforms = vectors * self.points * TRANSFORM_CYCLES + elements * self.batch * TURN_CYCLES
        last = 3 * self.points * self.ins * self.outs / self.lanes + self.ins * self.outs * TAPS**2
        return self.product_cycles + transforms + self.traffic(self.chunk) + last

    def nest(self) -> Nest:
        """Operands turned, chunks of tiles transformed and multiplied, sums transformed back."""
        names, m = self.names, self.transform.tile
        high, wide = self.down * m, self.across * m
        self.image = self.scratch("image", self.parts, self.images, high + 2, wide + 2, self.ins)
        self.turned = self.scratch("turned", self.parts, self.images, high, wide, self.outs)
        tiles = self.chunk * self.across
        self.source = self.scratch("source", self.parts, self.points, tiles, self.ins)
        self.change = self.scratch("change", self.parts, self.points, tiles, self.outs)
        self.sums = self.scratch("sums", self.parts, self.points, self.ins, self.outs)
        body = [*loop(names["p0"], self.parts, self.part), *self.finish()]
        notes = (
            f"Winograd F({m}x{m}, 3x3): {self.points} frequencies of tiles, {self.chunk} rows at a time",
            f"tile channels by {self.tile[0]} and output channels by {self.tile[1]} vectors of {self.lanes}",
        )
        independent = {names[name] for name in ("n", "p0", "r0", "f", "c0")}
        scratch = (self.image, self.turned, self.source, self.change, self.sums)
        return Nest(parallel(body, self.work, independent), notes, scratch)

    def scratch(self, name: str, *shape: int) -> Buffer:
        return Buffer(self.names.fresh(name), self.dtype, shape, "scratch")

    def fill(
        self, made: Buffer, at: Place, operand: Operand, n: IndexLike, top: int, left: int
    ) -> list[Stmt]:
        """Image n with its channels last, between zeros; what does not fit is never read."""
        names = self.names
        rows, columns, channels = (int(e) for e in made.shape[2:])  # type: ignore[arg-type]
        height, width = (int(e) for e in operand.type.shape[2:])  # type: ignore[arg-type]
        height, width = min(height, rows - top), min(width, columns - left)
        zero = Const(0.0, made.dtype)

        def clear(y: IndexLike, start: int, count: int) -> list[Stmt]:
            def one(x: IndexLike) -> list[Stmt]:
                return loop(names["e"], channels, lambda c: [Store(made, (*at, y, x + start, c), zero)])

            return loop(names["x"], count, one)

        def line(y: IndexLike) -> list[Stmt]:
            def copy(c: IndexLike, x: IndexLike) -> Stmt:
                return Store(made, (*at, y + top, x + left, c), operand[(n, c, y, x)])

            return [
                *clear(y + top, 0, left),
                *turn(names, channels, width, copy),
                *clear(y + top, left + width, columns - left - width),
            ]

        return [
            *loop(names["y"], top, lambda y: clear(y, 0, columns)),
            *loop(names["y"], height, line),
            *loop(names["y"], rows - top - height, lambda y: clear(y + top + height, 0, columns)),
        ]

    def part(self, part: IndexLike) -> list[Stmt]:
        """The sums of some images, a few of them at a time."""
        own = self.batch // self.parts
        groups = tiled(
            self.names["b0"], own, self.images, lambda first, size: self.group(part, part * own + first, size)
        )
        return groups if self.whole else [*self.clear(part), *groups]

    @property
    def whole(self) -> bool:
        """Whether a part is one chunk, so that sums need not be added up."""
        return self.chunk * self.parts == self.rows

    def group(self, part: IndexLike, first: IndexLike, count: int) -> list[Stmt]:
        """Some images: turned, and a chunk of their tiles at a time added to the sums."""
        x, g = self.anchor.operands
        low, left = (w.low for w in self.windows)

        def turned(n: IndexLike) -> list[Stmt]:
            return [
                *self.fill(self.image, (part, n), x, first + n, low, left),
                *self.fill(self.turned, (part, n), g, first + n, 0, 0),
            ]

        return [
            *loop(self.names["n"], count, turned),
            *tiled(
                self.names["b1"], count * self.down, self.chunk, lambda row, size: self.add(part, row, size)
            ),
        ]

    def clear(self, part: IndexLike) -> list[Stmt]:
        """Zero sums, to which more than one chunk is added."""
        names, zero = self.names, Const(0.0, self.dtype)

        def one(f: IndexLike, c: IndexLike) -> list[Stmt]:
            return loop(names["e"], self.outs, lambda o: [Store(self.sums, (part, f, c, o), zero)])

        return loop(names["f"], self.points, lambda f: loop(names["c"], self.ins, lambda c: one(f, c)))

    def add(self, part: IndexLike, first: IndexLike, rows: int) -> list[Stmt]:
        """Some rows of tiles: to frequencies, and their products to the sums."""
        names, across = self.names, self.across
        operands = (
            (self.image, self.transform.source, self.source, self.ins),
            (self.turned, transposed(self.transform.result), self.change, self.outs),
        )

        def row(r: IndexLike) -> list[Stmt]:
            n, y = (first + r) // self.down, (first + r) % self.down
            return [
                s
                for given, matrix, made, channels in operands
                for s in loop(
                    names["t"],
                    across,
                    lambda t: self.to_frequencies(
                        given, matrix, made, channels, (part, n, y, t), r * across + t
                    ),
                )
            ]

        return [
            *loop(names["r0"], rows, row),
            *loop(names["f"], self.points, lambda f: self.products((part, f), rows * across)),
        ]

    def to_frequencies(
        self, given: Buffer, matrix: Matrix, made: Buffer, channels: int, at: Place, number: IndexLike
    ) -> list[Stmt]:
        """One tile of all channels."""
        m, size = self.transform.tile, self.transform.frequencies
        part, n, y, t = at

        def vector(panel: Panels, c0: IndexLike) -> list[Stmt]:
            def channel(lane: IndexLike) -> IndexLike:
                return c0 * panel.lanes + (lane + panel.start)

            def read(i: int, j: int, lane: IndexLike) -> Expr:
                return Read(given, (part, n, y * m + i, t * m + j, channel(lane)), self.dtype)

            def write(p: int, q: int, lane: IndexLike, value: Expr) -> Stmt:
                return Store(made, (part, p * size + q, number, channel(lane)), value)

            return transform_square(self.names, self.dtype, matrix, panel.lanes, read, write)

        return [
            s
            for panel in panels(channels, 1, self.lanes)
            for s in loop(self.names["k"], panel.count, lambda c0: vector(panel, c0))
        ]

    def products(self, at: Place, depth: int) -> list[Stmt]:
        """One frequency of some tiles: a product over them, added to its sums."""
        names, dtype, sums = self.names, self.dtype, self.sums

        def one(c: IndexLike, size: int, panel: Panels, number: IndexLike) -> list[Stmt]:
            acc = Buffer(names.fresh("acc"), dtype, (size, panel.vectors, panel.lanes), "local", "register")

            def each(body: Callable[[IndexLike, IndexLike, IndexLike], Stmt]) -> list[Stmt]:
                return tile(names, size, panel, lambda i, j, lane: [body(i, j, lane)])

            def column(j: IndexLike, lane: IndexLike) -> IndexLike:
                return number * panel.width + (j * panel.lanes + lane + panel.start)

            def kept(i: IndexLike, j: IndexLike, lane: IndexLike) -> Place:
                return (*at, c + i, column(j, lane))

            def start(i: IndexLike, j: IndexLike, lane: IndexLike) -> Expr:
                return Const(0.0, dtype) if self.whole else Read(sums, kept(i, j, lane), dtype)

            def term(t: IndexLike, i: IndexLike, j: IndexLike, lane: IndexLike) -> Expr:
                source = Read(self.source, (*at, t, c + i), dtype)
                return source * Read(self.change, (*at, t, column(j, lane)), dtype)

            return [
                Alloc(acc),
                *each(lambda *k: Store(acc, k, start(*k))),
                *loop(names["t"], depth, lambda t: each(lambda *k: Reduce(acc, k, "add", term(t, *k)))),
                *each(lambda *k: Store(sums, kept(*k), Read(acc, k, dtype))),
            ]

        return [
            s
            for panel in panels(self.outs, self.tile[1], self.lanes)
            for s in loop(
                names["j0"],
                panel.count,
                lambda number: tiled(
                    names["i0"], self.ins, self.tile[0], lambda c, size: one(c, size, panel, number)
                ),
            )
        ]

    def finish(self) -> list[Stmt]:
        """Sums back to weights and through the epilogue, some channels at a time."""
        names, dtype = self.names, self.dtype

        def some(first: IndexLike, size: int, panel: Panels, number: IndexLike) -> list[Stmt]:
            made = Buffer(names.fresh("made"), dtype, (size, TAPS**2, panel.width), "local", "stack")

            def element(o: IndexLike, c: IndexLike, u: IndexLike, v: IndexLike) -> list[Stmt]:
                value = Read(made, (c, u * TAPS + v, o), dtype)
                return self.anchor.finish((number * panel.width + (o + panel.start), first + c, u, v), value)

            return [
                Alloc(made),
                *loop(names["c"], size, lambda c: self.weights(made, first + c, c, panel, number)),
                *loop(
                    names["e"],
                    panel.width,
                    lambda o: loop(
                        names["c"],
                        size,
                        lambda c: loop(
                            names["u"], TAPS, lambda u: loop(names["v"], TAPS, lambda v: element(o, c, u, v))
                        ),
                    ),
                ),
            ]

        return tiled(
            names["c0"],
            self.ins,
            BLOCK,
            lambda first, size: [
                s
                for panel in panels(self.outs, 4, self.lanes)
                for s in loop(names["j0"], panel.count, lambda number: some(first, size, panel, number))
            ],
        )

    def weights(
        self, made: Buffer, channel: IndexLike, c: IndexLike, panel: Panels, number: IndexLike
    ) -> list[Stmt]:
        """The taps of one channel and a panel of output channels."""
        size = self.transform.frequencies

        def vector(j: IndexLike) -> list[Stmt]:
            def read(p: int, q: int, lane: IndexLike) -> Expr:
                column = number * panel.width + (j * panel.lanes + lane + panel.start)
                reads: list[Expr] = [
                    Read(self.sums, (part, p * size + q, channel, column), self.dtype)
                    for part in range(self.parts)
                ]
                return reduce(lambda a, b: a + b, reads)

            def write(u: int, v: int, lane: IndexLike, value: Expr) -> Stmt:
                return Store(made, (c, u * TAPS + v, j * panel.lanes + lane), value)

            matrix = transposed(self.transform.kernel)
            return transform_square(self.names, self.dtype, matrix, panel.lanes, read, write)

        return loop(self.names["k"], panel.vectors, vector)


def _channels(anchor: Anchor) -> tuple[int, int]:
    """Channels of the source and of the gradient."""
    ins, outs = (x.type.shape[1] for x in anchor.operands)
    assert isinstance(ins, int)
    assert isinstance(outs, int)
    return ins, outs
