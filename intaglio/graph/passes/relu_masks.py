"""ReluMasks: derivatives of `relu` ask its result, which is kept anyway, whether an element was cut off.

As recorded they ask the same mask that made the result, which would be stored for them. The derivative of a
maximum over windows of a `relu` goes to an element that equals the maximum: there the mask is moved to the
maxima, which are fewer.
"""

from __future__ import annotations

from intaglio.graph.ir import Graph, Node, Value
from intaglio.graph.rewrite import Rewriting
from intaglio.graph.rules import number_of
from intaglio.ops.registry import REGISTRY

READ_WHOLE = ("dot", "conv", "conv_dx", "conv_dw", "unfold")
"""Operators whose operands are stored."""

RENAMING = ("reshape", "transpose", "broadcast")


def relu_masks(graph: Graph) -> Graph:
    """A new graph in which masks of `relu` are made of its results; the graph itself without such masks."""
    uses = graph.uses()
    relus = {
        node.inputs[0]: node
        for node in graph.nodes
        if _is_relu(node) and len(uses[node.inputs[0]]) > 1 and _is_stored(node.outputs[0], uses)
    }
    if not relus:
        return graph
    rewriting = Rewriting(graph)
    for node in graph.nodes:
        rewriting.new.origin = node
        masks = [v for v in node.inputs if v in relus and relus[v] is not node]
        pooled = _gradient_of_maximum(node, relus, uses) if masks else None
        if pooled is not None:
            rewriting.stand_for(node, [_behind_mask(rewriting, relus[node.inputs[0]], *pooled)])
        elif masks:
            operands = tuple(
                _mask(rewriting, relus[v], relus[v].outputs[0]) if v in masks else rewriting.at(v)
                for v in node.inputs
            )
            rewriting.stand_for(node, rewriting.copy(node, operands))
        else:
            rewriting.stand_for(node, rewriting.copy(node))
    return rewriting.finish()


def _is_relu(node: Node) -> bool:
    """Whether a node is `where(x <= 0, 0, x)`."""
    if node.op.name != "where" or number_of(node.inputs[1]) != 0:
        return False
    made = node.inputs[0].node
    return (
        made is not None
        and made.op.name == "le"
        and made.inputs[0] is node.inputs[2]
        and number_of(made.inputs[1]) == 0
    )


def _is_stored(value: Value, uses: dict[Value, list[Node]]) -> bool:
    """Whether something reads a value, perhaps under another shape, that needs it as an array."""
    for reader in uses.get(value, ()):
        if reader.op.name in READ_WHOLE:
            return True
        if reader.op.name in RENAMING and _is_stored(reader.outputs[0], uses):
            return True
    return False


def _mask(rewriting: Rewriting, relu: Node, value: Value) -> Value:
    """`value <= 0`, which holds where the relu cut off if `value` is its result or a maximum of it."""
    graph, made = rewriting.new, rewriting.at(value)
    zero = relu.inputs[1]
    while zero.node is not None and zero.node.op.name == "broadcast":
        zero = zero.node.inputs[0]
    (zeros,) = graph.append(REGISTRY["broadcast"], [rewriting.at(zero)], {"shape": value.shape})
    return graph.append(REGISTRY["le"], [made, zeros], {})[0]


def _gradient_of_maximum(
    node: Node, relus: dict[Value, Node], uses: dict[Value, list[Node]]
) -> tuple[Node, Node, Value, Value] | None:
    """The parts of `where(mask, 0, fold(where(place == number, g, 0)))` where places are those of maxima over
    windows of the masked relu: the fold, the inner where, g, and the maxima."""
    if node.op.name != "where" or node.inputs[0] not in relus or number_of(node.inputs[1]) != 0:
        return None
    fold = node.inputs[2].node
    if fold is None or fold.op.name != "fold" or len(uses[fold.outputs[0]]) != 1:
        return None
    chosen = fold.inputs[0].node
    if chosen is None or chosen.op.name != "where" or number_of(chosen.inputs[2]) != 0:
        return None
    hit = chosen.inputs[0].node
    if hit is None or hit.op.name != "eq":
        return None
    view = _windows_of_argmax(hit)
    relu = relus[node.inputs[0]]
    if view is None or view.inputs[0] is not relu.outputs[0] or not _matches(view, fold):
        return None
    g = _source(chosen.inputs[1])
    maxima = [
        n.outputs[0]
        for n in uses[view.outputs[0]]
        if n.op.name == "reduce_max" and n.attrs["axes"] == _inner(view) and n.outputs[0].shape == g.shape
    ]
    return (fold, chosen, g, maxima[0]) if maxima else None


def _windows_of_argmax(hit: Node) -> Node | None:
    """The windows whose argmax, of all elements of each, a comparison asks."""
    for operand in hit.inputs:
        node = _source(operand).node
        if node is not None and node.op.name == "cast":
            node = node.inputs[0].node
        if node is not None and node.op.name == "argmax":
            view = node.inputs[0].node
            if view is not None and view.op.name == "unfold" and node.attrs["axes"] == _inner(view):
                return view
    return None


def _inner(view: Node) -> tuple[int, ...]:
    """The axes of the windows themselves."""
    rank = len(view.attrs["kernel"])
    return tuple(range(2 + rank, 2 + 2 * rank))


def _matches(view: Node, fold: Node) -> bool:
    """Whether windows are added up where they were taken from."""
    return all(view.attrs[name] == fold.attrs[name] for name in ("strides", "dilations", "padding"))


def _source(value: Value) -> Value:
    """What a value repeats along new inner axes: a broadcast of a reshape that only adds axes of extent 1."""
    if value.node is not None and value.node.op.name == "broadcast":
        value = value.node.inputs[0]
        if value.node is not None and value.node.op.name == "reshape":
            inner = value.node.inputs[0]
            if value.shape == (*inner.shape, *(1 for _ in value.shape[inner.type.rank :])):
                return inner
    return value


def _behind_mask(
    rewriting: Rewriting, relu: Node, fold: Node, chosen: Node, g: Value, maxima: Value
) -> Value:
    """The fold of a gradient that is masked before, by the maxima."""
    graph, at = rewriting.new, rewriting.at
    mask = _mask(rewriting, relu, maxima)
    zeros = mask.node.inputs[1] if mask.node is not None else mask
    (kept,) = graph.append(REGISTRY["where"], [mask, zeros, at(g)], {})
    wide = chosen.inputs[1].shape
    ones = (*g.shape, *(1 for _ in wide[g.type.rank :]))
    (shaped,) = graph.append(REGISTRY["reshape"], [kept], {"shape": ones})
    (repeated,) = graph.append(REGISTRY["broadcast"], [shaped], {"shape": wide})
    (picked,) = graph.append(REGISTRY["where"], [at(chosen.inputs[0]), repeated, at(chosen.inputs[2])], {})
    return graph.append(REGISTRY["fold"], [picked], fold.attrs)[0]
