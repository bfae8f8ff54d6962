"""Derivatives of graphs as graphs: reverse accumulation, and the rules of loops and branches.

The derivative of a `scan` is a scan in the other direction. What it needs of the forward steps is stacked
by a forward scan with more results; operators that only move elements are computed again instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from intaglio.graph.ir import Graph, Node, Value
from intaglio.graph.rewrite import remove_dead, splice
from intaglio.graph.symbols import defined_symbols
from intaglio.ops.control import set_gradient
from intaglio.ops.dispatch import type_of
from intaglio.ops.like import full_like
from intaglio.ops.registry import REGISTRY
from intaglio.ops.vjp import pull_back
from intaglio.shared.errors import ArgumentError, UnsupportedError
from intaglio.shared.index import IndexLike
from intaglio.shared.regions import phase


def gradient(graph: Graph, of: Value, wrt: Sequence[Value], seed: Value | None = None) -> list[Value]:
    """Append the derivatives of a value to its graph.

    Args:
        of: what is differentiated; a scalar unless `seed` weighs its elements.
        wrt: float values to differentiate by; where `of` does not depend on one, its gradient is zero.

    Raises:
        ArgumentError: `of` is no scalar and has no seed, or something is not of a float type.
    """
    if seed is None and of.type.rank:
        raise ArgumentError(f"gradient: {of!r} is no scalar", hint="reduce it, or give a seed of its type")
    wrong = [value for value in (of, *wrt) if not value.dtype.is_float]
    if wrong:
        raise ArgumentError(f"gradient: {wrong[0]!r} is not of a float type")
    with phase("backward"):
        start = full_like(of, 1.0) if seed is None else seed
        found = pull_back(list(graph.nodes), {of: start}, wrt)
        return [found[value] if value in found else full_like(value, 0.0) for value in wrt]


def vjp(graph: Graph) -> Graph:
    """The vector-Jacobian product of a stateless graph, as a graph.

    It takes the inputs and one cotangent per float output; it gives one gradient per float input.
    """
    made = Graph(f"{graph.name}_vjp")
    inputs = [made.input(value.type, value.name) for value in graph.inputs]
    outputs = splice(made, graph, inputs)
    seeds = {
        k: made.input(value.type, f"d_{name}")
        for k, (value, name) in enumerate(zip(outputs, graph.output_names, strict=True))
        if value.dtype.is_float
    }
    differentiable = [k for k, value in enumerate(inputs) if value.dtype.is_float]
    results = _pull_back(made, outputs, seeds, [inputs[k] for k in differentiable])
    made.set_outputs(
        [full_like(inputs[k], 0.0) if g is None else g for k, g in zip(differentiable, results, strict=True)],
        [f"d_{graph.inputs[k].name}" for k in differentiable],
    )
    return made


def _pull_back(
    graph: Graph, outputs: Sequence[Value], seeds: dict[int, Value], wrt: Sequence[Value]
) -> list[Value | None]:
    """Gradients of a graph's outputs weighed by seeds (by position); one value may be several outputs."""
    total: dict[Value, Value] = {}
    for k, seed in seeds.items():
        held = total.get(outputs[k])
        total[outputs[k]] = seed if held is None else held + seed
    found = pull_back(list(graph.nodes), total, wrt)
    return [found.get(value) for value in wrt]


@dataclass
class ScanPlan:
    """The loops of a derivative.

    `forward` is the body with more stacked results; `saved` are the positions among its stacked results
    of what `backward` takes behind the cotangents and the forward inputs. `streams` and `constants` are
    the forward inputs that `backward` reads, `carries` and `weights` the positions of the carries and
    constants whose cotangents it carries, `rows` those of the inputs whose cotangents it stacks.
    """

    forward: Graph
    backward: Graph
    saved: list[int]
    streams: list[int]
    constants: list[int]
    carries: list[int]
    weights: list[int]
    rows: list[int]


def _scan_gradient(
    g: Any, *rest: Any, body: Graph, n_carry: int, n_xs: int, reverse: bool, length: IndexLike
) -> list[Any]:
    if defined_symbols(body):
        raise UnsupportedError(
            "scan: a body with sizes that are found at run time has no derivative",
            hint="weigh by a mask what is not selected, in place of selecting",
        )
    operands, several = rest[:-1], len(body.outputs) > 1
    cotangents = list(g) if several else [g]
    given = [k for k, value in enumerate(cotangents) if value is not None and k >= n_carry]
    plan = _plan_scan(body, n_carry, n_xs, given)
    stacked = _call(
        "scan", operands, body=plan.forward, n_carry=n_carry, n_xs=n_xs, reverse=reverse, length=length
    )[n_carry:]
    start = [cotangents[k] for k in plan.carries] + [None for _ in plan.weights]
    start = [
        full_like(operands[k], 0.0) if value is None else value
        for k, value in zip([*plan.carries, *plan.weights], start, strict=True)
    ]
    streams = [
        *(cotangents[k] for k in given),
        *(operands[k] for k in plan.streams),
        *(stacked[k] for k in plan.saved),
    ]
    results = _call(
        "scan",
        [*start, *streams, *(operands[k] for k in plan.constants)],
        body=plan.backward,
        n_carry=len(start),
        n_xs=len(streams),
        reverse=not reverse,
        length=length,
    )
    gradients: list[Any] = [None] * len(operands)
    for k, value in zip([*plan.carries, *plan.weights, *plan.rows], results, strict=True):
        gradients[k] = value
    return gradients


def _call(name: str, operands: Sequence[Any], **attrs: Any) -> tuple[Any, ...]:
    results = REGISTRY[name](*operands, **attrs)
    return results if isinstance(results, tuple) else (results,)


def _plan_scan(body: Graph, n_carry: int, n_xs: int, given: list[int]) -> ScanPlan:
    """The loops for the derivative of a body whose stacked results `given` have cotangents."""
    whole = Graph(f"{body.name}_backward")
    inputs = [whole.input(value.type, value.name) for value in body.inputs]
    outputs = splice(whole, body, inputs)
    forward_nodes = set(whole.nodes)
    floats = [k for k, value in enumerate(inputs) if value.dtype.is_float]
    carries = [k for k in floats if k < n_carry]
    seeds = {k: whole.input(outputs[k].type, f"d_{inputs[k].name}") for k in carries}
    seeds |= {k: whole.input(outputs[k].type, f"d_{body.output_names[k]}") for k in given}
    found = dict(zip(floats, _pull_back(whole, outputs, seeds, [inputs[k] for k in floats]), strict=True))
    weights = [k for k in floats if k >= n_carry + n_xs and found[k] is not None]
    rows = [k for k in floats if n_carry <= k < n_carry + n_xs and found[k] is not None]
    before = {k: whole.input(inputs[k].type, f"d_{inputs[k].name}") for k in weights}
    results = [_or_zero(inputs[k], found[k]) for k in carries]
    results += [before[k] + found[k] for k in weights] + [_or_zero(inputs[k], found[k]) for k in rows]
    kept, needed = _needed(whole, results, forward_nodes)
    saved = [v for v in whole.values() if v in needed and (v.node in forward_nodes or v in inputs[:n_carry])]
    streams = [k for k in range(n_carry, n_carry + n_xs) if inputs[k] in needed]
    constants = [k for k in range(n_carry + n_xs, len(inputs)) if inputs[k] in needed]
    order = [
        *(seeds[k] for k in carries),
        *before.values(),
        *(seeds[k] for k in given),
        *(inputs[k] for k in streams),
        *saved,
        *(inputs[k] for k in constants),
    ]
    backward = _extract(whole, order, kept, results)
    forward, places = _with_results(body, outputs, inputs, saved, n_carry)
    return ScanPlan(forward, backward, places, streams, constants, carries, weights, rows)


def _or_zero(like: Value, value: Value | None) -> Value:
    zero: Value = full_like(like, 0.0) if value is None else value
    return zero


def _needed(
    whole: Graph, results: Sequence[Value], forward_nodes: set[Node]
) -> tuple[list[Node], set[Value]]:
    """The nodes the backward step runs, and all values it reads or gives.

    Forward operators are among the nodes only when they move elements; other forward values are handed in.
    """
    needed = set(results)
    kept = []
    for node in reversed(whole.nodes):
        if any(value in needed for value in node.outputs):
            if node in forward_nodes and node.op.kind != "view":
                continue
            kept.append(node)
            needed.update(node.inputs)
    recomputed = {value for node in kept for value in node.outputs}
    return kept[::-1], needed - recomputed


def _extract(whole: Graph, inputs: Sequence[Value], nodes: Sequence[Node], results: Sequence[Value]) -> Graph:
    """A graph of some nodes that takes the given values as inputs."""
    made = Graph(whole.name)
    at = {value: made.input(value.type, value.name) for value in inputs}
    for value in whole.constants:
        at[value] = made.constant(value.data, value.name)
    for node in nodes:
        copied = Node(
            node.op,
            tuple(at[v] for v in node.inputs),
            node.attrs,
            where=node.where,
            region=node.region,
            phase=node.phase,
        )
        names = [made.unique_name(v.name) for v in node.outputs]
        at.update(zip(node.outputs, made.place(copied, [v.type for v in node.outputs], names), strict=True))
    made.set_outputs([at[value] for value in results])
    return remove_dead(made)


def _with_results(
    body: Graph, outputs: Sequence[Value], inputs: Sequence[Value], saved: Sequence[Value], n_carry: int
) -> tuple[Graph, list[int]]:
    """The body with the saved values as further results, and where each is among the stacked results."""
    made = body.copy()
    counterpart = dict(zip(inputs, made.inputs, strict=True))
    position = {value: k for k, value in reversed(list(enumerate(outputs[n_carry:])))}
    whole = inputs[0].graph if inputs else None
    assert whole is not None
    for node, copied in zip(whole.nodes, made.nodes, strict=False):
        counterpart.update(zip(node.outputs, copied.outputs, strict=True))
    places: list[int] = []
    extra: list[Value] = []
    for value in saved:
        if value not in position:
            position[value] = len(body.outputs) - n_carry + len(extra)
            extra.append(counterpart[value])
        places.append(position[value])
    names = [f"saved{k}" for k in range(len(extra))]
    taken = set(made.output_names)
    names = [name if name not in taken else f"{name}_{made.name}" for name in names]
    made.set_outputs([*made.outputs, *extra], [*made.output_names, *names])
    return made, places


def _cond_gradient(g: Any, predicate: Any, *rest: Any, then: Graph, orelse: Graph) -> list[Any]:
    """A branch on the same predicate; the forward branch runs again inside of it."""
    operands, several = rest[:-1], len(then.outputs) > 1
    cotangents = list(g) if several else [g]
    given = [k for k, value in enumerate(cotangents) if value is not None]
    floats = [k for k, value in enumerate(operands) if type_of(value).dtype.is_float]
    if not floats:
        return [None] * (1 + len(operands))
    results = _call(
        "cond",
        [predicate, *operands, *(cotangents[k] for k in given)],
        then=_branch_gradient(then, given, floats),
        orelse=_branch_gradient(orelse, given, floats),
    )
    gradients: list[Any] = [None] * (1 + len(operands))
    for k, value in zip(floats, results, strict=True):
        gradients[1 + k] = value
    return gradients


def _branch_gradient(branch: Graph, given: Sequence[int], floats: Sequence[int]) -> Graph:
    made = Graph(f"{branch.name}_backward")
    inputs = [made.input(value.type, value.name) for value in branch.inputs]
    seeds = {k: made.input(branch.outputs[k].type, f"d_{branch.output_names[k]}") for k in given}
    outputs = splice(made, branch, inputs)
    found = _pull_back(made, outputs, seeds, [inputs[k] for k in floats])
    made.set_outputs([_or_zero(inputs[k], value) for k, value in zip(floats, found, strict=True)])
    return made


set_gradient("scan", _scan_gradient)
set_gradient("cond", _cond_gradient)
