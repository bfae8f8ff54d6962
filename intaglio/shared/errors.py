"""Every error Intaglio raises on purpose: what disagrees, where, and what to do next."""

from __future__ import annotations

from intaglio.shared.where import Where


class IntaglioError(Exception):
    """Base of all errors raised on purpose.

    `message` names the operator and the two facts that disagree, `where` is the user's line and
    `hint` the next step; `str(error)` shows all three.
    """

    def __init__(self, message: str, *, where: Where | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.message]
        if self.where is not None:
            lines.append(f"  at {self.where}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class ShapeError(IntaglioError, ValueError):
    """Shapes, ranks or axes that do not fit an operator."""


class DTypeError(IntaglioError, TypeError):
    """Element types that an operator does not take."""


class ArgumentError(IntaglioError, ValueError):
    """A call with the wrong number, names or values of arguments."""


class TraceError(IntaglioError, RuntimeError):
    """A Python program that cannot be recorded as one graph without changing its meaning."""


class UnsupportedError(IntaglioError, NotImplementedError):
    """A model, operator or setting outside of what Intaglio compiles."""


class VerifyError(IntaglioError, RuntimeError):
    """A program that breaks the rules of its level: a bug in a pass, or a hand-written text."""


class ParseError(IntaglioError, ValueError):
    """Text that is not a program of the level it claims to be."""


class ToolchainError(IntaglioError, RuntimeError):
    """A C compiler that is missing or failed; carries the command and its output."""


class FileFormatError(IntaglioError, ValueError):
    """A file that is truncated, tampered with, or not of the expected format."""
