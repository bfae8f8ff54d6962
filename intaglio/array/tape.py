"""The tape: records of operators on tensors, and derivatives from them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from intaglio.array.mode import mode, set_grad_enabled
from intaglio.ops.registry import Op
from intaglio.ops.vjp import pull_back
from intaglio.shared.errors import ArgumentError
from intaglio.shared.regions import phase

if TYPE_CHECKING:
    from intaglio.array.tensor import Tensor

_order = itertools.count()


class Record:
    """One operator applied to tensors that derivatives may be asked of."""

    __slots__ = ("attrs", "inputs", "number", "op", "outputs", "versions", "where")

    def __init__(
        self, op: Op, inputs: tuple[Tensor, ...], attrs: dict[str, Any], outputs: tuple[Tensor, ...]
    ) -> None:
        self.op = op
        self.inputs = inputs
        self.attrs = attrs
        self.outputs = outputs
        self.number = next(_order)
        self.versions = tuple(x._version for x in inputs)
        self.where = None

    def check(self) -> None:
        """Raise ArgumentError when an operand was changed in place since."""
        for position, (x, version) in enumerate(zip(self.inputs, self.versions, strict=True)):
            if x._version != version:
                raise ArgumentError(
                    f"backward: operand {position} of {self.op.name}, {x.type}, was changed in place "
                    "after it was used",
                    hint="change it after backward(), or use x = x + y instead of x += y",
                )


def accumulate(leaf: Tensor, gradient: Tensor) -> None:
    """Add to a leaf's `grad`; while tracing, one that exists outside of the trace is changed in place."""
    held = leaf.grad
    if held is None:
        leaf.grad = gradient
    elif mode.trace is not None and not held.is_traced:
        held._assign(held + gradient)
    else:
        leaf.grad = held + gradient


def records_behind(results: Sequence[Tensor]) -> list[Record]:
    """Every record the results depend on, in order of execution."""
    found: dict[int, Record] = {}
    waiting = [r._record for r in results if r._record is not None]
    while waiting:
        record = waiting.pop()
        if record.number not in found:
            found[record.number] = record
            waiting.extend(x._record for x in record.inputs if x._record is not None)
    return [found[number] for number in sorted(found)]


def derivatives(
    result: Tensor, seed: Any, wanted: Sequence[Tensor] | None, create_graph: bool
) -> tuple[list[Tensor], dict[int, Tensor]]:
    """Derivatives of a result by `wanted` (default: all leaves that require them), by tensor identity."""
    records = records_behind([result])
    for record in records:
        record.check()
    leaves = {id(x): x for record in records for x in record.inputs if x._leaf}
    if result._leaf:
        leaves[id(result)] = result
    targets = list(leaves.values()) if wanted is None else list(wanted)
    with set_grad_enabled(create_graph), phase("backward"):
        if seed is None:
            seed = ones_as(result)
        found = pull_back(records, {result: seed}, targets)
    return targets, {id(x): g for x, g in found.items()}


def ones_as(like: Tensor) -> Tensor:
    one = like.__intaglio_lift__(np.ones((), like.dtype.numpy), like.dtype)
    return one.expand(like.shape) if like.shape else one
