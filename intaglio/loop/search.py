"""Which of several plans a recipe uses: the least estimated cycles, or what was measured.

A recipe declares its plans (forms and register tiles) with estimated cycles, and a name for each. The key of
a choice says what it is made for: machine, operator, types. Measured choices are records in a text file, one
a line, `key = plan`; what follows a `#` is for readers. `intaglio tune` writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from intaglio.loop.recipes.anchor import Anchor, Nest, Operand
from intaglio.shared.errors import ArgumentError
from intaglio.shared.target import Target

TILES = 6
"""Register tiles of a form that a search may try, the best estimates first."""
HEADER = "# intaglio tune: what was fastest; kernel = plan"


class Plan(Protocol):
    """One way to run an anchor."""

    @property
    def name(self) -> str: ...

    @property
    def cycles(self) -> float: ...

    def nest(self) -> Nest: ...


P = TypeVar("P", bound=Plan)


@dataclass(frozen=True)
class Records:
    """Measured choices by key."""

    plans: Mapping[str, str] = field(default_factory=dict)

    def plan(self, key: str, offered: Sequence[str]) -> str:
        """The recorded plan where the recipe still offers it, else the first."""
        recorded = self.plans.get(key, "")
        return recorded if recorded in offered else offered[0]

    def made(self, body: object) -> None:
        """Nothing to remember."""


@dataclass
class Survey:
    """Takes the plan of rank `rank` everywhere and remembers what there was to choose from.

    Attributes:
        offered: the plans of each key, the best estimate first.
        bodies: keys by the identity of the kernel body that was made for them, and the bodies themselves.
    """

    rank: int
    offered: dict[str, list[str]] = field(default_factory=dict)
    bodies: dict[int, tuple[str, object]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def plan(self, key: str, offered: Sequence[str]) -> str:
        self.offered[key] = list(offered)
        self.asked.append(key)
        return offered[self.rank] if self.rank < len(offered) else offered[0]

    def made(self, body: object) -> None:
        """A kernel's body was made after one choice; several choices of one kernel are not searched."""
        if len(self.asked) == 1:
            self.bodies[id(body)] = (self.asked[0], body)
        self.asked.clear()


def choose(anchor: Anchor, target: Target, plans: Callable[[int], Iterable[P]]) -> P | None:
    """The plan to use; None when there is none.

    Args:
        plans: the forms of an anchor, each with its register tile of a rank: 0 is the best estimate.
    """
    tuning = target.tuning
    offered: dict[str, P] = {}
    for rank in range(TILES if tuning is not None else 1):
        for plan in plans(rank):
            offered.setdefault(plan.name, plan)
    if not offered:
        return None
    order = sorted(offered.values(), key=lambda plan: plan.cycles)
    if tuning is None:
        return order[0]
    return offered[tuning.plan(describe(anchor, target), [plan.name for plan in order])]


def describe(anchor: Anchor, target: Target) -> str:
    """The key of a choice: vector bytes and registers, operator with its attributes, types."""
    attrs = ",".join(f"{name}={value}".replace(" ", "") for name, value in sorted(anchor.attrs.items()))
    types = [f"{x.type}{_constancy(anchor, x)}" for x in anchor.operands]
    machine = f"{target.name}/{target.vector_bytes}x{target.registers}"
    key = f"{machine} {anchor.op}({attrs}) {', '.join(types)} -> {anchor.result}"
    pooling = anchor.pooling
    return key if pooling is None else f"{key} {pooling.combine} of {'x'.join(map(str, pooling.kernel))}"


def _constancy(anchor: Anchor, operand: Operand) -> str:
    """Whether an operand is known when compiling, or the same in all steps of a loop."""
    if operand.data is not None:
        return " constant"
    return " repeated" if anchor.runs_with(operand[(0,) * operand.type.rank]) > 1 else ""


def load_records(path: str | Path) -> Records:
    """Read a file of records. Raises ArgumentError for a line that is none."""
    plans: dict[str, str] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ArgumentError(
            f"{path} cannot be read: {error.strerror}", hint="`intaglio tune` writes it"
        ) from error
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        key, equals, plan = text.rpartition(" = ")
        if text and not equals:
            raise ArgumentError(f"{path}:{number}: {text!r} is no record", hint="write key = plan")
        if text:
            plans[key.strip()] = plan.strip()
    return Records(plans)


def save_records(path: str | Path, plans: dict[str, str], remarks: dict[str, str]) -> None:
    """Write records, sorted, each with its remark."""
    lines = [f"{key} = {plan}  # {remarks.get(key, '')}".rstrip(" #") for key, plan in sorted(plans.items())]
    Path(path).write_text("\n".join([HEADER, *lines, ""]), encoding="utf-8")
