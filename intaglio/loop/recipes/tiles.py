"""Sizes: how extents split into tiles and vectors, and how many accumulators fit the registers."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.loop.threads import may_thread
from intaglio.shared.index import IndexLike
from intaglio.shared.target import Target

ROW_LOAD, VECTOR_LOAD = 0.03, 0.04  # cycles that loads of both operands cost next to products
STREAM = 0.3  # cycles to fetch a vector of a panel that takes more than half of the second cache
UNEVEN = 0.1  # how much time on two threads counts beside time on one
CROWDED = 1.2  # what rows cost that displace each other from the first cache
FLAT_ROWS, FLAT_VECTORS = 3, 5  # tiles with so few rows of so many vectors:
FLAT = 1.15  # compilers load their vectors again for each row
TILE_CYCLES, ROW_CYCLES, RESULT_CYCLES = 12, 3, 3  # of the loops, of a row and of a vector of the result


@dataclass(frozen=True, slots=True)
class Run:
    """`count` tiles of `size` from `start` on."""

    start: IndexLike
    size: int
    count: IndexLike

    @property
    def stop(self) -> IndexLike:
        return self.start + self.size * self.count


def balanced(extent: IndexLike, most: int) -> list[Run]:
    """Split an extent in tiles of at most `most`, of two sizes that differ by one.

    A symbolic extent gets tiles of `most` and single ones for the rest.
    """
    if not isinstance(extent, int):
        whole = extent // most
        return [Run(0, most, whole), Run(whole * most, 1, extent % most)] if most > 1 else [Run(0, 1, extent)]
    tiles = -(-extent // most)
    size, longer = divmod(extent, tiles)
    runs = []
    if longer:
        runs.append(Run(0, size + 1, longer))
    if tiles - longer:
        runs.append(Run(longer * (size + 1), size, tiles - longer))
    return runs


@dataclass(frozen=True, slots=True)
class Panels:
    """`count` panels of `vectors` vectors of `lanes` elements, from `start` on."""

    start: int
    vectors: int
    lanes: int
    count: int

    @property
    def width(self) -> int:
        return self.vectors * self.lanes


def panels(extent: int, vectors: int, lanes: int) -> list[Panels]:
    """Split an extent in balanced panels of at most `vectors` full vectors, then narrower ones."""
    found: list[Panels] = []
    whole = extent // lanes
    for run in balanced(whole, vectors) if whole else []:
        assert isinstance(run.start, int)
        assert isinstance(run.count, int)
        found.append(Panels(run.start * lanes, run.size, lanes, run.count))
    start, rest, width = whole * lanes, extent % lanes, lanes // 2
    while rest:
        if rest >= width:
            found.append(Panels(start, 1, width, 1))
            start, rest = start + width, rest - width
        width //= 2
    return found


def rows_for(vectors: int, target: Target) -> int:
    """Rows of a register tile: accumulators, one row of vectors and a broadcast fit the registers.

    One register is left free: where all are taken, some compilers move one to the stack in every step.
    """
    spare = target.registers - 2 - vectors
    return max(1, min(spare // vectors, 28 // vectors if target.registers > 16 else 12 // vectors))


def tile_cycles(rows: int, vectors: int, target: Target, whole: bool = True) -> float:
    """Cycles of one step of the reduction: products, loads, or the latency of too few accumulators.

    Machines that take one whole vector per cycle take two shorter ones.
    """
    fmas, reads = target.fma_per_cycle, target.loads_per_cycle
    if not whole:
        fmas, reads = max(fmas, min(2, 2 * fmas)), max(reads, min(2, 2 * reads))
    return max(rows * vectors / fmas, (rows + vectors) / reads, target.fma_latency)


def uneven(panels: int, groups: int = 1) -> float:
    """What a number of panels costs that two threads cannot share evenly, spread over all uses; a product of
    one panel has nothing to share."""
    return 1 + UNEVEN * (panels % 2) / panels if panels > 1 or groups > 1 else 1


def best_tile(
    rows: IndexLike,
    columns: int,
    depth: int,
    lanes: int,
    target: Target,
    rank: int = 0,
    room: int | None = None,
) -> tuple[int, int, float]:
    """The tile (rows, vectors) with the least estimated cycles for a whole product, and those cycles.

    `rows` may be symbolic and counts as many then. `rank` 1 is the second best tile, and so on. `room` is
    how many rows of a left operand in memory the first cache holds side by side; then, of tiles with as many
    products, the one with fewer loads is a little faster.
    """
    found: list[tuple[float, int, int]] = []
    many = rows if isinstance(rows, int) else 64
    threads = may_thread(2 * many * columns * depth)
    for vectors in range(1, min(8, max(1, columns // lanes)) + 1):
        most = min(rows_for(vectors, target), many)
        if vectors > 4 and most > 3:
            continue
        cycles = 0.0
        groups = panels(columns, vectors, lanes)
        for panel in groups:
            for run in balanced(many, most):
                assert isinstance(run.count, int)
                step = tile_cycles(run.size, panel.vectors, target, panel.lanes == lanes)
                if room is not None:
                    step += ROW_LOAD * run.size + VECTOR_LOAD * panel.vectors
                    step *= CROWDED if run.size > room else 1
                if depth * panel.width * target.vector_bytes > lanes * target.l2 // 2:
                    step += STREAM * panel.vectors
                if run.size <= FLAT_ROWS < many and panel.vectors >= FLAT_VECTORS:
                    step *= FLAT
                finish = RESULT_CYCLES * panel.vectors + ROW_CYCLES
                work = depth * step + finish * run.size + TILE_CYCLES
                cycles += (
                    work * run.count * panel.count * (uneven(panel.count, len(groups)) if threads else 1)
                )
        found.append((cycles, vectors, most))
    cycles, vectors, most = sorted(found)[min(rank, len(found) - 1)]
    return most, vectors, cycles
