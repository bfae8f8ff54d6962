"""Whether the iterations of a loop touch different places of everything they write.

The proof is by intervals: on some axis, or for the flat position in some last axes, every access of a
written buffer is `c * var + rest` with one `c` for all, and the rests span less than one step of the loop.
"""

from __future__ import annotations

from intaglio.loop import places
from intaglio.loop.ir import Alloc, Block, Buffer, For, Reduce, Store, walk
from intaglio.ops.movement import flat_index
from intaglio.shared.index import Index, IndexLike, interval, substitute

Places = list[tuple[IndexLike, ...]]
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


def shared_buffer(loop: For) -> Buffer | None:
    """A buffer that two iterations may both touch while one writes; None when there is provably none."""
    inside = {s.buffer for s in walk(loop.body) if isinstance(s, Alloc)}
    found, written = accesses(loop.body)
    clashes = (b for b in written if b not in inside and not disjoint(b, found[b], loop))
    return next(clashes, None)


def disjoint(buffer: Buffer, accesses: Places, loop: For) -> bool:
    """Whether on some axis, or at the flat position in some last axes, every iteration stays in a window of
    its own."""
    rank = len(buffer.shape)
    if any(_own_window([index[axis] for index in accesses], loop) for axis in range(rank)):
        return True
    lasts = (
        [flat_index(index[axis:], buffer.shape[axis:]) for index in accesses] for axis in range(rank - 1)
    )
    return any(_own_window(positions, loop) for positions in lasts)


def _own_window(positions: list[IndexLike], loop: For) -> bool:
    """Whether position = c * var + rest with one c for all, and the rests span less than a step's worth."""
    scales = {p.coefficient(loop.var) if isinstance(p, Index) else 0 for p in positions}
    scale = scales.pop()
    if scales or not scale:
        return _same_quotient(positions, loop)
    rests = [interval(p - loop.index * scale) for p in positions]
    if any(lo is None or hi is None for lo, hi in rests):
        return False
    low, high = min(lo for lo, _ in rests), max(hi for _, hi in rests)  # type: ignore[type-var]
    return high - low < abs(scale) * loop.step  # type: ignore[operator]


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
