"""A reshape that only adds or drops axes of extent 1, moved over a contraction and the maps on its result.

What follows the contraction then has its shape, and can be computed while its results are in registers.
"""

from __future__ import annotations

from collections.abc import Sequence

from intaglio.graph.ir import Node, Value
from intaglio.graph.rewrite import Build, Counts
from intaglio.ops.registry import REGISTRY
from intaglio.shared.index import IndexLike

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
Shape = tuple[IndexLike, ...]


def reshaped_contraction(node: Node, operands: Sequence[Value], counts: Counts) -> Build | None:
    """`reshape(map(dot(a, b), c)) -> map(dot(reshape(a), b), reshape(c))` where only axes of extent 1 differ
    and nothing else reads what is between."""
    if node.op.name != "reshape":
        return None
    shape = node.outputs[0].shape
    if _without_ones(shape) != _without_ones(operands[0].shape) or shape == operands[0].shape:
        return None
    path = _path(node, operands, 0, counts)
    return None if path is None else lambda: [_raised(operands[0], shape, path)]


def _path(node: Node, operands: Sequence[Value], position: int, counts: Counts) -> list[int] | None:
    """Which operands lead from an operand of `node` over maps to a contraction, each read once."""
    if not counts.single(node, operands, position):
        return None
    old, new = node.inputs[position].node, operands[position].node
    if old is None or new is None or new.op is not old.op:
        return None
    if new.op.name == "dot":
        return []
    if new.op.kind == "map":
        for k in range(len(new.inputs)):
            further = _path(old, new.inputs, k, counts)
            if further is not None:
                return [k, *further]
    return None


def _raised(value: Value, shape: Shape, path: list[int]) -> Value:
    """The value in another shape, computed in it."""
    node = value.node
    assert node is not None
    if node.op.name == "dot":
        return _dot(node, shape)
    inputs = [
        _raised(x, shape, path[1:]) if k == path[0] else _in_shape(x, shape)
        for k, x in enumerate(node.inputs)
    ]
    graph = value.graph
    graph.origin = node
    return graph.append(node.op, inputs, node.attrs)[0]


def _dot(node: Node, shape: Shape) -> Value:
    """A contraction whose result has other axes of extent 1: the left operand has them, too."""
    inputs, output = node.attrs["spec"].split("->")
    parts, sources = inputs.split(","), list(node.inputs)
    ones = {letter for letter, extent in zip(output, node.outputs[0].shape, strict=True) if extent == 1}
    kept = iter(letter for letter in output if letter not in ones)
    spare = iter(letter for letter in LETTERS if letter not in {*inputs})
    result = [next(spare) if extent == 1 else next(kept) for extent in shape]
    new = [letter for letter, extent in zip(result, shape, strict=True) if extent == 1]
    for k, source in enumerate(sources):
        keep = [axis for axis, letter in enumerate(parts[k]) if letter not in ones]
        added = new if k == 0 else []
        parts[k] = "".join([*added, *(parts[k][axis] for axis in keep)])
        sources[k] = _in_shape(source, (*(1 for _ in added), *(source.shape[axis] for axis in keep)))
    graph = node.outputs[0].graph
    graph.origin = node
    spec = f"{','.join(parts)}->{''.join(result)}"
    return graph.append(node.op, sources, {**node.attrs, "spec": spec})[0]


def _in_shape(value: Value, shape: Shape) -> Value:
    """The same elements in another shape; what is repeated along its first axes is repeated along others."""
    if value.shape == shape:
        return value
    node = value.node
    if node is not None and node.op.name == "broadcast":
        source = node.inputs[0]
        if source.type.rank <= min(len(shape), value.type.rank) and _same_end(value.shape, shape):
            return value.graph.append(REGISTRY["broadcast"], [source], {"shape": shape})[0]
    return value.graph.append(REGISTRY["reshape"], [value], {"shape": shape})[0]


def _same_end(a: Shape, b: Shape) -> bool:
    """Whether two shapes differ in leading axes of extent 1 alone."""
    least = min(len(a), len(b))
    return a[len(a) - least :] == b[len(b) - least :]


def _without_ones(shape: Shape) -> list[IndexLike]:
    return [extent for extent in shape if extent != 1]
