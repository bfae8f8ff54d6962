"""Timing of calls: as many per sample as the clock needs."""

from __future__ import annotations

import time
from collections.abc import Callable

COMPUTED = time.thread_time if time.get_clock_info("thread_time").resolution <= 1e-6 else time.perf_counter
"""Seconds that the calling thread computed, where the system counts them finely: other programs, which only
make it wait, do not count. For calls that use one thread."""


def repeats_for(call: Callable[[], object], seconds: float) -> int:
    """How many calls take about this long, after a warm-up call."""
    call()
    return max(1, int(seconds / max(seconds_per_call(call, 1), 1e-7)))


def seconds_per_call(
    call: Callable[[], object], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds of one of `repeats` calls."""
    started = clock()
    for _ in range(repeats):
        call()
    return (clock() - started) / repeats
