"""PeelLoops: what a loop's last step makes for a next one only is left out.

The derivative of a recurrent layer multiplies by its weights in every step to carry on to the step before;
before the first one there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from intaglio.loop import places
from intaglio.loop.ir import Block, Buffer, Call, For, Program, Stmt
from intaglio.loop.memory import touched


def peel_loops(program: Program) -> Program:
    """Give loops of the driver a last step of its own where that saves a call, in place; returns it."""
    statements = [s for body in program.phases.values() for s in body]
    last = {buffer: k for k, statement in enumerate(statements) for buffer in touched(statement)}
    shared = {b.alias for b in program.buffers if b.alias is not None}
    alone = {b for b in program.scratch if b.alias is None and b not in shared}
    made = {
        id(statement): _peeled(statement, {b for b in alone if last.get(b) == k})
        for k, statement in enumerate(statements)
        if isinstance(statement, For)
    }
    program.phases = {
        phase: Block(tuple(s for statement in body for s in made.get(id(statement), [statement])))
        for phase, body in program.phases.items()
    }
    return program


def _peeled(loop: For, own: set[Buffer]) -> list[Stmt]:
    """The loop without its last step, and that step without calls that only write what nobody reads any more;
    `own` are arrays that nothing behind the loop touches."""
    calls = [s for s in loop.body if isinstance(s, Call)]
    plain = loop.start == 0 and loop.step == 1 and len(calls) == len(loop.body)
    if not plain or not isinstance(loop.stop, int) or loop.stop < 2:
        return [loop]
    needed = _needed(calls, own)
    if len(needed) == len(calls):
        return [loop]
    rest = replace(loop, stop=loop.stop - 1)
    return [rest, *places.substitute_block(Block(tuple(needed)), {loop.var: loop.stop - 1})]


def _needed(calls: Sequence[Call], own: set[Buffer]) -> list[Call]:
    """The calls of a step that make something which is read in it or behind the loop."""
    kept: list[Call] = []
    read: set[Buffer] = set()
    for call in reversed(calls):
        pairs = list(zip(call.kernel.params, call.args, strict=True))
        written = {place.buffer for param, place in pairs if param in call.kernel.written}
        if all(buffer in own and buffer not in read for buffer in written):
            continue
        kept.append(call)
        read |= {place.buffer for _, place in pairs}
    return kept[::-1]
