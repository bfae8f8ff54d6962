"""FoldConstant: what depends on constants alone is computed now, once.

A value is *known* when it depends on constants only. Known values that something unknown reads become
constants, unless that would make the program's arrays grow: a broadcast or an iota stays an operator. Random
draws stay, and so does everything that depends on a state, and what is too much to compute here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.graph.ir import Graph, Node, Value
from intaglio.graph.rewrite import Rewriting, splice, transform_bodies
from intaglio.ops.budget import Budget, OverBudget
from intaglio.ops.dispatch import evaluate
from intaglio.shared.errors import IntaglioError

SMALL_BYTES = 1 << 10
MAX_COMPUTED_BYTES = 1 << 28
MAX_WORK = 1 << 33
MAX_STEPS = 1 << 17
PER_BYTE = 16
"""Bytes, and elements or terms, that may be computed for each byte of the constants."""
NEVER = ("random_bits",)

Array = np.ndarray[Any, Any]


def fold_constant(graph: Graph) -> Graph:
    """A new graph with constant parts computed; the graph itself when there are none."""
    graph = transform_bodies(graph, fold_constant)
    weights = _known(graph)
    chosen = _frontier(graph, weights)
    if not chosen and not any(_decided(node) is not None for node in graph.nodes):
        return graph
    arrays = _compute(graph, chosen)
    rewriting = Rewriting(graph)
    for node in graph.nodes:
        if all(value in arrays for value in node.outputs):
            rewriting.stand_for(node, [_freeze(rewriting, node, v, arrays[v]) for v in node.outputs])
            continue
        branch = _decided(node)
        if branch is not None:
            operands = [rewriting.at(value) for value in node.inputs[1:]]
            rewriting.stand_for(node, splice(rewriting.new, branch, operands))
        else:
            rewriting.stand_for(node, rewriting.copy(node))
    return rewriting.finish()


def _decided(node: Node) -> Graph | None:
    """The branch that a `cond` with a constant predicate takes."""
    if node.op.name != "cond" or node.inputs[0].data is None or node.inputs[0].source != "constant":
        return None
    branch: Graph = node.attrs["then" if node.inputs[0].data else "orelse"]
    return branch


def _known(graph: Graph) -> dict[Value, int]:
    """Every known value with the bytes of the largest constant it comes from."""
    weights = {value: value.data.nbytes for value in graph.constants if value.data is not None}
    for node in graph.nodes:
        if all(value in weights for value in node.inputs) and _foldable(node):
            weight = max((weights[value] for value in node.inputs), default=0)
            weights.update(dict.fromkeys(node.outputs, weight))
    return weights


def _foldable(node: Node) -> bool:
    if node.op.name in NEVER or any(_bytes(value) is None for value in node.outputs):
        return False
    inner = [attr for attr in node.attrs.values() if isinstance(attr, Graph)]
    return all(_foldable(n) for body in inner for n in body.nodes)


def _bytes(value: Value) -> int | None:
    """Size of a value, None when it is symbolic or too big to compute here."""
    size = value.type.size
    if not isinstance(size, int) or not all(isinstance(extent, int) for extent in value.shape):
        return None
    return size * value.dtype.size if size * value.dtype.size <= MAX_COMPUTED_BYTES else None


def _frontier(graph: Graph, weights: dict[Value, int]) -> set[Node]:
    """The nodes whose results become constants: known ones that something else than such a node reads."""
    needed = set(graph.roots)
    chosen: set[Node] = set()
    for node in reversed(graph.nodes):
        if not any(value in needed for value in node.outputs):
            continue
        sizes = [_bytes(value) for value in node.outputs if value in weights]
        if len(sizes) == len(node.outputs) and _worth(node, sizes, weights[node.outputs[0]]):
            chosen.add(node)
        else:
            needed.update(node.inputs)
    return chosen


def _worth(node: Node, sizes: list[int | None], weight: int) -> bool:
    if node.op.name == "broadcast":
        return False
    return all(size is not None and size <= max(SMALL_BYTES, weight) for size in sizes)


def _compute(graph: Graph, chosen: set[Node]) -> dict[Value, Array]:
    """The results of the chosen nodes; whatever leads to them is computed on the way."""
    wanted = {value for node in chosen for value in node.outputs}
    cone = set(wanted)
    for node in reversed(graph.nodes):
        if any(value in cone for value in node.outputs):
            cone.update(node.inputs)
    held: dict[Value, Array] = {v: v.data for v in graph.constants if v in cone and v.data is not None}
    given = PER_BYTE * sum(array.nbytes for array in held.values())
    budget = Budget(MAX_COMPUTED_BYTES, 4 * MAX_COMPUTED_BYTES + given, MAX_WORK + given, MAX_STEPS)
    with budget.spent():
        for node in graph.nodes:
            if all(value not in cone for value in node.outputs) or any(v not in held for v in node.inputs):
                continue
            try:
                results = evaluate(node.op, [held[v] for v in node.inputs], node.attrs)
            except OverBudget:
                continue
            except IntaglioError as error:
                error.where = error.where or node.where
                raise
            held.update(zip(node.outputs, results if isinstance(results, tuple) else (results,), strict=True))
    return {value: held[value] for value in wanted if value in held}


def _freeze(rewriting: Rewriting, node: Node, value: Value, array: Array) -> Value:
    """A constant in place of a known value, called as it was."""
    made = Value(
        rewriting.new,
        value.type,
        "constant",
        value.name,
        data=np.ascontiguousarray(array).reshape(array.shape),
    )
    rewriting.new.constants.append(made)
    return made
