"""Which rows are one loop: equal in what they compute and independent of one another.

A row that is read once is written out where it is read; every other row is stored, and is the root of an
expression. Roots of one level whose expressions are equal, by a hash of their structure, are a family.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from intaglio.scalar.dag import APPLYING, LARGEST, ON_DEMAND, UPDATING, Dag
from intaglio.scalar.operators import ADD, COPY, FOLD, PARTIAL, UPDATE
from intaglio.scalar.reroll.repeats import find_repeats
from intaglio.scalar.sweeps import Array

MOST_PERIOD = 64
"""Families of one turn of a loop over families."""


@dataclass(eq=False)
class Facts:
    """Columns beside a graph's. `deferred` rows are computed where they are read, and stored on demand.

    `colour` hashes what a row computes, `seen` what its readers know of it. `fine` also hashes the forward
    level that operands belong to, so that layers of a network stay apart.
    """

    stored: Array
    deferred: Array
    level: Array
    colour: Array
    fine: Array
    seen: Array

    def forget_hashes(self) -> None:
        """Once all families and their bodies are found, hashes are of no use."""
        self.colour = self.fine = self.seen = np.empty(0, np.uint64)


@dataclass(eq=False)
class Family:
    """Rows [turns, members] that one loop nest computes; turn t of a repeat runs behind turn t - 1."""

    rows: Array
    phase: int

    @property
    def turns(self) -> int:
        return int(self.rows.shape[0])

    @property
    def members(self) -> int:
        return int(self.rows.shape[1])


@dataclass(eq=False)
class Region:
    """Families that run one after the other, `turns` times; one family and one turn in most cases."""

    families: list[Family] = field(default_factory=list)

    @property
    def turns(self) -> int:
        return self.families[0].turns

    @property
    def phase(self) -> int:
        return self.families[0].phase

    def unrolled(self) -> list[Region]:
        """The same rows with every turn on its own."""
        return [Region([Family(family.rows[t : t + 1], family.phase)])
                for t in range(self.turns) for family in self.families]  # fmt: skip


def analyse(dag: Dag) -> Facts:
    """Choose what is stored, and hash what every row computes."""
    n = len(dag)
    uses, size, level, home = (np.empty(n, np.int32) for _ in range(4))
    stored, deferred, reads_param = (np.empty(n, np.uint8) for _ in range(3))
    dag.sweep("count_uses", dag.terms, uses)
    dag.sweep("choose_stored", dag.terms, dag.phase, uses, kept_rows(dag), _table(PARTIAL, 1), LARGEST,
              stored, deferred, size, reads_param)  # fmt: skip
    del uses, size, reads_param
    dag.sweep("levels", dag.terms, stored, level)
    dag.sweep("home_levels", dag.terms, stored, level, home)
    origin = np.where(dag.of >= 0, home[dag.of], level)
    classes = np.arange(32, dtype=np.uint8)
    classes[[ADD, COPY]] = FOLD
    colour, fine, seen = (np.empty(n, np.uint64) for _ in range(3))
    dag.sweep("colours", dag.k, dag.terms, stored, classes, dag.phase, origin, home, colour, fine,
              seen)  # fmt: skip
    del origin, home
    _part_updates(dag, fine)
    return Facts(stored, deferred, level, colour, fine, seen)


def _part_updates(dag: Dag, fine: Array) -> None:
    """Parameters whose summed gradients are computed differently are updated in loops of their own."""
    summed = np.flatnonzero((dag.op == UPDATE) & (dag.k == 1))
    by_leaf = np.zeros(len(dag), np.uint64)
    by_leaf[dag.a[summed]] = fine[summed]
    applied = np.flatnonzero(dag.phase == APPLYING)
    fine[applied] ^= by_leaf[dag.b[applied]]


def kept_rows(dag: Dag) -> Array:
    """Rows that are read from outside, besides the gradients an update can compute by itself."""
    kept = np.zeros(len(dag), np.uint8)
    for rows in (dag.outputs, dag.output_gradients, dag.input_gradients):
        kept[rows[rows >= 0]] = 1
    return kept


def _table(codes: frozenset[int], value: int) -> Array:
    table = np.zeros(32, np.uint8)
    table[list(codes)] = value
    return table


def find_regions(dag: Dag, facts: Facts) -> list[Region]:
    """The families in an order in which they can run, repeats rolled."""
    roots = np.flatnonzero(facts.stored | facts.deferred).astype(np.int32)
    if not len(roots):
        return []
    phase = np.where(facts.deferred[roots] != 0, ON_DEMAND, dag.phase[roots])
    level = np.where(phase >= UPDATING, 0, facts.level[roots])
    born = dag.born[roots]
    order = np.lexsort((born, facts.fine[roots], level, phase))
    roots, phase, level, born = roots[order], phase[order], level[order], born[order]
    key = facts.fine[roots]
    new = np.r_[True, (np.diff(phase) != 0) | (np.diff(level) != 0) | (key[1:] != key[:-1])]
    starts = np.flatnonzero(new)
    sizes = np.diff(np.r_[starts, len(roots)])
    run = np.lexsort((born[starts], level[starts], phase[starts]))
    starts, sizes = starts[run], sizes[run]
    signature = np.unique(
        np.stack([facts.colour[roots[starts]].view(np.int64), sizes, phase[starts]]),
        axis=1,
        return_inverse=True,
    )[1].reshape(-1)
    regions = []
    for first, period, turns in find_repeats(signature, MOST_PERIOD):
        families = []
        for place in range(first, first + period):
            at = starts[place : place + period * (turns - 1) + 1 : period]
            rows = np.stack([roots[s : s + sizes[place]] for s in at])
            families.append(Family(rows, int(phase[at[0]])))
        regions.append(Region(families))
    return regions
