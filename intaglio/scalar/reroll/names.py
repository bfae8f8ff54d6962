"""Names of arrays that say what they hold: w1, b1, x, z1, h1, d_w1."""

from __future__ import annotations

from collections import Counter

import numpy as np

from intaglio.scalar import operators as ops
from intaglio.scalar.capture import INPUT, PARAM
from intaglio.scalar.dag import Dag
from intaglio.scalar.reroll.bodies import Body, Slot
from intaglio.scalar.reroll.families import Family
from intaglio.scalar.reroll.storage import Storage

_RESULTS = {ops.FOLD: "z", ops.ADD: "z", ops.COPY: "z", ops.MUL: "m", ops.RELU: "h", ops.EXP: "e",
            ops.LOG: "l", ops.TANH: "t", ops.MAX: "top", ops.POW: "r", ops.POSITIVE: "on",
            ops.RECIPROCAL: "q", ops.ONE_MINUS: "c", ops.LEFT_WINS: "s", ops.RIGHT_WINS: "s"}  # fmt: skip
SCALARS = "scalars"


def name_arrays(dag: Dag, storage: Storage, work: list[tuple[Family, Body | None]]) -> list[str]:
    """A name for every array."""
    rows = np.flatnonzero(storage.array >= 0)
    rows = rows[np.argsort(dag.born[rows], kind="stable")]
    numbers, first = np.unique(storage.array[rows], return_index=True)
    sample = dict(zip(numbers.tolist(), rows[first].tolist(), strict=True))
    bodies = [body for _, body in work if body is not None]
    starts = [b.slots[b.value.number] for b in bodies if b.segments and isinstance(b.value, Slot)]
    biases = {int(storage.array[slot.flat[0]]) for slot in starts}
    weights = {int(storage.array[slot.flat[0]]) for body in bodies for slot in body.slots if slot.ndim == 3}
    many = {int(storage.array[family.rows.flat[0]]) for family, _ in work if family.rows.size > 1}
    bases: dict[int, str] = {}
    for number, row in sample.items():
        op = int(dag.op[row])
        if op == PARAM:
            bases[number] = "w" if number in weights else "b" if number in biases else "p"
        elif op == INPUT and dag.of[row] < 0:
            bases[number] = "x"
        elif number not in many or number in storage.packed:
            bases[number] = SCALARS
        elif dag.of[row] >= 0:
            bases[number] = "d"
        else:
            bases[number] = _RESULTS[op]
    names = _numbered(bases, sample, dag)
    for number, row in sample.items():
        if bases[number] == "d":
            forward = int(storage.array[dag.of[row]])
            plain = bases.get(forward, "d") not in ("d", SCALARS)
            operator = _RESULTS.get(int(dag.op[dag.of[row]]), "x")
            names[number] = f"d_{names[forward] if plain else operator}"
    return _distinct([names[number] for number in range(len(storage.sizes))])


def _numbered(bases: dict[int, str], sample: dict[int, int], dag: Dag) -> dict[int, str]:
    """Names that several arrays would have get numbers, in the order of the arrays' first rows."""
    total = Counter(bases.values())
    seen: Counter[str] = Counter()
    names = {}
    for number in sorted(bases, key=lambda n: (int(dag.born[sample[n]]), n)):
        base = bases[number]
        seen[base] += 1
        names[number] = f"{base}{seen[base]}" if total[base] > 1 else base
    return names


def _distinct(names: list[str]) -> list[str]:
    taken: set[str] = set()
    made = []
    for name in names:
        new, count = name, 1
        while new in taken:
            count += 1
            new = f"{name}_{count}"
        taken.add(new)
        made.append(new)
    return made
