"""PlanMemory: one arena for all scratch arrays, laid out by lifetimes before anything runs.

A scratch array lives from the first statement of the driver that touches it to the last; a loop in the
driver is one statement. Arrays that never live at the same time may share bytes. Larger arrays are
placed first, each at the lowest free offset: the peak is near the largest sum of what is alive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from intaglio.loop.ir import Block, Buffer, Call, For, If, Let, Program, Reduce, Stmt, Store, While
from intaglio.ops.expr import Apply, Expr, Read
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import upper

ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A scratch array's place: bytes `offset .. offset + size`, statements `first .. last`."""

    buffer: Buffer
    first: int
    last: int
    size: int


def plan_memory(program: Program) -> Program:
    """Give every scratch array its offset and the program its arena size, in place; returns it.

    Raises:
        UnsupportedError: a scratch array whose size has no upper bound.
    """
    lives = lifetimes(program)
    placed: list[Lifetime] = []
    peak = 0
    for life in sorted(lives, key=lambda life: (-life.size, life.first, life.buffer.name)):
        offset = 0
        overlapping = [p for p in placed if p.first <= life.last and life.first <= p.last]
        for other in sorted(overlapping, key=lambda p: p.buffer.offset or 0):
            start = other.buffer.offset or 0
            if offset + life.size <= start:
                break
            offset = max(offset, start + other.size)
        life.buffer.offset = offset
        placed.append(life)
        peak = max(peak, offset + life.size)
    program.scratch = [life.buffer for life in lives]
    program.arena_bytes = peak
    return program


def lifetimes(program: Program) -> list[Lifetime]:
    """The lifetime of every scratch array that is used; unused ones get no memory."""
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    statements = [s for body in program.phases.values() for s in body]
    for position, statement in enumerate(statements):
        for buffer in touched(statement):
            if buffer.role == "scratch":
                first.setdefault(buffer, position)
                last[buffer] = position
    return [Lifetime(b, first[b], last[b], aligned_bytes(b)) for b in first]


def aligned_bytes(buffer: Buffer) -> int:
    """Bytes an array takes in the arena, in the worst case of symbolic extents."""
    size = upper(buffer.size)
    if size is None:
        raise UnsupportedError(f"array {buffer!r} has no upper bound", hint="give its symbols a bound")
    return -(-size * buffer.dtype.size // ALIGNMENT) * ALIGNMENT


def touched(statement: Stmt) -> Iterator[Buffer]:
    """Every array a statement of the driver reads or writes."""
    if isinstance(statement, Call):
        yield from (argument.buffer for argument in statement.args)
    elif isinstance(statement, (Store, Reduce)):
        yield statement.buffer
        yield from _read(statement.value)
    elif isinstance(statement, Let):
        yield from _read(statement.value)
    elif isinstance(statement, For):
        yield from _touched_in(statement.body)
    elif isinstance(statement, (If, While)):
        yield from _read(statement.condition)
        bodies = (statement.body,) if isinstance(statement, While) else (statement.then, statement.orelse)
        for body in bodies:
            if body is not None:
                yield from _touched_in(body)


def _touched_in(body: Block) -> Iterator[Buffer]:
    for statement in body:
        yield from touched(statement)


def _read(value: Expr) -> Iterator[Buffer]:
    if isinstance(value, Read) and isinstance(value.source, Buffer):
        yield value.source
    elif isinstance(value, Apply):
        for argument in value.args:
            yield from _read(argument)


def lifetime_map(program: Program, width: int = 64) -> str:
    """The plan as text: a line per array, a column per slice of the driver's run."""
    lives = lifetimes(program)
    steps = max((life.last for life in lives), default=0) + 1
    lines = [f"arena: {program.arena_bytes} bytes, {len(lives)} arrays, {steps} steps"]
    for life in sorted(lives, key=lambda life: (life.first, life.buffer.offset or 0)):
        a = life.first * width // steps
        b = max(a + 1, (life.last + 1) * width // steps)
        bar = "." * a + "#" * (b - a) + "." * (width - b)
        lines.append(f"{life.buffer.offset or 0:>10} +{life.size:<9} {bar} {life.buffer.name}")
    return "\n".join(lines)
