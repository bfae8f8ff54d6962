"""From values to columns: the graph below one or more results as arrays, one row per value.

Values of `intaglio.scalar` and of `micrograd.engine` are taken alike. A micrograd value keeps its operands in
an unordered set; their order is that of its operator, read from the closure that its operator made.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np

from intaglio.scalar.operators import BY_CODE, LEAF, POW, exponent_of, find
from intaglio.scalar.sweeps import Array, sweep
from intaglio.scalar.value import Value
from intaglio.shared.errors import ArgumentError, TraceError, UnsupportedError

CONST, PARAM, INPUT = 0, 17, 18
"""Kinds of leaves, in the same column as the operators."""

MOST_SPARSE = 8
"""Values are found by a table of births while so few of them in one are part of the graph."""

_ATTRIBUTES = ("data", "grad", "_prev", "_op")


@dataclass(eq=False)
class Trace:
    """A graph as columns; a row stands behind its operands, in the order of a depth-first search.

    `op` holds operator codes and leaf kinds, `a` and `b` operands (-1: none), `k` a constant's value or a
    power's exponent, `born` the order in which values were made. `outputs`, `inputs` and `parameters` are
    rows; -1 for a value that no output depends on.
    """

    op: Array
    a: Array
    b: Array
    k: Array
    born: Array
    outputs: Array
    inputs: Array
    parameters: Array

    def __len__(self) -> int:
        return len(self.op)


@contextmanager
def tracing() -> Iterator[None]:
    """Build graphs inside of this without Python's cyclic garbage collector, which makes it quadratic."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def capture(outputs: Sequence[Any], inputs: Sequence[Any], parameters: Sequence[Any]) -> Trace:
    """The graph below `outputs`.

    Raises:
        ArgumentError: an input or parameter is not a value, is computed, or is named twice.
        TraceError: a value is its own operand.
        UnsupportedError: an operator that is not known.
    """
    for role, values in (("output", outputs), ("input", inputs), ("parameter", parameters)):
        _check_values(role, values, own=isinstance(outputs[0], Value))
    _check_leaves(inputs, parameters)
    with tracing():
        nodes = _own(outputs) if all(type(v) is Value for v in outputs) else _foreign(outputs)
        order = nodes.order
        name = attrgetter("_op")
        kinds = {op: number for number, op in enumerate(dict.fromkeys(map(name, order)))}
        ops = np.fromiter(map(kinds.__getitem__, map(name, order)), np.int32, len(order))
        data = _numbers(order)
        roots, ins, params = (nodes.rows(values) for values in (outputs, inputs, parameters))
        children, born = nodes.children, nodes.born
        del order, nodes
    op, k = _operators(list(kinds), ops, data, children)
    op[ins[ins >= 0]], op[params[params >= 0]] = INPUT, PARAM
    return _fold_constants(_in_order(op, k, born, children, roots, ins, params))


def _check_values(role: str, values: Sequence[Any], *, own: bool) -> None:
    if own and set(map(type, values)) <= {Value}:
        return
    for place, value in enumerate(values):
        if type(value) is not Value and not all(hasattr(value, name) for name in _ATTRIBUTES):
            raise ArgumentError(f"compile: {role} {place} is a {type(value).__name__}, not a Value")
        if isinstance(value, Value) != own:
            kind = f"{type(value).__module__}.{type(value).__name__}"
            raise ArgumentError(f"compile: {role} {place} is a {kind}, unlike output 0",
                                hint="a graph is made of the values of one package")  # fmt: skip


def _check_leaves(inputs: Sequence[Any], parameters: Sequence[Any]) -> None:
    leaves = [*inputs, *parameters]
    if len(set(leaves)) == len(leaves) and not any(map(attrgetter("_prev"), leaves)):
        return
    seen: dict[Any, str] = {}
    for role, values in (("input", inputs), ("parameter", parameters)):
        for place, value in enumerate(values):
            if value._prev:
                raise ArgumentError(
                    f"compile: {role} {place} is computed ({value._op})",
                    hint="only values made from a number can be one",
                )
            if value in seen:
                raise ArgumentError(f"compile: {role} {place} is already {seen[value]}")
            seen[value] = f"{role} {place}"


@dataclass
class _Children:
    """Operands of every value by number, -1 for none."""

    first: Array
    second: Array
    counts: Array


@dataclass
class _Nodes:
    """Every value below the outputs in some order, their operands, and how to find values' numbers."""

    order: list[Any]
    children: _Children
    born: Array
    rows: Callable[[Sequence[Any]], Array]


def _own(outputs: Sequence[Any]) -> _Nodes:
    """Values of this package are numbered by their birth, unless some are copies and share one."""
    birth, prev = attrgetter("_order"), attrgetter("_prev")
    seen, stack = set(outputs), list(dict.fromkeys(outputs))
    order: list[Any] = []
    while stack:
        value = stack.pop()
        order.append(value)
        for child in value._prev:
            if child not in seen:
                seen.add(child)
                stack.append(child)
    del seen
    born = np.fromiter(map(birth, order), np.int64, len(order))
    number = _numbering(born)
    if (number(born) != np.arange(len(born))).any():
        return _foreign(outputs)
    flat = number(np.fromiter(map(birth, chain.from_iterable(map(prev, order))), np.int64))

    def rows(values: Sequence[Any]) -> Array:
        return number(np.fromiter(map(birth, values), np.int64, len(values)))

    return _Nodes(order, _split(order, prev, flat), _small(born), rows)


def _small(born: Array) -> Array:
    """Numbers in the order of births, as few bytes as do."""
    if born.max() - born.min() < np.iinfo(np.int32).max:
        shifted: Array = (born - born.min()).astype(np.int32)
        return shifted
    ranks = np.empty(len(born), np.int32)
    ranks[np.argsort(born)] = np.arange(len(born))
    return ranks


def _numbering(born: Array) -> Callable[[Array], Array]:
    """A function from births to the places they have in `born`, -1 for births that are not there."""
    first, span = int(born.min()), int(born.max() - born.min()) + 1
    if span > MOST_SPARSE * len(born):
        order = np.argsort(born)
        ranked = born[order]

        def search(births: Array) -> Array:
            at = order[np.minimum(np.searchsorted(ranked, births), len(order) - 1)]
            return np.where(born[at] == births, at, -1).astype(np.int32)

        return search
    table = np.full(span + 1, -1, np.int32)
    table[born - first] = np.arange(len(born), dtype=np.int32)

    def look_up(births: Array) -> Array:
        births = births - first
        found: Array = table[np.where((births >= 0) & (births < span), births, span)]
        return found

    return look_up


def _foreign(outputs: Sequence[Any]) -> _Nodes:
    """Values of any kind are numbered as they are met."""
    order = list(dict.fromkeys(outputs))
    index = {value: number for number, value in enumerate(order)}
    below: list[tuple[Any, ...]] = []
    for value in order:
        below.append(operands(value))
        for child in below[-1]:
            if child not in index:
                index[child] = len(order)
                order.append(child)
    flat = np.fromiter(map(index.__getitem__, chain.from_iterable(below)), np.int32)
    unknown = np.full(len(order), -1, np.int32)

    def rows(values: Sequence[Any]) -> Array:
        return np.array([index.get(value, -1) for value in values], np.int32)

    return _Nodes(order, _split(order, dict(zip(order, below, strict=True)).__getitem__, flat), unknown, rows)


def _split(order: list[Any], below: Callable[[Any], tuple[Any, ...]], flat: Array) -> _Children:
    counts = np.fromiter(map(len, map(below, order)), np.int8, len(order))
    if counts.max() > 2:
        value = order[int(counts.argmax())]
        raise UnsupportedError(f"compile: the operator {value._op!r} has {int(counts.max())} operands")
    starts = np.cumsum(counts) - counts
    first, second = np.full(len(order), -1, np.int32), np.full(len(order), -1, np.int32)
    some, two = counts > 0, counts > 1
    first[some], second[two] = flat[starts[some]], flat[starts[two] + 1]
    return _Children(first, second, counts)


def operands(value: Any) -> tuple[Any, ...]:
    """The operands in the order of the operator: a set's come from the closure of `_backward`."""
    prev = value._prev
    if isinstance(prev, tuple):
        return prev
    operator = find(value._op)
    if operator is None or operator.arity == 1 or not prev:
        return tuple(prev)
    function = getattr(value, "_backward", None)
    closure = getattr(function, "__closure__", None) or ()
    names = getattr(function, "__code__").co_freevars if closure else ()  # noqa: B009
    cells = {name: cell.cell_contents for name, cell in zip(names, closure, strict=True)}
    if "self" in cells and "other" in cells and {cells["self"], cells["other"]} == set(prev):
        return (cells["self"], cells["other"])
    return tuple(prev) if len(prev) == 2 else (*prev, *prev)


def _numbers(order: list[Any]) -> Array:
    try:
        return np.fromiter(map(attrgetter("data"), order), np.float64, len(order))
    except (TypeError, ValueError, OverflowError) as error:
        for value in order:
            try:
                float(value.data)
            except (TypeError, ValueError, OverflowError):
                shown = repr(value.data)[:60]
                raise ArgumentError(
                    f"compile: {shown} ({value._op or 'leaf'}) is no double: {error}"
                ) from error
        raise


def _operators(names: list[str], ops: Array, data: Array, children: _Children) -> tuple[Array, Array]:
    """Operator codes, and constants' values or exponents."""
    codes = np.zeros(len(names), np.uint8)
    exponents = np.zeros(len(names))
    for number, name in enumerate(names):
        operator = find(name)
        if operator is None:
            computed = (ops == number) & (children.counts > 0)
            if computed.any():
                known = ", ".join(known.name for known in BY_CODE.values())
                raise UnsupportedError(
                    f"compile: the operator {name!r} is not known", hint=f"known are {known}"
                )
            continue
        bad = (ops == number) & (children.counts > 0) & (children.counts != operator.arity)
        if bad.any():
            raise TraceError(
                f"compile: {name!r} takes {operator.arity} operands, not {children.counts[bad][0]}"
            )
        codes[number] = operator.code
        if operator.code == POW:
            exponents[number] = exponent_of(name)
    op = np.where(children.counts > 0, codes[ops], LEAF).astype(np.uint8)
    return op, np.where(op == POW, exponents[ops], data)


def _in_order(op: Array, k: Array, born: Array, children: _Children, roots: Array, ins: Array,
              params: Array) -> Trace:  # fmt: skip
    n = len(op)
    order, place, stack, following = (np.empty(n, np.int32) for _ in range(4))
    none = np.full(n, -1, np.int32)
    count = sweep("postorder", n, np.zeros(n, np.uint8), children.first, children.second, none, none,
                  len(roots), roots, order, place, stack, following)  # fmt: skip
    if count < 0:
        raise TraceError("compile: a value depends on itself: the graph has a cycle")
    padded = np.append(place, np.int32(-1))
    made = born[order]
    if made[0] < 0:
        made = np.arange(n, dtype=np.int32)
    first, second = padded[children.first[order]], padded[children.second[order]]
    return Trace(op[order], first, second, k[order], made, padded[roots], padded[ins], padded[params])


def _fold_constants(trace: Trace) -> Trace:
    """Compute, as Python does, what depends on neither an input nor a parameter."""
    varies = ((trace.op == INPUT) | (trace.op == PARAM)).astype(np.uint8)
    sweep("dependent", len(trace), trace.a, trace.b, varies)
    for i in np.flatnonzero((varies == 0) & (trace.op != CONST)):
        operator = BY_CODE[int(trace.op[i])]
        operands = [float(trace.k[j]) for j in (trace.a[i], trace.b[i]) if j >= 0]
        if operator.code == POW:
            operands.append(float(trace.k[i]))
        trace.k[i] = operator.data(*operands)
        trace.op[i], trace.a[i], trace.b[i] = CONST, -1, -1
    return trace
