"""What computing at compile time may cost: a program from a file must not decide how much memory and time.

While a budget is spent (`with budget.spent():`), every operator that NumPy would compute is weighed by its
types before it runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from intaglio.ops.registry import Op
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import product, upper
from intaglio.shared.types import TensorType

_current: ContextVar[Budget | None] = ContextVar("budget", default=None)


class OverBudget(UnsupportedError):
    """Something would cost more than may be spent at compile time."""


@dataclass
class Budget:
    """What is left to spend.

    Attributes:
        array_bytes: the largest array that may be made; this one is not used up.
        total_bytes: bytes of all arrays that are made.
        work: terms of reductions and elements of results.
        operators: how many operators may run.
    """

    array_bytes: int
    total_bytes: int
    work: int
    operators: int

    @contextmanager
    def spent(self) -> Iterator[None]:
        """Weigh what is computed in this context."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def grow(self, size: int) -> None:
        """Allow `size` bytes, and as much work, more."""
        self.array_bytes, self.total_bytes = max(self.array_bytes, size), self.total_bytes + size
        self.work += size

    def operator(self, name: str) -> None:
        """Account for one operator. Raises OverBudget when it is one too many."""
        self.operators -= 1
        if self.operators < 0:
            raise OverBudget(f"{name}: too many operators")

    def allocate(self, name: str, size: int) -> None:
        """Account for an array of `size` bytes. Raises OverBudget when it is too large."""
        if size > self.array_bytes:
            raise OverBudget(
                f"{name}: an array of {size} bytes is computed while compiling; "
                f"at most {self.array_bytes} are allowed"
            )
        self.total_bytes -= size
        if self.total_bytes < 0:
            raise OverBudget(f"{name}: the arrays computed while compiling take too much memory")

    def weigh(
        self, op: Op, types: Sequence[TensorType], results: Sequence[TensorType], attrs: dict[str, Any]
    ) -> None:
        """Account for an operator before it is computed."""
        self.operator(op.name)
        work = 0
        for result in results:
            self.allocate(op.name, result.max_bytes or 0)
            work += upper(result.size) or 0
        if op.extents_rule is not None:
            work *= upper(product(op.extents(types, attrs))) or 1
        elif op.kind != "map":
            work += sum(upper(type_.size) or 0 for type_ in types)
        self.work -= work
        if self.work < 0:
            raise OverBudget(f"{op.name}: there is too much to compute while compiling")


def step(name: str) -> None:
    """Account for one operator that a graph gets, or for a step of a loop, whatever its body holds."""
    budget = _current.get()
    if budget is not None:
        budget.operator(name)


def current_budget() -> Budget | None:
    """The budget that is being spent, if any."""
    return _current.get()
