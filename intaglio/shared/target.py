"""What a machine is, as data: the facts that schedules and the C printer use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A machine to generate C for.

    `vector_bytes` is the width of a vector register (0: plain C loops, no vector types), `registers`
    how many there are; cache sizes are in bytes per core, `line` is a cache line.
    """

    name: str
    vector_bytes: int = 0
    registers: int = 16
    l1: int = 32 << 10
    l2: int = 256 << 10
    line: int = 64
    features: frozenset[str] = frozenset()
    flags: tuple[str, ...] = ()

    def lanes(self, element_size: int) -> int:
        """Elements per vector register; 1 when the target has none."""
        return max(1, self.vector_bytes // element_size)


GENERIC = Target("generic")
