"""Squares of an array that are turned: loops of copies become loads, shuffles and stores of vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.loop import places
from intaglio.loop.ir import Buffer, For, Store
from intaglio.native import tree as c
from intaglio.native.emit_index import IndexEmitter
from intaglio.native.runtime_vector import vector_name
from intaglio.ops.expr import Read
from intaglio.shared import dtypes
from intaglio.shared.index import IndexLike, Var

if TYPE_CHECKING:
    from intaglio.native.emit_kernel import KernelEmitter

SIDES = (4, 8)


def emit_turn(kernel: KernelEmitter, loop: For, out: list[c.Stmt]) -> bool:
    """Emit a loop that turns a square of 32-bit numbers; False, and nothing done, for any other loop."""
    inner = loop.body.statements[0] if len(loop.body) == 1 else None
    if not isinstance(inner, For) or not _is_side(loop) or loop.stop != inner.stop or not _is_side(inner):
        return False
    store = inner.body.statements[0] if len(inner.body) == 1 else None
    side = loop.stop
    assert isinstance(side, int)
    part = min(side, kernel.target.vector_bytes // dtypes.f32.size)
    if not isinstance(store, Store) or not kernel.target.vector_types or part not in SIDES:
        return False
    read = store.value
    if not isinstance(read, Read) or not isinstance(read.source, Buffer) or read.source is store.buffer:
        return False
    dtype, both = read.dtype, (read.source, store.buffer)
    if dtype not in (dtypes.f32, dtypes.i32) or any(b.dtype != dtype for b in both):
        return False
    if any(not b.shape or b in kernel.vectors for b in both):
        return False
    steps = _steps(store, read, loop.var, inner.var)
    if steps is None:
        return False
    emitter = IndexEmitter(kernel.helpers, kernel.variable, lambda atom: kernel.dynamic(atom, out))

    def first(buffer: Buffer, index: tuple[IndexLike, ...], i: int, j: int) -> c.Expr:
        at = tuple(places.substitute_index(k, {loop.var: i, inner.var: j}) for k in index)
        return c.Unary("&", kernel.element(buffer, at, emitter))

    helper = kernel.helpers.use(f"turn_{vector_name(dtype, part)}")
    source, target = map(c.number, steps)
    for i in range(0, side, part):
        for j in range(0, side, part):
            where = (first(read.source, read.index, i, j), first(store.buffer, store.index, i, j))
            out.append(c.Do(c.Invoke(helper, (where[0], source, where[1], target))))
    return True


def _is_side(loop: For) -> bool:
    return loop.kind == "unroll" and loop.start == 0 and loop.step == 1 and loop.stop in SIDES


def _steps(store: Store, read: Read, outer: Var, inner: Var) -> tuple[int, int] | None:
    """How far apart the rows are that are read, and those that are written; None when nothing is turned."""
    assert isinstance(read.source, Buffer)
    for along, across in ((inner, outer), (outer, inner)):
        source = [places.stride(read.source, read.index, var) for var in (along, across)]
        target = [places.stride(store.buffer, store.index, var) for var in (across, along)]
        if source[0] == target[0] == 1 and source[1] is not None and target[1] is not None:
            return source[1], target[1]
    return None
