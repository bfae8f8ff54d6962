"""How far results are apart; a compiled model beside the NumPy interpreter of the same graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from intaglio.compile import compile_graph
from intaglio.graph.eval import evaluate
from intaglio.graph.ir import Graph
from intaglio.shared import dtypes


@dataclass(frozen=True, slots=True)
class Difference:
    """How far an output is from the expected one.

    Attributes:
        absolute: the largest error.
        relative: that over the largest element expected.
        ulp: the largest error in steps between neighbouring numbers; near zero these are tiny.
    """

    name: str
    type: str
    absolute: float
    relative: float
    ulp: float


def difference(name: str, expected: np.ndarray[Any, Any], got: np.ndarray[Any, Any]) -> Difference:
    """Compare two arrays; another shape or element type is an infinite error."""
    shown = f"{dtypes.from_numpy(expected.dtype)}{list(expected.shape)}"
    if (expected.shape, expected.dtype) != (got.shape, got.dtype):
        shown += f", not {dtypes.from_numpy(got.dtype)}{list(got.shape)}"
        return Difference(name, shown, float("inf"), float("inf"), float("inf"))
    return Difference(name, shown, *errors(expected, got), ulps(expected, got))


def compare(graph: Graph, inputs: Sequence[np.ndarray[Any, Any]], **settings: Any) -> list[Difference]:
    """Run both on the same inputs; where NaN or infinity do not agree, the error is infinite."""
    expected, _ = evaluate(graph, list(inputs))
    got = compile_graph(graph, **settings).run_arrays(list(inputs))
    return [
        difference(name, np.asarray(a), b)
        for name, a, b in zip(graph.output_names, expected, got, strict=True)
    ]


def errors(expected: np.ndarray[Any, Any], got: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Largest absolute error, and that over the largest finite element of `expected`."""
    wide_a, wide_b = expected.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(wide_a)
    same = np.array_equal(wide_a[~finite], wide_b[~finite], equal_nan=True)
    if not same or not np.isfinite(wide_b[finite]).all():
        return float("inf"), float("inf")
    absolute = float(np.max(np.abs(wide_a[finite] - wide_b[finite]), initial=0.0))
    return absolute, absolute / max(float(np.max(np.abs(wide_a[finite]), initial=0.0)), 1e-30)


def ulps(expected: np.ndarray[Any, Any], got: np.ndarray[Any, Any]) -> float:
    """The largest distance in units of the last place; of integers, the largest difference."""
    if not expected.size or errors(expected, got)[0] in (0.0, float("inf")):
        return 0.0 if not expected.size else errors(expected, got)[0]
    finite = np.isfinite(expected.astype(np.float64))
    a, b = expected[finite].astype(np.float64), got[finite].astype(np.float64)
    if not dtypes.from_numpy(expected.dtype).is_float:
        return float(np.max(np.abs(a - b)))
    info = ml_dtypes.finfo(expected.dtype)  # type: ignore[no-untyped-call]
    exponent = np.maximum(np.floor(np.log2(np.maximum(np.abs(a), float(info.tiny)))), info.minexp)
    return float(np.max(np.abs(a - b) / np.exp2(exponent - info.nmant)))
