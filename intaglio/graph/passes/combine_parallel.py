"""CombineParallelMatmul, CombineParallelConv2D: siblings over one input become one wider operator.

Only with constant weights, whose concatenation costs nothing at run time. Bias additions behind all of
the siblings are combined with them. The parts are slices of the wide result.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.graph.ir import Graph, Node, Value
from intaglio.graph.rewrite import Rewriting, transform_bodies
from intaglio.ops.registry import REGISTRY

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Branch:
    """A sibling; `last` is the bias addition behind it, or the operator itself. `bias` is per channel."""

    node: Node
    last: Node
    bias: Array | None


@dataclass(frozen=True)
class Group:
    """Siblings, and the axis of the weights and of the result along which they are put together."""

    branches: list[Branch]
    weight_axis: int
    axis: int


def combine_parallel_matmul(graph: Graph) -> Graph:
    """A new graph with wider contractions; the graph itself when no two can be combined."""
    return _combine(graph, "dot", combine_parallel_matmul)


def combine_parallel_conv2d(graph: Graph) -> Graph:
    """A new graph with wider convolutions; the graph itself when no two can be combined."""
    return _combine(graph, "conv", combine_parallel_conv2d)


def _combine(graph: Graph, op: str, again: Any) -> Graph:
    graph = transform_bodies(graph, again)
    siblings: dict[Hashable, list[Node]] = {}
    for node in graph.nodes:
        key = _key(node) if node.op.name == op else None
        if key is not None:
            siblings.setdefault(key, []).append(node)
    groups = [_group(graph, nodes) for nodes in siblings.values() if len(nodes) > 1]
    return _apply(graph, groups) if groups else graph


def _key(node: Node) -> Hashable | None:
    """What siblings have in common; None for what cannot be combined."""
    x, w = node.inputs
    places = _places(node)
    if w.source != "constant" or places is None or x is w:
        return None
    rest = tuple(extent for k, extent in enumerate(w.shape) if k != places[0])
    return x, rest, w.dtype, tuple((name, repr(attr)) for name, attr in node.attrs.items())


def _places(node: Node) -> tuple[int, int] | None:
    """The axis of the weights, and of the result, that only the weights have."""
    if node.op.name == "conv":
        return (0, 1) if node.attrs["groups"] == 1 else None
    inputs, output = node.attrs["spec"].split("->")
    left, right = inputs.split(",")
    own = [axis for axis in right if axis not in left]
    return (right.index(own[0]), output.index(own[0])) if len(own) == 1 else None


def _group(graph: Graph, nodes: Sequence[Node]) -> Group:
    places = _places(nodes[0])
    assert places is not None
    readers, results = graph.uses(), set(graph.roots)
    branches = []
    for node in nodes:
        value = node.outputs[0]
        behind = readers.get(value, [])
        width = _data(node.inputs[1]).shape[places[0]]
        bias = (
            _bias(behind[0], value, places[1], width) if len(behind) == 1 and value not in results else None
        )
        branches.append(Branch(node, node if bias is None else behind[0], bias))
    if any(branch.bias is None for branch in branches):
        branches = [Branch(branch.node, branch.node, None) for branch in branches]
    return Group(branches, *places)


def _bias(node: Node, value: Value, axis: int, width: int) -> Array | None:
    """The constant that an addition adds to the `width` channels of a value."""
    if node.op.name != "add" or node.inputs[0] is node.inputs[1]:
        return None
    other = node.inputs[1] if node.inputs[0] is value else node.inputs[0]
    if other.node is not None and other.node.op.name == "broadcast":
        other = other.node.inputs[0]
    if other.source != "constant" or other.data is None:
        return None
    rank = value.type.rank
    shape = (1,) * (rank - other.data.ndim) + other.data.shape
    if any(extent != 1 and k != axis for k, extent in enumerate(shape)):
        return None
    wide = (1,) * axis + (width,) + (1,) * (rank - axis - 1)
    return np.broadcast_to(other.data.reshape(shape), wide)


def _apply(graph: Graph, groups: Sequence[Group]) -> Graph:
    first = {group.branches[0].node: group for group in groups}
    dropped = {part for group in groups for branch in group.branches for part in (branch.node, branch.last)}
    rewriting = Rewriting(graph)
    parts: dict[Node, Value] = {}
    for node in graph.nodes:
        if node in first:
            parts.update(_build(rewriting, first[node]))
        if node in parts:
            rewriting.stand_for(node, [parts[node]])
        elif node not in dropped:
            rewriting.stand_for(node, rewriting.copy(node))
    return rewriting.finish()


def _build(rewriting: Rewriting, group: Group) -> dict[Node, Value]:
    """The wide operator, and the slice of it that stands for each branch's last operator."""
    graph, node = rewriting.new, group.branches[0].node
    graph.origin = node
    weights = [_data(branch.node.inputs[1]) for branch in group.branches]
    wide = graph.constant(np.concatenate(weights, group.weight_axis), node.inputs[1].name)
    (made,) = graph.append(node.op, [rewriting.at(node.inputs[0]), wide], node.attrs)
    biases = [branch.bias for branch in group.branches if branch.bias is not None]
    if biases:
        bias = graph.constant(np.concatenate(biases, group.axis), f"{node.inputs[1].name}_bias")
        (spread,) = graph.append(REGISTRY["broadcast"], [bias], {"shape": made.shape})
        (made,) = graph.append(REGISTRY["add"], [made, spread], {})
    parts, at = {}, 0
    for branch, array in zip(group.branches, weights, strict=True):
        width = array.shape[group.weight_axis]
        start = tuple(at if k == group.axis else 0 for k in range(made.type.rank))
        stop = tuple(at + width if k == group.axis else extent for k, extent in enumerate(made.shape))
        attrs = {"start": start, "stop": stop, "step": (1,) * made.type.rank}
        graph.origin = branch.last
        parts[branch.last] = graph.append(REGISTRY["slice"], [made], attrs)[0]
        at += width
    return parts


def _data(value: Value) -> Array:
    assert value.data is not None
    return value.data
