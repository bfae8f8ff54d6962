"""Named regions and phases: what a group of operators means (`softmax`), and when it runs.

Front ends enter them while they record operators; a node keeps the region and phase it was made in.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

Phase = Literal["forward", "backward", "update"]


@dataclass(frozen=True, slots=True)
class Region:
    """One use of a composition: its name, a number unique in the recording, the enclosing region."""

    name: str
    number: int
    parent: Region | None = None

    def __str__(self) -> str:
        own = f"{self.name}.{self.number}"
        return own if self.parent is None else f"{self.parent}/{own}"


_region: ContextVar[Region | None] = ContextVar("region", default=None)
_phase: ContextVar[Phase] = ContextVar("phase", default="forward")
_numbers = itertools.count(1)


@contextmanager
def region(name: str) -> Iterator[Region]:
    """Operators recorded inside belong to a new region of this name."""
    made = Region(name, next(_numbers), _region.get())
    token = _region.set(made)
    try:
        yield made
    finally:
        _region.reset(token)


@contextmanager
def phase(name: Phase) -> Iterator[None]:
    """Operators recorded inside belong to this phase of a training step."""
    token = _phase.set(name)
    try:
        yield
    finally:
        _phase.reset(token)


def current_region() -> Region | None:
    return _region.get()


def current_phase() -> Phase:
    return _phase.get()
