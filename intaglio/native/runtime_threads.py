"""Threads of the generated C: a small pool that runs slices of a loop, printed only where one is used."""

from __future__ import annotations

from intaglio.native.helper import Helper


def make(name: str) -> Helper | None:
    """The helper of that name, or None."""
    return _HELPERS.get(name)


_HELPERS: dict[str, Helper] = {}
