"""Timing of calls: many short rounds, because a shared machine's speed moves."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds per call of each round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        return min(self.seconds)


def time_calls(call: Callable[[], object], rounds: int, round_seconds: float = 0.02) -> Sample:
    """Time `call` in rounds of about `round_seconds` each, after one warm-up call."""
    call()
    started = time.perf_counter()
    call()
    once = max(time.perf_counter() - started, 1e-7)
    repeats = max(1, int(round_seconds / once))
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(repeats):
            call()
        seconds.append((time.perf_counter() - started) / repeats)
    return Sample(tuple(seconds))
