"""What a machine is, as data: the facts that schedules and the C printer use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


class Tuning(Protocol):
    """Measured choices between the plans that a recipe offers, which are sorted by estimates."""

    def plan(self, key: str, offered: Sequence[str]) -> str:
        """The name of the plan to use."""

    def made(self, body: object) -> None:
        """The body of a kernel is made after its choices."""


@dataclass(frozen=True, slots=True)
class Target:
    """A machine to generate C for.

    `vector_bytes` is the width of a vector register (0: plain loops), `registers` how many there are.
    Vectors are the compilers' vector types, or, without `vector_types`, loops over lanes in plain C. Cache
    sizes are in bytes per core, `line` is a cache line. `fma_per_cycle` and `loads_per_cycle` are whole
    vectors, `fma_latency` is cycles until a multiply-add's result can be added to. `tuning` are choices
    measured on the machine; without it estimates decide.
    """

    name: str
    vector_bytes: int = 0
    registers: int = 16
    l1: int = 32 << 10
    l2: int = 256 << 10
    line: int = 64
    fma_per_cycle: float = 1
    fma_latency: int = 4
    loads_per_cycle: float = 1
    features: frozenset[str] = frozenset()
    flags: tuple[str, ...] = ()
    vector_types: bool = True
    tuning: Tuning | None = field(default=None, compare=False)

    def lanes(self, element_size: int) -> int:
        """Elements per vector register; 1 when the target has none."""
        return max(1, self.vector_bytes // element_size)


GENERIC = Target("generic", 16, vector_types=False)
"""Any machine, any C compiler: tiles of plain loops over four lanes, which compilers make vectors of."""
PLAIN = Target("plain")
"""Loops as short as can be, for compilers that do not optimise."""
