"""The first step of a loop whose carries begin with zeros: their products with constants are zero.

Recurrent layers mostly begin so, and the product with the carry is nearly all that a step of theirs does. It
is zero where the constants are finite; weights that a program gets or learns may not be.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from intaglio.graph.ir import Graph, Node, Value
from intaglio.graph.rewrite import Rewriting, rebuild
from intaglio.ops.registry import REGISTRY

VIEWS = ("broadcast", "reshape", "slice", "transpose")
LARGE = ("conv", "conv_dw", "conv_dx", "dot", "scan", "while_loop", "cond")
"""Operators that a step of its own must not have: their packed constants would be there twice."""


def first_step(node: Node) -> Graph | None:
    """The body of a scan as its first step can run it; None where that is as the others."""
    body: Graph = node.attrs["body"]
    starts = zip(body.inputs, node.inputs[: node.attrs["n_carry"]], strict=False)
    zeros = {carry for carry, start in starts if _is_zero(start)}
    if not zeros:
        return None

    def replace(rewriting: Rewriting, each: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
        if not _vanishes(each, zeros):
            return None
        result = each.outputs[0]
        zero = rewriting.new.constant(np.zeros((), result.dtype.numpy), "zero")
        return rewriting.new.append(REGISTRY["broadcast"], [zero], {"shape": result.shape})

    made, replaced = rebuild(body, replace)
    return made if replaced and not any(each.op.name in LARGE for each in made.nodes) else None


def _vanishes(node: Node, zeros: set[Value]) -> bool:
    """Whether a product is zero because one operand is, and the other one finite."""
    if node.op.name != "dot" or not node.outputs[0].dtype.is_float:
        return False
    left, right = node.inputs
    return any(_source(a) in zeros and _finite(b) for a, b in ((left, right), (right, left)))


def _source(value: Value) -> Value:
    """What a value shows elements of."""
    while value.node is not None and value.node.op.name in VIEWS:
        value = value.node.inputs[0]
    return value


def _finite(value: Value) -> bool:
    """Whether a value is made of a constant's finite elements."""
    source = _source(value)
    data = source.data if source.source == "constant" else None
    return data is not None and bool(np.isfinite(data).all())


def _is_zero(value: Value) -> bool:
    """Whether a value is made of a constant's zeros."""
    source = _source(value)
    return source.source == "constant" and source.data is not None and not np.any(source.data)
