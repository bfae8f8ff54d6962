"""DeadCode: what no output and no new state needs is dropped, results and carries of loops included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from intaglio.graph.ir import Graph, Node, Value
from intaglio.graph.rewrite import Rewriting, needed, remove_dead, sweep, transform_bodies
from intaglio.graph.symbols import defined_symbol


def dead_code(graph: Graph) -> Graph:
    """A new graph of only the nodes, loop results, carries, operands and constants that matter."""
    graph = remove_dead(graph)
    live = set(graph.roots)
    plans: dict[Node, Trimmed] = {}
    for node in reversed(graph.nodes):
        used = [value in live for value in node.outputs]
        if not any(used) and defined_symbol(node) is None:
            continue
        trim = TRIMMERS.get(node.op.name)
        trimmed = trim(node, used) if trim is not None else None
        if trimmed is not None and len(trimmed.outputs) + len(trimmed.inputs) < len(node.outputs) + len(
            node.inputs
        ):
            plans[node] = trimmed
            live.update(node.inputs[k] for k in trimmed.inputs)
        else:
            live.update(node.inputs)
    if plans:
        graph = _apply(graph, plans)
    return transform_bodies(graph, dead_code)


@dataclass(frozen=True)
class Trimmed:
    """A loop or branch with fewer operands and results, given by their positions in the old one."""

    inputs: list[int]
    outputs: list[int]
    attrs: dict[str, object]


def _apply(graph: Graph, plans: dict[Node, Trimmed]) -> Graph:
    rewriting = Rewriting(graph)
    for node in graph.nodes:
        if node not in plans:
            if all(value in rewriting.map for value in node.inputs):
                rewriting.stand_for(node, rewriting.copy(node))
            continue
        plan = plans[node]
        made = Node(
            node.op,
            tuple(rewriting.at(node.inputs[k]) for k in plan.inputs),
            {**node.attrs, **plan.attrs},
            where=node.where,
            region=node.region,
            phase=node.phase,
        )
        kept = [node.outputs[k] for k in plan.outputs]
        results = rewriting.new.place(made, [v.type for v in kept], [v.name for v in kept])
        rewriting.map.update(zip(kept, results, strict=True))
    return rewriting.finish()


def reads_of(body: Graph, outputs: Sequence[Value]) -> set[Value]:
    """The inputs of a body that some of its results depend on."""
    _, live = needed(body, outputs)
    return {value for value in body.inputs if value in live}


def select(body: Graph, inputs: Sequence[int], outputs: Sequence[int]) -> Graph:
    """A body with only some of its inputs and results."""
    made = body.copy()
    made.inputs = [made.inputs[k] for k in inputs]
    made.set_outputs([made.outputs[k] for k in outputs], [made.output_names[k] for k in outputs])
    sweep(made)
    return made


def _live_carries(body: Graph, n_carry: int, used: Sequence[bool], always: set[Value]) -> list[int]:
    """Carries whose last content is used, or that reach a used result or another live carry."""
    live = {k for k in range(n_carry) if used[k] or body.inputs[k] in always}
    while True:
        outputs = [
            body.outputs[k] for k in range(len(body.outputs)) if (k in live if k < n_carry else used[k])
        ]
        read = reads_of(body, outputs)
        more = {k for k in range(n_carry) if body.inputs[k] in read} | live
        if more == live:
            return sorted(live)
        live = more


def _trim_scan(node: Node, used: Sequence[bool]) -> Trimmed:
    body, n_carry, n_xs = node.attrs["body"], node.attrs["n_carry"], node.attrs["n_xs"]
    carries = _live_carries(body, n_carry, used, set())
    outputs = [*carries, *(k for k in range(n_carry, len(used)) if used[k])]
    read = reads_of(body, [body.outputs[k] for k in outputs])
    xs = [k for k in range(n_carry, n_carry + n_xs) if body.inputs[k] in read]
    rest = [k for k in range(n_carry + n_xs, len(node.inputs)) if body.inputs[k] in read]
    inputs = [*carries, *xs, *rest]
    attrs = {"body": select(body, inputs, outputs), "n_carry": len(carries), "n_xs": len(xs)}
    return Trimmed(inputs, outputs, attrs)


def _trim_while(node: Node, used: Sequence[bool]) -> Trimmed:
    test, body, n_carry = node.attrs["cond"], node.attrs["body"], node.attrs["n_carry"]
    tested = {body.inputs[k] for k, value in enumerate(test.inputs) if value in reads_of(test, test.outputs)}
    carries = _live_carries(body, n_carry, used, tested)
    read = reads_of(body, [body.outputs[k] for k in carries]) | tested
    inputs = [*carries, *(k for k in range(n_carry, len(node.inputs)) if body.inputs[k] in read)]
    attrs = {
        "body": select(body, inputs, carries),
        "cond": select(test, inputs, [0]),
        "n_carry": len(carries),
    }
    return Trimmed(inputs, carries, attrs)


def _trim_cond(node: Node, used: Sequence[bool]) -> Trimmed:
    outputs = [k for k, flag in enumerate(used) if flag]
    bodies = {name: node.attrs[name] for name in ("then", "orelse")}
    read = [reads_of(body, [body.outputs[k] for k in outputs]) for body in bodies.values()]
    inputs = [
        k
        for k in range(len(node.inputs) - 1)
        if any(body.inputs[k] in found for body, found in zip(bodies.values(), read, strict=True))
    ]
    attrs: dict[str, object] = {name: select(body, inputs, outputs) for name, body in bodies.items()}
    return Trimmed([0, *(k + 1 for k in inputs)], outputs, attrs)


TRIMMERS: dict[str, Callable[[Node, Sequence[bool]], Trimmed]] = {
    "scan": _trim_scan,
    "while_loop": _trim_while,
    "cond": _trim_cond,
}
