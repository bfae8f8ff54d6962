"""Loops, branches and run-time sizes of a graph become statements of the driver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from intaglio.graph.ir import Graph, Node, Value
from intaglio.loop.ir import Block, For, If, Slice, Stmt, While
from intaglio.loop.lower_sizes import lower_prefix
from intaglio.loop.places import origin
from intaglio.ops.expr import Read
from intaglio.shared.index import IndexLike, product, variable

if TYPE_CHECKING:
    from intaglio.loop.lower import Lowering


def bind(lowering: Lowering, body: Graph, places: Sequence[Slice]) -> None:
    """A body's inputs live where the loop's operands do."""
    for value, place in zip(body.inputs, places, strict=True):
        lowering.places[value] = place


def flatten(statements: dict[str, list[Stmt]]) -> list[Stmt]:
    return [s for part in statements.values() for s in part]


def body_statements(
    lowering: Lowering, body: Graph, places: Sequence[Slice], targets: Sequence[Slice], carries: int = 0
) -> list[Stmt]:
    """The driver statements of one run of a body.

    Its inputs live in `places`; the first `carries` results overwrite the inputs at the same positions,
    the others go to `targets`.
    """
    bind(lowering, body, places)
    updates = list(zip(body.inputs, body.outputs[:carries], strict=False))
    run = Graph(body.name, body.inputs, [], body.constants, body.nodes, body.outputs[carries:], [], updates)
    outputs: dict[Value, Slice] = {}
    again = []
    for value, target in zip(run.outputs, targets, strict=True):
        if value in outputs:
            again.append((value, target))
        else:
            outputs[value] = target
    statements = flatten(lowering.body(run, outputs))
    return statements + [lowering.copy(value, lowering.place(value), target) for value, target in again]


def lower_scan(lowering: Lowering, node: Node) -> list[Stmt]:
    """`for t: carry, y[t] = body(carry, x[t], constants)`; the carry is updated where it lives."""
    body: Graph = node.attrs["body"]
    carries, streams = node.attrs["n_carry"], node.attrs["n_xs"]
    operands = [lowering.place(v) for v in node.inputs]
    finals = [lowering.place(v) for v in node.outputs[:carries]]
    stacked = [lowering.place(v) for v in node.outputs[carries:]]
    length = node.inputs[carries].shape[0] if streams else node.attrs["length"]
    time = variable(lowering.unique("t"), length)
    at: IndexLike = length - 1 - time if node.attrs.get("reverse") else time
    statements = [
        lowering.copy(v, source, final)
        for v, source, final in zip(node.inputs, operands, finals, strict=False)
    ]
    slices = [row(operands[carries + k], node.inputs[carries + k], at) for k in range(streams)]
    targets = [row(place, v, at) for place, v in zip(stacked, node.outputs[carries:], strict=True)]
    places = [*finals, *slices, *operands[carries + streams :]]
    inner = body_statements(lowering, body, places, targets, carries)
    return [*statements, For(time.terms[0][0], length, Block(tuple(inner)))]  # type: ignore[arg-type]


def row(place: Slice, value: Value, at: IndexLike) -> Slice:
    """Row `at` of a stacked array."""
    return Slice(place.buffer, place.offset + at * product(value.shape[1:]))


def lower_cond(lowering: Lowering, node: Node) -> list[Stmt]:
    """`if predicate: results = then(operands) else: results = orelse(operands)`."""
    predicate, *operands = (lowering.place(v) for v in node.inputs)
    targets = [lowering.place(v) for v in node.outputs]
    branches = []
    for name in ("then", "orelse"):
        body: Graph = node.attrs[name]
        branches.append(Block(tuple(body_statements(lowering, body, operands, targets))))
    condition = Read(predicate.buffer, origin(predicate), predicate.buffer.dtype)
    return [If(condition, branches[0], branches[1])]


def lower_while(lowering: Lowering, node: Node) -> list[Stmt]:
    """`while cond(carry, constants): carry = body(carry, constants)`; the carry is updated in place."""
    carries = node.attrs["n_carry"]
    operands = [lowering.place(v) for v in node.inputs]
    finals = [lowering.place(v) for v in node.outputs]
    test: Graph = node.attrs["cond"]
    body: Graph = node.attrs["body"]
    flag = lowering.scratch(test.outputs[0])
    start = [
        lowering.copy(v, source, final)
        for v, source, final in zip(node.inputs, operands, finals, strict=False)
    ]
    places = [*finals, *operands[carries:]]
    check = body_statements(lowering, test, places, [flag])
    inner = body_statements(lowering, body, places, [], carries)
    condition = Read(flag.buffer, origin(flag), flag.buffer.dtype)
    return [*start, *check, While(condition, Block((*inner, *check)))]


RULES: dict[str, Callable[[Lowering, Node], list[Stmt]]] = {
    "scan": lower_scan,
    "cond": lower_cond,
    "while_loop": lower_while,
    "prefix": lower_prefix,
}
