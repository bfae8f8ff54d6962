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

from collections.abc import Iterator

from intaglio.loop.recipes.anchor import Anchor, Nest
from intaglio.loop.recipes.axes import Contraction
from intaglio.loop.recipes.columns import ColumnTiles
from intaglio.loop.recipes.dots import DotTiles
from intaglio.shared.index import product, upper
from intaglio.shared.target import Target

PLAIN_BELOW = 256  # products; smaller contractions are plain loops


def lower_dot(anchor: Anchor, target: Target) -> Nest | None:
    """Register tiles for a contraction; None for tiny ones and for shapes or types no form fits."""
    dtypes = {anchor.result.dtype, *(x.type.dtype for x in anchor.operands)}
    if len(dtypes) > 1 or anchor.dtype.name not in ("f32", "f64", "i32", "i64"):
        return None
    contraction = Contraction.of(anchor)
    products = upper(product(tuple(contraction.extents.values())))
    if products is not None and products < PLAIN_BELOW:
        return None
    plans = sorted(_plans(contraction, target), key=lambda plan: plan.cycles)
    return plans[0].nest() if plans else None


def _plans(contraction: Contraction, target: Target) -> Iterator[ColumnTiles | DotTiles]:
    lanes = target.lanes(contraction.anchor.dtype.size)
    if lanes < 2:
        return
    for side in (contraction, contraction.swap()):
        yield from ColumnTiles.plans(side, target, lanes)
    yield from DotTiles.plans(contraction, target, lanes)
