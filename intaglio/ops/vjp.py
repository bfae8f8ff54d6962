"""Reverse accumulation: one function for the eager tape and for graphs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from intaglio.ops.registry import Op, constant
from intaglio.shared.errors import UnsupportedError


class Record(Protocol):
    """One application of an operator, as a tape or a graph keeps it."""

    op: Op
    inputs: Any
    attrs: dict[str, Any]
    outputs: Any


def pull_back(records: Sequence[Record], seeds: Mapping[Any, Any], wanted: Iterable[Any]) -> dict[Any, Any]:
    """Gradients of a weighted sum of values with respect to `wanted`.

    Args:
        records: applications in order of execution.
        seeds: weight (cotangent) of each differentiated value.
        wanted: values to differentiate by; those that nothing depends on are absent from the result.

    Raises:
        UnsupportedError: an operator on the way has no derivative.
    """
    reached = set(wanted)
    needed = []
    for record in records:
        if record.op.grad is not constant and any(value in reached for value in record.inputs):
            reached.update(record.outputs)
            needed.append(record)
    gradients = dict(seeds)
    for record in reversed(needed):
        outgoing = [gradients.get(value) for value in record.outputs]
        if all(g is None for g in outgoing):
            continue
        for value, gradient in zip(record.inputs, _apply_rule(record, outgoing), strict=True):
            if gradient is not None and value in reached:
                gradient = gradient() if callable(gradient) else gradient
                held = gradients.get(value)
                gradients[value] = gradient if held is None else held + gradient
    return {value: gradients[value] for value in wanted if value in gradients}


def _apply_rule(record: Record, outgoing: list[Any]) -> Sequence[Any]:
    if record.op.grad is None:
        if all(not value.dtype.is_float for value in record.outputs):
            return [None] * len(record.inputs)
        raise UnsupportedError(
            f"{record.op.name} has no derivative   [{record.op.formula}]",
            where=getattr(record, "where", None),
            hint="detach its operands",
        )
    several = len(record.outputs) > 1
    g = tuple(outgoing) if several else outgoing[0]
    y = tuple(record.outputs) if several else record.outputs[0]
    return record.op.grad(g, *record.inputs, y, **record.attrs)
