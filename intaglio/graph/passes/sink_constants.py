"""SinkConstants: constant operands of loops and branches become constants of their bodies.

There the other passes see their content. Carried operands change, so they stay.
"""

from __future__ import annotations

from collections.abc import Sequence

from intaglio.graph.ir import Graph, Node, Value
from intaglio.graph.rewrite import Rewriting, transform_bodies

_FIRST: dict[str, tuple[str, ...]] = {"scan": ("n_carry", "n_xs"), "while_loop": ("n_carry",), "cond": ()}


def sink_constants(graph: Graph) -> Graph:
    """A new graph whose bodies hold their constants; the graph itself when nothing can sink."""
    sinking = {node: places for node in graph.nodes if (places := _places(node))}
    if sinking:
        rewriting = Rewriting(graph)
        for node in graph.nodes:
            if node in sinking:
                rewriting.stand_for(node, _without(rewriting, node, sinking[node]))
            else:
                rewriting.stand_for(node, rewriting.copy(node))
        graph = rewriting.finish()
    return transform_bodies(graph, sink_constants)


def _places(node: Node) -> list[int]:
    """The positions, among the operands that a body takes unchanged, of constants."""
    if node.op.name not in _FIRST:
        return []
    first = sum(node.attrs[count] for count in _FIRST[node.op.name]) + (node.op.name == "cond")
    return [k for k in range(first, len(node.inputs)) if node.inputs[k].source == "constant"]


def _without(rewriting: Rewriting, node: Node, places: Sequence[int]) -> tuple[Value, ...]:
    """The operator with the operands at `places` inside of its bodies."""
    shift = 1 if node.op.name == "cond" else 0
    held = {k - shift: node.inputs[k] for k in places}
    attrs = {
        name: _hold(attr, held) if isinstance(attr, Graph) else attr for name, attr in node.attrs.items()
    }
    operands = tuple(rewriting.at(v) for k, v in enumerate(node.inputs) if k not in places)
    return rewriting.copy(node, operands, attrs)


def _hold(body: Graph, held: dict[int, Value]) -> Graph:
    """The body with the inputs at some positions as constants."""
    made = body.copy()
    for k, value in held.items():
        made.inputs[k].source, made.inputs[k].data = "constant", value.data
        made.constants.append(made.inputs[k])
    made.inputs = [value for k, value in enumerate(made.inputs) if k not in held]
    return made
