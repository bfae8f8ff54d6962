"""HoistReductions: what a loop only adds up is added up behind the loop, in one larger operator.

`for t: acc += dot(p[t], q[t])` becomes one `dot` over all steps. This is how the gradient of a recurrent
weight is accumulated: many thin products become one that fills the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from intaglio.graph.ir import Graph, Node, Value
from intaglio.graph.rewrite import Rewriting, transform_bodies
from intaglio.graph.rules import is_number
from intaglio.graph.symbols import defined_symbols
from intaglio.ops.registry import REGISTRY
from intaglio.shared.index import upper

LETTERS = "tsuvwxyzabcdefghijklmnopqr"
MAX_GROWTH = 2


@dataclass(frozen=True)
class Sum:
    """Carry `position` of a loop is the sum over its steps of `term`, a contraction or reduction."""

    position: int
    term: Node


def hoist_reductions(graph: Graph) -> Graph:
    """A new graph with sums behind its loops; the graph itself when there are none."""
    graph = transform_bodies(graph, hoist_reductions)
    found = {node: sums for node in graph.nodes if node.op.name == "scan" and (sums := _sums(node))}
    if not found:
        return graph
    rewriting = Rewriting(graph)
    for node in graph.nodes:
        if node in found:
            rewriting.stand_for(node, _hoist(rewriting, node, found[node]))
        else:
            rewriting.stand_for(node, rewriting.copy(node))
    return rewriting.finish()


def _sums(node: Node) -> list[Sum]:
    body: Graph = node.attrs["body"]
    readers = body.uses()
    found = []
    for k in range(node.attrs["n_carry"]):
        carry, result = body.inputs[k], body.outputs[k]
        last = result.node
        if last is None or last.op.name != "add" or readers.get(carry) != [last] or result in readers:
            continue
        if body.outputs.count(result) != 1 or carry in body.outputs or not carry.dtype.is_float:
            continue
        term = (last.inputs[1] if last.inputs[0] is carry else last.inputs[0]).node
        if term is not None and _worth(node, term, readers):
            found.append(Sum(k, term))
    return found


def _worth(scan: Node, term: Node, readers: dict[Value, list[Node]]) -> bool:
    """Whether a term is a sum of its own whose operands cost little to keep for all steps."""
    body: Graph = scan.attrs["body"]
    if (
        term.op.name not in ("dot", "sum")
        or len(readers[term.outputs[0]]) != 1
        or term.outputs[0] in body.outputs
        or defined_symbols(body)
    ):
        return False
    fixed = {*body.inputs[scan.attrs["n_carry"] + scan.attrs["n_xs"] :], *body.constants}
    if any(value in fixed for value in term.inputs):
        return False
    new = [v for v in dict.fromkeys(term.inputs) if v not in _kept(scan)]
    sizes = [upper(value.type.size) for value in (*new, term.outputs[0])]
    if any(size is None for size in sizes):
        return False
    *parts, whole = [size for size in sizes if size is not None]
    return sum(parts) <= MAX_GROWTH * whole


def _kept(scan: Node) -> dict[Value, Value]:
    """Values of a body of which the program has all steps: its streams and its stacked results."""
    body, first = scan.attrs["body"], scan.attrs["n_carry"]
    kept = dict(zip(body.inputs[first:], scan.inputs[first : first + scan.attrs["n_xs"]], strict=False))
    kept.update(zip(body.outputs[first:], scan.outputs[first:], strict=True))
    return kept


def _hoist(rewriting: Rewriting, node: Node, sums: Sequence[Sum]) -> list[Value]:
    """The loop with the operands of all terms stacked, and the terms over all steps behind it."""
    graph, first = rewriting.new, node.attrs["n_carry"]
    body = node.attrs["body"].copy()
    twin = dict(zip(node.attrs["body"].values(), body.values(), strict=True))
    kept = _kept(node)
    wanted = [v for one in sums for v in one.term.inputs if v not in kept]
    extra = [twin[value] for value in dict.fromkeys(wanted)]
    for one in sums:
        body.outputs[one.position] = body.inputs[one.position]
    names = [*body.output_names, *(f"term{k}_{body.name}" for k in range(len(extra)))]
    body.set_outputs([*body.outputs, *extra], names)
    graph.origin = node
    operands = [rewriting.at(value) for value in node.inputs]
    results = list(graph.append(node.op, operands, {**node.attrs, "body": body}))
    steps = dict(zip(body.inputs[first:], operands[first : first + node.attrs["n_xs"]], strict=False))
    steps.update(zip(body.outputs[first:], results[first:], strict=True))
    for one in sums:
        graph.origin = one.term
        total = _all_steps(graph, one.term, [steps[twin[value]] for value in one.term.inputs])
        start = operands[one.position]
        zero = is_number(start, 0.0)
        results[one.position] = total if zero else graph.append(REGISTRY["add"], [start, total], {})[0]
    return results[: len(node.outputs)]


def _all_steps(graph: Graph, term: Node, operands: Sequence[Value]) -> Value:
    """The sum of a term over all steps; its operands are stacked along a new first axis."""
    if term.op.name == "sum":
        axes = (0, *(axis + 1 for axis in term.attrs["axes"]))
        return graph.append(term.op, operands, {"axes": axes})[0]
    inputs, output = term.attrs["spec"].split("->")
    letter = next(axis for axis in LETTERS if axis not in inputs)
    left, right = inputs.split(",")
    return graph.append(term.op, operands, {"spec": f"{letter}{left},{letter}{right}->{output}"})[0]
