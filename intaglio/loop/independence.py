"""Whether the iterations of a loop touch different places of everything they write.

The proof is by intervals: on some axis, or for the flat position in some last axes, every access of a
written buffer is `c * var + rest` with one `c` for all, and the rests of two never differ by what some steps
of the loop make: they are less than a step apart, or further apart than the whole loop goes.
A caller may name the variables that are `free`: the others have one value in both iterations, so that
terms of theirs cancel. By default all may differ.
"""

from __future__ import annotations

from collections.abc import Iterator

from intaglio.loop import places
from intaglio.loop.ir import Alloc, Block, Buffer, For, Reduce, Store, walk
from intaglio.ops.movement import flat_index
from intaglio.shared.index import Index, IndexLike, Var, interval, substitute, var_index

Places = list[tuple[IndexLike, ...]]
Variables = frozenset[Var]
ENUMERATED = 1 << 16


def accesses(body: Block) -> tuple[dict[Buffer, Places], list[Buffer]]:
    """Every place of every buffer that statements touch, and the buffers they write, in order."""
    found: dict[Buffer, Places] = {}
    written: dict[Buffer, None] = {}
    for statement in walk(body):
        if isinstance(statement, (Store, Reduce)):
            written[statement.buffer] = None
            found.setdefault(statement.buffer, []).append(statement.index)
        for read in places.statement_reads(statement):
            if isinstance(read.source, Buffer):
                found.setdefault(read.source, []).append(read.index)
    return found, list(written)


def shared_buffers(loop: For, free: Variables | None = None) -> Iterator[Buffer]:
    """The buffers that two iterations may both touch while one writes."""
    inside = {s.buffer for s in walk(loop.body) if isinstance(s, Alloc)}
    found, written = accesses(loop.body)
    yield from (b for b in written if b not in inside and not disjoint(b, found[b], loop, free))


def shared_buffer(loop: For, free: Variables | None = None) -> Buffer | None:
    """The first buffer that two iterations may share; None when there is provably none."""
    return next(shared_buffers(loop, free), None)


def carried(loops: list[For]) -> dict[Buffer, list[For]]:
    """For each array that a perfect nest writes, the loops whose variable may differ between two accesses of
    one place; arrays for which there are none are left out.

    A loop that is shown not to differ narrows what the others can be: its variable is then no longer free.
    """
    inside = {s.buffer for s in walk(loops[0].body) if isinstance(s, Alloc)}
    found, written = accesses(loops[0].body)
    made: dict[Buffer, list[For]] = {}
    for buffer in written:
        free, waiting = bound_in(loops[0]), list(loops)
        while equal := [loop for loop in waiting if disjoint(buffer, found[buffer], loop, free)]:
            free -= {loop.var for loop in equal}
            waiting = [loop for loop in waiting if all(loop is not one for one in equal)]
        if waiting and buffer not in inside:
            made[buffer] = waiting
    return made


def bound_in(loop: For) -> Variables:
    """The variables of a loop and of the loops in it."""
    return frozenset((loop.var, *(s.var for s in walk(loop.body) if isinstance(s, For))))


def disjoint(buffer: Buffer, accesses: Places, loop: For, free: Variables | None = None) -> bool:
    """Whether on some axis, or at the flat position in some last axes, every iteration stays in a window of
    its own."""
    rank = len(buffer.shape)
    if any(_own_window([index[axis] for index in accesses], loop, free) for axis in range(rank)):
        return True
    lasts = (
        [flat_index(index[axis:], buffer.shape[axis:]) for index in accesses] for axis in range(rank - 1)
    )
    return any(_own_window(positions, loop, free) for positions in lasts)


def _without_fixed(positions: list[IndexLike], free: Variables) -> list[IndexLike]:
    """The positions without the terms of variables that are not free, where these are the same in all."""
    fixed: set[IndexLike] = set()
    rests: list[IndexLike] = []
    for position in positions:
        own: IndexLike = 0
        for atom, coef in position.terms if isinstance(position, Index) else ():
            term = var_index(atom) * coef
            dynamic = any(True for _ in places.dynamics(term))
            if not dynamic and not free & places.index_variables(term):
                own = own + term
        fixed.add(own)
        rests.append(position - own)
    return rests if len(fixed) == 1 else positions


def _own_window(positions: list[IndexLike], loop: For, free: Variables | None = None) -> bool:
    """Whether position = c * var + rest with one c for all, and no rests differ by a number of steps."""
    if free is not None:
        positions = _without_fixed(positions, free)
    scales = {p.coefficient(loop.var) if isinstance(p, Index) else 0 for p in positions}
    scale = scales.pop()
    if scales or not scale:
        return _same_quotient(positions, loop)
    rests = {interval(p - loop.index * scale) for p in positions}
    known = [(low, high) for low, high in rests if low is not None and high is not None]
    if len(known) < len(rests):
        return False
    step = abs(scale) * loop.step
    far = loop.stop - loop.start if isinstance(loop.stop, int) and isinstance(loop.start, int) else None
    last = None if far is None else (far - 1) // loop.step
    return not any(
        _meet(low - high2, high - low2, step, last) for low, high in known for low2, high2 in known
    )


def _meet(low: int, high: int, step: int, last: int | None) -> bool:
    """Whether places that are `low` to `high` apart are also some steps apart, 1 to `last` of them."""
    most = high // step if last is None else min(high // step, last)
    return max(1, -(-low // step)) <= most


def _same_quotient(positions: list[IndexLike], loop: For) -> bool:
    """Whether all positions are one expression whose only variable is the loop's, and it never repeats."""
    first = positions[0]
    if any(p != first for p in positions) or not isinstance(first, Index) or first.variables != {loop.var}:
        return False
    if (
        not isinstance(loop.start, int)
        or not isinstance(loop.stop, int)
        or loop.stop - loop.start > ENUMERATED
    ):
        return False
    if any(True for _ in places.dynamics(first)):
        return False
    values = [substitute(first, {loop.var: k}) for k in range(loop.start, loop.stop, loop.step)]
    return len(set(values)) == len(values)
