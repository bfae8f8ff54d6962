"""Convolution and its gradient with respect to the image: which nest."""

from __future__ import annotations

from intaglio.loop.recipes.anchor import Anchor, Nest
from intaglio.loop.recipes.axes import Contraction, Factor
from intaglio.loop.recipes.contraction import best_plan
from intaglio.loop.recipes.geometry import SPATIAL, Geometry, ImageTiles
from intaglio.loop.recipes.images import Window
from intaglio.loop.recipes.turned import TurnedTiles
from intaglio.loop.recipes.wide import WideTiles
from intaglio.shared.target import Target


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
    plans: list[ImageTiles] = [
        WideTiles(anchor, geometry, target, lanes_),
        TurnedTiles(anchor, geometry, target, lanes_),
    ]
    return min(plans, key=lambda plan: plan.cycles).nest()


def _pointwise(anchor: Anchor, geometry: Geometry, target: Target) -> Nest | None:
    """A kernel of one tap is a contraction of channels."""
    source, axes = anchor.operands[0], SPATIAL[: len(geometry.windows)]
    still = tuple(0 for _ in axes)
    left = Factor("oc", lambda env: geometry.weight(0, env["o"], env["c"], still))
    right = Factor.operand(source, "nc" + axes)
    extents = dict(zip("no" + axes, anchor.result.shape, strict=True)) | {"c": geometry.ins}
    return best_plan(Contraction.made(anchor, left, right, "no" + axes, extents), target)
