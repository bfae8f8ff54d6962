"""Contractions of bytes, exact in 32 bits.

A factor is a byte less a zero point. Machines that sum four products of an unsigned byte with a signed one in
an instruction get groups of four; all others pairs of 16 bits. What the bytes that are stored differ from the
factor by is taken off where the accumulators start:

    sum (x - a) (w - b) = sum x w - a (sum w - K b) - b sum x

Sums of constants are made when compiling. Everything wraps around in 32 bits, as the plain loops do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from intaglio.loop.recipes.anchor import Anchor, Nest
from intaglio.loop.recipes.axes import ALONE, Contraction, Dim, count
from intaglio.loop.recipes.contraction import PLAIN_BELOW
from intaglio.loop.recipes.integer_panels import Factors
from intaglio.loop.recipes.integer_tiles import IntegerTiles, TurnedIntegers
from intaglio.loop.recipes.narrow import BYTES, PAIRS, Form, Narrow, narrowed
from intaglio.loop.recipes.turned_columns import TurnedColumns, in_lanes
from intaglio.loop.search import choose
from intaglio.shared import dtypes
from intaglio.shared.index import product, upper
from intaglio.shared.target import Target

SMALLEST = 4  # columns
SCATTERED_CYCLES = 10.0  # to finish one element where neither rows nor columns lie side by side


def lower_integer_dot(anchor: Anchor, target: Target) -> Nest | None:
    """Tiles for a `dot` of bytes; None for other types and tiny ones."""
    if anchor.dtype != dtypes.i32:
        return None
    return best_integer_plan(Contraction.of_dot(anchor), target)


def best_integer_plan(contraction: Contraction, target: Target, whole: bool = False) -> Nest | None:
    """The nest with the least estimated cycles; None where factors are no bytes.

    Args:
        whole: behind the rows of the left operand lie bytes enough to make the last group whole.
    """
    terms = upper(product(tuple(contraction.extents.values())))
    reduced = [contraction.extents[a] for a in contraction.extents if a not in contraction.out_axes]
    if not target.vector_types or target.lanes(4) < 4 or (terms is not None and terms < PLAIN_BELOW):
        return None
    if not all(isinstance(extent, int) for extent in reduced):
        return None
    form = BYTES if "vnni" in target.features else PAIRS

    def plans(rank: int) -> Iterator[IntegerTiles]:
        yield from _plans(contraction, target, form, whole, rank)
        yield from _plans(contraction.swap(), target, form, False, rank)

    plan = choose(contraction.anchor, target, plans)
    return None if plan is None else plan.nest()


def _plans(
    contraction: Contraction, target: Target, form: Form, whole: bool, rank: int
) -> Iterator[IntegerTiles]:
    """Every axis of the right operand and the result that can be the column."""
    left = narrowed(contraction, contraction.left, form.left)
    right = narrowed(contraction, contraction.right, form.right)
    if left is None or right is None:
        return
    roles = contraction.roles
    batch, rows, columns = roles.batch, roles.rows, roles.columns
    reduced, in_place = _reduced(contraction, left, form.group, whole)
    row = max(reversed(rows), key=lambda d: upper(d.extent) or 1 << 30, default=ALONE)
    factors = Factors(form, left, right, in_place)
    for column in columns:
        if not isinstance(column.extent, int) or column.extent < SMALLEST or not reduced:
            continue
        outer = [*batch, *(d for d in columns if d is not column), *(d for d in rows if d is not row)]
        loops = (column, row, outer, reduced)
        if in_lanes(contraction.dim_strides(column)):
            yield IntegerTiles.made(contraction, target, factors, loops, rank)
        elif TurnedColumns.fits(contraction, row):
            yield TurnedIntegers.made(contraction, target, factors, loops, rank)
        else:
            plan = IntegerTiles.made(contraction, target, factors, loops, rank)
            scattered = SCATTERED_CYCLES * count([*outer, row, column])
            yield replace(plan, cycles=plan.cycles + scattered)


def _reduced(contraction: Contraction, left: Narrow, group: int, whole: bool) -> tuple[list[Dim], bool]:
    """Loops over the reduction, the grouped one last, and whether the left operand can be read in place:
    its groups lie side by side. All axes are one loop where it is copied."""
    axes = contraction.axes(lambda left, right, out: not out)
    strides = {a: left.stride(contraction.variables, a) for a in axes} if left.plain else {}
    ordered = sorted(axes, key=lambda a: -(strides.get(a) or 0))
    if None not in strides.values() and strides:
        dims: list[Dim] = []
        for axis in ordered:
            extent = contraction.extents[axis]
            last = dims[-1].parts[-1][0] if dims else ""
            if dims and strides[last] == (strides[axis] or 0) * extent:
                dims[-1] = Dim(dims[-1].extent * extent, (*dims[-1].parts, (axis, extent)))
            else:
                dims.append(Dim(extent, ((axis, extent),)))
        if strides[ordered[-1]] == 1 and (whole or dims[-1].extent % group == 0):
            return dims, True
    parts = tuple((axis, contraction.extents[axis]) for axis in ordered)
    return [Dim(product(tuple(extent for _, extent in parts)), parts)] if parts else [], False
