"""EliminateCommonSubexpr: the same operator on the same operands runs once; equal constants are one."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable

from intaglio.graph.ir import Graph, Node, Value
from intaglio.graph.rewrite import Rewriting, transform_bodies

COMMUTATIVE = {"add", "mul", "max", "min", "eq", "ne", "and", "or", "xor"}
MAX_COMPARED_BYTES = 1 << 16


def eliminate_common_subexpr(graph: Graph) -> Graph:
    """A new graph without repetitions; the graph itself when there are none."""
    graph = transform_bodies(graph, eliminate_common_subexpr)
    same: dict[Value, Value] = {}
    first: dict[Hashable, Value] = {}
    for value in graph.constants:
        same[value] = first.setdefault(_constant_key(value), value)
    known: dict[Hashable, Node] = {}
    kept = []
    for node in graph.nodes:
        key = _node_key(node, tuple([same.get(value, value) for value in node.inputs]))
        earlier = known.setdefault(key, node)
        if earlier is node:
            kept.append(node)
        else:
            same.update(zip(node.outputs, earlier.outputs, strict=True))
    if len(kept) == len(graph.nodes) and all(same[value] is value for value in graph.constants):
        return graph
    return _without(graph, same, kept)


def _without(graph: Graph, same: dict[Value, Value], kept: list[Node]) -> Graph:
    rewriting = Rewriting(graph)
    for value in graph.constants:
        rewriting.map[value] = rewriting.map[same[value]]
    keep = set(kept)
    for node in graph.nodes:
        if node in keep:
            rewriting.stand_for(node, rewriting.copy(node))
        else:
            rewriting.stand_for(node, [rewriting.at(same[value]) for value in node.outputs])
    return rewriting.finish()


def _constant_key(value: Value) -> Hashable:
    assert value.data is not None
    if value.data.nbytes > MAX_COMPARED_BYTES:
        return id(value.data), value.type
    return hashlib.sha256(value.data.tobytes()).digest(), value.type


def _node_key(node: Node, operands: tuple[Value, ...]) -> Hashable:
    if node.op.name in COMMUTATIVE:
        operands = tuple(sorted(operands, key=id))
    attrs = [
        (name, attr if isinstance(attr, Graph) else repr(attr)) for name, attr in sorted(node.attrs.items())
    ]
    return node.op, operands, tuple(attrs)
