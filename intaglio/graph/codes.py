"""Codes of quantised numbers: bytes, widened to 32 bits, less a zero point."""

from __future__ import annotations

import numpy as np

from intaglio.graph.ir import Node, Value
from intaglio.shared import dtypes

NARROW = (dtypes.u8, dtypes.i8)


def widens(node: Node) -> bool:
    """Whether a node makes 32 bits of a byte."""
    return node.op.name == "cast" and node.outputs[0].dtype == dtypes.i32 and node.inputs[0].dtype in NARROW


def centres(node: Node) -> bool:
    """Whether a node takes a zero point off what is widened."""
    root = _root(node.inputs[0]).node if node.op.name == "sub" else None
    return root is not None and widens(root)


def is_code(value: Value) -> bool:
    """Whether a value is a widened byte, or one less a zero point that is a byte too."""
    node = value.node
    if node is None or widens(node):
        return node is not None
    if not centres(node):
        return False
    zero = _root(node.inputs[1])
    if zero.source == "constant":
        return zero.data is not None and bool((abs(zero.data.astype(np.int64)) <= 255).all())
    return zero.node is not None and widens(zero.node)


def _root(value: Value) -> Value:
    """What a value is, before it was repeated."""
    while value.node is not None and value.node.op.name in ("broadcast", "reshape"):
        value = value.node.inputs[0]
    return value
