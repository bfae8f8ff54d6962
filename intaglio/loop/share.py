"""ShareKernels: kernels that differ in names only become one, called with other arrays.

Layers of one shape cost the C compiler, the instruction cache and the reader once. Two kernels are the
same when their bodies are equal after numbering their arrays in order of appearance. Arrays that serve as
indices keep their identity, so kernels that gather are shared only with themselves.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

from intaglio.loop.ir import (
    Alloc,
    Block,
    Buffer,
    Call,
    For,
    If,
    Kernel,
    Prefetch,
    Program,
    Reduce,
    Stmt,
    Store,
    While,
)
from intaglio.ops.expr import Apply, Const, Expr, IndexValue, Read


def share_kernels(program: Program) -> Program:
    """Make equal kernels one, in place; returns the program."""
    first: dict[Hashable, Kernel] = {}
    instead: dict[int, Kernel] = {}
    calls: dict[int, int] = {}
    for kernel in program.kernels:
        kept = first.setdefault(signature(kernel), kernel)
        instead[id(kernel)] = kept
        calls[id(kept)] = calls.get(id(kept), 0) + 1
    for kernel in first.values():
        if calls[id(kernel)] > 1:
            kernel.doc = (*kernel.doc, f"shared by {calls[id(kernel)]} operators of the same shapes")
    program.kernels = list(first.values())
    program.phases = {phase: _redirect(body, instead) for phase, body in program.phases.items()}
    return program


def _redirect(body: Block, instead: dict[int, Kernel]) -> Block:
    return Block(tuple(_redirected(statement, instead) for statement in body))


def _redirected(statement: Stmt, instead: dict[int, Kernel]) -> Stmt:
    if isinstance(statement, Call):
        return Call(instead.get(id(statement.kernel), statement.kernel), statement.args)
    if isinstance(statement, (For, While)):
        return replace(statement, body=_redirect(statement.body, instead))
    if isinstance(statement, If):
        orelse = None if statement.orelse is None else _redirect(statement.orelse, instead)
        return If(statement.condition, _redirect(statement.then, instead), orelse)
    return statement


def signature(kernel: Kernel) -> Hashable:
    """What a kernel does, without the names of its arrays: equal signatures, equal kernels."""
    names = _Numbering()
    params = tuple(names.buffer(b) for b in kernel.params)
    written = tuple(names.buffer(b) for b in kernel.written)
    return params, written, names.block(kernel.body)


@dataclass
class _Numbering:
    """Numbers for arrays and for expressions, in order of appearance; shared expressions are walked once."""

    buffers: dict[Buffer, int] = field(default_factory=dict)
    numbers: dict[Hashable, int] = field(default_factory=dict)
    seen: dict[int, int] = field(default_factory=dict)

    def buffer(self, buffer: Buffer) -> Hashable:
        if buffer not in self.buffers:
            self.buffers[buffer] = len(self.buffers)
            return (len(self.buffers) - 1, buffer.dtype, buffer.shape, buffer.role, buffer.space)
        return self.buffers[buffer]

    def value(self, value: Expr) -> Hashable:
        if id(value) not in self.seen:
            key = self._key(value)
            self.seen[id(value)] = self.numbers.setdefault(key, len(self.numbers))
            return key
        return self.seen[id(value)]

    def _key(self, value: Expr) -> Hashable:
        if isinstance(value, Const):
            return "const", repr(value.value), value.dtype
        if isinstance(value, Read):
            source = self.buffer(value.source) if isinstance(value.source, Buffer) else value.source
            return "read", source, value.index, value.dtype
        if isinstance(value, Apply):
            return value.fn, tuple(self.value(a) for a in value.args), value.dtype
        assert isinstance(value, IndexValue)
        return "index", value.index, value.dtype

    def block(self, body: Block) -> Hashable:
        return tuple(self.statement(s) for s in body)

    def statement(self, statement: Stmt) -> Hashable:
        if isinstance(statement, Store):
            return "store", self.buffer(statement.buffer), statement.index, self.value(statement.value)
        if isinstance(statement, Reduce):
            how = (statement.combine, statement.ordered)
            return how, self.buffer(statement.buffer), statement.index, self.value(statement.value)
        if isinstance(statement, For):
            loop = (statement.var, statement.start, statement.stop, statement.step, statement.kind)
            return "for", loop, self.block(statement.body)
        if isinstance(statement, Prefetch):
            return "prefetch", self.buffer(statement.buffer), statement.index
        if isinstance(statement, Alloc):
            return "alloc", self.buffer(statement.buffer)
        if isinstance(statement, If):
            orelse = None if statement.orelse is None else self.block(statement.orelse)
            return "if", self.value(statement.condition), self.block(statement.then), orelse
        if isinstance(statement, While):
            return "while", self.value(statement.condition), self.block(statement.body)
        return type(statement).__name__, str(getattr(statement, "text", statement))
