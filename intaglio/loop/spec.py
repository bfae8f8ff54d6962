"""The rules of the loop level; `verify` holds a program to them and says which one is broken.

Scopes: every variable and buffer is declared before its use. Types: ranks and element types agree.
Bounds: a place whose interval is known lies inside of its buffer. Threads: a parallel loop is
outermost and its iterations provably touch different places of everything they write.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from intaglio.loop import places
from intaglio.loop.independence import shared_buffer
from intaglio.loop.ir import (
    Alloc,
    Block,
    Buffer,
    Call,
    For,
    If,
    Kernel,
    Let,
    Prefetch,
    Program,
    Reduce,
    Stmt,
    Store,
    While,
)
from intaglio.ops.expr import FUNCTIONS, Apply, Const, Expr, IndexValue, Read
from intaglio.shared import dtypes
from intaglio.shared.errors import VerifyError
from intaglio.shared.index import IndexLike, Var, interval, substitute

INTRINSIC = {"where": 3, "cast": 1, "bitcast": 1}


def verify(program: Program) -> None:
    """Raise a VerifyError when the program breaks a rule of the loop level."""
    _verify_declarations(program)
    for kernel in program.kernels:
        verify_kernel(kernel, frozenset(program.dimensions))
    scope = _Scope(
        program.name, set(program.symbols), set(program.buffers), calls=True, symbolic=bool(program.symbols)
    )
    for phase, body in program.phases.items():
        scope.path = f"{program.name}.{phase}"
        _verify_block(body, scope, program)


def verify_kernel(kernel: Kernel, symbols: frozenset[Var] = frozenset()) -> None:
    """Raise a VerifyError when one kernel breaks a rule."""
    names = [buffer.name for buffer in kernel.params]
    if len(set(names)) != len(names):
        raise VerifyError(f"kernel {kernel.name}: two parameters have the same name in {names}")
    missing = [buffer.name for buffer in kernel.written if buffer not in kernel.params]
    if missing:
        raise VerifyError(f"kernel {kernel.name}: written buffers {missing} are not parameters")
    scope = _Scope(
        kernel.name, set(symbols), set(kernel.params), writable=set(kernel.written), symbolic=bool(symbols)
    )
    _verify_block(kernel.body, scope, None)
    for statement in kernel.body:
        if isinstance(statement, For) and statement.kind == "parallel":
            shared = shared_buffer(statement)
            if shared is not None:
                raise VerifyError(
                    f"{kernel.name}: iterations of the parallel loop over {statement.var} may touch the same "
                    f"element of {shared!r}",
                    hint="make the loop serial, or index the buffer by its variable",
                )


@dataclass
class _Scope:
    """What may be named at a place of the program."""

    path: str
    variables: set[Var]
    buffers: set[Buffer]
    writable: set[Buffer] | None = None
    calls: bool = False
    depth: int = 0
    lanes: int = 0
    guarded: bool = False
    symbolic: bool = False
    limits: dict[Var, tuple[IndexLike, IndexLike]] = field(default_factory=dict)
    verified: dict[tuple[int, bool], Apply] = field(default_factory=dict)

    def fail(self, text: str) -> VerifyError:
        return VerifyError(f"{self.path}: {text}")

    def inner(self, loop: For | None = None) -> _Scope:
        """A scope inside of a loop, or of a branch when there is none; what it declares ends with it."""
        made = _Scope(
            self.path,
            set(self.variables),
            set(self.buffers),
            None if self.writable is None else set(self.writable),
            self.calls,
            self.depth + 1,
            self.lanes,
            self.guarded or loop is None,
            self.symbolic,
            dict(self.limits),
        )
        if loop is not None:
            made.variables.add(loop.var)
            made.lanes += loop.kind == "vector"
            if self.symbolic or not (isinstance(loop.start, int) and isinstance(loop.stop, int)):
                made.limits[loop.var] = loop.start, loop.stop - 1
        return made

    def highest(self, index: IndexLike) -> IndexLike:
        """A bound from above: loop variables become their limits, innermost first, where these or the sizes
        have symbols."""
        for var, (first, last) in reversed(self.limits.items()):
            way = places.direction(index, var)
            if way:
                index = substitute(index, {var: last if way > 0 else first})
        return places.multiplied_out(places.without_quotients(index))

    def inside(self, place: IndexLike, extent: IndexLike) -> bool:
        """Whether `0 <= place < extent`, as far as bounds are known. Of what is read at run time only the
        bounds it comes with are known, so that a symbolic extent stands for its largest value."""
        if not isinstance(extent, int) and any(True for _ in places.dynamics(place)):
            extent = interval(extent)[1] or extent
        above = [
            interval(e)[1] for e in (place - extent, *places.without_minima(self.highest(place - extent)))
        ]
        below = [interval(e)[1] for e in (place * -1, *places.without_minima(self.highest(place * -1)))]
        return all(any(b is None or b < limit for b in bounds) for bounds, limit in ((above, 0), (below, 1)))


def _verify_declarations(program: Program) -> None:
    names: dict[str, Buffer] = {}
    for buffer in program.buffers:
        if names.setdefault(buffer.name, buffer) is not buffer:
            raise VerifyError(f"program {program.name}: two buffers are named {buffer.name}")
        _verify_buffer(program, buffer)
    kernels = [kernel.name for kernel in program.kernels]
    if len(set(kernels)) != len(kernels):
        raise VerifyError(f"program {program.name}: two kernels have the same name in {kernels}")


def _verify_buffer(program: Program, buffer: Buffer) -> None:
    place = f"program {program.name}: {buffer!r}"
    expected = {
        "inputs": "input",
        "outputs": "output",
        "states": "state",
        "constants": "constant",
        "scratch": "scratch",
    }
    held = next(field for field in expected if buffer in getattr(program, field))
    if buffer.role != expected[held]:
        raise VerifyError(f"{place} has role {buffer.role} but is one of the program's {held}")
    if buffer.alias is not None and buffer.alias not in program.buffers:
        raise VerifyError(
            f"{place} shares the memory of {buffer.alias.name}, which the program does not declare"
        )
    data = buffer.data
    if data is not None and (data.shape != buffer.shape or data.dtype != buffer.dtype.numpy):
        raise VerifyError(f"{place} has data of type {data.dtype}{list(data.shape)}")
    size = interval(buffer.size)[1]
    if program.arena_bytes is not None and buffer.offset is not None and size is not None:
        end = buffer.offset + size * buffer.dtype.size
        if end > program.arena_bytes:
            raise VerifyError(f"{place} ends at byte {end} of an arena of {program.arena_bytes}")


def _verify_block(body: Block, scope: _Scope, program: Program | None) -> None:
    for statement in body:
        for index in _indices(statement):
            _verify_index(index, scope)
        if isinstance(statement, Alloc):
            _verify_alloc(statement.buffer, scope)
        elif isinstance(statement, (Store, Reduce)):
            _verify_write(statement, scope)
        elif isinstance(statement, Prefetch):
            _verify_place(statement.buffer, statement.index, scope, guarded=False)
        elif isinstance(statement, For):
            _verify_for(statement, scope, program)
        elif isinstance(statement, (If, While)):
            _verify_condition(statement, scope, program)
        elif isinstance(statement, Call):
            _verify_call(statement, scope, program)
        elif isinstance(statement, Let):
            _verify_let(statement, scope, program)


def _indices(statement: Stmt) -> Iterator[IndexLike]:
    if isinstance(statement, (Store, Reduce, Prefetch)):
        yield from statement.index
    elif isinstance(statement, For):
        yield from (statement.start, statement.stop)
    elif isinstance(statement, Call):
        yield from (slice_.offset for slice_ in statement.args)


def _verify_index(index: IndexLike, scope: _Scope) -> None:
    unknown = {str(v) for v in places.index_variables(index) - scope.variables}
    if unknown:
        raise scope.fail(f"index {index} uses {', '.join(sorted(unknown))}, which no loop around it declares")
    for atom in places.dynamics(index):
        if isinstance(atom.value, Expr):
            _verify_value(atom.value, scope, guarded=True)


def _verify_alloc(buffer: Buffer, scope: _Scope) -> None:
    if any(buffer.name == other.name for other in scope.buffers):
        raise scope.fail(f"local buffer {buffer.name} hides another one of that name")
    if buffer.role != "local":
        raise scope.fail(f"allocated buffer {buffer!r} has role {buffer.role}")
    if buffer.space == "register" and not all(isinstance(extent, int) for extent in buffer.shape):
        raise scope.fail(f"register buffer {buffer!r} has no constant shape")
    scope.buffers.add(buffer)
    if scope.writable is not None:
        scope.writable.add(buffer)


def _verify_write(statement: Store | Reduce, scope: _Scope) -> None:
    buffer = statement.buffer
    _verify_place(buffer, statement.index, scope, guarded=False)
    if scope.writable is not None and buffer not in scope.writable:
        raise scope.fail(f"{buffer.name} is written but not among the kernel's written buffers")
    if buffer.role in ("input", "constant") and scope.writable is None:
        raise scope.fail(f"{buffer.name} is written but its role is {buffer.role}")
    _verify_value(statement.value, scope, guarded=False)
    if statement.value.dtype not in (buffer.dtype, buffer.dtype.arithmetic):
        raise scope.fail(f"a {statement.value.dtype} value is stored in {buffer!r}")


def _verify_for(loop: For, scope: _Scope, program: Program | None) -> None:
    if loop.step < 1:
        raise scope.fail(f"loop over {loop.var} has step {loop.step}")
    if loop.var in scope.variables or any(loop.var.name == v.name for v in scope.variables):
        raise scope.fail(f"loop over {loop.var} hides an outer variable of that name")
    if loop.kind == "parallel" and scope.depth:
        raise scope.fail(f"parallel loop over {loop.var} is not outermost")
    if loop.kind == "vector" and not (isinstance(loop.extent, int) and loop.start == 0 and loop.step == 1):
        raise scope.fail(
            f"vector loop over {loop.var} runs from {loop.start} to {loop.stop} by {loop.step}; "
            f"its lanes must be counted from 0 to a constant"
        )
    if loop.kind == "vector" and scope.lanes:
        raise scope.fail(f"vector loop over {loop.var} stands inside of another one")
    (first, _), (_, last) = interval(loop.start), interval(loop.stop)
    covers_lo = first is not None and loop.var.lo <= first
    covers_hi = loop.var.hi is None or (last is not None and loop.var.hi >= last - loop.step)
    exact_hi = loop.var.hi is None or (last is not None and loop.var.hi >= _last(loop, last))
    if not (covers_lo and covers_hi and exact_hi):
        raise scope.fail(
            f"loop from {loop.start} to {loop.stop} leaves the bounds of its variable: "
            f"{loop.var.lo} .. {loop.var.hi}"
        )
    _verify_block(loop.body, scope.inner(loop), program)


def _last(loop: For, stop: int) -> int:
    """The largest value of the variable, for a constant start the exact one."""
    if isinstance(loop.start, int) and stop > loop.start:
        return loop.start + (stop - 1 - loop.start) // loop.step * loop.step
    return stop - 1 if stop > 0 else -1


def _verify_condition(statement: If | While, scope: _Scope, program: Program | None) -> None:
    condition = statement.condition
    _verify_value(condition, scope, guarded=True)
    if condition.dtype != dtypes.bool_:
        raise scope.fail(f"condition {condition} is {condition.dtype}, not bool")
    bodies = [statement.body] if isinstance(statement, While) else [statement.then]
    if isinstance(statement, If) and statement.orelse is not None:
        bodies.append(statement.orelse)
    for body in bodies:
        _verify_block(body, scope.inner(), program)


def _verify_let(let: Let, scope: _Scope, program: Program | None) -> None:
    if program is None or let.var not in program.sizes:
        raise scope.fail(f"{let.var} is given a value but is no size of the program")
    if let.value.dtype != dtypes.i64:
        raise scope.fail(f"size {let.var} is {let.value.dtype}, not i64")
    _verify_value(let.value, scope, guarded=True)
    scope.variables.add(let.var)


def _verify_call(call: Call, scope: _Scope, program: Program | None) -> None:
    kernel = call.kernel
    if not scope.calls or program is None:
        raise scope.fail(f"kernel {kernel.name} is called; only a program's driver calls")
    if kernel not in program.kernels:
        raise scope.fail(f"kernel {kernel.name} is called but not part of the program")
    if len(call.args) != len(kernel.params):
        raise scope.fail(f"{kernel.name} takes {len(kernel.params)} buffers, got {len(call.args)}")
    for param, arg in zip(kernel.params, call.args, strict=True):
        _verify_argument(kernel, param, arg.buffer, arg.offset, scope)
    _verify_aliases(call, scope)


def _verify_argument(kernel: Kernel, param: Buffer, buffer: Buffer, offset: IndexLike, scope: _Scope) -> None:
    place = f"{kernel.name}({param.name} = {buffer.name})"
    if buffer not in scope.buffers:
        raise scope.fail(f"{place}: {buffer.name} is not declared")
    if param.dtype != buffer.dtype:
        raise scope.fail(f"{place}: parameter {param!r} is given {buffer!r}")
    if param in kernel.written and buffer.role in ("input", "constant"):
        raise scope.fail(f"{place}: the kernel writes to a buffer of role {buffer.role}")
    first, _ = interval(offset)
    beyond = offset + param.size - buffer.size
    spare = [interval(e)[1] for e in (beyond, scope.highest(beyond))]
    if (first is not None and first < 0) or all(e is not None and e > 0 for e in spare):
        raise scope.fail(f"{place}: {param.size} elements from {offset} on leave {buffer!r}")


def _verify_aliases(call: Call, scope: _Scope) -> None:
    """A written parameter shares no memory with another one: kernels declare theirs `restrict`."""
    held: list[tuple[Buffer, Buffer, IndexLike, IndexLike]] = []
    for param, arg in zip(call.kernel.params, call.args, strict=True):
        root = arg.buffer
        while root.alias is not None:
            root = root.alias
        held.append((param, root, arg.offset, arg.offset + param.size))
    for k, (param, root, start, stop) in enumerate(held):
        for other, other_root, other_start, other_stop in held[k + 1 :]:
            if root is not other_root or not {param, other} & set(call.kernel.written):
                continue
            if not (_at_most(stop, other_start) or _at_most(other_stop, start)):
                raise scope.fail(
                    f"{call.kernel.name}: parameters {param.name} and {other.name} share "
                    f"{root.name}, and one of them is written"
                )


def _at_most(a: IndexLike, b: IndexLike) -> bool:
    lo, _ = interval(b - a)
    return lo is not None and lo >= 0


def _verify_place(buffer: Buffer, index: tuple[IndexLike, ...], scope: _Scope, guarded: bool) -> None:
    if buffer not in scope.buffers:
        raise scope.fail(f"{buffer.name} is used but not declared here")
    if len(index) != len(buffer.shape):
        raise scope.fail(f"{buffer!r} is indexed by {len(index)} axes: [{', '.join(map(str, index))}]")
    if guarded or scope.guarded:
        return
    for axis, (place, extent) in enumerate(zip(index, buffer.shape, strict=True)):
        if not scope.inside(place, extent):
            raise scope.fail(f"index {place} of axis {axis} leaves {buffer!r}")


def _verify_value(value: Expr, scope: _Scope, guarded: bool) -> None:
    """Check a value; a `guarded` one stands behind a condition that may keep its places inside."""
    if isinstance(value, Read):
        if not isinstance(value.source, Buffer):
            raise scope.fail(f"{value} reads {value.source!r}, which is no buffer")
        for index in value.index:
            _verify_index(index, scope)
        _verify_place(value.source, value.index, scope, guarded)
        if value.dtype not in (value.source.dtype, value.source.dtype.arithmetic):
            raise scope.fail(f"{value} reads {value.source!r} as {value.dtype}")
    elif isinstance(value, IndexValue):
        _verify_index(value.index, scope)
    elif isinstance(value, Apply):
        if (id(value), guarded) not in scope.verified:
            scope.verified[id(value), guarded] = value
            _verify_apply(value, scope, guarded)
    elif not isinstance(value, Const):
        raise scope.fail(f"{value!r} is no expression of the loop level")


def _verify_apply(value: Apply, scope: _Scope, guarded: bool) -> None:
    if value.fn not in FUNCTIONS and value.fn not in INTRINSIC:
        raise scope.fail(f"function {value.fn} is not known")
    if len(value.args) != INTRINSIC.get(value.fn, len(value.args)):
        raise scope.fail(f"{value.fn} is given {len(value.args)} arguments")
    if value.fn == "where":
        condition, a, b = value.args
        if condition.dtype != dtypes.bool_ or not a.dtype == b.dtype == value.dtype:
            raise scope.fail(f"where({condition.dtype}, {a.dtype}, {b.dtype}) gives {value.dtype}")
        _verify_value(condition, scope, guarded=True)
        guarded = True
    elif value.fn not in INTRINSIC:
        want = dtypes.bool_ if FUNCTIONS[value.fn].result == "bool" else value.args[-1].dtype
        if value.dtype != want:
            raise scope.fail(f"{value} is {value.dtype} but {value.fn} of these arguments is {want}")
    for argument in value.args:
        _verify_value(argument, scope, guarded)
