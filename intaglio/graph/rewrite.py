"""Rewriting: a new graph made node by node from an old one. All passes are built from these helpers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from intaglio.graph.ir import Graph, Node, Value
from intaglio.graph.symbols import defined_symbol, defined_symbols, used_symbols, variables_of
from intaglio.shared.errors import VerifyError
from intaglio.shared.index import Var

Replace: TypeAlias = Callable[["Rewriting", Node, tuple[Value, ...]], Sequence[Value] | None]
Build: TypeAlias = Callable[[], Sequence[Value]]
Find: TypeAlias = Callable[[Node, Sequence[Value], "Counts"], Build | None]
MAX_ROUNDS = 32


class Rewriting:
    """A graph under construction: `new` is the result, `at(value)` the new value of an old one."""

    def __init__(self, old: Graph) -> None:
        self.old = old
        self.new = Graph(old.name, _taken=set(old._taken), _numbers=dict(old._numbers))
        self.fired = 0
        self.map: dict[Value, Value] = {}
        for group, target in (
            (old.inputs, self.new.inputs),
            (old.states, self.new.states),
            (old.constants, self.new.constants),
        ):
            for value in group:
                made = Value(self.new, value.type, value.source, value.name, data=value.data)
                self.map[value] = made
                target.append(made)

    def at(self, value: Value) -> Value:
        """The value of the new graph that stands for an old one."""
        return self.map[value]

    def copy(
        self, node: Node, operands: tuple[Value, ...] | None = None, attrs: dict[str, Any] | None = None
    ) -> tuple[Value, ...]:
        """Append a node as it was, on its new operands; names and types stay."""
        inputs = tuple(map(self.at, node.inputs)) if operands is None else operands
        made = Node(
            node.op,
            inputs,
            node.attrs if attrs is None else attrs,
            where=node.where,
            region=node.region,
            phase=node.phase,
        )
        return self.new.place(made, [v.type for v in node.outputs], [v.name for v in node.outputs])

    def stand_for(self, node: Node, values: Sequence[Value]) -> None:
        """Let values of the new graph stand for the results of an old node."""
        self.check(node, values)
        self.map.update(zip(node.outputs, values, strict=True))

    def check(self, node: Node, values: Sequence[Value]) -> None:
        """Raise VerifyError unless the values have the types of the node's results."""
        for old, new in zip(node.outputs, values, strict=True):
            if old.type is not new.type and old.type != new.type:
                raise VerifyError(f"{new!r} cannot replace {old!r}: the types differ", where=node.where)

    def finish(self) -> Graph:
        """The new graph, with outputs and updates, without what nothing reads."""
        self.new.origin = None
        self.new.outputs = list(map(self.at, self.old.outputs))
        self.new.output_names = list(self.old.output_names)
        self.new.updates = [(self.at(state), self.at(value)) for state, value in self.old.updates]
        sweep(self.new)
        return self.new


def rebuild(graph: Graph, replace: Replace) -> tuple[Graph, int]:
    """A new graph in which `replace(rewriting, node, operands)` was asked for every node.

    It returns the values that stand for the node's results, or None to keep the node; what it appends
    keeps the node's line, region and phase. Returns the graph and how many nodes were replaced.
    """
    rewriting = Rewriting(graph)
    new, at = rewriting.new, rewriting.map
    for node in graph.nodes:
        operands = tuple([at[v] for v in node.inputs])
        new.origin = node
        values = replace(rewriting, node, operands)
        if values is None:
            values = rewriting.copy(node, operands)
        else:
            rewriting.fired += 1
            rewriting.check(node, values)
        for old, value in zip(node.outputs, values, strict=True):
            at[old] = value
    return rewriting.finish(), rewriting.fired


class Counts:
    """How many readers the values of a graph have; being a result counts as one."""

    def __init__(self, graph: Graph) -> None:
        self._counts = Counter(value for node in graph.nodes for value in node.inputs)
        self._counts.update(graph.roots)

    def single(self, node: Node, operands: Sequence[Value], position: int) -> bool:
        """Whether nothing but `node` reads its operand, which has not been rewritten in this round."""
        old = node.inputs[position]
        return self._counts[old] == 1 and operands[position].name == old.name


def exhaust(graph: Graph, finders: Sequence[Find]) -> Graph:
    """Rewrite until nothing is found, inner graphs too; the graph itself when there is nothing at all.

    A finder looks at a node and its operands, and returns how to build what stands for its results.
    Rounds are limited to `MAX_ROUNDS`; every round goes through the nodes once, operands first.
    """
    graph = transform_bodies(graph, lambda body: exhaust(body, finders))
    for _ in range(MAX_ROUNDS):
        counts = Counts(graph)

        def replace(rewriting: Rewriting, node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
            for find in finders:
                build = find(node, operands, counts)
                if build is not None:
                    return build()
            return None

        if not any(find(node, node.inputs, counts) for node in graph.nodes for find in finders):
            break
        graph, _ = rebuild(graph, replace)
    return graph


def remove_dead(graph: Graph) -> Graph:
    """A copy without the nodes and constants that no output or update needs."""
    return rebuild(graph, lambda rewriting, node, operands: None)[0]


def sweep(graph: Graph) -> None:
    """Drop, in place, the nodes and constants that no result needs."""
    graph.nodes, live = needed(graph, graph.roots)
    graph.constants = [value for value in graph.constants if value in live]


def needed(graph: Graph, results: Sequence[Value]) -> tuple[list[Node], set[Value]]:
    """The nodes that some results depend on, through values or through sizes found at run time, in order;
    and every value that they read."""
    live = set(results)
    finders = defined_symbols(graph)
    sizes = set[Var]()
    for value in results if finders else ():
        sizes |= variables_of(value.type.shape)
    kept = []
    for node in reversed(graph.nodes):
        if any(value in live for value in node.outputs) or (finders and defined_symbol(node) in sizes):
            live.update(node.inputs)
            if finders:
                sizes |= used_symbols(node)
            kept.append(node)
    return kept[::-1], live


def transform_bodies(graph: Graph, transform: Callable[[Graph], Graph]) -> Graph:
    """A graph in which every inner graph went through `transform`; the graph itself when none changed."""
    bodies = [attr for node in graph.nodes for attr in node.attrs.values() if isinstance(attr, Graph)]
    done = {body: transform(body) for body in dict.fromkeys(bodies)}
    if all(after is before for before, after in done.items()):
        return graph
    rewriting = Rewriting(graph)
    for node in graph.nodes:
        attrs = {name: done[attr] if isinstance(attr, Graph) else attr for name, attr in node.attrs.items()}
        rewriting.stand_for(node, rewriting.copy(node, attrs=attrs))
    return rewriting.finish()


def splice(target: Graph, source: Graph, operands: Sequence[Value]) -> list[Value]:
    """Append the nodes of a stateless graph to another, on the given operands; returns its outputs."""
    new = dict(zip(source.inputs, operands, strict=True))
    for value in source.constants:
        new[value] = target.constant(value.data, value.name)
    for node in source.nodes:
        copied = Node(
            node.op,
            tuple(new[v] for v in node.inputs),
            node.attrs,
            where=node.where,
            region=node.region,
            phase=node.phase,
        )
        names = [target.unique_name(v.name) for v in node.outputs]
        new.update(
            zip(node.outputs, target.place(copied, [v.type for v in node.outputs], names), strict=True)
        )
    return [new[value] for value in source.outputs]
