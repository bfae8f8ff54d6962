"""What is done to each of a few rows, segment by segment: every segment for all rows before the next one.

Rows do not wait for one another then: while the lanes of one row's sum are added up, the next one is under
way.
What one segment leaves for the next becomes an array with a place for each row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from intaglio.loop import places
from intaglio.loop.ir import Alloc, Block, Buffer, Stmt, Store
from intaglio.loop.lower_rows import RowSegments
from intaglio.loop.recipes.nests import Names, loop
from intaglio.loop.schedule.nest import with_bodies
from intaglio.loop.schedule.regions import bytes_of, redirected
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import IndexLike


@dataclass
class RowBlock:
    """Statements for all of a few rows; `held` gives the array that has a place for each row by what one row
    calls it."""

    arrays: list[Buffer]
    body: list[Stmt]
    held: dict[Buffer, Buffer]


def row_block(
    segments: RowSegments, row: IndexLike, rows: int, names: Names, outside: Collection[Buffer], most: int
) -> RowBlock:
    """The segments of one row, each in a loop over all rows.

    Args:
        row: the variable of the row in the segments.
        outside: scalars of a row that are wanted behind the segments.
        most: bytes that an array of all rows may have.
    """
    parts = [segments.statements(segment) for segment in segments.segments]
    declared = [s.buffer for s in segments.allocs if isinstance(s, Alloc)]
    own = [s.buffer for part in parts for s in part if isinstance(s, Alloc)]
    held: dict[Buffer, Buffer] = {}
    for buffer in (*declared, *own):
        users = sum(buffer in places.buffers_of(part) for part in parts)
        if users > 1 or buffer in outside or buffer in declared:
            wide = Buffer(buffer.name, buffer.dtype, (rows, *buffer.shape), "local", "stack")
            if bytes_of(wide) > most:
                raise UnsupportedError("what lies between is too large to be kept for a few rows")
            held[buffer] = wide
    body: list[Stmt] = []
    for part in parts:
        for old, new in held.items():
            part = redirected(part, old, lambda index, new=new: (new, (row, *index)))  # type: ignore[misc]
        part = Block(tuple(s for s in part if not (isinstance(s, Alloc) and s.buffer in held)))
        body += loop(names["row"], rows, lambda _, part=part: list(part))  # type: ignore[misc]
    return RowBlock(list(held.values()), body, held)


def in_place(body: list[Stmt], source: Buffer, target: Buffer) -> bool:
    """Whether an array may take the place of the one it is made from: each element is made from the source's
    one at its place alone, and nothing reads the source afterwards."""
    written = False
    for block in _blocks(Block(tuple(body))):
        stores = {s.index for s in block if isinstance(s, Store) and s.buffer is target}
        reads = {r.index for s in block for r in places.statement_reads(s) if r.source is source}
        if reads and (len(stores | reads) > 1 if stores else written):
            return False
        written = written or bool(stores)
    return True


def _blocks(body: Block) -> Iterator[Block]:
    """A block and all blocks in it, in order."""
    yield body
    for statement in body:
        inner: list[Block] = []
        with_bodies(statement, lambda block, inner=inner: inner.append(block) or block)  # type: ignore[misc]
        for block in inner:
            yield from _blocks(block)
