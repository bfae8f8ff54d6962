"""Operators that stand alone: running sums, scatter and sort, each one kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from intaglio.graph.ir import Node, Value
from intaglio.loop.access import Place
from intaglio.loop.ir import Alloc, Block, Buffer, For, If, Kernel, Reduce, Slice, Stmt, Store, block
from intaglio.loop.lower_group import axis_variable, combine_identity, loops_over
from intaglio.ops.expr import Apply, Const, Expr, IndexValue, Read, as_index, cast
from intaglio.ops.indexing import bounded_index
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import Index, IndexLike, product, upper, variable

if TYPE_CHECKING:
    from intaglio.loop.lower import Lowering


def lower_opaque(lowering: Lowering, node: Node) -> list[Stmt]:
    """The statements that run an operator of kind `opaque`.

    Raises:
        UnsupportedError: an opaque operator without a rule here.
    """
    rule = RULES.get(node.op.name)
    if rule is None:
        raise UnsupportedError(f"{node.op.name} cannot be compiled", where=node.where)
    return [rule(lowering, node)]


def parameter(value: Value, name: str) -> Buffer:
    return Buffer(name, value.dtype, value.shape)


def load(buffer: Buffer, index: Place) -> Expr:
    """An element in the type it is computed in."""
    return cast(Read(buffer, index, buffer.dtype), buffer.dtype.arithmetic)


def own_variables(shape: Place) -> Place:
    return tuple(axis_variable(k, e) for k, e in enumerate(shape))


def make_call(
    lowering: Lowering, node: Node, body: Block, params: list[tuple[Buffer, Slice]], written: list[Buffer]
) -> Stmt:
    shown = ", ".join(str(v.type) for v in node.inputs)
    doc = (
        f"{node.op.name}: {node.op.formula}",
        f"{node.outputs[0].name} = {node.op.name}({shown}) -> {node.outputs[0].type}",
        *([f"from {node.where}"] if node.where else []),
    )
    moved = sum((upper(b.size) or 0) * b.dtype.size for b, _ in params)
    flops = upper(product(node.outputs[0].shape)) or 0
    kernel = Kernel(
        lowering.unique(node.op.name), tuple(b for b, _ in params), tuple(written), body, doc, flops, moved
    )
    return lowering.call(kernel, tuple(s for _, s in params))


def lower_running(lowering: Lowering, node: Node) -> Stmt:
    """cumsum and cumprod: an accumulator runs along the axis."""
    axis, exclusive, reverse = (node.attrs[k] for k in ("axis", "exclusive", "reverse"))
    value, result = node.inputs[0], node.outputs[0]
    x, y = parameter(value, "x"), parameter(result, "y")
    own = own_variables(value.shape)
    extent = value.shape[axis]
    step = axis_variable(axis, extent)
    at = extent - 1 - step if reverse else step
    place = (*own[:axis], at, *own[axis + 1 :])
    acc = Buffer("acc", value.dtype.arithmetic, (), "local", "register")
    combine = node.op.combine or "add"
    accumulate = Reduce(acc, (), combine, load(x, place), ordered=True)  # type: ignore[arg-type]
    emit = Store(y, place, cast(Read(acc, (), acc.dtype), y.dtype))
    inner = block(emit, accumulate) if exclusive else block(accumulate, emit)
    body = block(
        Alloc(acc),
        Store(acc, (), combine_identity(combine, acc.dtype)),
        loops_over((step,), (extent,), inner),
    )
    rest = tuple(k for k in range(len(own)) if k != axis)
    nest = loops_over(tuple(own[k] for k in rest), tuple(value.shape[k] for k in rest), body)
    pairs = [(x, lowering.place(value)), (y, lowering.place(result))]
    return make_call(lowering, node, nest, pairs, [y])


def lower_scatter(lowering: Lowering, node: Node) -> Stmt:
    """Copy the operand, then apply the updates in order."""
    axes, mode = node.attrs["axes"], node.attrs["mode"]
    base, updates, *indices = node.inputs
    result = node.outputs[0]
    x, u, y = parameter(base, "x"), parameter(updates, "u"), parameter(result, "y")
    index_params = [parameter(v, f"index{k}") for k, v in enumerate(indices)]
    own = own_variables(base.shape)
    copy = loops_over(own, base.shape, block(Store(y, own, Read(x, own, x.dtype))))
    j = own_variables(updates.shape)
    count = len(indices[0].shape)
    rest = iter(j[count:])
    at = {
        axis: bounded_index(load(p, j[:count]), base.shape[axis])
        for axis, p in zip(axes, index_params, strict=True)
    }
    place = tuple(at[k] if k in at else next(rest) for k in range(base.type.rank))
    update = Read(u, j, u.dtype)
    body: Stmt = (
        Store(y, place, update)
        if mode == "set"
        else Reduce(y, place, mode, cast(update, y.dtype), ordered=True)
    )
    pairs = [(x, lowering.place(base)), (u, lowering.place(updates))]
    pairs += [(p, lowering.place(v)) for p, v in zip(index_params, indices, strict=True)]
    pairs.append((y, lowering.place(result)))
    return make_call(lowering, node, block(copy, loops_over(j, updates.shape, block(body))), pairs, [y])


def register(name: str, dtype: DType) -> Buffer:
    return Buffer(name, dtype, (), "local", "register")


def held(buffer: Buffer) -> Expr:
    return Read(buffer, (), buffer.dtype)


def both(a: Expr, b: Expr) -> Expr:
    return Apply("and", (a, b), dtypes.bool_)


def less(a: Expr, b: Expr) -> Expr:
    """Order of a sort: NaN is the largest."""
    before: Expr = Apply("lt", (a, b), dtypes.bool_)
    if a.dtype.is_float:
        number = Apply("eq", (a, a), dtypes.bool_)
        nan = Apply("ne", (b, b), dtypes.bool_)
        before = Apply("or", (before, both(number, nan)), dtypes.bool_)
    return before


def lower_sort(lowering: Lowering, node: Node) -> Stmt:
    """Bottom-up merge sort of indices, row by row: stable, and without recursion."""
    axis, descending = node.attrs["axis"], node.attrs["descending"]
    value = node.inputs[0]
    extent = value.shape[axis]
    x, y = parameter(value, "x"), parameter(node.outputs[0], "y")
    order = parameter(node.outputs[1], "order")
    spare = Buffer(lowering.unique("spare"), dtypes.i64, (extent,), "scratch")
    lowering.program.scratch.append(spare)
    merged = Buffer("merged", dtypes.i64, (extent,))
    own = own_variables(value.shape)

    def row(k: IndexLike) -> Place:
        return (*own[:axis], k, *own[axis + 1 :])

    body = _sort_row(x, y, order, merged, extent, row, descending)
    rest = tuple(k for k in range(len(own)) if k != axis)
    nest = loops_over(tuple(own[k] for k in rest), tuple(value.shape[k] for k in rest), body)
    pairs = [(x, lowering.place(value)), (y, lowering.place(node.outputs[0]))]
    pairs += [(order, lowering.place(node.outputs[1])), (merged, Slice(spare))]
    return make_call(lowering, node, nest, pairs, [y, order, merged])


def _sort_row(
    x: Buffer, y: Buffer, order: Buffer, merged: Buffer, extent: IndexLike,
    row: Callable[[IndexLike], Place], descending: bool,
) -> Block:  # fmt: skip
    limit = upper(extent)
    if limit is None:
        raise UnsupportedError("sort: the axis has no upper bound", hint="give its symbol a bound")
    k, start, final = (variable(name, extent) for name in ("place", "start", "final"))
    passes = max(1, (max(limit, 1) - 1).bit_length())
    run = variable("run", passes)
    statements = [
        _loop(start, extent, Store(order, row(start), IndexValue(start))),
        _loop(run, passes, *_merge_pass(x, order, merged, extent, row, descending, run, k)),
        _loop(final, extent, Store(y, row(final), Read(x, row(_at(order, row(final), limit)), x.dtype))),
    ]
    return block(*statements)


def _at(order: Buffer, place: Place, limit: int) -> IndexLike:
    return as_index(Read(order, place, order.dtype), 0, max(limit - 1, 0))


def _loop(index: Index, extent: IndexLike, *body: Stmt) -> For:
    return For(index.terms[0][0], extent, block(*body))  # type: ignore[arg-type]


def _merge_pass(
    x: Buffer, order: Buffer, merged: Buffer, extent: IndexLike, row: Callable[[IndexLike], Place],
    descending: bool, run: Index, k: Index,
) -> list[Stmt]:  # fmt: skip
    """One pass: sorted runs of `width` indices become runs of twice that."""
    width, left, right, middle, end = (
        register(n, dtypes.i64) for n in ("width", "left", "right", "middle", "end")
    )
    limit = (upper(extent) or 1) - 1
    size, here = IndexValue(extent), IndexValue(k)

    def bounded(value: Expr) -> Expr:
        return Apply("min", (value, size), dtypes.i64)

    def candidate(place: Buffer) -> Expr:
        inside = Apply("min", (held(place), IndexValue(extent - 1)), dtypes.i64)
        source = _at(order, row(as_index(inside, 0, limit)), limit + 1)
        return load(x, row(source))

    first, second = candidate(left), candidate(right)
    later_wins = less(first, second) if descending else less(second, first)
    keep = Apply(
        "or",
        (Apply("le", (held(end), held(right)), dtypes.bool_), Apply("not", (later_wins,), dtypes.bool_)),
        dtypes.bool_,
    )
    take_left = both(Apply("lt", (held(left), held(middle)), dtypes.bool_), keep)
    double = Apply("mul", (held(width), Const(2, dtypes.i64)), dtypes.i64)
    new_block = Apply(
        "eq", (Apply("remainder", (here, double), dtypes.i64), Const(0, dtypes.i64)), dtypes.bool_
    )
    reset = block(
        Store(left, (), here),
        Store(right, (), bounded(Apply("add", (here, held(width)), dtypes.i64))),
        Store(middle, (), held(right)),
        Store(end, (), bounded(Apply("add", (here, double), dtypes.i64))),
    )

    def take(place: Buffer) -> Block:
        source = Read(order, row(as_index(held(place), 0, limit)), dtypes.i64)
        step = Apply("add", (held(place), Const(1, dtypes.i64)), dtypes.i64)
        return block(Store(merged, (k,), source), Store(place, (), step))

    again = variable("again", extent)
    return [
        Alloc(width),
        Store(width, (), Apply("shl", (Const(1, dtypes.i64), IndexValue(run)), dtypes.i64)),
        *(s for b in (left, right, middle, end) for s in (Alloc(b), Store(b, (), Const(0, dtypes.i64)))),
        _loop(k, extent, If(new_block, reset), If(take_left, take(left), take(right))),
        _loop(again, extent, Store(order, row(again), Read(merged, (again,), dtypes.i64))),
    ]


RULES: dict[str, Callable[[Lowering, Node], Stmt]] = {
    "cumsum": lower_running,
    "cumprod": lower_running,
    "scatter": lower_scatter,
    "sort": lower_sort,
}
