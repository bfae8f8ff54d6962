"""A sample's update joined with the next sample's first sums: every weight is read and written once.

A first sum reads inputs and parameters alone, so the next sample's can run as soon as its parameters are
updated. Where one of its terms reads each of a family's parameters once, the update moves into its loop:

    for k: for i: w[k, i] -= lr * (x[k] * d[i]);  z[i] += w[k, i] * next_x[k]

Nothing but the place of the update changes, so no bit does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from intaglio.loop.ir import Buffer, Kernel
from intaglio.scalar.capture import CONST, INPUT, PARAM
from intaglio.scalar.dag import FORWARD, UPDATING, Dag
from intaglio.scalar.operators import UPDATE
from intaglio.scalar.reroll.addresses import Addresses, Domain, Table, Tables, Walk, slots_of_segments
from intaglio.scalar.reroll.bodies import Body, Node, Slot, Template
from intaglio.scalar.reroll.families import Family
from intaglio.scalar.reroll.nests import Nest
from intaglio.scalar.reroll.raising import Raised, Step, kernel_of
from intaglio.scalar.reroll.storage import target_rows
from intaglio.scalar.reroll.zeros import Zeros, leave_out
from intaglio.scalar.sweeps import Array
from intaglio.shared.target import Target


@dataclass(frozen=True, eq=False)
class Fused:
    """A kernel in place of an update and of the next sample's sums, and the steps it stands for.

    Where inputs may be 0 there are kernels that leave zeros out.
    """

    kernel: Kernel
    update: Step
    sums: Step
    zeros: Zeros | None


def fuse(raised: Raised, target: Target, twins: dict[Buffer, Buffer], tables: Tables) -> list[Fused]:
    """Every pair that can be one kernel, the largest first. It reads the next sample's inputs in `twins`."""
    updates = [pair for pair in _single(raised, UPDATING) if _is_plain(raised.dag, *pair[1:])]
    sums = [pair for pair in _single(raised, FORWARD) if pair[2].segments and _is_first(raised.dag, pair[2])]
    sums.sort(key=lambda pair: -sum(slot.size for slot in pair[2].slots))
    made: list[Fused] = []
    moved, read = (np.zeros(len(raised.dag), bool) for _ in range(2))
    for step, family, body in sums:
        if any(moved[slot].any() for slot in body.slots):
            continue
        for updating, changed, formula in updates:
            rows = target_rows(raised.dag, changed.rows)[0]
            joined = None if read[rows].any() else _joined(len(raised.dag), body, rows, formula)
            if joined is not None:
                made.append(_fused(raised, target, twins, tables, family, body, joined, updating, step))
                moved[rows] = True
                for slot in body.slots:
                    read[slot] = True
                break
    return made


def _single(raised: Raised, phase: int) -> Iterator[tuple[Step, Family, Body]]:
    """The kernels of a phase that compute one family in one turn."""
    for step in raised.steps:
        if step.phase == phase and len(step.regions) == 1:
            families = step.regions[0].families
            if len(families) == 1 and families[0].turns == 1:
                yield step, families[0], raised.bodies[id(families[0])]


def _is_plain(dag: Dag, family: Family, body: Body) -> bool:
    """Whether an update reads no parameter besides the one it changes."""
    value = body.value
    if not isinstance(value, Node) or value.op != UPDATE or not isinstance(value.parts[0], Slot):
        return False
    own = value.parts[0].number
    return all(n == own or int(dag.op[rows.flat[0]]) != PARAM for n, rows in enumerate(body.slots))


def _is_first(dag: Dag, body: Body) -> bool:
    return all(int(dag.op[rows.flat[0]]) in (PARAM, INPUT, CONST) for rows in body.slots)


def _joined(total: int, body: Body, rows: Array, formula: Body) -> Body | None:
    """The sums with the update in the segment that reads every one of these parameters once."""
    member = np.full(total, -1, np.int32)
    member[rows] = np.arange(len(rows))
    readers = [n for n, slot in enumerate(body.slots) if (member[slot] >= 0).any()]
    if len(readers) != 1 or body.slots[readers[0]].ndim != 3:
        return None
    chosen = readers[0]
    which = member[body.slots[chosen][0]][None]
    times = np.bincount(which.reshape(-1) + 1, minlength=len(rows) + 1)[1:]
    if which.size != len(rows) or (times != 1).any():
        return None
    assert isinstance(formula.value, Node)
    assert isinstance(formula.value.parts[0], Slot)
    slots, number = list(body.slots), {formula.value.parts[0].number: chosen}
    for old, slot in enumerate(formula.slots):
        if old not in number:
            number[old] = len(slots)
            slots.append(slot[0][which])
    update = (chosen, _renumbered(formula.value, number))
    homes = [s for s, numbers in slots_of_segments(body).items() if chosen in numbers]
    if len(homes) != 1:
        return None
    segments = tuple(
        replace(segment, updates=(update,)) if n == homes[0] else segment
        for n, segment in enumerate(body.segments)
    )
    return Body(body.value, segments, slots)


def _renumbered(template: Template, number: dict[int, int]) -> Template:
    if isinstance(template, Slot):
        return Slot(number[template.number])
    if isinstance(template, Node):
        return replace(template, parts=tuple(_renumbered(part, number) for part in template.parts))
    return template


def _fused(raised: Raised, target: Target, twins: dict[Buffer, Buffer], tables: Tables, family: Family,
           sums: Body, joined: Body, update: Step, first: Step) -> Fused:  # fmt: skip
    addresses = Addresses(raised.dag, raised.storage, raised.buffers, tables)
    domain = addresses.domain(family, joined)
    _read_next(domain, range(len(sums.slots)), twins)
    nest = Nest(joined, domain, target, raised.rate, count(1))
    doc = (*update.kernel.doc, *(f"{line} of the next sample" for line in first.kernel.doc))
    kernel = kernel_of(f"{update.kernel.name}_{first.kernel.name}", nest.build(), doc)
    return Fused(kernel, update, first, leave_out(joined, nest, (update.kernel.name, first.kernel.name)))


def _read_next(domain: Domain, slots: Sequence[int], twins: dict[Buffer, Buffer]) -> None:
    for number in slots:
        walk = domain.walks[number]
        if isinstance(walk, Walk) and walk.buffer in twins:
            domain.walks[number] = replace(walk, buffer=twins[walk.buffer])
        elif isinstance(walk, Table) and walk.target in twins:
            domain.walks[number] = replace(walk, target=twins[walk.target])
