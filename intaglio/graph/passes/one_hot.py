"""Sums over one-hot rows: `sum(where(target == iota, x, 0))` reads one element where it seems to read all.

Losses over classes are written so, because their derivatives then need no scatter; the sums need no loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from intaglio.graph.ir import Node, Value
from intaglio.graph.rewrite import Build, Counts
from intaglio.graph.rules import full, number_of
from intaglio.ops.registry import REGISTRY
from intaglio.shared.index import IndexLike

INDEX_TYPES = ("i32", "i64")
DEEPEST = 4
"""Maps that are moved behind the pick."""


@dataclass(frozen=True)
class _OneHot:
    """Places along `axis` that equal `target`, which is repeated along it."""

    target: Value
    axis: int
    shape: tuple[IndexLike, ...]

    @property
    def kept(self) -> tuple[IndexLike, ...]:
        """The shape without the axis."""
        return _without(self.shape, self.axis)


def one_hot_sum(node: Node, operands: Sequence[Value], counts: Counts) -> Build | None:
    """`sum(where(t == iota, x, 0)) -> where(0 <= t < n, x[t], 0)`, behind negations too."""
    if node.op.name != "sum" or len(node.attrs["axes"]) != 1:
        return None
    masked, negative = operands[0], False
    while masked.node is not None and masked.node.op.name == "neg":
        masked, negative = masked.node.inputs[0], not negative
    if masked.node is None or masked.node.op.name != "where":
        return None
    picked, x, other = masked.node.inputs
    hot = _one_hot(picked, node.attrs["axes"][0])
    if hot is None or number_of(other) != 0:
        return None

    def build() -> list[Value]:
        graph = x.graph
        index = _repeated(_dropped(hot.target, hot.axis, len(hot.shape)), hot.kept)
        first, behind = full(graph, 0, index), full(graph, hot.shape[hot.axis], index)
        within = _apply("and", _apply("le", first, index), _apply("lt", index, behind))
        inside = _apply("where", within, index, first)
        found = _element(x, hot, inside, DEEPEST)
        result = _apply("where", within, found, full(graph, 0, found))
        return [_apply("neg", result) if negative else result]

    return build


def _one_hot(value: Value, axis: int) -> _OneHot | None:
    """The comparison of an index with the places along an axis, if the value is one."""
    extent = value.shape[axis]
    if value.node is None or value.node.op.name != "eq" or not isinstance(extent, int) or extent == 0:
        return None
    if value.node.inputs[0].dtype.name not in INDEX_TYPES:
        return None
    for target, places in (value.node.inputs, value.node.inputs[::-1]):
        if places.node is None or places.node.op.name != "iota" or places.node.attrs["axis"] != axis:
            continue
        if target.node is None or target.node.op.name != "broadcast":
            continue
        source = target.node.inputs[0]
        if _along(source, axis, len(value.shape)) == 1:
            return _OneHot(source, axis, value.shape)
    return None


def _along(source: Value, axis: int, rank: int) -> IndexLike:
    """Extent of a broadcast's source along an axis of the result."""
    own = axis - (rank - source.type.rank)
    return source.shape[own] if own >= 0 else 1


def _element(x: Value, hot: _OneHot, index: Value, depth: int) -> Value:
    """What `x` is at the index along the axis: maps are applied behind, what repeats is left as it is."""
    node, rank = x.node, len(hot.shape)
    if node is not None and _repeats(x, hot):
        return _repeated(_dropped(node.inputs[0], hot.axis, rank), hot.kept)
    varying = [v for v in node.inputs if not _repeats(v, hot)] if node is not None else []
    if node is not None and node.op.kind == "map" and depth and len(varying) == 1:
        inner = [_element(v, hot, index, depth - 1) for v in node.inputs]
        return x.graph.append(node.op, inner, node.attrs)[0]
    places = [
        index
        if k == hot.axis
        else x.graph.append(
            REGISTRY["iota"],
            [],
            {"shape": hot.kept, "axis": k - (k > hot.axis), "dtype": index.dtype},
        )[0]
        for k in range(rank)
    ]
    return x.graph.append(REGISTRY["gather"], [x, *places], {"axes": tuple(range(rank))})[0]


def _repeats(value: Value, hot: _OneHot) -> bool:
    """Whether a value is a broadcast that repeats along the axis."""
    node = value.node
    if node is None or node.op.name != "broadcast":
        return False
    return _along(node.inputs[0], hot.axis, len(hot.shape)) == 1


def _dropped(source: Value, axis: int, rank: int) -> Value:
    """A broadcast's source without an axis along which it is repeated."""
    own = axis - (rank - source.type.rank)
    if own < 0:
        return source
    return source.graph.append(REGISTRY["reshape"], [source], {"shape": _without(source.shape, own)})[0]


def _without(shape: Sequence[IndexLike], axis: int) -> tuple[IndexLike, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def _repeated(value: Value, shape: tuple[IndexLike, ...]) -> Value:
    return value if value.shape == shape else _apply("broadcast", value, shape=shape)


def _apply(name: str, *operands: Value, **attrs: object) -> Value:
    return operands[0].graph.append(REGISTRY[name], list(operands), attrs)[0]
