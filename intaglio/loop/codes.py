"""Codes of quantised numbers: narrow integers, and widened ones less a zero point.

A contraction reads a widened integer many times, but in its narrow form it is a quarter of the memory and
what machines multiply. So the cast, and the zero point that is taken off, live inside of the contraction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.graph.codes import NARROW, centres, widens
from intaglio.graph.ir import Graph, Node, Value
from intaglio.loop.access import Accessor
from intaglio.ops.dispatch import evaluate
from intaglio.ops.expr import Apply, Const, Expr
from intaglio.shared import dtypes

Array = np.ndarray[Any, Any]
HEAVY = frozenset(("dot", "conv", "conv_dx", "conv_dw"))
"""Operators that read each element of their operands many times."""


def codes(
    graph: Graph, free: Collection[Node], needed: Collection[Value], consumers: Mapping[Value, Sequence[Node]]
) -> set[Node]:
    """Casts of bytes, and subtractions of zero points from them, that contractions read; to repeat them
    costs other readers less than to load what is four times as wide."""
    found: set[Node] = set()

    def reaches(value: Value) -> bool:
        return any(
            (reader.op.name in HEAVY and reader.outputs[0].dtype == dtypes.i32)
            or reader in found
            or (reader in free and reader.op.kind == "view" and reaches(reader.outputs[0]))
            for reader in consumers.get(value, ())
        )

    for node in reversed(graph.nodes):
        value = node.outputs[0] if node.outputs else None
        if value not in needed and value is not None and (widens(node) or centres(node)) and reaches(value):
            found.add(node)
    return {n for n in found if widens(n) or n.inputs[0].node in found}


def stored_code(value: Value, free: Collection[Node]) -> Value:
    """The array of bytes that an operand of a contraction is read from, or the operand itself."""
    while value.node is not None and value.node in free and (widens(value.node) or centres(value.node)):
        value = value.node.inputs[0]
    return value


@dataclass(frozen=True, slots=True)
class Codes(Accessor):
    """An operand of a contraction; the content of constant codes is known in the type they are widened to."""

    @property
    def data(self) -> Array | None:
        if self.value.dtype == dtypes.i32:
            return _content(self.value)
        return self.value.data if self.value.source == "constant" else None


def _content(value: Value) -> Array | None:
    node = value.node
    if node is None:
        return value.data if value.source == "constant" else None
    views = ("broadcast", "reshape", "transpose")
    if node.op.name not in ("cast", "sub", *views) or not isinstance(value.type.size, int):
        return None
    operands = [_content(v) for v in node.inputs]
    if any(array is None for array in operands):
        return None
    made: Array = evaluate(node.op, operands, node.attrs)
    return made


def code_of(value: Expr) -> tuple[Expr, Expr] | None:
    """A byte and the zero point that is taken off it, both without a type change; None for other values."""
    zero: Expr = Const(0, dtypes.i32)
    if isinstance(value, Apply) and value.fn == "sub" and value.dtype == dtypes.i32:
        value, zero = value.args
    if isinstance(value, Apply) and value.fn == "cast" and value.args[0].dtype in NARROW:
        return value.args[0], zero
    return None
