"""Loops and branches: plain Python eagerly, and while tracing part of the program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from intaglio.array.tensor import Tensor, mode, tensor
from intaglio.array.trace import flatten, trace_body, unflatten
from intaglio.ops.compositions import indexing
from intaglio.ops.registry import prim
from intaglio.shared.errors import ArgumentError, ShapeError


def _tensors(tree: Any) -> tuple[list[Tensor], Any]:
    leaves: list[Any] = []
    shape = flatten(tree, leaves)
    return [x if isinstance(x, Tensor) else tensor(x) for x in leaves], shape


def _many(results: Any) -> list[Any]:
    return list(results) if isinstance(results, tuple) else [results]


def scan(
    function: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any,
    *,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """`carry, y = function(carry, x[t])` for every t; gives the last carry and all y stacked.

    Args:
        function: takes and gives a carry of one structure, and gives an output (or None) per step.
        init: first carry, a tensor or nested tuples, lists, dicts of them.
        xs: tensors stacked along their first axis, or None with `length`.
        reverse: from the last step to the first; outputs stay in the order of xs.
    """
    carry, carry_tree = _tensors(init)
    stacked, xs_tree = _tensors(xs)
    steps = length if length is not None else stacked[0].shape[0] if stacked else None
    if steps is None:
        raise ArgumentError("scan: without xs the number of steps must be given", hint="scan(..., length=n)")

    def step(*leaves: Any) -> tuple[list[Any], Any]:
        state = unflatten(carry_tree, leaves[: len(carry)])
        after, y = function(state, unflatten(xs_tree, leaves[len(carry) : len(carry) + len(stacked)]))
        flat, tree = _tensors(after)
        if len(flat) != len(carry) or tree != carry_tree:
            raise ShapeError("scan: the carry changes its structure from one step to the next")
        return flat, y

    if mode.trace is None:
        return _scan_eagerly(step, carry, stacked, carry_tree, steps, reverse)
    types = [x.type for x in carry]
    types += [type(x.type)(x.type.dtype, x.type.shape[1:]) for x in stacked]
    graph, captured, tree = trace_body(step, types)
    results = _many(
        prim.scan(
            *carry,
            *stacked,
            *captured,
            body=graph,
            n_carry=len(carry),
            n_xs=len(stacked),
            reverse=reverse,
            length=steps,
        )
    )
    _, ys = unflatten(tree, results)
    return unflatten(carry_tree, results[: len(carry)]), ys


def _scan_eagerly(
    step: Callable[..., tuple[list[Any], Any]],
    carry: list[Tensor],
    stacked: list[Tensor],
    carry_tree: Any,
    steps: int,
    reverse: bool,
) -> tuple[Any, Any]:
    rows: list[list[Any]] = []
    tree: Any = None
    for t in reversed(range(steps)) if reverse else range(steps):
        carry, y = step(*carry, *(x[t] for x in stacked))
        leaves: list[Any] = []
        tree = flatten(y, leaves)
        rows.append(leaves)
    if reverse:
        rows.reverse()
    columns = [indexing.stack(list(column)) for column in zip(*rows, strict=True)]
    return unflatten(carry_tree, carry), unflatten(tree, columns)


def cond(predicate: Any, then: Callable[..., Any], orelse: Callable[..., Any], *operands: Any) -> Any:
    """`then(*operands)` if the predicate holds, else `orelse(*operands)`; the results are alike in structure."""
    if mode.trace is None:
        return then(*operands) if bool(predicate) else orelse(*operands)
    leaves, tree = _tensors(operands)
    types = [x.type for x in leaves]
    first, captured, shape = trace_body(lambda *x: then(*unflatten(tree, x)), types, "then")
    second, more, other = trace_body(lambda *x: orelse(*unflatten(tree, x)), types, "orelse")
    if shape != other:
        raise ShapeError("cond: the branches give results of different structure")
    _align(first, second, captured, more, len(leaves))
    results = prim.cond(_as_tensor(predicate), *leaves, *captured, *more, then=first, orelse=second)
    return unflatten(shape, _many(results))


def _align(first: Any, second: Any, captured: Sequence[Tensor], more: Sequence[Tensor], own: int) -> None:
    """Both branches take what either captures."""
    for x in more:
        first.input(x.type, "unused")
    extra = [second.input(x.type, "unused") for x in captured]
    kept = second.inputs[: own + len(more)]
    second.inputs[:] = [*kept[:own], *extra, *kept[own:]]


def while_loop(condition: Callable[..., Any], body: Callable[..., Any], init: Any) -> Any:
    """`while condition(carry): carry = body(carry)`; the carry keeps its structure and types."""
    carry, tree = _tensors(init)
    if mode.trace is None:
        state = init
        while bool(condition(state)):
            state = body(state)
        return state
    types = [x.type for x in carry]
    test, captured, _ = trace_body(lambda *x: condition(unflatten(tree, x)), types, "test")
    run, more, after = trace_body(lambda *x: body(unflatten(tree, x)), types, "body")
    if after != tree:
        raise ShapeError("while_loop: the carry changes its structure from one step to the next")
    _align(test, run, captured, more, len(carry))
    results = prim.while_loop(*carry, *captured, *more, cond=test, body=run, n_carry=len(carry))
    return unflatten(tree, _many(results))


def fori_loop(count: int, body: Callable[[Any, Any], Any], init: Any) -> Any:
    """`carry = body(k, carry)` for k = 0 .. count - 1."""
    carry, _ = scan(lambda c, k: (body(k, c), None), init, np.arange(count))
    return carry


def _as_tensor(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else tensor(x)
