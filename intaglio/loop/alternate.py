"""AlternateLoops: where every step of a loop reads the same large array once, every other step reads it
backwards.

The first cache has nothing of what a step begins with when all steps go the same way: the oldest lines made
room for the newest. On the way back the newest are read first. The recurrent product of a model with one
sample is bound by exactly these reads. Arrays beyond the second cache go forwards only: there, fetching ahead
is worth more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from intaglio.loop import places
from intaglio.loop.independence import accesses, shared_buffers
from intaglio.loop.ir import Alloc, Block, Buffer, Call, For, If, Kernel, Program, Stmt, While, walk
from intaglio.loop.names import unique_name
from intaglio.loop.schedule.loops import only_reduced
from intaglio.shared.index import IndexLike, Var, interval, upper, var_index
from intaglio.shared.target import Target

Buffers = tuple[Buffer, ...]
Place = tuple[IndexLike, ...]

ONCE = 4
"""Operations per element of its arrays up to which the time of a kernel is that of reading them."""
NOTE = "backwards in every other step: what the cache still has is read first"


def alternate_loops(program: Program, target: Target) -> Program:
    """Let such loops go back and forth, in place; returns the program."""
    alternation = _Alternation(program, target)
    program.phases = {phase: alternation.block(body) for phase, body in program.phases.items()}
    return program


@dataclass
class _Alternation:
    program: Program
    target: Target
    backwards: dict[tuple[int, Buffers], Kernel | None] = field(default_factory=dict)

    def block(self, body: Block) -> Block:
        return Block(tuple(made for statement in body for made in self.statement(statement)))

    def statement(self, statement: Stmt) -> list[Stmt]:
        if isinstance(statement, For):
            turned = self.loop(statement)
            return turned or [replace(statement, body=self.block(statement.body))]
        if isinstance(statement, While):
            return [replace(statement, body=self.block(statement.body))]
        if isinstance(statement, If):
            orelse = None if statement.orelse is None else self.block(statement.orelse)
            return [If(statement.condition, self.block(statement.then), orelse)]
        return [statement]

    def loop(self, loop: For) -> list[Stmt]:
        """Two steps at a time, the second one backwards, and a last single one; nothing where none may be."""
        stop = loop.stop
        plain = loop.start == 0 and loop.step == 1 and all(isinstance(s, Call) for s in loop.body)
        if not plain or not isinstance(stop, int) or stop < 2:
            return []
        back = {id(call): made for call, kept in self.streams(loop) if (made := self.turned(call, kept))}
        if not back:
            return []
        pair = Var(loop.var.name, 0, stop // 2 * 2 - 2)

        def step(at: IndexLike, backwards: bool) -> Block:
            statements = (
                Call(back[id(s)], s.args) if backwards and isinstance(s, Call) and id(s) in back else s
                for s in loop.body
            )
            return places.substitute_block(Block(tuple(statements)), {loop.var: at})

        both = (*step(var_index(pair), False), *step(var_index(pair) + 1, True))
        rest = step(stop - 1, False) if stop % 2 else Block()
        return [For(pair, stop // 2 * 2, Block(both), step=2), *rest]

    def streams(self, loop: For) -> Iterator[tuple[Call, Buffers]]:
        """Calls whose time is that of reading arrays, the same in all steps, of which the first cache holds
        a part."""
        calls = [s for s in loop.body if isinstance(s, Call)]
        pairs = [(call, *pair) for call in calls for pair in zip(call.kernel.params, call.args, strict=True)]
        written = {place.buffer for call, param, place in pairs if param in call.kernel.written}
        moved = sum(call.kernel.bytes for call in calls)
        l1, l2 = self.target.l1, self.target.l2
        for call in calls:
            kept = tuple(
                param
                for other, param, place in pairs
                if other is call and place.buffer not in written and isinstance(place.offset, int)
            )
            elements = [upper(param.size) or 0 for param in kept]
            size = sum(n * param.dtype.size for n, param in zip(elements, kept, strict=True))
            if l1 < size <= l2 and moved - size <= l1 // 2 and call.kernel.flops <= ONCE * sum(elements):
                yield call, kept

    def turned(self, call: Call, kept: Buffers) -> Kernel | None:
        """The kernel with the loops over arrays backwards; None where none of them may be."""
        key = (id(call.kernel), kept)
        if key not in self.backwards:
            body = _backwards(call.kernel.body, kept, self.target.line)
            made = None
            if body is not None:
                names = {kernel.name for kernel in self.program.kernels}
                name = unique_name(f"{call.kernel.name}_back", names)
                made = replace(call.kernel.with_body(body, NOTE), name=name)
                self.program.kernels.insert(self.program.kernels.index(call.kernel) + 1, made)
            self.backwards[key] = made
        return self.backwards[key]


def _backwards(body: Block, kept: Buffers, line: int) -> Block | None:
    """A kernel's body with its parts, and the loops along which arrays are read line by line, the other way
    round; None where there is no such loop that may go either way."""
    found = False

    def turn(statement: Stmt) -> Stmt:
        nonlocal found
        if not isinstance(statement, For):
            return statement
        made = replace(statement, body=Block(tuple(map(turn, statement.body))))
        if not _strides_over(statement, kept, line) or not _order_is_free(statement):
            return made
        found = True
        last = statement.stop - 1 - statement.index
        return replace(made, body=places.substitute_block(made.body, {statement.var: last}))

    turned = Block(tuple(turn(s) for part in reversed(_parts(body)) for s in part))
    return turned if found else None


def _parts(body: Block) -> list[list[Stmt]]:
    """The statements in groups that do not touch what another one writes."""
    parts: list[list[Stmt]] = []
    for statement in body:
        first = next((k for k, part in enumerate(parts) if _depend(part, statement)), len(parts))
        parts[first:] = [[s for part in parts[first:] for s in part] + [statement]]
    return parts


def _depend(part: list[Stmt], statement: Stmt) -> bool:
    """Whether a statement and earlier ones may touch one place that either writes."""
    (before, made), (after, written) = accesses(Block(tuple(part))), accesses(Block((statement,)))
    if any(isinstance(s, Alloc) and s.buffer in after for s in part):
        return True
    shared = {*made, *written} & {*before} & {*after}
    return any(not _apart(x, y) for buffer in shared for x in before[buffer] for y in after[buffer])


def _apart(x: Place, y: Place) -> bool:
    """Whether two places differ on some axis, whatever the loops around them are at."""
    for a, b in zip(x, y, strict=True):
        (low, high), (lowest, highest) = interval(a), interval(b)
        if (high is not None and lowest is not None and high < lowest) or (
            low is not None and highest is not None and highest < low
        ):
            return True
    return False


def _strides_over(loop: For, kept: Buffers, line: int) -> bool:
    """Whether a serial loop moves by cache lines over some arrays, and stands still in the others."""
    if loop.kind != "serial" or loop.start != 0 or loop.step != 1:
        return False
    moves = {
        (places.stride(read.source, read.index, loop.var), read.source.dtype.size)
        for statement in walk(loop.body)
        for read in places.statement_reads(statement)
        if isinstance(read.source, Buffer) and read.source in kept
    }
    far = all(stride is not None and (not stride or abs(stride) * size >= line) for stride, size in moves)
    return far and any(stride for stride, _ in moves)


def _order_is_free(loop: For) -> bool:
    """Whether iterations only share what they reduce into, in any order."""
    return all(only_reduced(loop.body, buffer) for buffer in shared_buffers(loop))
