"""Kernels to C functions: statements of the loop level to statements of C."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from intaglio.loop import places
from intaglio.loop.ir import (
    Alloc,
    Block,
    Buffer,
    Comment,
    For,
    If,
    Kernel,
    Prefetch,
    Reduce,
    Stmt,
    Store,
    While,
    walk,
)
from intaglio.native import emit_functions as functions
from intaglio.native import tree as c
from intaglio.native.emit_index import IndexEmitter, fits_int
from intaglio.native.emit_lanes import LanesEmitter
from intaglio.native.emit_threads import emit_parallel
from intaglio.native.emit_turn import emit_turn
from intaglio.native.emit_value import Context, ValueEmitter
from intaglio.native.emit_vector import Lanes, NoVectorForm, lanes_of, vector_arrays
from intaglio.native.helper import c_type, element_type
from intaglio.native.helpers import Helpers
from intaglio.native.names import Names
from intaglio.native.runtime_vector import vector_name
from intaglio.ops.expr import Expr, IndexValue, Read
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import Dynamic, IndexLike, Var, upper
from intaglio.shared.target import Target

LOCAL_BYTES = 256 << 10
"""Local arrays larger than this do not go on the stack."""


@dataclass(frozen=True, slots=True)
class EmittedKernel:
    """A kernel's functions, the one to call last, and the symbols it takes behind its buffers."""

    items: tuple[c.Item, ...]
    name: str
    symbols: tuple[Var, ...]
    pool: bool = False


class KernelEmitter:
    """Emits one kernel under a C name; `functions` are the names taken in the file."""

    def __init__(
        self,
        kernel: Kernel,
        name: str,
        symbols: Iterable[Var],
        target: Target,
        helpers: Helpers,
        functions: Names | None = None,
    ) -> None:
        self.kernel = kernel
        self.name = name
        self.target = target
        self.helpers = helpers
        self.functions = functions or Names()
        self.names = Names((name,))
        self.parts: list[c.Item] = []
        self.document = document(kernel)
        self.pool = ""
        self.mentioned: set[str] = set()
        self.parallel = {id(s) for s in kernel.body if isinstance(s, For) and s.kind == "parallel"}
        self.buffers = {b: self.names.unique(b.name) for b in kernel.params}
        used = used_variables(kernel.body)
        for param in kernel.params:
            for extent in param.shape:
                used |= places.index_variables(extent)
        self.symbols = tuple(v for v in symbols if v in used)
        self.variables = {v: self.names.unique(v.name) for v in self.symbols}
        self.loops: dict[Var, str] = {}
        self.index_type = c.INT if all(map(fits_int, every_index(kernel))) and not self.symbols else c.INT64
        self.vectors = vector_arrays(kernel, target)
        self.context = Context(helpers, self.names, self.variable, self.buffer, self.element, self.index_type)

    def emit(self) -> EmittedKernel:
        """The C of the kernel."""
        body: list[c.Stmt] = []
        self.block(self.kernel.body, body)
        params = self.params()
        if self.pool:
            params = (*params, c.Param(c.VOID_POINTER, self.pool))
        body = [*self.unused(params), *body]
        function = c.Function(c.VOID, self.name, params, tuple(body), self.take_document())
        return EmittedKernel((*self.parts, function), self.name, self.symbols, bool(self.pool))

    def take_document(self) -> tuple[str, ...]:
        """The comment of the kernel, for the first function that does its work."""
        taken, self.document = self.document, ()
        return taken

    def pool_name(self) -> str:
        """The parameter that holds the threads."""
        self.pool = self.pool or self.names.unique("pool")
        return self.mention(self.pool)

    def params(self) -> tuple[c.Param, ...]:
        """Buffers in order, then the symbols."""
        written = set(self.kernel.written)
        pointers = [
            c.Param(
                c.Type(element_type(b.dtype), pointer=True, const=b not in written, restrict=True),
                self.buffers[b],
            )
            for b in self.kernel.params
        ]
        return (*pointers, *(c.Param(c.INT64, self.variables[v]) for v in self.symbols))

    def unused(self, params: Iterable[c.Param]) -> list[c.Stmt]:
        """Statements that say that parameters no code has mentioned are unused on purpose."""
        return [c.Do(c.Cast(c.VOID, c.Name(p.name))) for p in params if p.name not in self.mentioned]

    def variable(self, var: Var) -> str:
        return self.loops[var] if var in self.loops else self.mention(self.variables[var])

    def buffer(self, buffer: Buffer) -> str:
        return self.mention(self.buffers[buffer])

    def mention(self, name: str) -> str:
        self.mentioned.add(name)
        return name

    def element(self, buffer: Buffer, index: tuple[IndexLike, ...], emitter: IndexEmitter) -> c.Expr:
        """An element of a buffer: a scalar by its name, any other by its row-major place."""
        base = c.Name(self.buffer(buffer))
        if not buffer.shape and buffer.role == "local" and buffer not in self.kernel.params:
            return base
        if buffer in self.vectors:
            return self.vector_element(base, index, emitter)
        return c.Element(base, emitter.emit(places.flat(buffer, index)))

    @staticmethod
    def vector_element(base: c.Expr, index: tuple[IndexLike, ...], emitter: IndexEmitter) -> c.Expr:
        """A vector of an array of vectors, or with an index for the last axis too, one lane of it."""
        for place in index:
            base = c.Element(base, emitter.emit(place))
        return base

    def value(self, value: Expr, dtype: DType, out: list[c.Stmt]) -> c.Expr:
        return ValueEmitter(self.context, value, dtype).emit(out)

    def block(self, body: Block, out: list[c.Stmt]) -> None:
        """Statements in order; a scalar is declared where it first gets its value."""
        late = declared_late(body)
        for statement in body:
            if isinstance(statement, Alloc) and statement.buffer in late:
                continue
            if isinstance(statement, Store) and late.get(statement.buffer) is statement:
                value = self.value(statement.value, statement.buffer.dtype, out)
                self.allocate(statement.buffer, out, value)
                continue
            self.statement(statement, out)

    def statement(self, statement: Stmt, out: list[c.Stmt]) -> None:
        if isinstance(statement, Alloc):
            self.allocate(statement.buffer, out)
        elif isinstance(statement, Store):
            self.store(statement, out)
        elif isinstance(statement, Reduce):
            self.reduce(statement, out)
        elif isinstance(statement, For):
            self.loop(statement, out)
        elif isinstance(statement, If):
            self.branch(statement, out)
        elif isinstance(statement, While):
            self.while_loop(statement, out)
        elif isinstance(statement, Prefetch):
            self.prefetch(statement, out)
        elif isinstance(statement, Comment):
            out.append(c.Remark(statement.text))
        else:
            raise UnsupportedError(
                f"kernel {self.kernel.name}: a {type(statement).__name__} inside of a kernel"
            )

    def allocate(self, buffer: Buffer, out: list[c.Stmt], value: c.Expr | None = None) -> None:
        name = self.buffers[buffer] = self.names.unique(buffer.name)
        if not buffer.shape:
            out.append(c.Declare(c.Type(c_type(buffer.dtype)), name, value=value))
            return
        type_ = c.Type(element_type(buffer.dtype))
        size = upper(buffer.size)
        if size is None or size * buffer.dtype.size > LOCAL_BYTES:
            raise UnsupportedError(
                f"kernel {self.kernel.name}: local array {buffer!r} is too large for the stack",
                hint="make it a scratch parameter",
            )
        if buffer in self.vectors:
            *dims, lanes = (extent for extent in buffer.shape if isinstance(extent, int))
            type_ = c.Type(self.helpers.use(vector_name(buffer.dtype, lanes)))
            out.append(c.Declare(type_, name, tuple(dims)))
            return
        align = 64 if size * buffer.dtype.size >= 64 else 0
        out.append(c.Declare(type_, name, (max(size, 1),), align=align))

    def prefetch(self, statement: Prefetch, out: list[c.Stmt]) -> None:
        place = c.Unary("&", self.target_of(statement, out))
        out.append(c.Do(c.Invoke(self.helpers.use("PREFETCH"), (place,))))

    def target_of(self, statement: Store | Reduce | Prefetch, out: list[c.Stmt]) -> c.Expr:
        """The place a statement is about; values its index needs are declared first."""
        emitter = IndexEmitter(self.helpers, self.variable, lambda atom: self.dynamic(atom, out))
        return self.element(statement.buffer, statement.index, emitter)

    def dynamic(self, atom: Dynamic, out: list[c.Stmt]) -> c.Expr:
        if not isinstance(atom.value, Expr):
            raise UnsupportedError(f"index {atom} is no expression")
        dtype = dtypes.i64 if self.index_type == c.INT64 else dtypes.i32
        return self.value(atom.value, dtype, out)

    def store(self, statement: Store, out: list[c.Stmt]) -> None:
        value = self.value(statement.value, statement.buffer.dtype, out)
        out.append(c.Assign(self.target_of(statement, out), value))

    def reduce(self, statement: Reduce, out: list[c.Stmt]) -> None:
        dtype = statement.buffer.dtype
        wide = dtype.arithmetic
        value = self.value(statement.value, wide, out)
        out.append(self.accumulated(statement, self.target_of(statement, out), value))

    def accumulated(self, statement: Reduce, target: c.Expr, value: c.Expr) -> c.Stmt:
        """`target = combine(target, value)` for a value of the arithmetic type."""
        dtype = statement.buffer.dtype
        wide = dtype.arithmetic
        plain = dtype == wide and (dtype.is_float or (dtype.kind == "uint" and dtype.size >= 4))
        if plain and statement.combine in ("add", "mul"):
            return c.Assign(target, value, functions.ARITHMETIC[statement.combine] + "=")
        held = functions.convert(target, dtype, wide, self.helpers)
        combined = functions.spell(statement.combine, wide, (held, value), self.helpers)
        return c.Assign(target, functions.convert(combined, wide, dtype, self.helpers))

    def loop(self, loop: For, out: list[c.Stmt]) -> None:
        if id(loop) in self.parallel:
            emit_parallel(self, loop, out)
            return
        if emit_turn(self, loop, out):
            return
        lanes = lanes_of(loop, self.target)
        if lanes is None or not self.vector_loop(loop, lanes, out):
            self.loop_around(loop, out, self.block)

    def vector_loop(self, loop: For, lanes: Lanes, out: list[c.Stmt]) -> bool:
        """The loop's body on vectors; False, and nothing done, when it has no vector form."""
        helpers, taken, buffers = self.helpers.snapshot(), set(self.names.taken), dict(self.buffers)
        body: list[c.Stmt] = []
        try:
            LanesEmitter(self, lanes).block(loop.body, body)
        except NoVectorForm:
            self.helpers.restore(helpers)
            self.names.taken = taken
            self.buffers.clear()
            self.buffers.update(buffers)
            return False
        if out and len(body) == 1 and _sets(body[0], out[-1]):
            declared, assigned = out[-1], body[0]
            assert isinstance(declared, c.Declare)
            assert isinstance(assigned, c.Assign)
            out[-1] = c.Declare(declared.type, declared.name, value=assigned.value)
            return True
        out.extend(body)
        return True

    def loop_around(self, loop: For, out: list[c.Stmt], emit: Callable[[Block, list[c.Stmt]], None]) -> None:
        """The loop in C around what `emit` makes of its body."""
        start, stop = self.bound(loop.start, out), self.bound(loop.stop, out)
        name = self.loops[loop.var] = self.names.unique(loop.var.name)
        body: list[c.Stmt] = []
        emit(loop.body, body)
        del self.loops[loop.var]
        self.names.taken.discard(name)
        out.append(c.Loop(self.index_type, name, start, stop, loop.step, tuple(body), self.hints(loop)))

    def hints(self, loop: For) -> tuple[c.Expr, ...]:
        extent = loop.extent
        if loop.kind == "unroll" and isinstance(extent, int) and 1 < extent <= 64:
            return (c.Invoke(self.helpers.use("UNROLL"), (c.number(extent),)),)
        if loop.kind == "vector" and not self.target.vector_types:
            return (c.Name(self.helpers.use("LANES")),)
        return ()

    def bound(self, value: IndexLike, out: list[c.Stmt]) -> c.Expr:
        return IndexEmitter(self.helpers, self.variable, lambda atom: self.dynamic(atom, out)).emit(value)

    def branch(self, statement: If, out: list[c.Stmt]) -> None:
        condition = self.value(statement.condition, dtypes.bool_, out)
        then: list[c.Stmt] = []
        orelse: list[c.Stmt] = []
        self.block(statement.then, then)
        if statement.orelse is not None:
            self.block(statement.orelse, orelse)
        out.append(c.Branch(condition, tuple(then), tuple(orelse)))

    def while_loop(self, statement: While, out: list[c.Stmt]) -> None:
        body: list[c.Stmt] = []
        condition = self.value(statement.condition, dtypes.bool_, body)
        if body:
            body.append(c.Branch(c.Unary("!", condition), (c.Break(),)))
            condition = c.Number(True, dtypes.bool_)
        self.block(statement.body, body)
        out.append(c.WhileLoop(condition, tuple(body)))


def _sets(statement: c.Stmt, declared: c.Stmt) -> bool:
    """Whether a statement gives a variable declared without a value its first one."""
    if not isinstance(declared, c.Declare) or declared.value is not None or declared.dims:
        return False
    return (
        isinstance(statement, c.Assign) and statement.op == "=" and statement.target == c.Name(declared.name)
    )


def declared_late(body: Block) -> dict[Buffer, Store]:
    """Scalars of a block whose first mention is a store of the block itself, with that store."""
    waiting = {s.buffer for s in body if isinstance(s, Alloc) and not s.buffer.shape}
    found: dict[Buffer, Store] = {}
    for statement in body:
        for inner in walk(Block((statement,))):
            waiting -= {
                read.source for read in places.statement_reads(inner) if isinstance(read.source, Buffer)
            }
            if isinstance(inner, Store) and inner is statement and inner.buffer in waiting:
                found[inner.buffer] = inner
            if isinstance(inner, (Store, Reduce)):
                waiting.discard(inner.buffer)
    return found


def every_index(kernel: Kernel) -> Iterable[IndexLike]:
    """Every integer expression of a kernel: places, bounds, index values."""
    for param in kernel.params:
        yield param.size
    for statement in walk(kernel.body):
        if isinstance(statement, For):
            yield from (statement.start, statement.stop)
        elif isinstance(statement, (Store, Reduce)):
            yield places.flat(statement.buffer, statement.index)
            yield from _indices_of(statement.value)
            for read in places.index_reads(*statement.index):
                yield from _indices_of(read)
        elif isinstance(statement, (If, While)):
            yield from _indices_of(statement.condition)


def _indices_of(value: Expr) -> Iterable[IndexLike]:
    stack, seen = [value], set()
    while stack:
        part = stack.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        indices: tuple[IndexLike, ...] = ()
        if isinstance(part, Read) and isinstance(part.source, Buffer):
            indices = part.index
            yield places.flat(part.source, part.index)
        elif isinstance(part, IndexValue):
            indices = (part.index,)
            yield part.index
        stack.extend(getattr(part, "args", ()))
        stack.extend(d.value for i in indices for d in places.dynamics(i) if isinstance(d.value, Expr))


def used_variables(body: Block) -> set[Var]:
    """Every variable a block mentions."""
    used: set[Var] = set()
    for statement in walk(body):
        roots: tuple[Expr, ...] = ()
        if isinstance(statement, For):
            used |= places.index_variables(statement.start) | places.index_variables(statement.stop)
        elif isinstance(statement, (Store, Reduce)):
            roots = (statement.value,)
            for index in statement.index:
                used |= places.index_variables(index)
        elif isinstance(statement, (If, While)):
            roots = (statement.condition,)
        elif isinstance(statement, Alloc):
            for extent in statement.buffer.shape:
                used |= places.index_variables(extent)
        for root in roots:
            for index in _indices_of(root):
                used |= places.index_variables(index)
    return used


def document(kernel: Kernel) -> tuple[str, ...]:
    """The comment above a kernel: what it computes, what it costs, how it was scheduled."""
    lines = list(kernel.doc) or [kernel.name]
    if kernel.flops or kernel.bytes:
        lines.append(f"{kernel.flops:,} flops, {kernel.bytes:,} bytes")
    if kernel.schedule:
        lines.append("schedule: " + ", ".join(kernel.schedule))
    return tuple(lines)
