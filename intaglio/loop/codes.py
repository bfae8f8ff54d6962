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
    found = {n for n in found if widens(n) or n.inputs[0].node in found}
    return found | _dequantised(graph, free, needed, consumers, found)


def _dequantised(
    graph: Graph,
    free: Collection[Node],
    needed: Collection[Value],
    consumers: Mapping[Value, Sequence[Node]],
    found: Collection[Node],
) -> set[Node]:
    """Nodes that make numbers of codes, where only elementwise operators read them: the codes are stored, and
    each reader repeats a few operations instead of loading four times as much."""
    repeated: set[Node] = set()

    def inside(value: Value) -> bool:
        return value not in needed and all(
            reader.op.kind == "map"
            or reader in found
            or (reader in free and reader.op.kind == "view" and inside(reader.outputs[0]))
            for reader in consumers.get(value, ())
        )

    for node in reversed(graph.nodes):
        if not node.outputs or not inside(node.outputs[0]):
            continue
        readers = consumers.get(node.outputs[0], ())
        steps = node.op.name == "cast" or centres(node)
        if _scales(node) or (steps and _of_codes(node) and all(r in repeated or r in found for r in readers)):
            repeated.add(node)
    return repeated - set(found)


def _of_codes(node: Node) -> bool:
    """Whether a node widens a byte or a code."""
    source = node.inputs[0]
    return source.dtype in NARROW or (
        source.node is not None and (widens(source.node) or centres(source.node))
    )


def _scales(node: Node) -> bool:
    """Whether a node multiplies numbers that were codes with a constant."""
    if node.op.name != "mul" or node.outputs[0].dtype != dtypes.f32:
        return False
    for value, scale in (node.inputs, node.inputs[::-1]):
        while scale.node is not None and scale.node.op.name in ("broadcast", "reshape"):
            scale = scale.node.inputs[0]
        cast = value.node
        if scale.source == "constant" and cast is not None and cast.op.name == "cast":
            return value.dtype == dtypes.f32 and _of_codes(cast)
    return False


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
