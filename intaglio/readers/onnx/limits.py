"""What importing a file may cost, whatever the file asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import onnx

from intaglio.ops.budget import Budget
from intaglio.readers.onnx.model import MAX_DEPTH
from intaglio.shared.errors import FileFormatError

PER_WEIGHT = 16
"""Bytes that may be computed for each byte of the file's weights, besides `Limits.total_bytes`."""


@dataclass(frozen=True)
class Limits:
    """Limits of one import; what goes beyond them is refused.

    Attributes:
        array_bytes: one array computed while importing.
        total_bytes: all of them together.
        tensor_bytes: one tensor of the model.
        work: elements and terms computed while importing.
        operators: operators imported and made: each call of a function and each repetition counts.
        depth: graphs inside of graphs.
    """

    array_bytes: int = 1 << 28
    total_bytes: int = 1 << 31
    tensor_bytes: int = 1 << 40
    work: int = 1 << 33
    operators: int = 1 << 18
    depth: int = MAX_DEPTH

    def budget(self, weights: int) -> Budget:
        """A budget for a model whose weights have so many bytes."""
        return Budget(
            max(self.array_bytes, PER_WEIGHT * weights),
            self.total_bytes + PER_WEIGHT * weights,
            self.work + PER_WEIGHT * weights,
            self.operators,
        )


def check_functions(model: onnx.ModelProto, limits: Limits) -> None:
    """Refuse functions that call themselves, and calls that would expand to too many operators.

    Raises:
        FileFormatError: naming the function.
    """
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    if len(functions) != len(model.functions):
        raise FileFormatError("two functions of the model have the same name")
    calls = {key: _calls(function.node) for key, function in functions.items()}
    sizes: dict[tuple[str, str, str], int] = {}
    for root in functions:
        stack = [(root, iter(calls[root]))]
        active = {root}
        while stack:
            key, rest = stack[-1]
            callee = next((k for k in rest if k in functions and k not in sizes), None)
            if callee is None:
                stack.pop()
                active.discard(key)
                sizes[key] = sum(n * sizes.get(k, 1) for k, n in calls[key].items())
                if sizes[key] > limits.operators:
                    raise FileFormatError(f"function {key[1]!r} expands to {sizes[key]} operators")
            elif callee in active:
                raise FileFormatError(f"function {callee[1]!r} calls itself")
            else:
                active.add(callee)
                stack.append((callee, iter(calls[callee])))
    total = sum(n * sizes.get(k, 1) for k, n in _calls(model.graph.node).items())
    if total > limits.operators:
        raise FileFormatError(f"the model's functions expand to {total} operators")


def _calls(nodes: Iterable[onnx.NodeProto]) -> Counter[tuple[str, str, str]]:
    """How often each operator is called, in inner graphs too."""
    found: Counter[tuple[str, str, str]] = Counter()
    waiting = [nodes]
    while waiting:
        for node in waiting.pop():
            found[node.domain, node.op_type, node.overload] += 1
            for attribute in node.attribute:
                waiting.extend(graph.node for graph in (attribute.g, *attribute.graphs) if graph.node)
    return found
