"""What is going on in this thread: whether derivatives are recorded, and the trace under way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

from intaglio.ops.registry import Op

P = ParamSpec("P")
T = TypeVar("T")


class Recorder(Protocol):
    """A program being recorded; `Any` stands for its values, and for the storages that hold them."""

    arrays: Any

    def operand(self, tensor: Any) -> Any: ...
    def write(self, storage: Any, value: Any) -> None: ...
    def constant(self, array: Any) -> Any: ...
    def append(self, op: Op, values: Sequence[Any], attrs: dict[str, Any]) -> tuple[Any, ...]: ...
    def read_grad(self, tensor: Any) -> Any: ...
    def write_grad(self, tensor: Any, grad: Any) -> None: ...


class _Mode(threading.local):
    grad: bool = True
    trace: Recorder | None = None


mode = _Mode()


class Changes:
    """How often something changed that recorded programs rest on: the parts and settings of modules, or
    whether a leaf requires gradients. Whoever changes such a thing adds one."""

    count: int = 0


changes = Changes()


def note_change() -> None:
    """Something that recorded programs rest on has changed; they look at it again."""
    changes.count += 1


class set_grad_enabled:
    """Within it derivatives are recorded, or not; also a decorator."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self.before: list[bool] = []

    def __enter__(self) -> None:
        self.before.append(mode.grad)
        mode.grad = self.enabled

    def __exit__(self, *_: object) -> None:
        mode.grad = self.before.pop()

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
            with set_grad_enabled(self.enabled):
                return function(*args, **kwargs)

        return wrapped


def no_grad() -> set_grad_enabled:
    """Within it nothing is recorded for derivatives."""
    return set_grad_enabled(False)


def enable_grad() -> set_grad_enabled:
    """Within it derivatives are recorded, also inside of `no_grad()`."""
    return set_grad_enabled(True)


def is_grad_enabled() -> bool:
    """Whether derivatives are recorded now."""
    return mode.grad
