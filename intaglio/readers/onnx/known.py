"""Inputs whose values are known when compiling although the program still takes them.

What decides shapes is computed from these values at import; everything else that reads such an input reads
it at run time. So a length that is also a factor is not frozen where it is a factor.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from intaglio.graph.ir import Node, Value
from intaglio.graph.symbols import defined_symbol
from intaglio.ops.dispatch import evaluate
from intaglio.readers.onnx.registry import Array
from intaglio.shared.errors import IntaglioError


class KnownValues:
    """The arrays that inputs will have, and of the values computed from them alone.

    Args:
        outer: what an input of an inner graph stands for, None for one of the loop's or branch's own.
    """

    def __init__(self, outer: Callable[[Value], Value | None]) -> None:
        self._outer = outer
        self._arrays: dict[Value, Array | None] = {}

    def __bool__(self) -> bool:
        return bool(self._arrays)

    def add(self, value: Value, array: Array) -> None:
        """Say what an input will be."""
        self._arrays[value] = array

    def find(self, value: Value) -> Array | None:
        """The array of a value; None when something else is behind it than known inputs and constants."""
        if not self._arrays:
            return None
        waiting = [value]
        while waiting:
            one = waiting[-1]
            missing = [v for v in self._behind(one) if v not in self._arrays]
            if one in self._arrays or not missing:
                waiting.pop()
                if one not in self._arrays:
                    self._compute(one)
            else:
                waiting.extend(missing)
        return self._arrays[value]

    def _behind(self, value: Value) -> tuple[Value, ...]:
        if value.node is not None:
            return value.node.inputs
        around = self._outer(value) if value.source == "input" else None
        return () if around is None else (around,)

    def _compute(self, value: Value) -> None:
        behind = [self._arrays[v] for v in self._behind(value)]
        if value.source == "constant":
            self._arrays[value] = np.asarray(value.data)
        elif value.node is None:
            self._arrays[value] = behind[0] if behind else None
        elif any(array is None for array in behind):
            self._arrays.update(dict.fromkeys(value.node.outputs))
        else:
            self._arrays.update(zip(value.node.outputs, _results(value.node, behind), strict=True))


def _results(node: Node, arrays: list[Array | None]) -> list[Array | None]:
    """What a node gives for arrays; None when it is no function of shapes that are numbers."""
    if defined_symbol(node) is not None:
        return [None] * len(node.outputs)
    try:
        results = evaluate(node.op, arrays, node.attrs)
    except (IntaglioError, TypeError):
        return [None] * len(node.outputs)
    return list(results) if isinstance(results, tuple) else [results]
