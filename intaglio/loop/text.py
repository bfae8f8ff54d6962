"""The text of loop programs: indented, Python-like, and read back to an equal program.

    program mlp
    input x: f32[128, 784]
    output y: f32[128, 10]
    kernel dot(x: f32[128, 784], w: f32[784, 10], y: f32[128, 10]) writes y
        for i in range(128) parallel
            alloc acc: f32[10] register
            ...
    forward
        dot(x, w, y)

Contents of constants and initial states are not part of the text; `parse_program` takes them by name.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from intaglio.loop.ir import (
    Alloc,
    Block,
    Buffer,
    Call,
    Comment,
    For,
    If,
    Kernel,
    Let,
    Prefetch,
    Program,
    Reduce,
    Slice,
    Stmt,
    Store,
    While,
)
from intaglio.loop.text_value import ValueReader, parse_expression, print_index, print_place, print_value
from intaglio.shared import dtypes
from intaglio.shared.errors import ParseError
from intaglio.shared.index import IndexLike, Var, interval

INDENT = "    "
ROLES = {
    "input": "inputs",
    "output": "outputs",
    "state": "states",
    "constant": "constants",
    "scratch": "scratch",
}


def print_program(program: Program) -> str:
    """The text of a program; equal programs have equal texts."""
    lines = [f"program {program.name}"]
    if program.arena_bytes is not None:
        lines.append(f"arena {program.arena_bytes}")
    lines += [f"symbol {var} in {var.lo} .. {var.hi}" for var in program.symbols]
    for var, buffer in program.sizes.items():
        lines.append(f"size {var} in {var.lo} .. {var.hi}" + ("" if buffer is None else f" in {buffer.name}"))
    for role, group in ROLES.items():
        lines += [_declaration(role, buffer) for buffer in getattr(program, group)]
    for kernel in program.kernels:
        lines += print_kernel(kernel)
    for phase, body in program.phases.items():
        lines += ["", f"phase {phase}", *_print_block(body, 1)]
    return "\n".join(lines) + "\n"


def print_kernel(kernel: Kernel) -> list[str]:
    """The lines of one kernel, a blank one first."""
    params = ", ".join(_type(buffer) for buffer in kernel.params)
    lines = ["", f"kernel {kernel.name}({params}) writes {', '.join(b.name for b in kernel.written)}"]
    lines += [f"{INDENT}doc {json.dumps(text)}" for text in kernel.doc]
    lines += [f"{INDENT}schedule {json.dumps(text)}" for text in kernel.schedule]
    if kernel.flops or kernel.bytes:
        lines.append(f"{INDENT}cost {kernel.flops} flops, {kernel.bytes} bytes")
    return lines + _print_block(kernel.body, 1)


def _type(buffer: Buffer) -> str:
    return f"{buffer.name}: {buffer.dtype}[{', '.join(map(print_index, buffer.shape))}]"


def _declaration(role: str, buffer: Buffer) -> str:
    text = f"{role} {_type(buffer)}"
    if buffer.alias is not None:
        text += f" alias {buffer.alias.name}"
    return text if buffer.offset is None else f"{text} at {buffer.offset}"


def _print_block(body: Block, depth: int) -> list[str]:
    return [line for statement in body for line in _print_statement(statement, depth)]


def _print_statement(statement: Stmt, depth: int) -> Iterator[str]:
    pad = INDENT * depth
    if isinstance(statement, Store):
        yield f"{pad}{print_place(statement.buffer, statement.index)} = {print_value(statement.value)}"
    elif isinstance(statement, Reduce):
        order = "ordered " if statement.ordered else ""
        place = print_place(statement.buffer, statement.index)
        yield f"{pad}{order}{statement.combine} {place} = {print_value(statement.value)}"
    elif isinstance(statement, For):
        yield f"{pad}{_for_head(statement)}"
        yield from _print_block(statement.body, depth + 1)
    elif isinstance(statement, Alloc):
        yield f"{pad}alloc {_type(statement.buffer)} {statement.buffer.space}"
    elif isinstance(statement, Prefetch):
        yield f"{pad}prefetch {print_place(statement.buffer, statement.index)}"
    elif isinstance(statement, Comment):
        yield f"{pad}# {statement.text}"
    elif isinstance(statement, Let):
        yield f"{pad}let {statement.var} = {print_value(statement.value)}"
    elif isinstance(statement, Call):
        yield f"{pad}{statement.kernel.name}({', '.join(map(_slice, statement.args))})"
    else:
        word = "while" if isinstance(statement, While) else "if"
        yield f"{pad}{word} {print_value(statement.condition)}"
        yield from _print_block(statement.body if isinstance(statement, While) else statement.then, depth + 1)
        if isinstance(statement, If) and statement.orelse is not None:
            yield f"{pad}else"
            yield from _print_block(statement.orelse, depth + 1)


def _slice(slice_: Slice) -> str:
    return (
        slice_.buffer.name if slice_.offset == 0 else f"{slice_.buffer.name}[{print_index(slice_.offset)}:]"
    )


def _for_head(loop: For) -> str:
    numbers = [loop.start, loop.stop, loop.step] if loop.step != 1 else [loop.start, loop.stop]
    if numbers[0] == 0 and len(numbers) == 2:
        numbers = numbers[1:]
    head = f"for {loop.var} in range({', '.join(map(print_index, numbers))})"
    if (loop.var.lo, loop.var.hi) != _natural_bounds(loop.start, loop.stop, loop.step):
        head += f" within {loop.var.lo} .. {loop.var.hi}"
    return head if loop.kind == "serial" else f"{head} {loop.kind}"


def _natural_bounds(start: IndexLike, stop: IndexLike, step: int) -> tuple[int, int | None]:
    """The bounds a loop variable has unless the text says otherwise."""
    first, last = interval(start)[0], interval(stop)[1]
    if isinstance(start, int) and last is not None and last > start:
        return start, start + (last - 1 - start) // step * step
    return first or 0, None if last is None else last - 1


def parse_program(text: str, arrays: Mapping[str, np.ndarray[Any, Any]] | None = None) -> Program:
    """Read a program back; `arrays` holds the contents of constants and initial states by name.

    Raises:
        ParseError: with the number and text of the line that is not understood.
    """
    return _Reader(text, arrays or {}).program()


@dataclass
class _Line:
    number: int
    depth: int
    text: str
    body: list[_Line] = field(default_factory=list)

    def error(self, message: str) -> ParseError:
        return ParseError(f"line {self.number}: {message}: {self.text!r}")


_HEAD = re.compile(
    r"(input|output|state|constant|scratch) (\w+): (\w+)\[(.*?)\](?: alias (\w+))?(?: at (\d+))?"
)
_DIMENSION = re.compile(r"(symbol|size) (\w+) in (-?\d+) \.\. (-?\d+|None)(?: in (\w+))?")
_KERNEL = re.compile(r"kernel (\w+)\((.*)\) writes ?(.*)")
_PARAM = re.compile(r"(\w+): (\w+)\[(.*?)\](?:, |$)")
_FOR = re.compile(
    r"for (\w+) in range\((.*)\)(?: within (-?\d+) \.\. (-?\d+|None))?"
    r"(?: (parallel|vector|unroll))?"
)
_ALLOC = re.compile(r"alloc (\w+): (\w+)\[(.*?)\] (heap|stack|register)")
_REDUCE = re.compile(r"(ordered )?(add|mul|max|min|and|or) (\w+\[.*)")


class _Reader:
    def __init__(self, text: str, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self.lines = _tree(text)
        self.arrays = arrays
        self.buffers: dict[str, Buffer] = {}
        self.variables: dict[str, Var] = {}
        self.kernels: dict[str, Kernel] = {}
        self.sizes: dict[str, str | None] = {}

    def program(self) -> Program:
        if not self.lines or not self.lines[0].text.startswith("program "):
            raise ParseError("line 1: a program starts with `program NAME`")
        made = Program(self.lines[0].text.split(" ", 1)[1])
        for line in self.lines[1:]:
            try:
                self.top(made, line)
            except (SyntaxError, KeyError, IndexError) as error:
                raise line.error("not understood") from error
        made.sizes = {self.variables[n]: self.buffers[b] if b else None for n, b in self.sizes.items()}
        made.symbols = [var for var in self.variables.values() if var not in made.sizes]
        made.kernels = list(self.kernels.values())
        return made

    def top(self, made: Program, line: _Line) -> None:
        if line.text.startswith("arena "):
            made.arena_bytes = int(line.text.split()[1])
        elif found := _DIMENSION.fullmatch(line.text):
            word, name, lo, hi, output = found.groups()
            self.variables[name] = Var(name, int(lo), None if hi == "None" else int(hi))
            if word == "size":
                self.sizes[name] = output
        elif found := _HEAD.fullmatch(line.text):
            role, name, dtype, shape, alias, offset = found.groups()
            buffer = self.buffer(name, dtype, shape)
            buffer.role = role  # type: ignore[assignment]
            buffer.data = self.arrays.get(name)
            buffer.alias = self.buffers[alias] if alias else None
            buffer.offset = int(offset) if offset else None
            getattr(made, ROLES[role]).append(buffer)
            self.buffers[name] = buffer
        elif found := _KERNEL.fullmatch(line.text):
            self.kernels[found[1]] = self.kernel(found[1], found[2], found[3], line.body)
        elif line.text.startswith("phase "):
            scope = _Scope(self, dict(self.buffers), dict(self.variables))
            made.phases[line.text.split(" ", 1)[1]] = scope.block(line.body)
        else:
            raise line.error("neither a declaration, a kernel nor a phase")

    def buffer(self, name: str, dtype: str, shape: str) -> Buffer:
        reader = ValueReader({}, self.variables)
        extents = [reader.index(e) for e in _elements(shape)]
        return Buffer(name, dtypes.BY_NAME[dtype], tuple(extents))

    def kernel(self, name: str, params: str, written: str, body: list[_Line]) -> Kernel:
        own = [self.param(*found) for found in _PARAM.findall(params)]
        by_name = {buffer.name: buffer for buffer in own}
        notes: dict[str, list[str]] = {"doc": [], "schedule": []}
        cost, rest = (0, 0), []
        for line in body:
            word, _, tail = line.text.partition(" ")
            if word in notes and tail.startswith('"'):
                notes[word].append(json.loads(tail))
            elif found := re.fullmatch(r"cost (\d+) flops, (\d+) bytes", line.text):
                cost = int(found[1]), int(found[2])
            else:
                rest.append(line)
        scope = _Scope(self, dict(by_name), dict(self.variables))
        writes = tuple(by_name[w] for w in written.split(", ") if w)
        return Kernel(
            name, tuple(own), writes, scope.block(rest), tuple(notes["doc"]), *cost, tuple(notes["schedule"])
        )

    def param(self, name: str, dtype: str, shape: str) -> Buffer:
        """A parameter; it is the program's own buffer when that has its name and type."""
        made = self.buffer(name, dtype, shape)
        known = self.buffers.get(name)
        same = known is not None and known.dtype == made.dtype and known.shape == made.shape
        return known if same and known is not None else made


@dataclass
class _Scope:
    """Statements of one block and what names mean in it."""

    reader: _Reader
    buffers: dict[str, Buffer]
    variables: dict[str, Var]

    @property
    def values(self) -> ValueReader:
        return ValueReader(self.buffers, self.variables)

    def block(self, lines: list[_Line]) -> Block:
        statements: list[Stmt] = []
        waiting = list(reversed(lines))
        while waiting:
            line = waiting.pop()
            orelse = waiting.pop() if waiting and waiting[-1].text == "else" else None
            try:
                statements.append(self.statement(line, orelse))
            except (SyntaxError, KeyError, IndexError) as error:
                raise line.error("not understood") from error
        return Block(tuple(statements))

    def inner(self, lines: list[_Line], var: Var | None = None) -> Block:
        variables = dict(self.variables)
        if var is not None:
            variables[var.name] = var
        return _Scope(self.reader, dict(self.buffers), variables).block(lines)

    def statement(self, line: _Line, orelse: _Line | None) -> Stmt:
        text = line.text
        if text.startswith("#"):
            return Comment(text[2:])
        if text.startswith("prefetch "):
            return Prefetch(*self.values.place(parse_expression(text.partition(" ")[2])))
        if text.startswith("let "):
            name, _, size = text[4:].partition(" = ")
            return Let(self.variables[name], self.values.value(parse_expression(size)))
        if found := _FOR.fullmatch(text):
            return self.loop(found, line.body)
        if found := _ALLOC.fullmatch(text):
            buffer = self.reader.buffer(found[1], found[2], found[3])
            buffer.space = found[4]  # type: ignore[assignment]
            self.buffers[buffer.name] = buffer
            return Alloc(buffer)
        if text.startswith(("if ", "while ")):
            word, _, condition = text.partition(" ")
            value = self.values.value(parse_expression(condition))
            if word == "while":
                return While(value, self.inner(line.body))
            return If(value, self.inner(line.body), None if orelse is None else self.inner(orelse.body))
        if found := _REDUCE.fullmatch(text):
            buffer, index, value = self.assignment(found[3], line)
            return Reduce(buffer, index, found[2], value, bool(found[1]))  # type: ignore[arg-type]
        if "] = " in text:
            return Store(*self.assignment(text, line))
        return self.call(line)

    def assignment(self, text: str, line: _Line) -> tuple[Buffer, tuple[IndexLike, ...], Any]:
        parsed = ast.parse(text).body[0]
        if not isinstance(parsed, ast.Assign):
            raise line.error("no assignment")
        buffer, index = self.values.place(parsed.targets[0])
        return buffer, index, self.values.value(parsed.value)

    def loop(self, found: re.Match[str], body: list[_Line]) -> For:
        name, numbers, lo, hi, kind = found.groups()
        bounds = [self.values.index(n) for n in _elements(numbers)]
        start, stop = (0, bounds[0]) if len(bounds) == 1 else (bounds[0], bounds[1])
        step = bounds[2] if len(bounds) == 3 else 1
        assert isinstance(step, int)
        natural = _natural_bounds(start, stop, step)
        var = Var(name, *natural) if lo is None else Var(name, int(lo), None if hi == "None" else int(hi))
        return For(var, stop, self.inner(body, var), kind or "serial", start, step)  # type: ignore[arg-type]

    def call(self, line: _Line) -> Call:
        node = parse_expression(line.text)
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            raise line.error("no statement")
        if node.func.id not in self.reader.kernels:
            raise line.error(f"kernel {node.func.id} is not defined before")
        args = []
        for argument in node.args:
            offset: IndexLike = 0
            if isinstance(argument, ast.Subscript):
                assert isinstance(argument.slice, ast.Slice)
                assert argument.slice.lower is not None
                offset, argument = self.values.index(argument.slice.lower), argument.value
            assert isinstance(argument, ast.Name)
            args.append(Slice(self.buffers[argument.id], offset))
        return Call(self.reader.kernels[node.func.id], tuple(args))


def _elements(text: str) -> list[ast.expr]:
    """The expressions of a comma-separated list."""
    made = parse_expression(f"[{text}]")
    assert isinstance(made, ast.List)
    return made.elts


def _tree(text: str) -> list[_Line]:
    """Lines with the deeper ones behind them as their bodies."""
    root = _Line(0, -1, "")
    open_lines = [root]
    for number, raw in enumerate(text.splitlines(), 1):
        if not raw.strip():
            continue
        spaces = len(raw) - len(raw.lstrip(" "))
        line = _Line(number, spaces // len(INDENT), raw.strip())
        if spaces % len(INDENT) or line.depth > open_lines[-1].depth + 1:
            raise line.error("indented by an unexpected number of spaces")
        del open_lines[line.depth + 1 :]
        open_lines[-1].body.append(line)
        open_lines.append(line)
    return root.body
