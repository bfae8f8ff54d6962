"""The meaning of a graph: its operators' NumPy oracles, run in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from intaglio.graph.symbols import bind_symbols, defined_symbol, substitute_attrs
from intaglio.ops.dispatch import evaluate as apply_operator
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, DTypeError, IntaglioError

if TYPE_CHECKING:
    from intaglio.graph.ir import Graph, Node, Value

Array = np.ndarray[Any, Any]


def evaluate(
    graph: Graph, inputs: Sequence[Any], states: Sequence[Any] | None = None
) -> tuple[list[Array], list[Array]]:
    """Run a graph once.

    Args:
        inputs: one array per input, of its type.
        states: one array per state; default their initial contents.

    Returns:
        The outputs, and the contents of all states after the call. No state is changed in place.

    Raises:
        ArgumentError: too few or too many arrays.
        ShapeError, DTypeError: an array that is not of its value's type.
    """
    held = _hold(graph.inputs, inputs, "input")
    held |= _hold(graph.states, [v.data for v in graph.states] if states is None else states, "state")
    held |= {value: np.asarray(value.data) for value in graph.constants}
    given = [*graph.inputs, *graph.states]
    sizes = bind_symbols(given, [held[value].shape for value in given])
    dying = _last_uses(graph)
    for node in graph.nodes:
        found = defined_symbol(node)
        if found is not None:
            assert found.hi is not None
            sizes[found] = min(max(int(held[node.inputs[1]]), found.lo), found.hi)
        try:
            results = apply_operator(
                node.op, [held[v] for v in node.inputs], substitute_attrs(node.attrs, sizes)
            )
        except IntaglioError as error:
            error.where = error.where or node.where
            raise
        held.update(zip(node.outputs, results if isinstance(results, tuple) else (results,), strict=True))
        for value in dying.get(node, ()):
            del held[value]
    new = dict(graph.updates)
    return [held[v] for v in graph.outputs], [held[new.get(s, s)] for s in graph.states]


def _hold(values: Sequence[Value], arrays: Sequence[Any], role: str) -> dict[Value, Array]:
    if len(values) != len(arrays):
        names = ", ".join(value.name for value in values)
        raise ArgumentError(f"{len(arrays)} {role} arrays were given but there are {len(values)}: {names}")
    held = {}
    for value, array in zip(values, arrays, strict=True):
        array = np.asarray(array)
        if dtypes.from_numpy(array.dtype) != value.dtype:
            raise DTypeError(
                f"{role} {value!r} was given an array of {dtypes.from_numpy(array.dtype)}",
                hint="convert it with .astype",
            )
        held[value] = array
    return held


def _last_uses(graph: Graph) -> dict[Node, list[Value]]:
    """The values that nothing reads after each node."""
    kept = {*graph.roots, *graph.states}
    last: dict[Value, Node] = {}
    for node in graph.nodes:
        last.update(dict.fromkeys(node.outputs, node))
        last.update(dict.fromkeys(node.inputs, node))
    dying: dict[Node, list[Value]] = {}
    for value, node in last.items():
        if value not in kept:
            dying.setdefault(node, []).append(value)
    return dying
