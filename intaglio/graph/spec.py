"""What a well-formed graph is, as a table of rules; inner graphs of control flow obey them too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from intaglio.graph.ir import Graph, Node, Value
from intaglio.graph.symbols import defined_symbol, defined_symbols, used_symbols, variables_of
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import IntaglioError, VerifyError
from intaglio.shared.index import Index
from intaglio.shared.types import TensorType

Violation: TypeAlias = tuple[str, Node | None]
MAX_NESTING = 64
_PLAIN = (bool, int, float, str, DType, Index, TensorType, type(None))


@dataclass(frozen=True, slots=True)
class Rule:
    """A name, and a function that yields what breaks the rule: a message and the node, if there is one."""

    name: str
    check: Callable[[Graph], Iterator[Violation]]


def verify(graph: Graph) -> None:
    """Check a graph and the graphs inside of it.

    Raises:
        VerifyError: the first violation, with its rule and the node.
    """
    waiting, seen = [(graph, 0)], {graph}
    while waiting:
        current, depth = waiting.pop()
        if depth > MAX_NESTING:
            raise VerifyError(f"graph {graph.name}: inner graphs are nested more than {MAX_NESTING} deep")
        for rule in RULES if depth == 0 else (*RULES, *INNER_RULES):
            for message, node in rule.check(current):
                shown = "" if node is None else f"\n    {node!r}"
                raise VerifyError(
                    f"graph {current.name}: {rule.name}: {message}{shown}",
                    where=None if node is None else node.where,
                )
        for node in current.nodes:
            for inner in inner_graphs(node):
                if inner not in seen:
                    seen.add(inner)
                    waiting.append((inner, depth + 1))


def inner_graphs(node: Node) -> list[Graph]:
    """The bodies of a control flow operator."""
    return [attr for attr in node.attrs.values() if isinstance(attr, Graph)]


def _roles(graph: Graph) -> Iterator[Violation]:
    for role, values in (("input", graph.inputs), ("state", graph.states), ("constant", graph.constants)):
        for value in values:
            if value.source != role or value.graph is not graph or value.node is not None:
                yield f"{value!r} is listed as {role} but is a {value.source} of {value.graph.name}", None
            if role == "input" and value.data is not None:
                yield f"input {value!r} carries an array", None
    for node in graph.nodes:
        for position, value in enumerate(node.outputs):
            if (value.source, value.graph, value.node, value.position) != ("node", graph, node, position):
                yield f"{value!r} is not result {position} of its node", node


def _names(graph: Graph) -> Iterator[Violation]:
    seen: set[str] = set()
    for value in graph.values():
        if value.name in seen:
            yield f"two values are called {value.name!r}", value.node
        seen.add(value.name)
    if len(set(graph.output_names)) != len(graph.output_names):
        yield f"output names {graph.output_names} are not distinct", None
    if len(graph.output_names) != len(graph.outputs):
        yield f"{len(graph.outputs)} outputs but {len(graph.output_names)} names", None


def _order(graph: Graph) -> Iterator[Violation]:
    defined: set[Value] = {*graph.inputs, *graph.states, *graph.constants}
    for node in graph.nodes:
        for value in node.inputs:
            if value not in defined:
                late = "is used before it is defined" if value.graph is graph else "is of another graph"
                yield f"operand {value!r} {late}", node
        for value in node.outputs:
            if value in defined:
                yield f"{value!r} is defined twice", node
        defined.update(node.outputs)
    for value in graph.roots:
        if value not in defined:
            yield f"result {value!r} is not defined in this graph", value.node


def _types(graph: Graph) -> Iterator[Violation]:
    for node in graph.nodes:
        try:
            types = node.op.infer([value.type for value in node.inputs], node.attrs)
        except (IntaglioError, TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:
            message = error.message if isinstance(error, IntaglioError) else str(error)
            yield f"the operator does not take its operands: {message}", node
            continue
        held = tuple(value.type for value in node.outputs)
        if types != held:
            yield f"the shape rule gives {', '.join(map(str, types))}", node


def _arrays(graph: Graph) -> Iterator[Violation]:
    for value in [*graph.states, *graph.constants]:
        if not isinstance(value.data, np.ndarray):
            yield f"{value!r} has no array", None
        elif TensorType(dtypes.from_numpy(value.data.dtype), value.data.shape) != value.type:
            yield f"{value!r} has an array of type {value.data.dtype}{list(value.data.shape)}", None


def _attributes(graph: Graph) -> Iterator[Violation]:
    for node in graph.nodes:
        for name, attr in node.attrs.items():
            if not _plain(attr):
                yield f"attribute {name} is a {type(attr).__name__}, not plain data: {attr!r}", node


def _plain(attr: object) -> bool:
    return isinstance(attr, (*_PLAIN, Graph)) or (isinstance(attr, tuple) and all(map(_plain, attr)))


def _updates(graph: Graph) -> Iterator[Violation]:
    updated: set[Value] = set()
    for state, value in graph.updates:
        if state.source != "state" or state.graph is not graph:
            yield f"{state!r} is updated but is no state of this graph", None
        if state in updated:
            yield f"state {state!r} is updated twice", None
        if state.type != value.type:
            yield f"state {state!r} is updated with {value!r}", value.node
        updated.add(state)


def _sizes(graph: Graph) -> Iterator[Violation]:
    """Symbols found at run time are used behind the node that finds them."""
    waiting = set(defined_symbols(graph))
    for value in [*graph.inputs, *graph.states] if waiting else ():
        if waiting & variables_of(value.type.shape):
            yield f"{value!r} has a size that is only found later", None
    for node in graph.nodes if waiting else ():
        waiting.discard(defined_symbol(node))
        early = waiting & used_symbols(node)
        if early:
            yield f"size {sorted(var.name for var in early)[0]} is used before it is found", node


def _own_sizes(graph: Graph) -> Iterator[Violation]:
    found = set(defined_symbols(graph))
    for value in graph.outputs if found else ():
        if found & variables_of(value.type.shape):
            yield f"result {value!r} of a body has a size that only the body knows", value.node


def _stateless(graph: Graph) -> Iterator[Violation]:
    if graph.states or graph.updates:
        yield "the body of a loop or branch has states; hand them in as operands", None


RULES = (
    Rule("values know where they come from", _roles),
    Rule("values are defined once, before their uses", _order),
    Rule("names are distinct", _names),
    Rule("attributes are plain data", _attributes),
    Rule("types follow from the shape rules", _types),
    Rule("constants and states hold arrays of their type", _arrays),
    Rule("updates fit their states", _updates),
    Rule("sizes are found before they are used", _sizes),
)
INNER_RULES = (Rule("bodies have no states", _stateless), Rule("sizes stay in their body", _own_sizes))
