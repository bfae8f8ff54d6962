"""Winograd's minimal filtering: windows of 3 by 3 with fewer multiplications.

A tile of `m` by `m` results needs `n * n` products per pair of channels, `n = m + 2`, instead of `9 * m * m`:
both the tile's source and the weights are transformed (`B' d B` and `G g G'`), multiplied frequency by
frequency, which is `n * n` matrix products over the channels, and transformed back (`A' M A`). Source:
Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2015.

Lanes run along channels everywhere: the padded source is turned to [row][column][channel] first, and
finished rows are turned back before they go through the epilogue, unless they are stored that way. Windows of
results that are pooled are combined in registers where tiles hold whole ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from intaglio.loop.ir import Alloc, Buffer, Reduce, Stmt, Store
from intaglio.loop.recipes.anchor import Anchor, Nest, Place
from intaglio.loop.recipes.geometry import Array, Geometry
from intaglio.loop.recipes.nests import (
    Names,
    loop,
    over_images,
    parallel,
    tile,
    tiled,
    turn,
)
from intaglio.loop.recipes.result_rows import ResultRows, reads_channels_last
from intaglio.loop.recipes.tiles import Panels, best_tile, panels
from intaglio.loop.recipes.winograd_transforms import (
    Transform,
    combine,
    transform_square,
    transform_windows,
)
from intaglio.ops.expr import Const, Expr, Read
from intaglio.shared.index import IndexLike, minimum, upper
from intaglio.shared.target import Target

SPARED = 2  # registers that compilers want for the loops
TURN_CYCLES = 1.0  # to turn an element
TRANSFORM_CYCLES = 2.5  # per frequency of a vector of channels, both ways each
FAR_BYTES = 8.0  # per cycle, of weights that do not stay in the second cache
ROWS = 32  # tiles of a chunk, whose products stay near
LOCAL_BYTES = 256 << 10  # of a block's transformed source, on the stack


@dataclass
class WinogradTiles:
    """One way to run a convolution, or the image gradient of one, of 3 by 3 taps at every place."""

    anchor: Anchor
    geometry: Geometry
    target: Target
    lanes: int
    transform: Transform
    rank: int = 0

    @staticmethod
    def fits(geometry: Geometry, lanes: int) -> bool:
        """Whether the convolution is of this kind, and has channels enough for vectors of them."""
        plain = all(
            (w.kernel, w.stride, w.dilation, w.spread) == (3, 1, 1, 1) and w.low >= 0
            for w in geometry.windows
        )
        return plain and len(geometry.windows) == 2 and min(geometry.ins, geometry.outs) >= lanes

    def __post_init__(self) -> None:
        g, m = self.geometry, self.transform.tile
        self.names = Names(self.anchor.names)
        self.down, self.across = (-(-w.out // m) for w in g.windows)
        self.batch = self.anchor.result.shape[0]
        self.points = self.transform.frequencies**2
        self.chunk = max(1, min(self.down, ROWS // self.across))
        spared = replace(self.target, registers=self.target.registers - SPARED)
        tiles = self.chunk * self.across
        *self.tile, self.chunk_cycles = best_tile(tiles, g.outs, g.ins, self.lanes, spared, self.rank)
        row = self.points * self.across * g.ins * self.anchor.dtype.size
        self.whole = self.batch == 1 and g.groups == 1 and row * self.down <= self.target.l2
        room = min(self.target.l2 // 4, LOCAL_BYTES)
        self.block = self.down if self.whole else min(self.down, room // row)
        fits = all(w.out % m == m % k == 0 for w, k in zip(g.windows, self.pooled, strict=True))
        self.has_room = self.block > 0 and (fits or self.anchor.pooling is None)

    @property
    def pooled(self) -> tuple[int, ...]:
        """Results of which one is stored, along each axis."""
        return self.anchor.pooling.kernel if self.anchor.pooling else (1, 1)

    @property
    def name(self) -> str:
        return f"winograd {self.transform.tile} {self.tile[0]}x{self.tile[1]}"

    @property
    def cycles(self) -> float:
        """Estimated cycles of one group of one image."""
        g = self.geometry
        vectors = (g.ins + g.outs) / self.lanes * self.down * self.across
        stored = g.outs * g.windows[0].out * g.windows[1].out / prod(self.pooled)
        elements = g.ins * g.windows[0].size * g.windows[1].size + stored
        weights = self.points * g.ins * g.outs * self.anchor.dtype.size
        far = (
            weights * -(-self.down // max(1, self.block)) / FAR_BYTES
            if weights > self.target.l2 // 2
            else 0.0
        )
        made = 0.0 if g.data is not None else 3 * weights / self.anchor.dtype.size / (upper(self.batch) or 64)
        products = self.points * self.chunk_cycles * self.down / self.chunk
        return products + vectors * self.points * TRANSFORM_CYCLES + elements * TURN_CYCLES + far + made

    def nest(self) -> Nest:
        """Source and weights transformed, products, results transformed back, block by block."""
        g, names, dtype = self.geometry, self.names, self.anchor.dtype
        self.panels = panels(g.outs, self.tile[1], self.lanes)
        self.weights = {panel: self.weight_buffer(panel) for panel in self.panels}
        m = self.transform.tile
        shape = (self.batch, g.groups, self.down * m + 2, self.across * m + 2, g.ins)
        self.image = Buffer(names.fresh("image"), dtype, shape, "scratch")
        before = [] if g.data is not None else [s for panel in self.panels for s in self.turn_weights(panel)]
        shared = [self.source_buffer(self.block)] if self.whole else []
        body = [
            *before,
            *over_images(names, self.batch, g.groups, self.fill),
            *over_images(names, self.batch, g.groups, lambda n, k: self.blocks(shared, n, k)),
        ]
        scratch = (*self.weights.values(), self.image, *shared)
        independent = {names[name] for name in ("n", "g", "b0", "j0", "y", "r0")}
        work = 2 * (upper(self.batch) or 64) * g.groups * g.outs * g.ins * 9 * self.down * self.across * m * m
        when = " when compiling" if g.data is not None else ""
        notes = (
            f"Winograd F({m}x{m}, 3x3): {self.points} frequencies of tiles, weights transformed{when}",
            f"tile tiles by {self.tile[0]} and output channels by {self.tile[1]} vectors of {self.lanes}",
        )
        return Nest(parallel(body, work, independent), notes, scratch)

    # The weights: [group][panel][frequency][channel][output channel of the panel]

    def weight_buffer(self, panel: Panels) -> Buffer:
        g = self.geometry
        shape = (g.groups, panel.count, self.points, g.ins, panel.width)
        buffer = Buffer(self.names.fresh("weights"), self.anchor.dtype, shape, "scratch")
        if g.data is not None:
            buffer.role, buffer.data = "constant", self.transformed(g.data, panel)
        return buffer

    def transformed(self, data: Array, panel: Panels) -> Array:
        """A panel's array for constant weights `[group, out, in, 3, 3]`, computed in double precision."""
        kernel = np.asarray(self.transform.kernel)
        own = data[:, panel.start : panel.start + panel.count * panel.width].astype(np.float64)
        made = np.einsum("pu,qv,gocuv->gpqco", kernel, kernel, own, optimize=True)
        groups, ins = len(data), self.geometry.ins
        split = made.reshape(groups, self.points, ins, panel.count, panel.width)
        return np.ascontiguousarray(np.moveaxis(split, 3, 1), dtype=self.anchor.dtype.numpy)

    def turn_weights(self, panel: Panels) -> list[Stmt]:
        """Transform a panel's weights at run time."""
        g, names, n = self.geometry, self.names, self.transform.frequencies
        kernel = self.transform.kernel

        def made(group: IndexLike, number: IndexLike, c: IndexLike, o: IndexLike) -> list[Stmt]:
            channel = number * panel.width + (o + panel.start)

            def tap(u: int, v: int) -> Expr:
                return g.weight(group, channel, c, (u, v))

            return [
                Store(
                    self.weights[panel], (group, number, p * n + q, c, o),
                    combine(kernel[p], [combine(kernel[q], [tap(u, v) for v in range(3)]) for u in range(3)]),
                )
                for p in range(n)
                for q in range(n)
            ]  # fmt: skip

        return loop(
            names["g"],
            g.groups,
            lambda group: loop(
                names["j0"],
                panel.count,
                lambda number: loop(
                    names["c"],
                    g.ins,
                    lambda c: loop(names["e"], panel.width, lambda o: made(group, number, c, o)),
                ),
            ),
        )

    # The source: turned, padded, transformed

    def source_buffer(self, rows: int) -> Buffer:
        """Frequencies of some rows of tiles: of a whole image from the arena, of a block on the stack."""
        shape = (self.points, rows * self.across, self.geometry.ins)
        name, dtype = self.names.fresh("source"), self.anchor.dtype
        return Buffer(name, dtype, shape, *(("scratch",) if self.whole else ("local", "stack")))

    def fill(self, n: IndexLike, group: IndexLike) -> list[Stmt]:
        """The image with channels last, between zeros."""
        g, names, image = self.geometry, self.names, self.image
        (top, height), (left, width) = ((w.low, min(w.size, w.out + 2 - w.low)) for w in g.windows)
        _, _, rows, columns, _ = image.shape
        zero = Const(0.0, image.dtype)

        def clear(y: IndexLike, start: IndexLike, count: IndexLike) -> list[Stmt]:
            return loop(
                names["x"],
                count,
                lambda x: loop(
                    names["e"], g.ins, lambda c: [Store(image, (n, group, y, x + start, c), zero)]
                ),
            )

        def copy(y: IndexLike, c: IndexLike, x: IndexLike) -> Stmt:
            value = self.anchor.operands[0][(n, group * g.ins + c, y, x)]
            return Store(image, (n, group, y + top, x + left, c), value)

        def line(y: IndexLike) -> list[Stmt]:
            if reads_channels_last(self.anchor.operands[0]):
                made = loop(names["x"], width, lambda x: loop(names["e"], g.ins, lambda c: [copy(y, c, x)]))
            else:
                made = turn(names, g.ins, width, lambda c, x: copy(y, c, x))
            return [*clear(y + top, 0, left), *made, *clear(y + top, left + width, columns - left - width)]

        return [
            *loop(names["y"], top, lambda y: clear(y, 0, columns)),
            *loop(names["y"], height, line),
            *loop(names["y"], rows - top - height, lambda y: clear(y + top + height, 0, columns)),
        ]

    def transform_source(
        self, source: Buffer, n: IndexLike, group: IndexLike, first: IndexLike, rows: int
    ) -> list[Stmt]:
        """Tiles of some rows of tiles to frequencies."""
        names, m, size, image = self.names, self.transform.tile, self.transform.frequencies, self.image

        def vector(r: IndexLike, t: IndexLike, panel: Panels, number: IndexLike) -> list[Stmt]:
            def channel(lane: IndexLike) -> IndexLike:
                return number * panel.lanes + (lane + panel.start)

            def read(i: int, j: int, lane: IndexLike) -> Expr:
                place = (n, group, (first + r) * m + i, t * m + j, channel(lane))
                return Read(image, place, image.dtype)

            def write(p: int, q: int, lane: IndexLike, value: Expr) -> Stmt:
                return Store(source, (p * size + q, r * self.across + t, channel(lane)), value)

            return transform_square(names, self.anchor.dtype, self.transform.source, panel.lanes, read, write)

        def one(r: IndexLike, t: IndexLike) -> list[Stmt]:
            return [
                s
                for panel in panels(self.geometry.ins, 1, self.lanes)
                for s in loop(names["c0"], panel.count, lambda number: vector(r, t, panel, number))
            ]

        return loop(names["r0"], rows, lambda r: loop(names["t"], self.across, lambda t: one(r, t)))

    # Products, and back

    def blocks(self, shared: list[Buffer], n: IndexLike, group: IndexLike) -> list[Stmt]:
        """Blocks of rows of tiles: each transformed once, then multiplied with every panel of weights."""

        def block(first: IndexLike, rows: int) -> list[Stmt]:
            source = shared[0] if shared else self.source_buffer(rows)
            return [
                *([] if shared else [Alloc(source)]),
                *self.transform_source(source, n, group, first, rows),
                *(
                    s
                    for panel in self.panels
                    for s in loop(
                        self.names["j0"],
                        panel.count,
                        lambda number: tiled(
                            self.names["y0"],
                            rows,
                            self.chunk,
                            lambda row, size: self.products(
                                source, n, group, first, row, size, panel, number
                            ),
                        ),
                    )
                ),
            ]

        return tiled(self.names["b0"], self.down, self.block, block)

    def products(
        self, source: Buffer, n: IndexLike, group: IndexLike, first: IndexLike, row: IndexLike, rows: int,
        panel: Panels, number: IndexLike,
    ) -> list[Stmt]:  # fmt: skip
        """A chunk of tiles: every frequency's product with a panel, then the results."""
        names, dtype, tiles = self.names, self.anchor.dtype, rows * self.across
        product = Buffer(names.fresh("product"), dtype, (self.points, tiles, panel.width), "local", "stack")

        def run_of(f: IndexLike, start: IndexLike, size: int) -> list[Stmt]:
            acc = Buffer(names.fresh("acc"), dtype, (size, panel.vectors, panel.lanes), "local", "register")

            def each(body: Callable[[IndexLike, IndexLike, IndexLike], Stmt]) -> list[Stmt]:
                return tile(names, size, panel, lambda i, j, lane: [body(i, j, lane)])

            def step(c: IndexLike) -> list[Stmt]:
                weights = self.weights[panel]
                return each(
                    lambda i, j, lane: Reduce(
                        acc, (i, j, lane), "add",
                        Read(source, (f, row * self.across + start + i, c), dtype)
                        * Read(weights, (group, number, f, c, j * panel.lanes + lane), dtype),
                    )
                )  # fmt: skip

            return [
                Alloc(acc),
                *each(lambda i, j, lane: Store(acc, (i, j, lane), Const(0.0, dtype))),
                *loop(names["c"], self.geometry.ins, step),
                *each(
                    lambda i, j, lane: Store(
                        product, (f, start + i, j * panel.lanes + lane), Read(acc, (i, j, lane), dtype)
                    )
                ),
            ]

        return [
            Alloc(product),
            *loop(
                names["f"], self.points,
                lambda f: tiled(names["t0"], tiles, self.tile[0], lambda start, size: run_of(f, start, size)),
            ),
            *self.results(product, n, group, first + row, rows, panel, number),
        ]  # fmt: skip

    def results(
        self, product: Buffer, n: IndexLike, group: IndexLike, row: IndexLike, rows: int, panel: Panels,
        number: IndexLike,
    ) -> list[Stmt]:  # fmt: skip
        """Some rows of tiles back to rows of the result, or of its windows, through the epilogue."""
        names, dtype, m = self.names, self.anchor.dtype, self.transform.tile
        high, wide = (w.out // k for w, k in zip(self.geometry.windows, self.pooled, strict=True))
        down, across = (m // k for k in self.pooled)
        ragged = high % down != 0
        count = 1 if ragged else rows
        size = (panel.width, wide, self.across * across, count * down)
        made = ResultRows(names, self.anchor, self.lanes, *size, ragged=ragged)
        channel = group * self.geometry.outs + number * panel.width + panel.start

        def vector(r: IndexLike, k: IndexLike, t: IndexLike, v: IndexLike) -> list[Stmt]:
            def read(i: int, j: int, lane: IndexLike) -> Expr:
                place = (i * self.transform.frequencies + j, r * self.across + t, v * panel.lanes + lane)
                return Read(product, place, dtype)

            def put(a: int, b: int, lane: IndexLike, values: Sequence[Expr]) -> list[Stmt]:
                o, x = v * panel.lanes + lane, t * across + b
                return made.put((n, channel + o, (row + r) * down + a, x), (k * down + a, x, o), values)

            return transform_windows(names, dtype, self.transform.result, panel.lanes, self.pooled, read, put)

        def some(first: IndexLike) -> list[Stmt]:
            def tiles(k: IndexLike) -> list[Stmt]:
                def line(t: IndexLike) -> list[Stmt]:
                    return loop(names["v"], panel.vectors, lambda v: vector(first + k, k, t, v))

                return loop(names["t"], self.across, line)

            def at(a: IndexLike, o: IndexLike, x: IndexLike) -> Place:
                return (n, channel + o, (row + first) * down + a, x)

            left = minimum(count * down, (row + first) * -down + high) if ragged else count * down
            return [*made.begin(), *loop(names["r"], count, tiles), *made.end(at, left)]

        return loop(names["r1"], rows, some) if ragged else some(0)
