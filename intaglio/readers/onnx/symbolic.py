"""Elementwise arithmetic on shapes with symbols.

What can be said about every element without knowing the symbols stays known at import; the rest is computed
at run time.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from intaglio.graph.ir import Graph
from intaglio.ops.registry import lookup
from intaglio.readers.onnx.bodies import shape_value
from intaglio.readers.onnx.registry import Operand
from intaglio.shared.index import Index, IndexLike, interval
from intaglio.shared.index import maximum as larger
from intaglio.shared.index import minimum as smaller


def is_symbolic(*operands: Operand | None) -> bool:
    """Whether a symbolic shape is among the operands."""
    return any(isinstance(x, np.ndarray) and x.dtype == object for x in operands)


def never_below(bound: int, operand: Operand) -> bool:
    """Whether every element of a shape is known to be at least so much."""
    if not isinstance(operand, np.ndarray) or operand.dtype.kind not in "Oiu":
        return False
    lowest = [interval(x)[0] for x in operand.reshape(-1).tolist()]
    return all(x is not None and x >= bound for x in lowest)


def _sign(a: IndexLike, b: IndexLike) -> tuple[bool, bool]:
    """Whether `a - b` is surely at least 0, and surely at most 0."""
    lowest, highest = interval(a - b)
    return lowest is not None and lowest >= 0, highest is not None and highest <= 0


def _equal(a: IndexLike, b: IndexLike) -> bool | None:
    lowest, highest = interval(a - b)
    apart = (lowest is not None and lowest > 0) or (highest is not None and highest < 0)
    return True if a == b else False if apart else None


def _less(a: IndexLike, b: IndexLike) -> bool | None:
    return False if _sign(a, b)[0] else True if _sign(a + 1, b)[1] else None


def _less_or_equal(a: IndexLike, b: IndexLike) -> bool | None:
    return True if _sign(a, b)[1] else False if _sign(a, b + 1)[0] else None


ARITHMETIC: dict[str, Callable[[Any, Any], IndexLike]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "floor_div": operator.floordiv,
    "max": larger, "min": smaller,
}  # fmt: skip
COMPARISONS: dict[str, Callable[[Any, Any], bool | None]] = {
    "eq": _equal, "lt": _less, "le": _less_or_equal,
}  # fmt: skip


def apply_symbolic(graph: Graph, name: str, operands: tuple[Operand, ...]) -> Any:
    """A primitive on operands of which some are symbolic shapes."""
    arrays = [x for x in operands if isinstance(x, np.ndarray) and x.dtype.kind in "Oiu"]
    if len(arrays) == len(operands) == 2:
        made = _elements(name, arrays[0], arrays[1])
        if made is not None:
            return made
    if name == "where" and all(isinstance(x, np.ndarray) for x in operands) and operands[0].dtype == bool:
        condition, *values = (np.asarray(x) for x in operands)
        return tidy(np.where(condition, values[0], values[1]))
    lifted = [shape_value(graph, x) if is_symbolic(x) else x for x in operands]  # type: ignore[arg-type]
    return lookup(name)(*lifted)


def _elements(name: str, a: Any, b: Any) -> Any:
    """The operation element by element; None when it cannot be told for one of them."""
    rule = ARITHMETIC.get(name) or COMPARISONS.get(name)
    if rule is None:
        return None
    pairs = np.broadcast(a.astype(object), b.astype(object))
    found = [rule(x, y) for x, y in pairs]
    if any(x is None for x in found):
        return None
    flat = np.empty(len(found), object)
    flat[:] = found
    made = flat.reshape(pairs.shape)
    return made.astype(bool) if name in COMPARISONS else tidy(made)


def tidy(array: Any) -> Any:
    """An array without symbols in it as one of plain integers."""
    return array if any(isinstance(x, Index) for x in array.reshape(-1)) else array.astype(np.int64)
