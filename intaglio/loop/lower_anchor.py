"""Anchor groups: one reduction and the maps on its result, computed while the result is at hand."""

from __future__ import annotations

from intaglio.graph.ir import Node
from intaglio.loop import access, recipes
from intaglio.loop.access import Place
from intaglio.loop.ir import Alloc, Block, Buffer, For, Reduce, Stmt, Store, block
from intaglio.loop.lower_group import (
    GroupLowering,
    argument_update,
    axis_variable,
    combine_identity,
    loops_over,
    small_loops,
    total_work,
    worth_threads,
)
from intaglio.loop.recipes.anchor import Accuracy, Anchor
from intaglio.loop.transform import tidy
from intaglio.ops.expr import Expr, Read
from intaglio.shared.index import Index
from intaglio.shared.target import Target


def lower_anchor(
    lowering: GroupLowering, target: Target, accuracy: Accuracy, plain: bool = False
) -> tuple[Block, tuple[str, ...], tuple[Buffer, ...]]:
    """The nest of an anchor group, how it was scheduled, and the scratch arrays it asks for.

    A `plain` one is what a schedule starts from: no recipe is asked.
    """
    anchor = lowering.group.anchor
    assert anchor is not None
    nest = None if plain else recipes.lower_anchor(_describe(lowering, anchor, accuracy), target)
    if nest is not None:
        return nest.body, nest.notes, nest.scratch
    return tidy(_plain_nest(lowering, anchor)), ("plain nest",), ()


def _describe(lowering: GroupLowering, anchor: Node, accuracy: Accuracy) -> Anchor:
    """The anchor as recipes see it."""
    view = access.sliding(anchor)
    return Anchor(
        op=anchor.op.name,
        attrs=anchor.attrs,
        operands=tuple(access.Accessor(v, lowering.resolve) for v in (view or anchor).inputs),
        result=anchor.outputs[0].type,
        finish=lambda index, acc: finish(lowering, anchor, index, acc),
        taken=frozenset(lowering.names),
        accuracy=accuracy,
        windows=None if view is None else view.attrs,
    )


def finish(lowering: GroupLowering, anchor: Node, index: Place, acc: Expr) -> list[Stmt]:
    """Statements that carry an accumulated element through the fused maps into the stored arrays."""
    value = anchor.outputs[0]
    lowering.bound[value] = lambda _: acc
    rank = {node: k for k, node in enumerate(lowering.group.nodes)}
    after = [node for node in lowering.group.nodes if rank[node] > rank[anchor]]
    own = [lowering.store(value, index, acc)] if value in lowering.stored else []
    statements = [*lowering.epilogue(after, index), *own]
    del lowering.bound[value]
    return statements


def _plain_nest(lowering: GroupLowering, anchor: Node) -> Block:
    """One loop per axis, the reduced ones innermost: right for everything, fast for nothing."""
    value = anchor.outputs[0]
    own = tuple(axis_variable(k, e) for k, e in enumerate(value.shape))
    shape = access.extents(anchor)
    inner = tuple(axis_variable(len(own) + k, e) for k, e in enumerate(shape))
    term = access.term(anchor, own, inner, lowering.resolve)
    combine = anchor.op.combine or "add"
    if combine in ("argmax", "argmin"):
        body = _argument(lowering, anchor, own, inner, term)
    else:
        acc = lowering.local(value, ())
        accumulate = Reduce(acc, (), combine, term, anchor.op.ordered)  # type: ignore[arg-type]
        body = block(
            Alloc(acc),
            Store(acc, (), combine_identity(combine, acc.dtype)),
            loops_over(inner, shape, block(accumulate), small_loops(shape)),
            *finish(lowering, anchor, own, Read(acc, (), acc.dtype)),
        )
    nest = loops_over(own, value.shape, body)
    if worth_threads(total_work(lowering.group)) and any(isinstance(k, Index) for k in own):
        outer = nest.statements[0]
        assert isinstance(outer, For)
        return block(For(outer.var, outer.stop, outer.body, "parallel"))
    return nest


def _argument(lowering: GroupLowering, anchor: Node, own: Place, inner: Place, term: Expr) -> Block:
    value, shape = anchor.outputs[0], access.extents(anchor)
    element = anchor.inputs[0].dtype.arithmetic
    best = Buffer(lowering.unique("best"), element, (), "local", "register")
    place = lowering.local(value, ())
    update = argument_update(anchor, best, place, term, inner, shape)
    return block(
        Alloc(best),
        Store(best, (), combine_identity(anchor.op.combine or "argmax", element)),
        Alloc(place),
        Store(place, (), combine_identity("add", place.dtype)),
        loops_over(inner, shape, block(*update), small_loops(shape)),
        *finish(lowering, anchor, own, Read(place, (), place.dtype)),
    )
