"""MergeLoops: scans over the same operands that carry the same become one scan with the results of both.

The derivative of a scan runs the forward loop with more results; here the two forward loops become one.
"""

from __future__ import annotations

from collections.abc import Hashable

from intaglio.graph.ir import Graph, Node, Value
from intaglio.graph.passes.common_subexpr import eliminate_common_subexpr
from intaglio.graph.rewrite import Rewriting, splice, transform_bodies


def merge_loops(graph: Graph) -> Graph:
    """A new graph in which such scans are one; the graph itself when there are none."""
    graph = transform_bodies(graph, merge_loops)
    groups: dict[Hashable, list[Node]] = {}
    for node in graph.nodes:
        if node.op.name == "scan":
            groups.setdefault(
                (node.inputs, *(repr(v) for k, v in node.attrs.items() if k != "body")), []
            ).append(node)
    merged: dict[Node, tuple[Node, Graph, list[int]]] = {}
    for first, *others in groups.values():
        body: Graph = first.attrs["body"]
        places = list(range(len(body.outputs)))
        for other in others:
            made = _merge(body, other.attrs["body"], first.attrs["n_carry"])
            if made is not None:
                body, merged[other] = made[0], (first, made[0], made[1])
        if body is not first.attrs["body"]:
            merged[first] = (first, body, places)
    return _apply(graph, merged) if merged else graph


def _merge(a: Graph, b: Graph, n_carry: int) -> tuple[Graph, list[int]] | None:
    """A body that gives the results of both, and where those of `b` are; None when they carry differently."""
    made = a.copy()
    results = splice(made, b, made.inputs)
    count = len(a.outputs)
    made.set_outputs([*made.outputs, *results], [f"y{k}" for k in range(count + len(results))])
    made = eliminate_common_subexpr(made)
    if made.outputs[:n_carry] != made.outputs[count : count + n_carry]:
        return None
    places = list(range(n_carry))
    outputs = made.outputs[:count]
    for value in made.outputs[count + n_carry :]:
        if value not in outputs[n_carry:]:
            outputs.append(value)
        places.append(outputs.index(value, n_carry))
    made.set_outputs(outputs, [*a.output_names, *_fresh(a.output_names, len(outputs) - count)])
    return made, places


def _fresh(taken: list[str], count: int) -> list[str]:
    names: list[str] = []
    k = 0
    while len(names) < count:
        if f"more{k}" not in taken:
            names.append(f"more{k}")
        k += 1
    return names


def _apply(graph: Graph, merged: dict[Node, tuple[Node, Graph, list[int]]]) -> Graph:
    """Run the last body of every group where its first scan was."""
    bodies: dict[Node, Graph] = {}
    for first, body, _ in merged.values():
        if first not in bodies or len(body.outputs) > len(bodies[first].outputs):
            bodies[first] = body
    rewriting = Rewriting(graph)
    results: dict[Node, tuple[Value, ...]] = {}
    for node in graph.nodes:
        if node not in merged:
            rewriting.stand_for(node, rewriting.copy(node))
            continue
        first, _, places = merged[node]
        if node is first:
            rewriting.new.origin = node
            operands = [rewriting.at(value) for value in node.inputs]
            results[node] = rewriting.new.append(node.op, operands, {**node.attrs, "body": bodies[node]})
        rewriting.stand_for(node, [results[first][k] for k in places])
    return rewriting.finish()
