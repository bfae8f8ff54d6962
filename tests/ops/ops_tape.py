"""A tape of the smallest kind: arrays that remember which operators made them, to test derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.ops.dispatch import evaluate, type_of
from intaglio.ops.operators import Operators
from intaglio.ops.registry import Op
from intaglio.ops.vjp import pull_back


@dataclass(eq=False)
class Step:
    op: Op
    inputs: tuple[Traced, ...]
    attrs: dict[str, Any]
    outputs: tuple[Traced, ...]


class Traced(Operators):
    """An array on a tape; applying an operator to it writes to the tape."""

    def __init__(self, array: Any, tape: list[Step]) -> None:
        self.array = np.asarray(array)
        self.tape = tape
        self.type = type_of(self.array)
        self.dtype, self.shape = self.type.dtype, self.type.shape

    def __intaglio_apply__(self, op: Op, operands: Sequence[Any], attrs: dict[str, Any]) -> Any:
        results = evaluate(op, [x.array for x in operands], attrs)
        many = results if isinstance(results, tuple) else (results,)
        outputs = tuple(Traced(y, self.tape) for y in many)
        self.tape.append(Step(op, tuple(operands), attrs, outputs))
        return outputs if isinstance(results, tuple) else outputs[0]

    def __intaglio_lift__(self, value: Any, dtype: Any) -> Traced:
        return Traced(np.asarray(value, dtype.numpy if dtype else None), self.tape)


def flat(results: Any) -> list[Any]:
    """Results of a function as a list, nested tuples flattened."""
    if isinstance(results, (tuple, list)):
        return [leaf for part in results for leaf in flat(part)]
    return [results]


def traced(
    function: Callable[..., Any], arrays: Sequence[Any]
) -> tuple[list[Traced], list[Traced], list[Step]]:
    """A run of a function on a new tape: its operands, its results and the tape."""
    tape: list[Step] = []
    operands = [Traced(a, tape) for a in arrays]
    return operands, flat(function(*operands)), tape


def gradients(function: Callable[..., Any], arrays: Sequence[Any], seeds: Sequence[Any]) -> list[Any]:
    """Derivatives of the sum of `seeds * results` by every array; zeros where nothing depends on one.

    Only results of a float type count; `seeds` has one for each of them.
    """
    operands, results, tape = traced(function, arrays)
    floats = [y for y in results if y.dtype.is_float]
    start: dict[Traced, Any] = {}
    for y, seed in zip(floats, seeds, strict=True):
        held = start.get(y)
        start[y] = Traced(seed, []) if held is None else held + Traced(seed, [])
    for x in operands:
        start.pop(x, None)
    found = pull_back(list(tape), start, operands)
    return [found[x].array if x in found else np.zeros(x.shape, x.array.dtype) for x in operands]
