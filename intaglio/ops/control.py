"""Loops and branches whose bodies are graphs.

A body is any object with `inputs`, `outputs` (things with `.type`) and `run(*arrays) -> tuple`; the graph
level provides it. Operands behind the loop's own are constants of the body, one input each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from intaglio.ops.budget import step
from intaglio.ops.registry import op
from intaglio.shared import dtypes
from intaglio.shared.errors import ShapeError
from intaglio.shared.index import IndexLike
from intaglio.shared.types import TensorType

Rule = Callable[..., Sequence[Any]]
_gradients: dict[str, Rule] = {}


def set_gradient(name: str, rule: Rule) -> None:
    """Provide the derivative of a control operator; it needs to build graphs, which this level cannot."""
    _gradients[name] = rule


def _gradient(name: str) -> Rule:
    return lambda *args, **attrs: _gradients[name](*args, **attrs)


def check_body(name: str, body: Any, types: Sequence[TensorType], what: str) -> None:
    """Raise ShapeError unless the body's inputs have these types."""
    wanted = [value.type for value in body.inputs]
    if list(types) != wanted:
        shown = ", ".join(map(str, types))
        raise ShapeError(f"{name}: {what} takes ({', '.join(map(str, wanted))}) but would get ({shown})")


def _check_carry(name: str, carry: Sequence[TensorType], results: Sequence[TensorType]) -> None:
    for k, (before, after) in enumerate(zip(carry, results, strict=False)):
        if before != after:
            raise ShapeError(
                f"{name}: carry {k} is {before} before a step but {after} after it",
                hint="a carried value keeps its type and shape",
            )


def _scan(*operands: Any, body: Any, n_carry: int, n_xs: int, reverse: bool, length: int) -> tuple[Any, ...]:
    carry, xs, rest = operands[:n_carry], operands[n_carry : n_carry + n_xs], operands[n_carry + n_xs :]
    stacked: list[list[Any]] = [[] for _ in body.outputs[n_carry:]]
    for t in reversed(range(length)) if reverse else range(length):
        step("scan")
        results = body.run(*carry, *(x[t] for x in xs), *rest)
        carry = results[:n_carry]
        for column, y in zip(stacked, results[n_carry:], strict=True):
            column.append(y)
    ys = []
    for column, value in zip(stacked, body.outputs[n_carry:], strict=True):
        rows = (
            np.stack(column[::-1] if reverse else column)
            if column
            else np.zeros((0, *value.type.shape), value.type.dtype.numpy)
        )
        ys.append(rows)
    return (*carry, *ys)


@op
class scan:
    """`carry, y[t] = body(carry, x[t], constants)` for t = 0, 1, ... (or from the end, `reverse`).

    Operands: carries, stacked inputs, constants. Results: last carries, stacked results."""

    kind = "opaque"
    formula = "y[t,*i] = body(x[t,*i])"
    ref = _scan
    grad = _gradient("scan")
    accepts = "any"
    ordered = True

    @staticmethod
    def infer(
        *types: TensorType, body: Any, n_carry: int, n_xs: int, reverse: bool, length: IndexLike
    ) -> tuple[TensorType, ...]:
        carry, xs, rest = types[:n_carry], types[n_carry : n_carry + n_xs], types[n_carry + n_xs :]
        for x in xs:
            if x.rank == 0 or x.shape[0] != length:
                raise ShapeError(f"scan: {x} is not stacked {length} times")
        rows = [TensorType(x.dtype, x.shape[1:]) for x in xs]
        check_body("scan", body, [*carry, *rows, *rest], "the body")
        results = [value.type for value in body.outputs]
        _check_carry("scan", carry, results)
        return (*results[:n_carry], *(TensorType(y.dtype, (length, *y.shape)) for y in results[n_carry:]))


@op
class cond:
    """`then(operands)` if the predicate holds, else `orelse(operands)`; only that one runs."""

    kind = "opaque"
    formula = "y[*i] = then(x[*i])"
    ref = lambda predicate, *operands, then, orelse: tuple((then if predicate else orelse).run(*operands))
    grad = _gradient("cond")
    accepts = "any"

    @staticmethod
    def infer(predicate: TensorType, *types: TensorType, then: Any, orelse: Any) -> tuple[TensorType, ...]:
        if predicate != TensorType(dtypes.bool_, ()):
            raise ShapeError(f"cond: the predicate is {predicate}, expected bool[]")
        check_body("cond", then, types, "the first branch")
        check_body("cond", orelse, types, "the second branch")
        first, second = ([value.type for value in body.outputs] for body in (then, orelse))
        if first != second:
            raise ShapeError(
                f"cond: one branch gives ({', '.join(map(str, first))}), the other "
                f"({', '.join(map(str, second))})"
            )
        return tuple(first)


def _while(*operands: Any, cond: Any, body: Any, n_carry: int) -> tuple[Any, ...]:
    carry, rest = tuple(operands[:n_carry]), operands[n_carry:]
    while bool(cond.run(*carry, *rest)[0]):
        step("while_loop")
        carry = tuple(body.run(*carry, *rest))
    return carry


@op
class while_loop:
    """`while cond(carry, constants): carry = body(carry, constants)`."""

    kind = "opaque"
    formula = "y[*i] = body(x[*i])"
    ref = _while
    accepts = "any"
    ordered = True

    @staticmethod
    def infer(*types: TensorType, cond: Any, body: Any, n_carry: int) -> tuple[TensorType, ...]:
        check_body("while_loop", cond, types, "the condition")
        check_body("while_loop", body, types, "the body")
        if [value.type for value in cond.outputs] != [TensorType(dtypes.bool_, ())]:
            raise ShapeError("while_loop: the condition must give one bool[]")
        results = [value.type for value in body.outputs]
        _check_carry("while_loop", types[:n_carry], results)
        return tuple(results)
