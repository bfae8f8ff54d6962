"""FakeQuantizationToInteger: products of dequantised numbers are products of their codes.

`conv(sx * (x - zx), sw * (w - zw))` becomes `sx * sw * conv(x - zx, w - zw)`, and so does a contraction: sums
of bytes are exact in 32 bits, so results round once where every term of them did. Constant codes that no
such product reads are dequantised now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.graph.codes import is_code
from intaglio.graph.ir import Graph, Node, Value
from intaglio.graph.rewrite import Rewriting, rebuild, transform_bodies
from intaglio.ops.dispatch import evaluate
from intaglio.ops.registry import prim
from intaglio.shared import dtypes
from intaglio.shared.index import product, upper

Array = np.ndarray[Any, Any]
MOST = (2**31 - 1) // 255**2  # products whose sum surely fits 32 bits
VIEWS = ("broadcast", "reshape", "transpose")


@dataclass(frozen=True)
class Dequantised:
    """Codes in 32 bits, as a function that appends them to a new graph, times a scale of the same rank."""

    codes: Callable[[Rewriting], Value]
    scale: Array


def fake_quantization_to_integer(graph: Graph) -> Graph:
    """A new graph with products of codes; the graph itself when there are none."""
    graph = transform_bodies(graph, fake_quantization_to_integer)
    products = {node: found for node in graph.nodes if (found := _product(node)) is not None}
    if products:
        graph = rebuild(graph, lambda rewriting, node, _: _rewritten(rewriting, node, products))[0]
    held = {node: array for node in graph.nodes if (array := _constant(node)) is not None}
    if not held:
        return graph

    def freeze(rewriting: Rewriting, node: Node, _: tuple[Value, ...]) -> Sequence[Value] | None:
        return [rewriting.new.constant(held[node], node.outputs[0].name)] if node in held else None

    return rebuild(graph, freeze)[0]


def _product(node: Node) -> tuple[Dequantised, Dequantised] | None:
    """Both operands of a product of dequantised numbers that may be one of codes."""
    if node.op.name not in ("conv", "dot") or node.outputs[0].dtype != dtypes.f32:
        return None
    terms = upper(product(node.op.extents([v.type for v in node.inputs], node.attrs)))
    if terms is None or terms > MOST:
        return None
    found = [_dequantised(value) for value in node.inputs]
    if found[0] is None or found[1] is None or _scale(node, found[0], found[1]) is None:
        return None
    return found[0], found[1]


def _dequantised(value: Value) -> Dequantised | None:
    """Codes and scale of a value, seen through transposes."""
    node = value.node
    if node is None:
        return None
    if node.op.name == "transpose":
        inner = _dequantised(node.inputs[0])
        if inner is None:
            return None
        order = tuple(node.attrs["perm"])
        return Dequantised(
            lambda rewriting: prim.transpose(inner.codes(rewriting), perm=order),
            np.transpose(inner.scale, order),
        )
    if node.op.name != "mul":
        return None
    for codes, other in (node.inputs, node.inputs[::-1]):
        scale = _known(other)
        if scale is not None and codes.node is not None and codes.node.op.name == "cast":
            inside = codes.node.inputs[0]
            if codes.dtype == dtypes.f32 and is_code(inside):
                return Dequantised(lambda rewriting: rewriting.at(inside), scale)
    return None


def _known(value: Value) -> Array | None:
    """A constant seen through views, before it was broadcast: with an axis of 1 where it is repeated."""
    node = value.node
    if node is None:
        return value.data if value.source == "constant" else None
    inner = _known(node.inputs[0]) if node.op.name in VIEWS else None
    if inner is None:
        return None
    if node.op.name == "broadcast":
        return inner.reshape((1,) * (value.type.rank - inner.ndim) + inner.shape)
    if inner.size == 1:
        return inner.reshape((1,) * value.type.rank)
    if not isinstance(value.type.size, int):
        return None
    made: Array = evaluate(node.op, [inner], node.attrs)
    return made


def _scale(node: Node, x: Dequantised, w: Dequantised) -> Array | None:
    """The product of the scales, broadcast as the result is; None where it does not fit in front of sums."""
    if node.op.name == "conv":
        rank = node.outputs[0].type.rank
        if x.scale.size != 1 or w.scale.size != w.scale.shape[0]:
            return None
        parts = [x.scale.reshape((1,) * rank), w.scale.reshape(1, -1, *(1,) * (rank - 2))]
    else:
        inputs, output = node.attrs["spec"].split("->")
        parts = []
        for letters, one in zip(inputs.split(","), (x, w), strict=True):
            wide = dict(zip(letters, one.scale.shape, strict=True))
            if any(extent != 1 and letter not in output for letter, extent in wide.items()):
                return None
            order = [letters.index(letter) for letter in output if letter in letters]
            rest = [k for k in range(len(letters)) if k not in order]
            shape = [wide.get(letter, 1) for letter in output]
            parts.append(one.scale.transpose(order + rest).reshape(shape))
    with np.errstate(all="ignore"):
        scale = (parts[0].astype(np.float64) * parts[1]).astype(np.float32)
    normal = np.isfinite(scale) & (np.abs(scale) >= np.finfo(np.float32).tiny)
    return scale if normal.all() else None


def _rewritten(
    rewriting: Rewriting, node: Node, products: Mapping[Node, tuple[Dequantised, Dequantised]]
) -> Sequence[Value] | None:
    if node not in products:
        return None
    x, w = products[node]
    scale = _scale(node, x, w)
    assert scale is not None
    total = rewriting.new.append(node.op, [x.codes(rewriting), w.codes(rewriting)], node.attrs)[0]
    return [prim.mul(prim.cast(total, dtype=dtypes.f32), rewriting.new.constant(scale))]


def _constant(node: Node) -> Array | None:
    """The numbers of constant codes."""
    value = node.outputs[0] if node.op.name == "mul" else None
    if value is None or value.dtype != dtypes.f32:
        return None
    found = _dequantised(value)
    return _computed(value) if found is not None else None


def _computed(value: Value) -> Array | None:
    if value.node is None:
        return value.data if value.source == "constant" else None
    if value.node.op.name not in ("cast", "sub", "mul", *VIEWS) or not isinstance(value.type.size, int):
        return None
    operands = [_computed(v) for v in value.node.inputs]
    if any(array is None for array in operands):
        return None
    made: Array = evaluate(value.node.op, operands, value.node.attrs)
    return made
