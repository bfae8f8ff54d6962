"""Timing of calls: as many per sample as the clock needs."""

from __future__ import annotations

import time
from collections.abc import Callable


def repeats_for(call: Callable[[], object], seconds: float) -> int:
    """How many calls take about this long, after a warm-up call."""
    call()
    return max(1, int(seconds / max(seconds_per_call(call, 1), 1e-7)))


def seconds_per_call(call: Callable[[], object], repeats: int) -> float:
    """Seconds of one of `repeats` calls."""
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - started) / repeats
