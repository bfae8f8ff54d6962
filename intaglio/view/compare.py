"""A compiled model beside the NumPy interpreter of the same graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.compile import compile_graph
from intaglio.graph.eval import evaluate
from intaglio.graph.ir import Graph


@dataclass(frozen=True, slots=True)
class Difference:
    """How far an output is from the interpreter's: the largest error, alone and over the largest element."""

    name: str
    type: str
    absolute: float
    relative: float


def compare(graph: Graph, inputs: Sequence[np.ndarray[Any, Any]], **settings: Any) -> list[Difference]:
    """Run both on the same inputs; where NaN or infinity do not agree, the error is infinite."""
    expected, _ = evaluate(graph, list(inputs))
    got = compile_graph(graph, **settings).run_arrays(list(inputs))
    rows = []
    for name, value, a, b in zip(graph.output_names, graph.outputs, expected, got, strict=True):
        rows.append(Difference(name, str(value.type), *errors(np.asarray(a), b)))
    return rows


def errors(expected: np.ndarray[Any, Any], got: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Largest absolute error, and that over the largest finite element of `expected`."""
    wide_a, wide_b = expected.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(wide_a)
    same = np.array_equal(wide_a[~finite], wide_b[~finite], equal_nan=True)
    if not same or not np.isfinite(wide_b[finite]).all():
        return float("inf"), float("inf")
    absolute = float(np.max(np.abs(wide_a[finite] - wide_b[finite]), initial=0.0))
    return absolute, absolute / max(float(np.max(np.abs(wide_a[finite]), initial=0.0)), 1e-30)
