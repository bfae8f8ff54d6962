"""Loops and branches: plain Python eagerly, and while tracing part of the program.

Carries, inputs and results are tensors, or tuples, lists and dicts of them. A body may use tensors from
outside; it cannot change them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import intaglio.graph.grad  # noqa: F401  (derivatives of loops and branches)
from intaglio.array.mode import mode
from intaglio.array.tensor import Tensor, lifted
from intaglio.array.trace import Body, trace_body
from intaglio.array.tree import flatten, unflatten
from intaglio.ops.compositions import basic, indexing
from intaglio.ops.registry import prim
from intaglio.shared.errors import ArgumentError, ShapeError
from intaglio.shared.types import TensorType
from intaglio.shared.where import caller


def _tensors(tree: Any) -> tuple[list[Tensor], Any]:
    """The tensors of a nested value and its structure; numbers in it become tensors too."""
    leaves: list[Any] = []
    shape = flatten(_numbers_lifted(tree), leaves)
    return [x if isinstance(x, Tensor) else lifted(x) for x in leaves], shape


def _numbers_lifted(tree: Any) -> Any:
    if isinstance(tree, (bool, int, float)):
        return lifted(tree)
    if isinstance(tree, dict):
        return {key: _numbers_lifted(part) for key, part in tree.items()}
    if isinstance(tree, (tuple, list)):
        parts = [_numbers_lifted(part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


def _many(results: Any) -> list[Any]:
    return list(results) if isinstance(results, tuple) else [results]


def _check_carry(name: str, before: Sequence[Tensor], after: Sequence[Tensor], same: bool) -> None:
    if not same:
        raise ShapeError(
            f"{name}: the carry has another structure after a step than before it", where=caller()
        )
    for k, (old, new) in enumerate(zip(before, after, strict=True)):
        if old.type != new.type:
            raise ShapeError(
                f"{name}: carry {k} is {old.type} before a step but {new.type} after it",
                where=caller(),
                hint="a carried value keeps its type and shape",
            )


def scan(
    function: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    *,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """`carry, y = function(carry, x[t])` for every t; gives the last carry and all y stacked.

    Args:
        function: takes and gives a carry of one structure, and gives an output (or None) per step.
        init: the first carry.
        xs: tensors stacked along their first axis, or None with `length`.
        reverse: from the last step to the first; outputs stay in the order of xs.

    Raises:
        ShapeError: a carry that changes its structure, type or shape; inputs of different lengths.
    """
    carry, carry_tree = _tensors(init)
    stacked, xs_tree = _tensors(xs)
    steps = _length(stacked, length)

    def step(*leaves: Any) -> tuple[list[Any], Any]:
        state, row = leaves[: len(carry)], leaves[len(carry) :]
        result = function(unflatten(carry_tree, state), unflatten(xs_tree, row))
        if not isinstance(result, tuple) or len(result) != 2:
            raise ArgumentError("scan: the function must give a pair of carry and output", where=caller())
        after, tree = _tensors(result[0])
        _check_carry("scan", state, after, tree == carry_tree)
        return after, _numbers_lifted(result[1])

    if mode.trace is None:
        last, ys = _scan_eagerly(step, carry, stacked, steps, reverse)
        return unflatten(carry_tree, last), ys
    types = [x.type for x in carry] + [TensorType(x.dtype, x.shape[1:]) for x in stacked]
    body = trace_body(step, types)
    settings = {"n_carry": len(carry), "n_xs": len(stacked), "reverse": reverse, "length": steps}
    results = _many(prim.scan(*carry, *stacked, *body.captured, body=body.graph, **settings))
    _, ys = unflatten(body.shape, results)
    return unflatten(carry_tree, results[: len(carry)]), ys


def _length(stacked: Sequence[Tensor], length: int | None) -> Any:
    lengths = {x.shape[0] if x.shape else None for x in stacked} | ({length} if length is not None else set())
    if len(lengths) != 1 or None in lengths:
        shown = ", ".join(str(x.type) for x in stacked) or "nothing"
        raise ShapeError(
            f"scan: the number of steps is not clear from inputs {shown} and length {length}",
            where=caller(),
            hint="inputs are stacked along their first axis, all equally long; without any, give length",
        )
    return lengths.pop()


def _scan_eagerly(
    step: Callable[..., tuple[list[Any], Any]],
    carry: list[Any],
    stacked: list[Tensor],
    steps: int,
    reverse: bool,
) -> tuple[list[Any], Any]:
    rows: list[list[Any]] = []
    tree: Any = None
    for t in reversed(range(steps)) if reverse else range(steps):
        carry, y = step(*carry, *(x[t] for x in stacked))
        leaves: list[Any] = []
        tree = flatten(y, leaves)
        rows.append(leaves)
    if not steps:
        raise ArgumentError("scan: there is no step, so that its outputs are not known", where=caller())
    if reverse:
        rows.reverse()
    columns = [
        indexing.stack([lifted(x) if not isinstance(x, Tensor) else x for x in c])
        for c in zip(*rows, strict=True)
    ]
    return carry, unflatten(tree, columns)


def cond(predicate: Any, then: Callable[..., Any], orelse: Callable[..., Any], *operands: Any) -> Any:
    """`then(*operands)` if the predicate holds, else `orelse(*operands)`; only that one runs.

    Raises:
        ShapeError: the branches give results of different structure, type or shape (when traced).
    """
    if mode.trace is None:
        return then(*operands) if bool(predicate) else orelse(*operands)
    leaves, tree = _tensors(operands)
    types = [x.type for x in leaves]
    first = trace_body(lambda *x: _numbers_lifted(then(*unflatten(tree, x))), types, "then")
    second = trace_body(lambda *x: _numbers_lifted(orelse(*unflatten(tree, x))), types, "orelse")
    if first.shape != second.shape:
        raise ShapeError("cond: the branches give results of different structure", where=caller())
    captured = _aligned(first, second, len(leaves))
    test = predicate if isinstance(predicate, Tensor) else lifted(predicate)
    test = basic.reshape(test if test.dtype.kind == "bool" else prim.ne(test, 0), ())
    results = prim.cond(test, *leaves, *captured, then=first.graph, orelse=second.graph)
    return unflatten(first.shape, _many(results))


def _aligned(first: Body, second: Body, own: int) -> list[Tensor]:
    """Both graphs take what either captures, behind their own inputs: first the captures of the first."""
    second_own = second.graph.inputs[own:]
    for x in second.captured:
        first.graph.input(x.type, "unused")
    unused = [second.graph.input(x.type, "unused") for x in first.captured]
    second.graph.inputs[own:] = [*unused, *second_own]
    return [*first.captured, *second.captured]


def while_loop(condition: Callable[[Any], Any], body: Callable[[Any], Any], init: Any) -> Any:
    """`while condition(carry): carry = body(carry)`; gives the last carry.

    A loop whose number of steps depends on values has no derivative once traced; `scan` has.

    Raises:
        ShapeError: a carry that changes its structure, type or shape.
    """
    carry, tree = _tensors(init)

    def step(*leaves: Any) -> list[Tensor]:
        after, shape = _tensors(body(unflatten(tree, leaves)))
        _check_carry("while_loop", leaves, after, shape == tree)
        return after

    if mode.trace is None:
        while bool(condition(unflatten(tree, carry))):
            carry = step(*carry)
        return unflatten(tree, carry)
    types = [x.type for x in carry]
    test = trace_body(lambda *x: condition(unflatten(tree, x)), types, "test")
    run = trace_body(step, types)
    captured = _aligned(test, run, len(carry))
    results = prim.while_loop(*carry, *captured, cond=test.graph, body=run.graph, n_carry=len(carry))
    return unflatten(tree, _many(results))


def fori_loop(lower: int, upper: int, body: Callable[[Any, Any], Any], init: Any) -> Any:
    """`carry = body(k, carry)` for k = lower .. upper - 1, k being a tensor (i64); gives the last carry."""
    if upper <= lower:
        return init
    carry, _ = scan(lambda c, k: (body(k, c), None), init, np.arange(lower, upper))
    return carry


class Loop:
    """A `for` over a traced carry, for those who like it written as a decorator.

    @Loop(10)
    def power(k, x):
        return x * 2
    y = power(x)
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, body: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
        return lambda init: fori_loop(0, self.count, body, init)


__all__ = ["Loop", "cond", "fori_loop", "scan", "while_loop"]
