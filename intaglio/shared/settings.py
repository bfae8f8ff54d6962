"""Settings from the environment: one place that reads each variable."""

from __future__ import annotations

import os
import sys

from intaglio.shared.errors import ArgumentError


def debug_level() -> int:
    """`INTAGLIO_DEBUG`, 0 to 5: 1 passes and times, 2 decisions, 3 graphs, 4 loops, 5 C."""
    return _integer("INTAGLIO_DEBUG", 0, 0, 5)


def verify_passes() -> bool:
    """`INTAGLIO_VERIFY=1`: check the program after every pass."""
    return os.environ.get("INTAGLIO_VERIFY", "") not in ("", "0")


def default_threads() -> int:
    """`INTAGLIO_THREADS`, by default all cores this process may use."""
    return _integer(
        "INTAGLIO_THREADS",
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        1,
        1024,
    )


def debug(level: int, text: str) -> None:
    """Print to standard error when the debug level is at least `level`."""
    if debug_level() >= level:
        print(text, file=sys.stderr)


def _integer(name: str, default: int, low: int, high: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise ArgumentError(f"{name}={text!r} is not an integer from {low} to {high}")
    return value
