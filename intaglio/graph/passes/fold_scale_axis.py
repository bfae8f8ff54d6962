"""FoldScaleAxis: scales and shifts around a convolution or contraction move into its constant weights.

`(conv(x, w) - mean) * scale + shift` becomes `conv(x, w * scale) + (shift - mean * scale)`, computed in
f64 here, and `conv(x * scale, w)` becomes `conv(x, w * scale)`. A shift in front stays: padding is not
shifted. Results differ by rounding only; a scale that makes weights infinite is left where it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    return _fold_behind(_fold_before(transform_bodies(graph, fold_scale_axis)))


def _fold_before(graph: Graph) -> Graph:
    """Scales of operands go into the weights, innermost last, until none is left."""
    readers, results = graph.uses(), set(graph.roots)
    found: dict[Node, tuple[Value, Array]] = {}
    for node in graph.nodes:
        axes = operand_axes(node)
        held = node.inputs[1].data if axes and node.inputs[1].source == "constant" else None
        if held is None or not node.inputs[1].dtype.is_float or len(readers[node.inputs[1]]) > 1:
            continue
        x, weights = node.inputs[0], held
        while x not in results and len(readers[x]) == 1 and (scaled := _scale_of(x, axes)) is not None:
            made = _times(weights, scaled[1], node)
            if made is None:
                break
            x, weights = scaled[0], made
        if x is not node.inputs[0]:
            found[node] = x, weights
    if not found:
        return graph

    def replace(rewriting: Rewriting, node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
        if node not in found:
            return None
        x, weights = found[node]
        constant = rewriting.new.constant(weights, node.inputs[1].name)
        return rewriting.new.append(node.op, [rewriting.at(x), constant], node.attrs)

    return rebuild(graph, replace)[0]


def operand_axes(node: Node) -> dict[int, int]:
    """Which axes of the first operand are summed along which axes of the second; empty for no anchor."""
    if node.op.name == "conv":
        return {1: 1}
    if node.op.name == "dot":
        inputs, output = node.attrs["spec"].split("->")
        left, right = inputs.split(",")
        return {k: right.index(axis) for k, axis in enumerate(left) if axis in right and axis not in output}
    return {}


def _scale_of(value: Value, axes: dict[int, int]) -> tuple[Value, Array] | None:
    """What a value is a multiple of, and the factor, in f64 with an axis for each of the value's."""
    node = value.node
    if node is None or node.op.name not in ("mul", "div") or node.inputs[0] is node.inputs[1]:
        return None
    for x, other in (node.inputs, node.inputs[::-1])[: 2 if node.op.name == "mul" else 1]:
        factor = _factors(other, axes)
        if factor is not None and (node.op.name == "mul" or factor.all()):
            return x, factor if node.op.name == "mul" else 1 / factor
    return None


def _times(weights: Array, factor: Array, node: Node) -> Array | None:
    """The weights times a factor of the first operand; None when a finite one becomes infinite."""
    if node.op.name == "conv":
        groups = node.attrs["groups"]
        per_channel = np.broadcast_to(factor, (1, weights.shape[1] * groups, *factor.shape[2:]))
        rows = per_channel.reshape(groups, 1, weights.shape[1], *(1 for _ in weights.shape[2:]))
        wide = np.broadcast_to(rows, (groups, weights.shape[0] // groups, *rows.shape[2:]))
        shaped = wide.reshape(weights.shape[0], *rows.shape[2:])
    else:
        axes = operand_axes(node)
        order = sorted(axes, key=axes.__getitem__)
        shape = [1] * weights.ndim
        for k in order:
            shape[axes[k]] = factor.shape[k]
        shaped = np.transpose(factor, [*order, *(k for k in range(factor.ndim) if k not in axes)]).reshape(
            shape
        )
    return _finite_product(weights, shaped)


def _finite_product(weights: Array, factor: Array) -> Array | None:
    """The product in the type of the weights; None when a finite weight becomes infinite."""
    with np.errstate(all="ignore"):
        made: Array = (weights.astype(np.float64) * factor).astype(weights.dtype)
    same = np.array_equal(np.isfinite(made.astype(np.float64)), np.isfinite(weights.astype(np.float64)))
    return made if same else None


def _fold_behind(graph: Graph) -> Graph:
    """Scales and shifts of results go into the weights and one addition."""
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
        other = _factors(node.inputs[1] if first else node.inputs[0], chain.axes)
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


def _factors(value: Value, axes: Mapping[int, int]) -> Array | None:
    """A constant that varies along the axes only, in f64 with an axis for each of the result's."""
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
    if any(extent != 1 and k not in axes for k, extent in enumerate(array.shape)):
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
        shift = chain.shift.astype(held.dtype)
    return _finite_product(held, moved.reshape(shape)) if np.isfinite(shift).all() else None


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
