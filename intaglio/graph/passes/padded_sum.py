"""Sums of arrays that are zero but in places of their own: what stands in those places, side by side.

Such sums are the derivatives of an array that was cut into slices, as the gates of recurrent cells are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from intaglio.graph.ir import Node, Value
from intaglio.graph.rewrite import Build, Counts
from intaglio.ops.registry import REGISTRY

MOST = 64  # terms of one sum


@dataclass(frozen=True)
class _Part:
    """`value` stands at `start` along `axis`, zeros at all other places."""

    value: Value
    axis: int
    start: int

    @property
    def stop(self) -> int:
        extent = self.value.shape[self.axis]
        assert isinstance(extent, int)
        return self.start + extent


def padded_sum(node: Node, operands: Sequence[Value], counts: Counts) -> Build | None:
    """`pad(x, behind) + pad(y, before) -> concat(x, y)` for any number of terms that fill the result."""
    if node.op.name != "add":
        return None
    parts = _parts(operands)
    if parts is None or len({part.axis for part in parts}) != 1:
        return None
    parts.sort(key=lambda part: part.start)
    axis = parts[0].axis
    ends = [0, *(part.stop for part in parts)]
    if [part.start for part in parts] != ends[:-1] or ends[-1] != node.outputs[0].shape[axis]:
        return None
    values = [part.value for part in parts]
    return lambda: values[0].graph.append(REGISTRY["concat"], values, {"axis": axis})


def _parts(terms: Sequence[Value]) -> list[_Part] | None:
    """The terms of a sum of sums; None when one is no padded array."""
    found: list[_Part] = []
    waiting = list(terms)
    while waiting:
        node = waiting.pop().node
        if node is None or len(found) == MOST:
            return None
        if node.op.name == "add":
            waiting += node.inputs
            continue
        part = _padded(node)
        if part is None:
            return None
        found.append(part)
    return found


def _padded(node: Node) -> _Part | None:
    """The array that a node pads with zeros along one axis."""
    if node.op.name != "pad" or node.attrs["mode"] != "constant" or node.attrs["value"] != 0:
        return None
    grown = [(axis, pair) for axis, pair in enumerate(node.attrs["padding"]) if pair != (0, 0)]
    if len(grown) != 1:
        return None
    axis, (before, behind) = grown[0]
    fixed = all(isinstance(k, int) for k in (before, behind, node.inputs[0].shape[axis]))
    if not fixed or before < 0 or behind < 0:
        return None
    return _Part(node.inputs[0], axis, before)
