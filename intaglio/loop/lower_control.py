"""Loops, branches and run-time sizes of a graph become statements of the driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from intaglio.graph.first_step import first_step
from intaglio.graph.ir import Graph, Node, Value
from intaglio.loop.ir import Block, Buffer, For, If, Slice, Stmt, While
from intaglio.loop.lower_sizes import lower_prefix
from intaglio.loop.places import origin
from intaglio.loop.repeats import Repeats
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
    lowering: Lowering,
    body: Graph,
    places: Sequence[Slice],
    ends: Sequence[tuple[Value, Slice]],
    updates: Sequence[tuple[Value, Value]] = (),
) -> list[Stmt]:
    """The driver statements of one run of a body.

    Its inputs live in `places`, results go where `ends` says; the new values of `updates` overwrite inputs.
    """
    bind(lowering, body, places)
    results = [value for value, _ in ends]
    run = Graph(body.name, body.inputs, [], body.constants, body.nodes, results, [], list(updates))
    outputs: dict[Value, Slice] = {}
    again = []
    for value, target in ends:
        if value in outputs:
            again.append((value, target))
        else:
            outputs[value] = target
    statements = flatten(lowering.body(run, outputs))
    return statements + [lowering.copy(value, lowering.place(value), target) for value, target in again]


def lower_scan(lowering: Lowering, node: Node) -> list[Stmt]:
    """`for t: carry, y[t] = body(carry, x[t], constants)`.

    A carry is updated where it lives; one that is kept for all steps lives in an array of them all. A first
    step that has less to do than the others stands before the loop.
    """
    body: Graph = node.attrs["body"]
    carries, streams = node.attrs["n_carry"], node.attrs["n_xs"]
    operands = [lowering.place(v) for v in node.inputs]
    length = node.inputs[carries].shape[0] if streams else node.attrs["length"]
    histories = {k: found for k in range(carries) if (found := keep_history(lowering, node, k, length))}
    finals = [lowering.place(v) for v in node.outputs[:carries]]
    stacked = [lowering.place(v) for v in node.outputs[carries:]]
    starts = [histories[k].start if k in histories else final for k, final in enumerate(finals)]
    statements = [
        lowering.copy(v, source, start)
        for v, source, start in zip(node.inputs, operands, starts, strict=False)
    ]

    def step(run: Graph, number: IndexLike) -> list[Stmt]:
        at = length - 1 - number if node.attrs.get("reverse") else number
        befores = [histories[k].before(at) if k in histories else final for k, final in enumerate(finals)]
        slices = [row(operands[carries + k], node.inputs[carries + k], at) for k in range(streams)]
        places = [*befores, *slices, *operands[carries + streams :]]
        ends = [(run.outputs[k], history.after(at)) for k, history in histories.items()]
        ends += [
            (run.outputs[j], row(stacked[j - carries], node.outputs[j], at))
            for j in range(carries, len(run.outputs))
            if not any(j in history.stacked for history in histories.values())
        ]
        pairs = zip(run.inputs, run.outputs[:carries], strict=False)
        updates = [pair for k, pair in enumerate(pairs) if k not in histories]
        return body_statements(lowering, run, places, ends, updates)

    first = first_step(node) if isinstance(length, int) and length > 1 else None
    if first is not None:
        share_constants(lowering, first, body)
        statements += step(first, 0)
    done = 0 if first is None else 1
    time = variable(lowering.unique("t"), length - done)
    loop = Repeats.of(length, operands[carries + streams :], [*finals, *stacked])
    with repeating(lowering, loop, statements):
        inner = step(body, time + done)
    return [*statements, For(time.terms[0][0], length - done, Block(tuple(inner)))]  # type: ignore[arg-type]


def share_constants(lowering: Lowering, copy: Graph, body: Graph) -> None:
    """Let the constants of a body's copy live where the body's own do."""
    own = {id(value.data): value for value in body.constants}
    for value in copy.constants:
        if id(value.data) in own:
            lowering.places[value] = lowering.place(own[id(value.data)])


@contextmanager
def repeating(lowering: Lowering, loop: Repeats | None, before: list[Stmt]) -> Iterator[None]:
    """Lower the body of a loop; what its kernels want to be done once goes `before` it. None is for a body
    that may not run at all."""
    outer, lowering.loop = lowering.loop, loop
    yield
    lowering.loop = outer
    if loop is not None:
        before += loop.leave(outer)


@dataclass(frozen=True)
class History:
    """The values of a carry at all steps, and at the start (`reverse`: at the end of the array).

    `stacked` are the results of the body that are these values, before or after each step.
    """

    rows: Buffer
    length: IndexLike
    size: IndexLike
    reverse: bool
    stacked: frozenset[int]

    def row(self, number: IndexLike) -> Slice:
        return Slice(self.rows, number * self.size)

    def before(self, at: IndexLike) -> Slice:
        """The carry that the step at a place of the stacked arrays begins with."""
        return self.row(at + 1 if self.reverse else at)

    def after(self, at: IndexLike) -> Slice:
        """The carry that it ends with."""
        return self.row(at if self.reverse else at + 1)

    @property
    def start(self) -> Slice:
        return self.row(self.length if self.reverse else 0)

    @property
    def final(self) -> Slice:
        return self.row(0 if self.reverse else self.length)


def keep_history(lowering: Lowering, node: Node, k: int, length: IndexLike) -> History | None:
    """The history of carry `k`, where the loop stacks its values and nothing else decides where they lie."""
    body: Graph = node.attrs["body"]
    carries = node.attrs["n_carry"]
    before, after = body.inputs[k], body.outputs[k]
    stacked = frozenset(j for j in range(carries, len(body.outputs)) if body.outputs[j] in (before, after))
    held = [node.outputs[k], *(node.outputs[j] for j in stacked)]
    alone = after.source == "node" and body.outputs[:carries].count(after) == 1
    if not stacked or not alone or any(v in lowering.places or v in lowering.layouts for v in held):
        return None
    shape = (length + 1, *before.shape)
    rows = Buffer(lowering.unique(node.outputs[k].name), before.dtype, shape, "scratch")
    lowering.program.scratch.append(rows)
    reverse = bool(node.attrs.get("reverse"))
    history = History(rows, length, product(before.shape), reverse, stacked)
    lowering.places[node.outputs[k]] = history.final
    for j in stacked:
        first = history.before(0) if body.outputs[j] is before else history.after(0)
        lowering.places[node.outputs[j]] = first
    return history


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
        ends = list(zip(body.outputs, targets, strict=True))
        with repeating(lowering, None, []):
            branches.append(Block(tuple(body_statements(lowering, body, operands, ends))))
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
    updates = list(zip(body.inputs, body.outputs, strict=False))
    with repeating(lowering, Repeats.of(None, operands[carries:], finals), start):
        check = body_statements(lowering, test, places, [(test.outputs[0], flag)])
        inner = body_statements(lowering, body, places, [], updates)
    condition = Read(flag.buffer, origin(flag), flag.buffer.dtype)
    return [*start, *check, While(condition, Block((*inner, *check)))]


RULES: dict[str, Callable[[Lowering, Node], list[Stmt]]] = {
    "scan": lower_scan,
    "cond": lower_cond,
    "while_loop": lower_while,
    "prefix": lower_prefix,
}
