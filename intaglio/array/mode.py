"""What is going on: whether derivatives are recorded, and the trace, if any, that records a program."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ContextDecorator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from intaglio.ops.registry import Op

if TYPE_CHECKING:
    from intaglio.array.tensor import Tensor

Array = np.ndarray[Any, Any]


class Recorder(Protocol):
    """What records a program: the trace that is going on."""

    def apply(self, op: Op, operands: Sequence[Tensor], attrs: dict[str, Any]) -> tuple[Tensor, ...]: ...
    def assign(self, tensor: Tensor, value: Tensor) -> None: ...
    def lift(self, array: Array) -> Tensor: ...


class _Mode:
    """Whether operators are recorded for derivatives, the trace that is going on, and how often the
    attributes of any module have changed."""

    grad = True
    changes = 0
    trace: Recorder | None = None


mode = _Mode()


def note_change() -> None:
    """Some attribute of a module has changed; compiled functions look at theirs again."""
    mode.changes += 1


class set_grad_enabled(ContextDecorator):
    """Within it derivatives are recorded, or not; also a decorator."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self.before: list[bool] = []

    def __enter__(self) -> None:
        self.before.append(mode.grad)
        mode.grad = self.enabled

    def __exit__(self, *_: object) -> None:
        mode.grad = self.before.pop()


def no_grad() -> set_grad_enabled:
    """Within it nothing is recorded for derivatives."""
    return set_grad_enabled(False)


def enable_grad() -> set_grad_enabled:
    """Within it derivatives are recorded, also inside of `no_grad()`."""
    return set_grad_enabled(True)


def is_grad_enabled() -> bool:
    return mode.grad
