"""Contraction: the general batched matrix product, as register tiles.

Two forms, both tiles of vector accumulators that live in registers through the whole reduction:

* columns: the lanes run along an axis of the result. Each step of the reduction loads one row of
  vectors of the right operand and broadcasts one element of the left one per row of the tile. The right
  operand is packed into panels first when its rows are far apart and the panels are used often.
* dots: the lanes run along the reduction, which both operands store contiguously; the lanes of each
  accumulator are added up at the end.

Which form, which operand is the right one, and the tile's shape: the least estimated cycles.
"""

from __future__ import annotations

from collections.abc import Sequence

from intaglio.loop.recipes.anchor import Anchor, Nest
from intaglio.loop.recipes.axes import Contraction
from intaglio.loop.recipes.columns import ColumnTiles
from intaglio.loop.recipes.dots import DotTiles
from intaglio.shared.index import product, upper
from intaglio.shared.target import Target

PLAIN_BELOW = 256  # products; smaller contractions are plain loops


def lower_dot(anchor: Anchor, target: Target) -> Nest | None:
    """Register tiles for a contraction; None for tiny ones and for shapes or types no form fits."""
    if not _one_type(anchor):
        return None
    contraction = Contraction.of_dot(anchor)
    products = upper(product(tuple(contraction.extents.values())))
    if (products is not None and products < PLAIN_BELOW) or not contraction.is_plain:
        return None
    lanes = target.lanes(anchor.dtype.size)
    plans: list[ColumnTiles | DotTiles] = [*DotTiles.plans(contraction, target, lanes)]
    for side in (contraction, contraction.swap()):
        plans += ColumnTiles.plans(side, target, lanes)
    return _best(plans, lanes)


def lower_reduction(anchor: Anchor, target: Target) -> Nest | None:
    """Vector accumulators for a sum, product, maximum or minimum over any axes; None as for `lower_dot`."""
    if not _one_type(anchor):
        return None
    contraction = Contraction.of_reduction(anchor)
    terms = upper(product(tuple(contraction.extents.values())))
    if (terms is not None and terms < PLAIN_BELOW) or not contraction.is_plain:
        return None
    lanes = target.lanes(anchor.dtype.size)
    plans: list[ColumnTiles | DotTiles] = [*DotTiles.plans(contraction, target, lanes)]
    plans += ColumnTiles.plans(contraction, target, lanes)
    return _best(plans, lanes)


def _one_type(anchor: Anchor) -> bool:
    dtypes = {anchor.result.dtype, *(x.type.dtype for x in anchor.operands)}
    return len(dtypes) == 1 and anchor.dtype.name in ("f32", "f64", "i32", "i64")


def _best(plans: Sequence[ColumnTiles | DotTiles], lanes: int) -> Nest | None:
    return min(plans, key=lambda plan: plan.cycles).nest() if plans and lanes > 1 else None
