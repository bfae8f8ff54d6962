"""Contraction: the general batched matrix product, as register tiles.

Two forms, both tiles of vector accumulators that live in registers through the whole reduction:

* columns: the lanes run along an axis of the result. Each step of the reduction loads one row of
  vectors of the right operand and broadcasts one element of the left one per row of the tile. The right
  operand is packed into panels first where the lanes do not lie side by side in it, or its rows displace
  each other from a cache; constants are packed when compiling.
* dots: the lanes run along the reduction, which both operands store contiguously; the lanes of each
  accumulator are added up at the end.

Which form, which operand is the right one, and the tile's shape: the least estimated cycles.
"""

from __future__ import annotations

from collections.abc import Iterator

from intaglio.loop.recipes.anchor import Anchor, Nest
from intaglio.loop.recipes.axes import ALONE, Contraction, Dim
from intaglio.loop.recipes.blocked_columns import BlockedColumns
from intaglio.loop.recipes.columns import PACK_ROWS, ColumnTiles
from intaglio.loop.recipes.dots import DotTiles
from intaglio.loop.recipes.strassen import StrassenTiles
from intaglio.loop.recipes.turned_columns import TurnedColumns, in_lanes
from intaglio.loop.search import choose
from intaglio.shared.index import product, upper
from intaglio.shared.target import Target

PLAIN_BELOW = 256  # products; smaller contractions are plain loops


def lower_dot(anchor: Anchor, target: Target) -> Nest | None:
    """Register tiles for a contraction; None for tiny ones and for shapes or types no form fits."""
    return best_plan(Contraction.of_dot(anchor), target) if one_type(anchor) else None


def lower_reduction(anchor: Anchor, target: Target) -> Nest | None:
    """Vector accumulators for a sum, product, maximum or minimum over any axes; None as for `lower_dot`."""
    return best_plan(Contraction.of_reduction(anchor), target) if one_type(anchor) else None


def best_plan(contraction: Contraction, target: Target) -> Nest | None:
    """The nest with the least estimated cycles; None for a tiny contraction, or one that no form fits."""
    lanes = target.lanes(contraction.anchor.dtype.size)
    terms = upper(product(tuple(contraction.extents.values())))
    if lanes == 1 or (terms is not None and terms < PLAIN_BELOW) or not contraction.is_plain:
        return None

    def plans(rank: int) -> Iterator[ColumnTiles | DotTiles | StrassenTiles]:
        yield from DotTiles.plans(contraction, target, lanes, rank)
        for side in (contraction, contraction.swap()):
            for plan in column_plans(side, target, lanes, rank):
                plan.cycles += plan.far_cycles
                yield plan
            yield from StrassenTiles.plans(side, target, lanes, rank)

    plan = choose(contraction.anchor, target, plans)
    return None if plan is None else plan.nest()


def one_type(anchor: Anchor) -> bool:
    """Whether operands and result have one type that tiles are for."""
    dtypes = {anchor.result.dtype, *(x.type.dtype for x in anchor.operands)}
    return len(dtypes) == 1 and anchor.dtype.name in ("f32", "f64", "i32", "i64")


def column_plans(
    contraction: Contraction, target: Target, lanes: int, rank: int = 0
) -> Iterator[ColumnTiles]:
    """Every axis of the right operand and the result that can be the column."""
    if not contraction.is_regular:
        return
    roles = contraction.roles
    batch, rows, columns, reduced = roles.batch, roles.rows, roles.columns, roles.reduced
    for column in columns:
        strides = contraction.dim_strides(column)
        if not isinstance(column.extent, int) or column.extent < 2:
            continue
        row = max(reversed(rows), key=lambda d: upper(d.extent) or 1 << 30, default=ALONE)
        outer = [*batch, *(d for d in columns if d is not column), *(d for d in rows if d is not row)]
        loops = (column, row, outer, reduced)
        # Constants are packed when compiling, which costs nothing at run time and puts them side by side.
        packs = contraction.right.data is not None or _packing_pays(contraction, row, reduced)
        if in_lanes(strides):
            if contraction.right.data is None and all(s == 1 for s in strides.right):
                yield BlockedColumns.of(ColumnTiles.plan(contraction, target, lanes, *loops, False, rank))
            if packs:
                yield BlockedColumns.of(ColumnTiles.plan(contraction, target, lanes, *loops, True, rank))
        elif column.extent >= lanes and TurnedColumns.fits(contraction, row):
            if contraction.right.data is None and all(s == 1 for s in strides.right):
                yield TurnedColumns.plan(contraction, target, lanes, *loops, False, rank)
            if not packs:
                continue
            yield TurnedColumns.plan(contraction, target, lanes, *loops, True, rank)


def _packing_pays(contraction: Contraction, row: Dim, reduced: list[Dim]) -> bool:
    constant = all(isinstance(d.extent, int) for d in reduced)
    many = contraction.repeats > 1 or (upper(row.extent) or PACK_ROWS) >= PACK_ROWS
    return constant and bool(reduced) and many
