"""prefetch: cache lines that a loop is going to read are asked for some iterations ahead."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from intaglio.loop import ir, places
from intaglio.loop.independence import accesses, bound_in
from intaglio.loop.ir import Buffer, For, LoopKind, Stmt, block
from intaglio.loop.recipes.nests import loop as loop_over
from intaglio.loop.schedule.nest import Nest, Path
from intaglio.loop.schedule.records import Record
from intaglio.loop.schedule.regions import Place, region_of
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import IndexLike, minimum

LINE = 64
"""Bytes of a cache line."""
UNROLLED = 8


@dataclass(frozen=True)
class Prefetch(Record, verb="prefetch"):
    """Each iteration of a loop asks for the cache lines of an operand that a later one, `distance` ahead, is
    going to read; past the last one it asks for those of the last one."""

    made: ClassVar[tuple[int, ...]] = (0,)
    array: str
    loop: str
    distance: int

    def apply(self, nest: Nest) -> None:
        buffer = nest.buffer(self.array)
        if not nest.is_param(buffer):
            raise UnsupportedError(f"{self}: {buffer!r} is local: it is near already")

        def made(loop: For, _: Path) -> Iterable[Stmt]:
            found = accesses(loop.body)[0].get(buffer, [])
            if not found:
                raise UnsupportedError(f"{self}: {buffer!r} is not touched in the loop over {loop.var}")
            region = region_of(str(self), buffer, found, bound_in(loop) - {loop.var})
            ahead = {loop.var: minimum(loop.index + self.distance, loop.stop - 1)}
            low = tuple(places.substitute_index(index, ahead) for index in region.low)
            return [replace(loop, body=block(*self._lines(nest, buffer, low, region.extent), loop.body))]

        nest.rewrite(self.loop, made)

    def _lines(self, nest: Nest, buffer: Buffer, low: Place, extent: tuple[int, ...]) -> list[Stmt]:
        """A prefetch for each cache line of a box."""
        step = LINE // buffer.dtype.size
        *outer, last = extent
        counts = [*outer, -(-last // step)]
        names = [nest.unique(f"ahead{axis}") for axis in range(len(counts))]

        def over(axis: int, index: Place) -> list[Stmt]:
            if axis == len(counts):
                return [ir.Prefetch(buffer, index)]
            scale = step if axis == len(counts) - 1 else 1
            kind: LoopKind = "unroll" if counts[axis] <= UNROLLED else "serial"

            def inner(i: IndexLike) -> list[Stmt]:
                return over(axis + 1, (*index, low[axis] + i * scale))

            return loop_over(names[axis], counts[axis], inner, kind)

        return over(0, ())
