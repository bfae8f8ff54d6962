"""Maps that live inside of their readers, because to compute them again costs less than to load them.

What the backward pass reads of the forward one is stored between, which is most of a training step's memory.
So a map of one operation whose operands are stored for the backward pass anyway is not stored itself: the
store-versus-recompute decision, made where recomputing takes no more loads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from intaglio.graph.ir import Graph, Node, Value
from intaglio.loop.access import cost, scalar_constant, viewed
from intaglio.loop.codes import HEAVY
from intaglio.shared.index import product, upper

Readers = Mapping[Value, Sequence[Node]]
FEW = 16
"""Operands with so many times fewer elements than the result, as a number per row, count for nothing."""


def cheap_repeats(graph: Graph, free: set[Node], needed: Collection[Value], consumers: Readers) -> set[Node]:
    """Maps so cheap that their reader repeats them rather than load them: one operation on arrays that exist
    anyway."""
    exists = set(needed) | _read_whole(graph)
    return {
        node
        for node in graph.nodes
        if _is_cheap(node, exists)
        and len(consumers.get(node.outputs[0], ())) == 1
        and all(v.source != "node" or v in exists or _is_uniform(v, free) for v in node.inputs)
        and any(v in exists for v in node.inputs)
    }


def recomputed(graph: Graph, free: set[Node], needed: Collection[Value], consumers: Readers) -> set[Node]:
    """Cheap maps of the forward pass that the backward pass computes again, from arrays that it reads too, or
    from one that is stored in place of several of its maps."""
    exists = set(needed) | _read_whole(graph)
    operands = {
        node: [v for v in node.inputs if not _is_uniform(v, free) and not _is_small(v, node)]
        for node in graph.nodes
        if node.phase == "forward"
        and {r.phase for r in consumers.get(node.outputs[0], ())} - {"forward"} == {"backward"}
        and _is_cheap(node, exists)
    }
    maps = Counter(value for read in operands.values() for value in set(read))
    found: set[Node] = set()
    for node, read in operands.items():
        stored = (maps[v] > 1 or any(r.phase == "backward" for r in consumers[v]) for v in read)
        made = (v.node is not None and v.node not in free | found and v.node.op.kind != "view" for v in read)
        if read and all(made) and all(stored):
            found.add(node)
    return found


def _is_cheap(node: Node, exists: Collection[Value]) -> bool:
    """Whether a node is a map of one operation that nothing needs as an array."""
    return node.op.kind == "map" and node.outputs[0] not in exists and cost(node) <= 1


def _read_whole(graph: Graph) -> set[Value]:
    """Operands that are stored because an operator reads each of their elements many times."""
    found: set[Value] = set()
    for node in graph.nodes:
        if node.op.name in HEAVY or node.op.name == "unfold":
            found.update(node.inputs)
            found.update(viewed(value) for value in node.inputs)
    return found


def _is_uniform(value: Value, free: set[Node]) -> bool:
    """Whether a value is one number everywhere, through free views of a constant."""
    while value.node is not None and value.node in free and len(value.node.inputs) == 1:
        value = value.node.inputs[0]
    return scalar_constant(value) is not None


def _is_small(value: Value, node: Node) -> bool:
    """Whether a stored operand has few elements beside the result."""
    base, whole = upper(product(viewed(value).shape)), upper(product(node.outputs[0].shape))
    return base is not None and whole is not None and base * FEW <= whole
