"""Functions that never fall: the greatest of their values is their value at the greatest argument."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from intaglio.graph.ir import Node, Value
from intaglio.graph.rules import number_of
from intaglio.loop import access
from intaglio.shared.index import Index, Var


def rises(start: Value, nodes: Iterable[Node], end: Value, is_free: Callable[[Node], bool]) -> bool:
    """Whether an image rises with another one, place by place, in the same way at all places of a channel.

    `nodes` make `end` from `start`, in order. What they add must be finite, so that a NaN stays where it is.
    """
    rising = {start}
    for node in nodes:
        shifted = node.op.name == "add" and any(
            v in rising and _is_shift(node, w, is_free) for v, w in (node.inputs, node.inputs[::-1])
        )
        if shifted or _limited(node) in rising:
            rising.add(node.outputs[0])
    return end in rising


def _is_shift(node: Node, value: Value, is_free: Callable[[Node], bool]) -> bool:
    """Whether an operand is finite constants that depend on the channel alone."""
    number = number_of(value)
    if number is not None:
        return bool(np.isfinite(number))
    while value.node is not None and is_free(value.node):
        value = value.node.inputs[0]
    if value.source != "constant" or value.data is None or not np.isfinite(value.data).all():
        return False
    places = {v.name for v in _variables(access.output_variables(node.outputs[0])[2:])}
    read = [place for v, place in access.reads(node, is_free) if v is value]
    return all(v.name not in places for place in read for v in _variables(place))


def _variables(place: access.Place) -> list[Var]:
    return [v for index in place if isinstance(index, Index) for v in index.variables]


def _limited(node: Node) -> Value | None:
    """The value that `where` limits from below, above, or both; None where it does something else."""
    if node.op.name != "where":
        return None
    condition, limit, value = node.inputs
    test, bound = condition.node, number_of(limit)
    if test is None or test.op.name != "le" or bound is None:
        return None
    low, high = test.inputs
    if low is value and number_of(high) == bound:
        return value
    if high is value and number_of(low) == bound:
        return value
    inner = value.node
    above = None if inner is None or inner.op.name != "where" else _limited(inner)
    if above is None or above is not low or number_of(high) != bound:
        return None
    assert inner is not None
    top = number_of(inner.inputs[1])
    return above if top is not None and top >= bound else None
