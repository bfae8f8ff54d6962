"""Source locations: the user's line that made a node, kept through every level to the C."""

from __future__ import annotations

import linecache
import sys
from dataclasses import dataclass
from pathlib import Path

_PACKAGE = str(Path(__file__).resolve().parent.parent)


@dataclass(frozen=True, slots=True)
class Where:
    """A line of the user's program: file, line number (1-based) and its text, by default looked up on demand.

    In a file of nodes the line is the node's number, and the text says which it is.
    """

    file: str
    line: int
    given: str = ""

    @property
    def text(self) -> str:
        return self.given or linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        text = self.text
        return f"{Path(self.file).name}:{self.line}" + (f": {text}" if text else "")


def caller() -> Where | None:
    """The innermost frame outside of the package, or None when there is none."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_PACKAGE) and not file.startswith("<"):
            return Where(file, frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    return None
