"""Test inputs for every declared operator, from its declaration alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.ops import all_ops
from intaglio.ops.registry import Op

CONTROL = ("scan", "cond", "while_loop")
DTYPES = {
    "float": ("f8", "f4", "f2"),
    "number": ("f4", "i4", "u1"),
    "int": ("i4", "u8", "i1"),
    "bits": ("i4", "?"),
    "bool": ("?",),
    "any": ("f4", "i8", "?"),
}


@dataclass(frozen=True)
class Case:
    """An operator with operands and attributes."""

    op: Op
    arrays: tuple[Any, ...]
    attrs: dict[str, Any]
    label: str


def make(spec: Any, dtype: str, op: Op, rng: np.random.Generator) -> Any:
    """An operand: an array given in the declaration, or made for a shape inside the test domain."""
    if isinstance(spec, np.ndarray):
        return spec
    low, high = op.domain
    if dtype == "?":
        return rng.random(spec) < 0.5
    if dtype[0] == "f":
        return (low + (high - low) * rng.random(spec)).astype(dtype)
    if dtype[0] == "u":
        low = max(low, 0)
    return rng.integers(int(np.ceil(low)), int(np.floor(high)) + 1, spec).astype(dtype)


def cases(dtypes: tuple[str, ...] | None = None) -> Iterator[Case]:
    """Every operator with every sample and every element type it accepts."""
    for op in all_ops():
        if op.name in CONTROL:
            continue
        samples = op.extra.get("samples") or default_samples(op)
        for number, (specs, attrs) in enumerate(samples):
            accepted = DTYPES[op.accepts[-1]]
            for dtype in [d for d in accepted if dtypes is None or d in dtypes] or accepted[:1]:
                rng = np.random.default_rng(number)
                arrays = []
                for position, spec in enumerate(specs):
                    accepts = op.accepts[min(position, len(op.accepts) - 1)]
                    own = dtype if accepts == op.accepts[-1] else DTYPES[accepts][0]
                    arrays.append(make(spec, own, op, rng))
                yield Case(op, tuple(arrays), dict(attrs), f"{op.name}-{number}-{dtype}")


def default_samples(op: Op) -> list[tuple[list[Any], dict[str, Any]]]:
    """Elementwise operators: a plain shape, one without elements, a scalar."""
    if op.kind != "map" and not op.formula.startswith("y[*i] = x[*i]"):
        raise LookupError(f"{op.name} declares no samples")
    arity = len(op.parsed.operands) if op.element_rule is None else 1
    return [([shape] * arity, {}) for shape in ((3, 5), (0, 2), ())]


def ulps(expected: Any, got: Any) -> float:
    """Largest distance in units in the last place of the larger magnitude; infinite where NaNs disagree."""
    expected, got = np.asarray(expected), np.asarray(got)
    assert expected.shape == got.shape
    if expected.size == 0:
        return 0.0
    if expected.dtype.kind not in "fV":
        return 0.0 if np.array_equal(expected, got) else float("inf")
    a, b = expected.astype(np.float64), got.astype(np.float64)
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return float("inf")
    step = np.spacing(np.maximum(np.abs(expected), np.abs(got)).astype(expected.dtype)).astype(np.float64)
    scale = np.maximum(
        step, float(np.spacing(np.max(np.abs(a[np.isfinite(a)]), initial=1e-30).astype(expected.dtype))) / 4
    )
    same = (a == b) | np.isnan(a)
    with np.errstate(invalid="ignore"):
        return float(np.max(np.where(same, 0.0, np.abs(a - b) / scale)))
