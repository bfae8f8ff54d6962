"""Repeats in a sequence: `a b c b c b c d` is a, three times b c, d."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from intaglio.scalar.sweeps import Array

LEAST_TURNS = 3


def find_repeats(
    sequence: Array, most_period: int, least_turns: int = LEAST_TURNS
) -> Iterator[tuple[int, int, int]]:
    """Split a sequence into (first, period, turns), greedily by the longest repeat; turns are 1 elsewhere."""
    n = len(sequence)
    covered, period = np.ones(n, np.int64), np.ones(n, np.int64)
    for p in range(1, min(most_period, n // least_turns) + 1):
        total = (_runs(sequence[p:] == sequence[:-p]) // p + 1) * p
        better = (total >= least_turns * p) & (total > covered[: n - p])
        covered[: n - p][better], period[: n - p][better] = total[better], p
    place = 0
    while place < n:
        yield place, int(period[place]), int(covered[place] // period[place])
        place += int(covered[place])


def _runs(flags: Array) -> Array:
    """For every place how many flags are set from there on."""
    ends = np.where(flags, len(flags), np.arange(len(flags)))
    ends = np.minimum.accumulate(ends[::-1])[::-1]
    runs: Array = ends - np.arange(len(flags))
    return runs
