"""Loops of the driver: what stays the same in all steps is prepared once, before the loop."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from intaglio.loop.ir import Call, Slice, Stmt
from intaglio.shared.index import IndexLike, upper

UNKNOWN_RUNS = 16
"""Steps that a loop is taken to have when nothing bounds them."""


@dataclass
class Repeats:
    """A loop whose body is being lowered: how often it runs, the arrays that stay the same in it, and the
    calls that its kernels want before it."""

    runs: int
    fixed: frozenset[Slice]
    before: list[Call] = field(default_factory=list)

    @classmethod
    def of(cls, steps: IndexLike | None, fixed: Iterable[Slice], written: Iterable[Slice]) -> Repeats:
        """A loop of so many steps over arrays, less those that share memory with what it writes."""
        changed = {place.buffer for place in written}
        most = None if steps is None else upper(steps)
        runs = UNKNOWN_RUNS if most is None else most
        return cls(runs, frozenset(place for place in fixed if place.buffer not in changed))

    def leave(self, outer: Repeats | None) -> list[Stmt]:
        """What stands before the loop. Calls that are the same in all steps of a loop around it go before
        that one."""
        own: list[Stmt] = []
        for call in self.before:
            pairs = zip(call.kernel.params, call.args, strict=True)
            read = [place for param, place in pairs if param not in call.kernel.written]
            if outer is not None and outer.fixed.issuperset(read):
                outer.before.append(call)
            else:
                own.append(call)
        return own
