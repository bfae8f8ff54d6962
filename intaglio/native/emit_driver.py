"""The driver of a program: functions that the outside calls, which read like the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from intaglio.loop.ir import Block, Buffer, Call, Comment, For, If, Let, Program, Slice, Stmt, While
from intaglio.loop.memory import touched
from intaglio.native import tree as c
from intaglio.native.emit_index import IndexEmitter
from intaglio.native.emit_kernel import EmittedKernel
from intaglio.native.emit_value import Context, ValueEmitter
from intaglio.native.helper import element_type
from intaglio.native.helpers import Helpers
from intaglio.native.names import Names
from intaglio.ops.expr import Expr
from intaglio.ops.movement import flat_index
from intaglio.shared import dtypes
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import Dynamic, IndexLike, Var

_ENTRY = (
    c.Param(c.Type("void *const", pointer=True), "buffers"),
    c.Param(c.Type("int64_t", pointer=True, const=True), "symbols"),
    c.Param(c.VOID_POINTER, "pool"),
)


class DriverEmitter:
    """Emits the entry points of a program."""

    def __init__(
        self, program: Program, prefix: str, kernels: Mapping[int, EmittedKernel], helpers: Helpers
    ) -> None:
        self.program = program
        self.prefix = prefix
        self.kernels = kernels
        self.helpers = helpers
        called = {kernel.name for kernel in kernels.values()}
        self.names = Names({"buffers", "symbols", "pool", "arena", *called})
        self.buffers = {b: self.names.unique(b.name) for b in program.buffers}
        self.variables = {v: self.names.unique(v.name) for v in program.symbols}
        self.used: set[Var] = set()
        self.index = IndexEmitter(helpers, self.variable, self._dynamic)
        self.context = Context(
            helpers, self.names, self.variable, self.buffers.__getitem__, self.element, c.INT64
        )

    def run(self) -> c.Function:
        """`NAME_run`: all phases in order."""
        args = tuple(c.Name(p.name) for p in _ENTRY)
        *first, last = [c.Invoke(f"{self.prefix}_{phase}", args) for phase in self.program.phases]
        body: list[c.Stmt] = [*map(c.Do, first), c.Return(last)]
        return c.Function(
            c.INT,
            f"{self.prefix}_run",
            _ENTRY,
            tuple(body),
            ("Run everything once.",),
            static=False,
        )

    def phase(self, phase: str) -> c.Function:
        """`NAME_forward`, ...: the calls of one phase behind the names of their buffers."""
        block = self.program.phases[phase]
        calls: list[c.Stmt] = []
        self.block(block, calls)
        body: list[c.Stmt] = [*self._pointers(block), *self._symbols(), *self._unused(block), *calls]
        body.append(c.Return(c.number(0)))
        doc = (f"{phase}: buffers are {self._order()}",)
        return c.Function(c.INT, f"{self.prefix}_{phase}", _ENTRY, tuple(body), doc, static=False)

    def _order(self) -> str:
        fixed = [b for b in self.program.buffers if b.role != "scratch"]
        names = [self.buffers[b] for b in fixed[:12]]
        if len(fixed) > 12:
            names.append(f"... ({len(fixed)} in all)")
        return ", ".join([*names, "arena"])

    def _pointers(self, block: Block) -> Iterable[c.Stmt]:
        """A declaration for every buffer the block touches; scratch ones lie in the arena."""
        used = {b for statement in block for b in touched(statement)}
        used |= {b.alias for b in used if b.alias is not None}
        roots = {_root(b) for b in used}
        fixed = [b for b in self.program.buffers if b.role != "scratch"]
        if any(b.role == "scratch" for b in roots):
            yield c.Declare(
                c.Type("unsigned char", pointer=True), "arena", value=_element("buffers", len(fixed))
            )
        for buffer in sorted(used | roots, key=lambda b: b.alias is not None):
            if buffer not in self.buffers:
                raise UnsupportedError(f"buffer {buffer!r} is not part of program {self.program.name}")
        for position, buffer in enumerate(fixed):
            if buffer in used | roots:
                const = buffer.role in ("input", "constant")
                type_ = c.Type(element_type(buffer.dtype), pointer=True, const=const)
                yield c.Declare(type_, self.buffers[buffer], value=_element("buffers", position))
        for buffer in self.program.scratch:
            if buffer in used | roots:
                yield self._scratch(buffer)

    def _scratch(self, buffer: Buffer) -> c.Stmt:
        type_ = c.Type(element_type(buffer.dtype), pointer=True)
        root = _root(buffer)
        if root is not buffer and root.role != "scratch":
            place: c.Expr = c.Name(self.buffers[root])
        elif root.offset is None:
            raise UnsupportedError(f"scratch buffer {buffer!r} has no place in the arena: plan memory first")
        else:
            place = c.Binary("+", c.Name("arena"), c.number(root.offset)) if root.offset else c.Name("arena")
        return c.Declare(type_, self.buffers[buffer], value=c.Cast(type_, place))

    def _symbols(self) -> Iterable[c.Stmt]:
        for position, symbol in enumerate(self.program.symbols):
            if symbol in self.used:
                yield c.Declare(c.INT64, self.variables[symbol], value=_element("symbols", position))

    def _unused(self, block: Block) -> Iterable[c.Stmt]:
        used = {b for statement in block for b in touched(statement)}
        pools = any(self.kernels[id(s.kernel)].pool for s in _calls(block))
        for name, is_used in (("buffers", used), ("symbols", self.used), ("pool", pools)):
            if not is_used:
                yield c.Do(c.Cast(c.VOID, c.Name(name)))

    def block(self, body: Block, out: list[c.Stmt]) -> None:
        for statement in body:
            self.statement(statement, out)

    def statement(self, statement: Stmt, out: list[c.Stmt]) -> None:
        if isinstance(statement, Call):
            self.call(statement, out)
        elif isinstance(statement, Comment):
            out.append(c.Remark(statement.text))
        elif isinstance(statement, For):
            self.loop(statement, out)
        elif isinstance(statement, If):
            condition = ValueEmitter(self.context, statement.condition).emit(out)
            then: list[c.Stmt] = []
            orelse: list[c.Stmt] = []
            self.block(statement.then, then)
            self.block(statement.orelse or Block(), orelse)
            out.append(c.Branch(condition, tuple(then), tuple(orelse)))
        elif isinstance(statement, While):
            self.while_loop(statement, out)
        elif isinstance(statement, Let):
            self.let(statement, out)
        else:
            raise UnsupportedError(f"program {self.program.name}: a {type(statement).__name__} in the driver")

    def while_loop(self, statement: While, out: list[c.Stmt]) -> None:
        body: list[c.Stmt] = []
        condition = ValueEmitter(self.context, statement.condition).emit(body)
        if body:
            body.append(c.Branch(c.Unary("!", condition), (c.Break(),)))
            condition = c.Number(True, dtypes.bool_)
        self.block(statement.body, body)
        out.append(c.WhileLoop(condition, tuple(body)))

    def let(self, let: Let, out: list[c.Stmt]) -> None:
        """`const int64_t n = ...;`, which the calls behind it take as they take the caller's sizes."""
        value = ValueEmitter(self.context, let.value, dtypes.i64).emit(out)
        self.variables[let.var] = self.names.unique(let.var.name)
        out.append(c.Declare(c.INT64, self.variables[let.var], value=value))

    def loop(self, loop: For, out: list[c.Stmt]) -> None:
        start, stop = self.index.emit(loop.start), self.index.emit(loop.stop)
        name = self.variables[loop.var] = self.names.unique(loop.var.name)
        body: list[c.Stmt] = []
        self.block(loop.body, body)
        self.names.taken.discard(name)
        out.append(c.Loop(c.INT64, name, start, stop, loop.step, tuple(body)))

    def call(self, call: Call, out: list[c.Stmt]) -> None:
        emitted = self.kernels[id(call.kernel)]
        args: list[c.Expr] = [self._argument(a) for a in call.args]
        args += [c.Name(self.variable(symbol)) for symbol in emitted.symbols]
        if emitted.pool:
            args.append(c.Name("pool"))
        if call.kernel.doc:
            out.append(c.Remark(call.kernel.doc[0]))
        out.append(c.Do(c.Invoke(emitted.name, tuple(args))))

    def _argument(self, slice_: Slice) -> c.Expr:
        base = c.Name(self.buffers[slice_.buffer])
        return base if slice_.offset == 0 else c.Binary("+", base, self.index.emit(slice_.offset))

    def variable(self, var: Var) -> str:
        if var in self.program.symbols:
            self.used.add(var)
        return self.variables[var]

    def element(self, buffer: Buffer, index: tuple[IndexLike, ...], emitter: IndexEmitter) -> c.Expr:
        return c.Element(c.Name(self.buffers[buffer]), emitter.emit(flat_index(index, buffer.shape)))

    def _dynamic(self, atom: Dynamic) -> c.Expr:
        if not isinstance(atom.value, Expr):
            raise UnsupportedError(f"index {atom} is no expression")
        declared: list[c.Stmt] = []
        value = ValueEmitter(self.context, atom.value, dtypes.i64).emit(declared)
        if declared:
            raise UnsupportedError(f"index {atom} of the driver is too large an expression")
        return value


def pool_functions(prefix: str, threaded: bool, helpers: Helpers) -> tuple[c.Item, ...]:
    """`NAME_pool_create` and `NAME_pool_destroy`; without parallel loops there is no pool."""
    threads = c.Param(c.INT, "threads")
    pool = c.Param(c.VOID_POINTER, "pool")
    create: list[c.Stmt]
    destroy: list[c.Stmt]
    if threaded:
        create = [c.Return(c.Invoke("pool_create", (c.Name("threads"),)))]
        destroy = [c.Do(c.Invoke("pool_destroy", (c.Name("pool"),)))]
    else:
        helpers.headers.add("stddef.h")
        create = [c.Do(c.Cast(c.VOID, c.Name("threads"))), c.Return(c.Name("NULL"))]
        destroy = [c.Do(c.Cast(c.VOID, c.Name("pool")))]
    return (
        c.Function(c.VOID_POINTER, f"{prefix}_pool_create", (threads,), tuple(create),
                   ("Threads for the calls; NULL when one is enough or none can be had.",), static=False),
        c.Function(c.VOID, f"{prefix}_pool_destroy", (pool,), tuple(destroy), (), static=False),
    )  # fmt: skip


def _element(name: str, position: int) -> c.Expr:
    return c.Element(c.Name(name), c.number(position))


def _root(buffer: Buffer) -> Buffer:
    while buffer.alias is not None:
        buffer = buffer.alias
    return buffer


def _calls(body: Block) -> Iterable[Call]:
    for statement in body:
        if isinstance(statement, Call):
            yield statement
        elif isinstance(statement, (For, While)):
            yield from _calls(statement.body)
        elif isinstance(statement, If):
            yield from _calls(statement.then)
            yield from _calls(statement.orelse or Block())
