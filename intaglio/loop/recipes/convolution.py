"""Convolution and its gradient with respect to the image: which nest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from intaglio.loop.access import Order, channels_last, ordered
from intaglio.loop.ir import Block, Buffer, Stmt, Store
from intaglio.loop.recipes.anchor import Anchor, Nest, Operand, Place
from intaglio.loop.recipes.axes import Contraction, Env, Factor
from intaglio.loop.recipes.contraction import best_plan
from intaglio.loop.recipes.geometry import SPATIAL, Geometry, ImageTiles
from intaglio.loop.recipes.images import TAPS, Window
from intaglio.loop.recipes.lines import LineTiles
from intaglio.loop.recipes.nests import Names, loop
from intaglio.loop.recipes.result_rows import reads_channels_last, stores_channels_last
from intaglio.loop.recipes.spread import MOST_PHASES, spread
from intaglio.loop.recipes.turned import TurnedTiles
from intaglio.loop.recipes.wide import WideTiles
from intaglio.loop.recipes.winograd import WinogradTiles
from intaglio.loop.recipes.winograd_transforms import TRANSFORMS
from intaglio.loop.search import choose
from intaglio.ops.expr import Const, Expr, Read
from intaglio.shared.index import IndexLike
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
    winograd = WinogradTiles.fits(geometry, lanes_) and bool(TRANSFORMS[anchor.accuracy])
    last = stores_channels_last(anchor)
    if geometry.groups == 1 and anchor.pooling is None and (long or simple or (last and not winograd)):
        nest = _contraction(anchor, geometry, target)
        if nest is not None or long:
            return nest
    if long or (anchor.pooling is not None and not winograd):
        return None

    def plans(rank: int) -> Iterator[ImageTiles | WinogradTiles]:
        if anchor.pooling is not None or not (last and winograd):
            yield WideTiles(anchor, geometry, target, lanes_, rank)
        yield TurnedTiles(anchor, geometry, target, lanes_, rank)
        if winograd:
            for transform in TRANSFORMS[anchor.accuracy]:
                tiles = WinogradTiles(anchor, geometry, target, lanes_, transform, rank)
                if tiles.has_room:
                    yield tiles

    plan = choose(anchor, target, plans)
    if plan is None or (anchor.pooling is not None and not isinstance(plan, WinogradTiles)):
        return None  # pooling in a kernel of its own is faster
    return plan.nest()


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
        order = channels_last(len(shape)) if reads_channels_last(source) else order
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
    notes = ("pad images into scratch", *nest.notes)
    return replace(nest, body=Block((*before, *nest.body)), notes=notes, scratch=(*nest.scratch, image))


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
