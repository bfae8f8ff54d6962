"""FoldScaleAxis: scales and shifts behind a convolution or contraction move into its constant weights.

`(conv(x, w) - mean) * scale + shift` becomes `conv(x, w * scale) + (shift - mean * scale)`, computed in
f64 here. Results differ by rounding only; a scale that makes weights infinite is left where it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.graph.ir import Graph, Node, Value
from intaglio.graph.rewrite import Rewriting, rebuild, transform_bodies
from intaglio.graph.rules import number_of
from intaglio.ops.registry import REGISTRY

Array = np.ndarray[Any, Any]


@dataclass
class Chain:
    """Affine operators behind an anchor; `scale` and `shift` have the rank of its result.

    `axes` pairs an axis of the result with the axis of the weights it comes from.
    """

    anchor: Node
    axes: dict[int, int]
    scale: Array
    shift: Array
    last: Node
    scaled: bool = False
    shifted: bool = False


def fold_scale_axis(graph: Graph) -> Graph:
    """A new graph with folded scales; the graph itself when there are none."""
    graph = transform_bodies(graph, fold_scale_axis)
    readers = graph.uses()
    results = set(graph.roots)
    ends: dict[Node, Chain] = {}
    for node in graph.nodes:
        chain = _start(node, readers)
        while chain is not None and len(readers.get(chain.last.outputs[0], ())) == 1:
            if chain.last.outputs[0] in results or not _extend(chain, readers[chain.last.outputs[0]][0]):
                break
        if chain is not None and chain.scaled and _weights(chain) is not None:
            ends[chain.last] = chain
    if not ends:
        return graph

    def replace(rewriting: Rewriting, node: Node, operands: tuple[Value, ...]) -> list[Value] | None:
        return [_build(rewriting, ends[node])] if node in ends else None

    return rebuild(graph, replace)[0]


def _start(node: Node, readers: dict[Value, list[Node]]) -> Chain | None:
    """An empty chain behind an anchor with constant weights that nothing else reads."""
    axes = output_axes(node)
    if not axes or node.inputs[1].source != "constant" or len(readers[node.inputs[1]]) != 1:
        return None
    if not node.inputs[1].dtype.is_float:
        return None
    ones = (1,) * node.outputs[0].type.rank
    return Chain(node, axes, np.ones(ones), np.zeros(ones), node)


def output_axes(node: Node) -> dict[int, int]:
    """Which axes of the result are axes of the second operand; empty for what is no anchor."""
    if node.op.name == "conv":
        return {1: 0}
    if node.op.name == "dot":
        inputs, output = node.attrs["spec"].split("->")
        right = inputs.split(",")[1]
        return {k: right.index(axis) for k, axis in enumerate(output) if axis in right}
    return {}


def _extend(chain: Chain, node: Node) -> bool:
    """Take one more operator into the chain; False when it is not affine along the right axes."""
    if node.op.name == "neg":
        chain.scale, chain.shift, chain.scaled = -chain.scale, -chain.shift, True
    elif node.op.name in ("add", "sub", "mul", "div") and node.inputs[0] is not node.inputs[1]:
        first = node.inputs[0] is chain.last.outputs[0]
        other = _factors(node.inputs[1] if first else node.inputs[0], chain)
        if other is None or (node.op.name == "div" and (not first or not other.all())):
            return False
        _affine(chain, node.op.name, other, first)
    else:
        return False
    chain.last = node
    return True


def _affine(chain: Chain, op: str, other: Array, first: bool) -> None:
    if op in ("mul", "div"):
        factor = other if op == "mul" else 1 / other
        chain.scale, chain.shift, chain.scaled = chain.scale * factor, chain.shift * factor, True
        return
    chain.shifted = True
    if op == "add":
        chain.shift = chain.shift + other
    elif first:
        chain.shift = chain.shift - other
    else:
        chain.scale, chain.shift, chain.scaled = -chain.scale, other - chain.shift, True


def _factors(value: Value, chain: Chain) -> Array | None:
    """A constant that varies along the chain's axes only, in f64 with an axis for each of the result's."""
    rank = value.type.rank
    number = number_of(value)
    if number is not None:
        array = np.full((1,) * rank, np.float64(number))
    else:
        source = (
            value.node.inputs[0] if value.node is not None and value.node.op.name == "broadcast" else value
        )
        if source.source != "constant" or source.data is None:
            return None
        array = np.asarray(source.data, np.float64).reshape(
            (1,) * (rank - source.data.ndim) + source.data.shape
        )
    if any(extent != 1 and k not in chain.axes for k, extent in enumerate(array.shape)):
        return None
    return array if np.isfinite(array).all() else None


def _weights(chain: Chain) -> Array | None:
    """The weights times the scale, None when a finite one becomes infinite."""
    held = chain.anchor.inputs[1].data
    assert held is not None
    shape = [1] * held.ndim
    order = sorted(chain.axes, key=lambda k: chain.axes[k])
    for k, axis in chain.axes.items():
        shape[axis] = chain.scale.shape[k]
    moved = np.transpose(chain.scale, [*order, *(k for k in range(chain.scale.ndim) if k not in order)])
    with np.errstate(all="ignore"):
        scaled = (held.astype(np.float64) * moved.reshape(shape)).astype(held.dtype)
        shift = chain.shift.astype(held.dtype)
    same = np.array_equal(np.isfinite(scaled.astype(np.float64)), np.isfinite(held.astype(np.float64)))
    return scaled if same and np.isfinite(shift.astype(np.float64)).all() else None


def _build(rewriting: Rewriting, chain: Chain) -> Value:
    graph, anchor = rewriting.new, chain.anchor
    weights = _weights(chain)
    assert weights is not None
    graph.origin = anchor
    name = anchor.inputs[1].name
    operands = [rewriting.at(anchor.inputs[0]), graph.constant(weights, name)]
    (made,) = graph.append(anchor.op, operands, anchor.attrs)
    if not chain.shifted:
        return made
    graph.origin = chain.last
    shift = graph.constant(np.asarray(chain.shift, weights.dtype), f"{name}_shift")
    wide = graph.append(REGISTRY["broadcast"], [shift], {"shape": made.shape})
    return graph.append(REGISTRY["add"], [made, *wide], {})[0]
