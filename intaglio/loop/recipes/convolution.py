"""Convolution and its gradient with respect to the image: which nest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from intaglio.loop import places
from intaglio.loop.access import Order, channels_last, ordered
from intaglio.loop.ir import Block, Buffer, Stmt, Store
from intaglio.loop.recipes.anchor import Anchor, Nest, Operand, Place
from intaglio.loop.recipes.axes import Contraction, Env, Factor
from intaglio.loop.recipes.contraction import best_plan
from intaglio.loop.recipes.geometry import SPATIAL, Geometry, ImageTiles
from intaglio.loop.recipes.images import TAPS, Window
from intaglio.loop.recipes.lines import LineTiles
from intaglio.loop.recipes.nests import Names, loop, variable_of
from intaglio.loop.recipes.spread import MOST_PHASES, spread
from intaglio.loop.recipes.turned import TurnedTiles
from intaglio.loop.recipes.wide import WideTiles
from intaglio.loop.recipes.winograd import WinogradTiles
from intaglio.loop.recipes.winograd_transforms import TRANSFORMS
from intaglio.loop.search import choose
from intaglio.ops.expr import Const, Expr, Read
from intaglio.shared.index import IndexLike, Var, variable
from intaglio.shared.target import Target

Body = Callable[[Place], Stmt]
WRITTEN_OUT = 96
"""Taps and planes along strided axes; image tiles write each one out, so that many make long code."""


def lower_convolution(anchor: Anchor, target: Target) -> Nest | None:
    """A fast nest for `conv` or `conv_dx`; None where plain loops do."""
    shapes = [
        anchor.result.shape[1:],
        *(x.type.shape[k:] for k, x in zip((1, 0), anchor.operands, strict=True)),
    ]
    if not all(isinstance(extent, int) for shape in shapes for extent in shape):
        return None
    dtypes = {anchor.result.dtype, *(x.type.dtype for x in anchor.operands)}
    if target.lanes(anchor.dtype.size) < 4 or len(dtypes) > 1 or not anchor.dtype.is_float:
        return None
    geometry = Geometry.of(anchor)
    if anchor.op == "conv_dx" and geometry.data is not None and not np.isfinite(geometry.data).all():
        return None  # where no tap falls on the image these recipes multiply a 0
    if 1 < prod(w.spread for w in geometry.windows) <= MOST_PHASES:
        return spread(anchor, geometry, lambda part, own: _lower(part, own, target))
    return _lower(anchor, geometry, target)


def _lower(anchor: Anchor, geometry: Geometry, target: Target) -> Nest | None:
    lanes_ = target.lanes(anchor.dtype.size)
    windows = geometry.windows
    lines = LineTiles.made(anchor, geometry, target)
    if lines is not None:
        return lines.nest()
    strided = [w for w in windows if w.stride > 1]
    long = prod(w.kernel for w in strided) + prod(w.phases for w in strided) > WRITTEN_OUT
    simple = all(w == Window(w.size, w.size, 1) for w in windows)
    if geometry.groups == 1 and (long or simple or _stores_channels_last(anchor)):
        nest = _contraction(anchor, geometry, target)
        if nest is not None or long:
            return nest
    if long:
        return None

    def plans(rank: int) -> Iterator[ImageTiles | WinogradTiles]:
        yield WideTiles(anchor, geometry, target, lanes_, rank)
        yield TurnedTiles(anchor, geometry, target, lanes_, rank)
        if WinogradTiles.fits(geometry, lanes_):
            for transform in TRANSFORMS[anchor.accuracy]:
                tiles = WinogradTiles(anchor, geometry, target, lanes_, transform, rank)
                if tiles.has_room:
                    yield tiles

    plan = choose(anchor, target, plans)
    return None if plan is None else plan.nest()


def _stores_channels_last(anchor: Anchor) -> bool:
    """Whether results are stored with their channels side by side."""
    place, channel = _along_channels(anchor.result.shape)
    stores = [
        s
        for s in anchor.finish(place, Const(0, anchor.dtype))
        if isinstance(s, Store) and s.buffer.space != "register"
    ]
    return channel is not None and all(places.stride(s.buffer, s.index, channel) == 1 for s in stores)


def _reads_channels_last(image: Operand) -> bool:
    """Whether an image is stored with its channels side by side."""
    place, channel = _along_channels(image.type.shape)
    return channel is not None and places.strides(image[place], channel) == [1]


def _along_channels(shape: Place) -> tuple[Place, Var | None]:
    """The first place of an image with a variable for the channel, which single channels do not have."""
    index = variable("channel", shape[1])
    place: Place = (0, index, *(0 for _ in shape[2:]))
    return place, None if shape[1] == 1 else variable_of(index)


def _contraction(anchor: Anchor, geometry: Geometry, target: Target) -> Nest | None:
    """A contraction of channels and taps, over a padded copy of the image where windows leave the image."""
    source, windows = anchor.operands[0], geometry.windows
    axes, taps = SPATIAL[: len(windows)], TAPS[: len(windows)]
    before: list[Stmt] = []
    image: Buffer | None = None
    order = tuple(range(len(windows) + 2))
    if any(w.low or w.last >= w.size for w in windows):
        names = Names(anchor.names)
        shape = (*source.type.shape[:2], *(w.last + 1 for w in windows))
        order = channels_last(len(shape)) if _reads_channels_last(source) else order
        image = Buffer(names.fresh("image"), anchor.dtype, ordered(shape, order), "scratch", "heap")
        before = _padded(image, order, source, windows, names)
        anchor = replace(anchor, taken=anchor.taken | names.taken)

    def read(env: Env) -> Expr:
        steps = zip(axes, taps, windows, strict=True)
        place = (env["n"], env["c"], *(env[p] * w.stride + env[u] * w.dilation for p, u, w in steps))
        return source[place] if image is None else Read(image, ordered(place, order), image.dtype)

    left = Factor(
        "oc" + taps,
        lambda env: geometry.weight(0, env["o"], env["c"], tuple(env[u] for u in taps)),
        None if geometry.data is None else geometry.data[0],
    )
    right = Factor("nc" + axes + taps, read)
    extents = dict(zip("no" + axes, anchor.result.shape, strict=True)) | {"c": geometry.ins}
    extents |= {u: w.kernel for u, w in zip(taps, windows, strict=True)}
    nest = best_plan(Contraction.made(anchor, left, right, "no" + axes, extents), target)
    if nest is None or image is None:
        return nest
    body = Block((*before, *nest.body))
    return Nest(body, ("pad images into scratch", *nest.notes), (*nest.scratch, image))


def _padded(
    image: Buffer, order: Order, source: Operand, windows: Sequence[Window], names: Names
) -> list[Stmt]:
    """Fill `image`, whose axes are stored in an order, with the source between zeros, as far as taps read."""
    rank = len(order)
    shape = tuple(image.shape[order.index(k)] for k in range(rank))
    starts = [(0, 0), (0, 0), *((max(0, w.low), max(0, -w.low)) for w in windows)]
    counts = [
        *source.type.shape[:2],
        *(min(w.size - f, w.last + 1 - t) for w, (t, f) in zip(windows, starts[2:], strict=True)),
    ]

    def over(ranges: Sequence[tuple[IndexLike, IndexLike]], body: Body, at: Place = ()) -> list[Stmt]:
        """Loops over ranges in the order in which the image is stored; `body` gets the place by axes."""
        if len(at) == rank:
            return [body(tuple(at[order.index(k)] for k in range(rank)))]
        k = order[len(at)]
        start, stop = ranges[k]
        return loop(names[f"y{k}"], stop - start, lambda index: over(ranges, body, (*at, index + start)))

    def clear(place: Place) -> Stmt:
        return Store(image, ordered(place, order), Const(0.0, image.dtype))

    def copy(place: Place) -> Stmt:
        start = tuple(k - t + f for k, (t, f) in zip(place, starts, strict=True))
        return Store(image, ordered(place, order), source[start])

    inside = [(t, t + count) for (t, _), count in zip(starts, counts, strict=True)]
    whole = [(0, extent) for extent in shape]
    margins = [
        [*inside[:k], part, *whole[k + 1 :]]
        for k in range(2, rank)
        for part in ((0, inside[k][0]), (inside[k][1], shape[k]))
    ]
    return [*(s for margin in margins for s in over(margin, clear)), *over(inside, copy)]
