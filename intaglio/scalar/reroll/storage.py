"""Arrays: where every stored row lives.

Whatever one operand of a loop reads lies in one array, so that its places are numbers that strides can
describe. Within an array rows stand in the order their values were made in, parameters and inputs in the
caller's order, unless the largest sum that reads them wants its columns side by side. Where such columns
are no whole number of vectors, the rows of a large array are kept apart, so that each begins with a vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from intaglio.scalar.capture import CONST, INPUT, PARAM
from intaglio.scalar.dag import Dag
from intaglio.scalar.operators import ADD, COPY, FOLD, UPDATE
from intaglio.scalar.reroll.affine import factor, separate
from intaglio.scalar.reroll.bodies import Body
from intaglio.scalar.reroll.families import Facts, Family
from intaglio.scalar.sweeps import Array

LEAST_LAYOUT = 64
"""Rows of the smallest array whose order is worth a thought."""

LEAST_PADDED = 1024
"""Numbers of the smallest array whose rows are kept apart."""

MOST_PADDING = 0.25
"""The largest part of a row that may be left empty behind it."""

MOST_ARRAYS = 64
"""Arrays of a program beyond which the small ones are packed."""


@dataclass(eq=False)
class Storage:
    """`array` is the number of the array a row lives in (-1: none) and `place` its place there.

    `packed` arrays hold the rows of many small ones. An array may have places where no row lives.
    """

    array: Array
    place: Array
    sizes: Array
    packed: frozenset[int] = frozenset()


def target_rows(dag: Dag, rows: Array) -> Array:
    """Where results go: an update overwrites its parameter."""
    return dag.a[rows] if int(dag.op[rows.flat[0]]) == UPDATE else rows


def place_rows(dag: Dag, facts: Facts, work: Sequence[tuple[Family, Body | None]], lanes: int) -> Storage:
    """Choose arrays and places for vectors of so many lanes.

    Families without a body are single statements, which may read anything.
    """
    labels = _Labels(len(dag))
    for family, body in work:
        labels.join(target_rows(dag, family.rows))
        for rows in body.slots if body is not None else ():
            if dag.op[rows.flat[0]] != CONST:
                labels.join(rows)
    array = labels.finish()
    placed = (facts.stored | facts.deferred) != 0
    leaf = (dag.op == PARAM) | (dag.op == INPUT)
    placed = (placed & (dag.op != UPDATE)) | leaf
    array = _merge_single(dag, array, placed)
    order = np.flatnonzero(array >= 0).astype(np.int32)
    group = dag.op[order]
    group[(group == ADD) | (group == COPY)] = FOLD
    key = array[order].astype(np.int64) << 40 | group.astype(np.int64) << 32 | dag.born[order]
    order = order[np.argsort(key, kind="stable")]
    del key, group
    storage = _numbered(array, order)
    loops = [(family, body) for family, body in work if body is not None]
    _lay_out(storage, order, loops, dag)
    _pad(storage, [rows for _, body in loops for rows in body.slots if dag.op[rows.flat[0]] != CONST], lanes)
    return storage if len(storage.sizes) <= MOST_ARRAYS else _packed(dag, storage)


def _packed(dag: Dag, storage: Storage) -> Storage:
    """Small arrays one behind the other in one array: of an irregular graph there are hundreds."""
    rows = np.flatnonzero(storage.array >= 0)
    kind = np.zeros(len(storage.sizes), np.int8)
    for bit, op in ((1, PARAM), (2, INPUT)):
        kind[storage.array[rows[dag.op[rows] == op]]] |= bit
    computed = (dag.op[rows] != PARAM) & (dag.op[rows] != INPUT)
    kind[storage.array[rows[computed]]] |= 4
    small = storage.sizes < LEAST_LAYOUT
    number, offset = np.cumsum(~small) - 1, np.zeros(len(kind), np.int64)
    first = next_number = int((~small).sum())
    for one in np.unique(kind[small]):
        mine = np.flatnonzero(small & (kind == one))
        number[mine] = next_number
        offset[mine] = np.cumsum(storage.sizes[mine]) - storage.sizes[mine]
        next_number += 1
    sizes = np.bincount(number, weights=storage.sizes).astype(np.int64)
    array, place = storage.array.copy(), storage.place.copy()
    array[rows], place[rows] = number[storage.array[rows]], place[rows] + offset[storage.array[rows]]
    return Storage(array, place, sizes, frozenset(range(first, next_number)))


class _Labels:
    """Sets of rows that must share an array."""

    def __init__(self, n: int) -> None:
        self.label = np.full(n, -1, np.int32)
        self.parent: list[int] = []

    def root(self, label: int) -> int:
        while self.parent[label] != label:
            self.parent[label] = self.parent[self.parent[label]]
            label = self.parent[label]
        return label

    def join(self, rows: Array) -> None:
        found = self.label[rows]
        low, high = int(found.min()), int(found.max())
        labels: Iterable[int] = (low,) if low == high else np.unique(found).tolist()
        known = [self.root(label) for label in labels if label >= 0]
        if not known:
            known = [len(self.parent)]
            self.parent.append(known[0])
        for other in known[1:]:
            self.parent[other] = known[0]
        if low < 0:
            self.label[rows[found < 0]] = known[0]

    def finish(self) -> Array:
        roots = np.array([self.root(label) for label in range(len(self.parent))] + [-1], np.int32)
        final: Array = roots[self.label]
        return final


def _merge_single(dag: Dag, array: Array, placed: Array) -> Array:
    """Arrays of one row each become one; leaves that no loop reads get one array per kind."""
    count = np.bincount(array[array >= 0], minlength=1)
    free = int(array.max()) + 1
    alone = placed & (array >= 0)
    alone[alone] = count[array[alone]] == 1
    alone |= placed & (array < 0)
    merged = np.where(placed, array, np.int32(-1))
    for number, kind in enumerate((PARAM, INPUT)):
        merged[alone & (dag.op == kind)] = free + number
    merged[alone & (dag.op != PARAM) & (dag.op != INPUT)] = free + 2
    merged += 1
    used = np.bincount(merged) > 0
    dense = np.cumsum(used) - 1
    numbers: Array = (dense - int(used[0])).astype(np.int32)[merged]
    return numbers


def _numbered(array: Array, order: Array) -> Storage:
    sizes = np.bincount(array[order])
    firsts = np.cumsum(sizes) - sizes
    place = np.full(len(array), -1, np.int32)
    place[order] = np.arange(len(order)) - firsts[array[order]]
    return Storage(array, place, sizes)


def _lay_out(storage: Storage, order: Array, work: Sequence[tuple[Family, Body]], dag: Dag) -> None:
    """Turn arrays so that a sum's members, not its terms, lie side by side, where that serves most reads."""
    votes: dict[int, int] = {}
    wishes: dict[int, tuple[int, Array]] = {}
    for family, body in work:
        for rows in body.slots:
            if rows.ndim < 3 or rows.shape[1] < 2 or dag.op[rows.flat[0]] == CONST:
                continue
            number = int(storage.array[rows.flat[0]])
            if storage.sizes[number] < LEAST_LAYOUT:
                continue
            places = storage.place
            step = int(places[rows[0, 1, 0]]) - int(places[rows[0, 0, 0]])
            if step == 0 or family.turns > 1:
                continue
            votes[number] = votes.get(number, 0) + (rows.size if step != 1 else -rows.size)
            if step != 1 and rows.size > wishes.get(number, (0, rows))[0]:
                wishes[number] = rows.size, np.swapaxes(rows[0], 0, 1).reshape(-1)
    for number, (_, wanted) in wishes.items():
        if votes[number] <= 0:
            continue
        rank = np.full(len(storage.place), len(storage.place), np.int64)
        rank[wanted[::-1]] = np.arange(len(wanted))[::-1]
        rows = order[storage.array[order] == number]
        rows = rows[np.argsort(rank[rows], kind="stable")]
        storage.place[rows] = np.arange(len(rows))


def _pad(storage: Storage, slots: Sequence[Array], lanes: int) -> None:
    """Keep the rows of large arrays apart by whole vectors: loads and stores then cross no cache line.

    That pays where vectors run along columns and all of an array is read so. No loop becomes a table by it.
    """
    readers: dict[int, list[Array]] = {}
    for rows in slots:
        readers.setdefault(int(storage.array[rows.flat[0]]), []).append(rows)
    for number, reads in readers.items():
        size = int(storage.sizes[number])
        widths = {
            rows.shape[1]
            for rows in reads
            if size >= LEAST_PADDED and rows.ndim == 3 and _reads_in_order(storage.place[rows], size)
        }
        if len(widths) != 1:
            continue
        (width,) = widths
        empty = -width % lanes
        if 0 < empty <= MOST_PADDING * width and width > lanes:
            _spread(storage, number, reads, width, width + empty)


def _reads_in_order(places: Array, size: int) -> bool:
    """Whether a sum [turns, members, terms] reads all of an array, its members side by side."""
    return places.size == size and bool((np.swapaxes(places, 1, 2).reshape(-1) == np.arange(size)).all())


def _spread(storage: Storage, number: int, reads: list[Array], width: int, step: int) -> None:
    """Put rows of `width` numbers `step` places apart, unless a loop's strides are lost."""
    rows = np.flatnonzero(storage.array == number)
    before = storage.place[rows]
    regular = [_has_strides(storage.place[read]) for read in reads]
    storage.place[rows] = before // width * step + before % width
    if all(_has_strides(storage.place[read]) >= was for read, was in zip(reads, regular, strict=True)):
        storage.sizes[number] = storage.sizes[number] // width * step
    else:
        storage.place[rows] = before


def _has_strides(places: Array) -> bool:
    parts = separate(places)
    return parts is not None and all(factor(part[None]) is not None for part in parts)
