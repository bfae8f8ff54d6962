"""Parallel loops to C: the body becomes a function of a range of iterations, which the pool slices.

struct scale_args { const float *x; float *y; };
static void scale_part(const float *restrict x, float *restrict y, int begin, int end)
static void scale_task(const void *context, int64_t begin, int64_t end)
static void scale(const float *restrict x, float *restrict y, void *pool)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.loop import places
from intaglio.loop.ir import Alloc, Buffer, For, If, Reduce, Store, While, walk
from intaglio.native import tree as c
from intaglio.native.helper import c_type, element_type
from intaglio.ops.expr import Expr
from intaglio.shared.errors import UnsupportedError

if TYPE_CHECKING:
    from intaglio.native.emit_kernel import KernelEmitter


def emit_parallel(kernel: KernelEmitter, loop: For, out: list[c.Stmt]) -> None:
    """Make the functions of a parallel loop and call the pool on them."""
    kernel.helpers.use("pool")
    stem = kernel.functions.unique(f"{kernel.name}_part")
    task, struct = (
        kernel.functions.unique(f"{kernel.name}_task"),
        kernel.functions.unique(f"{kernel.name}_args"),
    )
    params = (*kernel.params(), *captured(kernel, loop))
    begin, end = (kernel.names.unique(name) for name in ("begin", "end"))
    bounds = tuple(c.Param(kernel.index_type, name) for name in (begin, end))
    body: list[c.Stmt] = []
    kernel.mentioned = {begin, end}
    _slice_loop(kernel, loop, begin, end, body)
    body = [*kernel.unused(params), *body]
    kernel.mentioned = {p.name for p in params}
    part = c.Function(c.VOID, stem, (*params, *bounds), tuple(body), kernel.take_document())
    fields = tuple(c.Param(c.Type(p.type.name, p.type.pointer, p.type.const), p.name) for p in params)
    kernel.parts += [c.Struct(struct, fields), part, _task(kernel, task, struct, stem, params)]
    args = kernel.names.unique("args")
    out.append(c.Declare(c.Type(f"struct {struct}", const=True), args,
                         value=c.Braces(tuple(c.Name(p.name) for p in params))))  # fmt: skip
    count = kernel.bound(loop.extent, out)
    call = c.Invoke("pool_run", (c.Name(kernel.pool_name()), count, c.Name(task), c.Unary("&", c.Name(args))))
    out.append(c.Do(call))


def _slice_loop(kernel: KernelEmitter, loop: For, begin: str, end: str, body: list[c.Stmt]) -> None:
    """The loop over iterations `begin .. end - 1`."""
    start, stop = c.Name(begin), c.Name(end)
    first, last = _scaled(kernel, loop, start, body), _scaled(kernel, loop, stop, body)
    if loop.step > 1:
        last = c.Invoke(kernel.helpers.use("min_index"), (last, kernel.bound(loop.stop, body)))
    name = kernel.loops[loop.var] = kernel.names.unique(loop.var.name)
    inner: list[c.Stmt] = []
    kernel.block(loop.body, inner)
    del kernel.loops[loop.var]
    kernel.names.taken.discard(name)
    body.append(c.Loop(kernel.index_type, name, first, last, loop.step, tuple(inner)))


def _scaled(kernel: KernelEmitter, loop: For, iteration: c.Expr, out: list[c.Stmt]) -> c.Expr:
    """The value of the loop's variable at an iteration."""
    value = iteration if loop.step == 1 else c.Binary("*", iteration, c.number(loop.step))
    return value if loop.start == 0 else c.Binary("+", kernel.bound(loop.start, out), value)


def _task(
    kernel: KernelEmitter, name: str, struct: str, part: str, params: tuple[c.Param, ...]
) -> c.Function:
    """The function that the pool calls: it unpacks the arguments."""
    args = c.Name("args")
    type_ = c.Type(f"struct {struct}", pointer=True, const=True)
    begin, end = (c.Name(n) if kernel.index_type == c.INT64 else c.Cast(kernel.index_type, c.Name(n))
                  for n in ("begin", "end"))  # fmt: skip
    call = c.Invoke(part, (*(c.Member(args, p.name) for p in params), begin, end))
    own = (
        c.Param(c.Type("void", pointer=True, const=True), "context"),
        c.Param(c.INT64, "begin"),
        c.Param(c.INT64, "end"),
    )
    return c.Function(c.VOID, name, own, (c.Declare(type_, "args", value=c.Name("context")), c.Do(call)))


def captured(kernel: KernelEmitter, loop: For) -> list[c.Param]:
    """Local buffers of the kernel that the loop reads or writes; arrays go by pointer, scalars by value."""
    inside = {s.buffer for s in walk(loop.body) if isinstance(s, Alloc)}
    touched: dict[Buffer, bool] = {}
    for statement in walk(loop.body):
        values: tuple[Expr, ...] = ()
        if isinstance(statement, (Store, Reduce)):
            touched[statement.buffer] = True
            values = (statement.value,)
        elif isinstance(statement, (If, While)):
            values = (statement.condition,)
        for value in values:
            for read in places.reads(value):
                if isinstance(read.source, Buffer):
                    touched.setdefault(read.source, False)
    params = []
    for buffer, written in touched.items():
        if buffer in inside or buffer in kernel.kernel.params:
            continue
        if buffer in kernel.vectors or (written and not buffer.shape):
            raise UnsupportedError(
                f"kernel {kernel.kernel.name}: {buffer!r} is shared by parallel iterations"
            )
        type_ = c.Type(
            element_type(buffer.dtype) if buffer.shape else c_type(buffer.dtype),
            pointer=bool(buffer.shape),
            const=bool(buffer.shape) and not written,
        )
        params.append(c.Param(type_, kernel.buffers[buffer]))
    return params
