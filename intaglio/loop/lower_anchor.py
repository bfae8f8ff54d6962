"""Anchor groups: one reduction and the maps on its result, computed while the result is at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from intaglio.graph.ir import Node, Value
from intaglio.loop import access, recipes
from intaglio.loop.access import Place
from intaglio.loop.codes import Codes
from intaglio.loop.ir import Alloc, Block, Buffer, For, Reduce, Stmt, Store, block
from intaglio.loop.lower_group import (
    GroupLowering,
    argument_update,
    axis_variable,
    combine_identity,
    loops_over,
    small_loops,
    total_work,
)
from intaglio.loop.recipes.anchor import Accuracy, Anchor, Nest
from intaglio.loop.repeats import Repeats
from intaglio.loop.threads import may_thread
from intaglio.loop.transform import tidy
from intaglio.ops.expr import Expr, Read
from intaglio.shared.index import Index
from intaglio.shared.target import Target


def lower_anchor(
    lowering: GroupLowering,
    target: Target,
    accuracy: Accuracy,
    plain: bool = False,
    loop: Repeats | None = None,
) -> Nest:
    """The nest of an anchor group, in a loop of the driver if one is given.

    A `plain` one is what a schedule starts from: no recipe is asked.
    """
    anchor = lowering.group.anchor
    assert anchor is not None
    described = describe_anchor(lowering, anchor, accuracy)
    if loop is not None:
        described = replace(
            described, runs=loop.runs, fixed=lambda buffer: lowering.slice_of(buffer) in loop.fixed
        )
    nest = None if plain else recipes.lower_anchor(described, target)
    return nest or Nest(tidy(_plain_nest(lowering, anchor)), ("plain nest",))


def describe_anchor(lowering: GroupLowering, anchor: Node, accuracy: Accuracy) -> Anchor:
    """The anchor as recipes see it."""
    view = access.sliding(anchor)
    argument = _argument_beside(lowering, anchor)
    return Anchor(
        op=anchor.op.name,
        attrs=anchor.attrs,
        operands=tuple(Codes(v, lowering.resolve) for v in (view or anchor).inputs),
        result=anchor.outputs[0].type,
        finish=lambda index, acc: finish(lowering, anchor, index, acc),
        finish_at=None
        if argument is None
        else lambda index, acc, at: finish(lowering, anchor, index, acc, {argument.outputs[0]: at}),
        taken=frozenset(lowering.names),
        accuracy=accuracy,
        windows=None if view is None else view.attrs,
    )


def _argument_beside(lowering: GroupLowering, anchor: Node) -> Node | None:
    """The operator that wants the place of the element that the anchor chooses, if one joined it."""
    beside = (n for n in lowering.group.nodes if n is not anchor and n.op.name in ("argmax", "argmin"))
    return next(beside, None)


def finish(
    lowering: GroupLowering, anchor: Node, index: Place, acc: Expr, beside: Mapping[Value, Expr] | None = None
) -> list[Stmt]:
    """Statements that carry an accumulated element, and what was found `beside` it, through the fused maps
    into the stored arrays."""
    value = anchor.outputs[0]
    found = {value: acc, **(beside or {})}
    lowering.bound |= {each: lambda _, e=e: e for each, e in found.items()}  # type: ignore[misc]
    rank = {node: k for k, node in enumerate(lowering.group.nodes)}
    after = [node for node in lowering.group.nodes if rank[node] > rank[anchor]]
    own = [lowering.store(value, index, acc)] if value in lowering.stored else []
    statements = [*lowering.epilogue(after, index), *own]
    for each in found:
        lowering.bound.pop(each, None)
    return statements


def _plain_nest(lowering: GroupLowering, anchor: Node) -> Block:
    """One loop per axis, the reduced ones innermost: right for everything, fast for nothing."""
    value = anchor.outputs[0]
    own = tuple(axis_variable(k, e) for k, e in enumerate(value.shape))
    shape = access.extents(anchor)
    inner = tuple(axis_variable(len(own) + k, e) for k, e in enumerate(shape))
    term = access.term(anchor, own, inner, lowering.resolve)
    combine = anchor.op.combine or "add"
    argument = anchor if combine in ("argmax", "argmin") else _argument_beside(lowering, anchor)
    if argument is not None:
        body = _argument(lowering, anchor, argument, own, inner, term)
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
    if may_thread(total_work(lowering.group)) and any(isinstance(k, Index) for k in own):
        outer = nest.statements[0]
        assert isinstance(outer, For)
        return block(For(outer.var, outer.stop, outer.body, "parallel"))
    return nest


def _argument(
    lowering: GroupLowering, anchor: Node, argument: Node, own: Place, inner: Place, term: Expr
) -> Block:
    """The place of an extreme, and the extreme itself where that is the anchor."""
    value, shape = argument.outputs[0], access.extents(anchor)
    element = anchor.inputs[0].dtype.arithmetic
    best = Buffer(lowering.unique("best"), element, (), "local", "register")
    place = lowering.local(value, ())
    update = argument_update(argument, best, place, term, inner, shape)
    at: Expr = Read(place, (), place.dtype)
    found = (at, None) if argument is anchor else (Read(best, (), element), {value: at})
    return block(
        Alloc(best),
        Store(best, (), combine_identity(argument.op.combine or "argmax", element)),
        Alloc(place),
        Store(place, (), combine_identity("add", place.dtype)),
        loops_over(inner, shape, block(*update), small_loops(shape)),
        *finish(lowering, anchor, own, *found),
    )
