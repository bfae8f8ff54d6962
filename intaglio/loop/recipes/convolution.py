"""Convolution and its gradient with respect to the image: which nest."""

from __future__ import annotations

from math import prod

from intaglio.loop.recipes.anchor import Anchor, Nest
from intaglio.loop.recipes.axes import Contraction, Env, Factor
from intaglio.loop.recipes.contraction import best_plan
from intaglio.loop.recipes.geometry import SPATIAL, TAPS, Geometry, ImageTiles
from intaglio.loop.recipes.images import Window
from intaglio.loop.recipes.turned import TurnedTiles
from intaglio.loop.recipes.wide import WideTiles
from intaglio.ops.expr import Expr
from intaglio.shared.target import Target

WRITTEN_OUT = 192
"""Taps and planes along strided axes; image tiles write each one out, so that many make long code."""


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
    windows = geometry.windows
    strided = [w for w in windows if w.stride > 1]
    long = prod(w.kernel for w in strided) + prod(w.phases for w in strided) > WRITTEN_OUT
    pointwise = all(w == Window(w.size, w.size, 1) for w in windows)
    inside = all(w.spread == 1 and w.last < w.size and not w.low for w in windows)
    if geometry.groups == 1 and (pointwise or (inside and long)):
        return _contraction(anchor, geometry, target)
    if long:
        return None
    plans: list[ImageTiles] = [
        WideTiles(anchor, geometry, target, lanes_),
        TurnedTiles(anchor, geometry, target, lanes_),
    ]
    return min(plans, key=lambda plan: plan.cycles).nest()


def _contraction(anchor: Anchor, geometry: Geometry, target: Target) -> Nest | None:
    """A kernel of one tap is a contraction of channels; one of windows without padding, of taps too."""
    source, windows = anchor.operands[0], geometry.windows
    axes, taps = SPATIAL[: len(windows)], TAPS[: len(windows)]

    def read(env: Env) -> Expr:
        places = (
            env[p] * w.stride + env[u] * w.dilation for p, u, w in zip(axes, taps, windows, strict=True)
        )
        return source[(env["n"], env["c"], *places)]

    left = Factor(
        "oc" + taps, lambda env: geometry.weight(0, env["o"], env["c"], tuple(env[u] for u in taps))
    )
    right = Factor("nc" + axes + taps, read)
    extents = dict(zip("no" + axes, anchor.result.shape, strict=True)) | {"c": geometry.ins}
    extents |= {u: w.kernel for u, w in zip(taps, windows, strict=True)}
    return best_plan(Contraction.made(anchor, left, right, "no" + axes, extents), target)
