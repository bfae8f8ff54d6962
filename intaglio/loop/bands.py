"""Which scores a mask that is known when compiling leaves out, and the rows that share a limit.

Behind the diagonal of a causal mask every weight is exactly zero: such columns need not be computed. Rows are
cut into bands, and each band goes through the columns that some row of it may see.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from intaglio.graph.ir import Node, Value
from intaglio.loop.attention import Attention
from intaglio.ops.dispatch import evaluate
from intaglio.shared.index import product

Array = np.ndarray[Any, Any]

LOW = -1e30
"""A finite number that stands for a score that is left out."""
LARGEST = 1 << 24
"""Elements of a mask that is looked at."""
BANDS = 4
"""Bands at most, each with loops of its own."""
FEW_ROWS = 256
"""Rows from which there are more than two bands."""
SAVES = 0.9
"""The part of all scores that bands may need at most to be worth their code."""


@dataclass(frozen=True)
class Band:
    """Rows `start .. stop - 1`, and how many columns they go through."""

    start: int
    stop: int
    columns: int


def bands(one: Attention, width: int, tile: int) -> list[Band]:
    """The bands of all rows, each but the last in multiples of `tile`; columns in multiples of `width`."""
    rows, columns = one.score.shape[-2:]
    assert isinstance(rows, int)
    assert isinstance(columns, int)
    whole = [Band(0, rows, columns)]
    hidden = _hidden(one) if columns % width == 0 and _is_softmax(one) else None
    if hidden is None:
        return whole
    seen = np.where(hidden.all(-1), 0, columns - np.argmin(hidden[:, ::-1], axis=-1))
    count = BANDS if rows >= FEW_ROWS else 2
    cuts = sorted({0, *(rows * k // count // tile * tile for k in range(count)), rows})
    limits = [max(width, -(-int(seen[a:b].max()) // width) * width) for a, b in pairwise(cuts)]
    found = []
    for limit, run in groupby(range(len(limits)), limits.__getitem__):
        parts = list(run)
        found.append(Band(cuts[parts[0]], cuts[parts[-1] + 1], limit))
    needed = sum((band.stop - band.start) * band.columns for band in found)
    return found if needed <= SAVES * rows * columns else whole


def _hidden(one: Attention) -> Array | None:
    """Where the scores are certainly left out, in all places around rows and columns; None if nowhere."""
    node, anchor = one.score.node, one.first.anchor
    if node is None or node is anchor:
        return None
    low: Array | None = None
    scores: Value | None = None
    known = [_known(_unrepeated(value)) for value in node.inputs]
    if node.op.name == "add":
        low, scores = (known[0], node.inputs[1]) if known[1] is None else (known[1], node.inputs[0])
    elif node.op.name == "where":
        chosen, *sides = known
        if chosen is not None:
            scores = node.inputs[1] if sides[0] is None else node.inputs[2]
            low = np.where(chosen, *(np.zeros(()) if side is None else side for side in sides))
    if low is None or scores is None:
        return None
    rows, columns = one.score.shape[-2:]
    hidden: Array = np.broadcast_to(low, (*low.shape[:-2], rows, columns))  # type: ignore[arg-type]
    hidden = hidden.reshape(-1, *hidden.shape[-2:])
    left_out: Array = np.all(hidden == -np.inf, axis=0)
    if not left_out.any() and anchor is not None and _is_scaled(scores, anchor):
        hidden = np.less_equal(hidden, LOW)
        alike: Array = np.any(np.all(hidden, axis=-1), axis=0)
        left_out = np.all(hidden, axis=0) & ~alike[:, np.newaxis]
    return left_out if left_out.any() else None


def _is_scaled(value: Value, anchor: Node) -> bool:
    """Whether a value is the product's own, times numbers."""
    while value.node is not None and value.node is not anchor:
        factors = [_known(_unrepeated(v)) for v in value.node.inputs]
        if value.node.op.name not in ("mul", "div") or len([f for f in factors if f is None]) != 1:
            return False
        value = next(v for v, f in zip(value.node.inputs, factors, strict=True) if f is None)
    return value.node is anchor


def _known(value: Value) -> Array | None:
    """What a value that depends on constants alone is."""
    if value.source == "constant":
        return value.data
    node = value.node
    size = product(value.shape)
    if node is None or node.op.kind not in ("map", "view") or not isinstance(size, int) or size > LARGEST:
        return None
    arrays = [_known(v) for v in node.inputs]
    if any(a is None for a in arrays) or node.op.name == "random_bits":
        return None
    found: Array = evaluate(node.op, arrays, node.attrs)
    return found


def _is_softmax(one: Attention) -> bool:
    """Whether a score of minus infinity is a weight of zero and no more: rows are exponentials of what is
    below the greatest, over their sum, and zero stays zero from there on."""
    nodes = list(one.rows.nodes)
    names = [node.op.name for node in nodes]
    if names[:4] != ["reduce_max", "sub", "exp", "sum"] or names.count("sum") != 1:
        return False
    greatest, below, powers, total = nodes[:4]
    if greatest.inputs[0] is not one.score or below.inputs[0] is not one.score:
        return False
    if _root(below.inputs[1]) is not greatest.outputs[0] or powers.inputs[0] is not below.outputs[0]:
        return False
    if total.inputs[0] is not powers.outputs[0]:
        return False
    zeros, scalars = {powers.outputs[0]}, {total.outputs[0]}
    for node in nodes[4:]:
        by_row = all(e == 1 for e in node.outputs[0].shape[one.rows.rows :])
        if not by_row and not _keeps_zeros(node, zeros, scalars):
            return False
        (scalars if by_row else zeros).update(node.outputs)
    return one.weight in zeros


def _keeps_zeros(node: Node, zeros: set[Value], by_row: set[Value]) -> bool:
    """Whether an element is zero (or false) where those it is made of are."""
    if node.op.name in ("mul", "div"):
        places = (0, 1) if node.op.name == "mul" else (0,)
        return any(node.inputs[k] in zeros and _root(node.inputs[1 - k]) in by_row for k in places)
    if node.op.name == "ne":
        return node.inputs[0] in zeros and node.inputs[0] is node.inputs[1]
    return node.op.name == "where" and node.inputs[0] in zeros and node.inputs[2] in zeros


def _root(value: Value) -> Value:
    """What a value is before it was repeated or given another shape."""
    while value.node is not None and value.node.op.name in ("broadcast", "reshape"):
        value = value.node.inputs[0]
    return value


def _unrepeated(value: Value) -> Value:
    """What is repeated along further axes."""
    while value.node is not None and value.node.op.name == "broadcast":
        value = value.node.inputs[0]
    return value
