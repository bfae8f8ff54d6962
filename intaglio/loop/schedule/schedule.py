"""A schedule: records applied to a kernel one after the other, each checked, each shown before and after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from intaglio.loop.ir import Buffer, Kernel
from intaglio.loop.schedule.nest import Nest
from intaglio.loop.schedule.records import VERBS, Record, make, parse_records, print_records
from intaglio.loop.spec import verify_kernel
from intaglio.loop.text import print_kernel
from intaglio.shared.errors import UnsupportedError, VerifyError
from intaglio.shared.index import Var


@dataclass(frozen=True)
class Step:
    """One record and the text of the nest before and after it."""

    record: Record
    before: str
    after: str


class Schedule:
    """How a kernel is to run. Every verb is a method that returns the schedule:

        Schedule(kernel).split("i", 16, into=("i0", "i1")).vectorize("i1").kernel

    Args:
        kernel: what is scheduled; it stays as it is.
        data: contents of its arrays that are known, so that `pack` can work when compiling.
        symbols: dimensions known only at run time that it uses.
        scratch: arrays among its parameters that nothing else uses.
    """

    def __init__(
        self,
        kernel: Kernel,
        *,
        data: Mapping[Buffer, np.ndarray[Any, Any]] | None = None,
        symbols: Iterable[Var] = (),
        scratch: Iterable[Buffer] = (),
    ) -> None:
        self._nest = Nest(kernel, data or {}, list(scratch))
        self._symbols = frozenset(symbols)
        self.steps: list[Step] = []

    @property
    def kernel(self) -> Kernel:
        """The kernel as scheduled so far; its notes are the records."""
        notes = tuple(str(record) for record in self.records)
        return replace(self._nest.kernel, schedule=notes or self._nest.kernel.schedule)

    @property
    def records(self) -> list[Record]:
        return [step.record for step in self.steps]

    @property
    def extra(self) -> list[Buffer]:
        """Parameters of the kernel that are its own: scratch arrays, and packed constants with their data."""
        return list(self._nest.extra)

    @property
    def reassociates(self) -> bool:
        """Whether a step changed the order of a sum whose order is free, so that results may differ in
        rounding; otherwise they are the same to the last bit."""
        return self._nest.reassociates

    def apply(self, *steps: str | Record) -> Schedule:
        """Apply records, or texts of one or more lines, in order.

        Raises:
            UnsupportedError: a step is not legal; the kernel is as it was before that step.
            ParseError, ArgumentError: a text is no record.
        """
        for step in steps:
            for record in parse_records(step) if isinstance(step, str) else [step]:
                self._apply(record)
        return self

    def _apply(self, record: Record) -> None:
        nest = replace(self._nest, extra=list(self._nest.extra), given=set())
        before = self._text()
        record.apply(nest)
        nest.given = set()
        try:
            verify_kernel(nest.kernel, self._symbols)
        except VerifyError as error:
            raise UnsupportedError(f"{record}: {error.message}", hint=error.hint) from error
        self._nest = nest
        self.steps.append(Step(record, before, self._text()))

    def __getattr__(self, verb: str) -> Callable[..., Schedule]:
        if verb not in VERBS:
            raise AttributeError(f"a schedule has no verb {verb!r}; the verbs are {', '.join(sorted(VERBS))}")
        return lambda *arguments, **options: self.apply(make(verb, *arguments, **options))

    def __str__(self) -> str:
        return print_records(self.records)

    def trace(self) -> str:
        """The nest before the first step and after each."""
        parts = [self.steps[0].before if self.steps else self._text()]
        parts += [f"# {step.record}\n{step.after}" for step in self.steps]
        return "\n".join(parts)

    def _text(self) -> str:
        kernel = replace(self._nest.kernel, doc=(), schedule=(), flops=0, bytes=0)
        return "\n".join(print_kernel(kernel)[1:]) + "\n"
