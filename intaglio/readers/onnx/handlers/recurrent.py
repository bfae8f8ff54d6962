"""Recurrent networks: one `scan` per direction, so that time stays a loop in the compiled program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from intaglio.graph.ir import Graph
from intaglio.ops.compositions import activation as functions
from intaglio.ops.compositions.basic import convert, dtype_of, full_like, iota_like, reshape, transpose
from intaglio.ops.compositions.functions import clamp
from intaglio.ops.compositions.indexing import narrow, select, stack
from intaglio.ops.dispatch import composition
from intaglio.ops.registry import prim
from intaglio.readers.onnx.handlers.activation import hard_sigmoid, softplus
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, ShapeError
from intaglio.shared.index import IndexLike

Function = Callable[[Any], Any]
Body = Callable[[list[Any], list[Any], list[Any]], tuple[list[Any], list[Any]]]
ACTIVATIONS: dict[str, tuple[Callable[..., Any], tuple[float, ...]]] = {
    "affine": (lambda x, a, b: x * a + b, (1.0, 0.0)),
    "elu": (functions.elu, (1.0,)),
    "hardsigmoid": (hard_sigmoid, (0.2, 0.5)),
    "leakyrelu": (functions.leaky_relu, (0.01,)),
    "relu": (functions.relu, ()),
    "scaledtanh": (lambda x, a, b: prim.tanh(x * b) * a, (1.0, 1.0)),
    "sigmoid": (prim.sigmoid, ()),
    "softplus": (softplus, ()),
    "softsign": (functions.softsign, ()),
    "tanh": (prim.tanh, ()),
    "thresholdedrelu": (lambda x, a: prim.where(prim.le(a, x), x, 0), (1.0,)),
}


def scan(
    call: OnnxCall,
    body: Body,
    carry: Sequence[Operand],
    rows: Sequence[Operand],
    constants: Sequence[Operand],
    length: IndexLike,
    reverse: bool = False,
) -> tuple[list[Any], list[Any]]:
    """`carry, y[t] = body(carry, row[t], constants)` for every t: last carries, and stacked results."""
    groups = [[call.importer.as_value(x) for x in group] for group in (carry, rows, constants)]
    step = Graph("step")
    inputs = [
        [step.input(x.type, x.name) for x in groups[0]],
        [step.input(type(x.type)(x.dtype, x.shape[1:]), x.name) for x in groups[1]],
        [step.input(x.type, x.name) for x in groups[2]],
    ]
    after, results = body(*inputs)
    step.set_outputs([*after, *results])
    made = prim.scan(
        *(x for group in groups for x in group),
        body=step,
        n_carry=len(carry),
        n_xs=len(rows),
        reverse=reverse,
        length=length,
    )
    many = list(made) if isinstance(made, tuple) else [made]
    return many[: len(carry)], many[len(carry) :]


class Cell:
    """One direction of a recurrent network: its weights, and the functions of its gates."""

    def __init__(self, call: OnnxCall, hidden: int, gates: Sequence[Function]) -> None:
        self.call = call
        self.hidden = hidden
        self.functions = gates
        self.limit = call.attr("clip")

    def activate(self, k: int, x: Any) -> Any:
        """The k-th function of x, which is clipped first."""
        return self.functions[k](x if self.limit is None else clamp(x, -self.limit, self.limit))

    def gate(self, x: Any, k: int) -> Any:
        """The k-th part of the last axis."""
        return narrow(x, -1, k * self.hidden, self.hidden)


def _products(hidden: Any, weights: Any) -> Any:
    return prim.dot(hidden, weights, spec="nk,ok->no")


@composition
def rnn_step(cell: Cell, projected: Any, state: list[Any], weights: list[Any]) -> list[Any]:
    """The next hidden state of a simple recurrent network."""
    return [cell.activate(0, projected + _products(state[0], weights[0]))]


@composition
def gru_step(cell: Cell, projected: Any, state: list[Any], weights: list[Any]) -> list[Any]:
    """The next hidden state of a GRU; gates are z, r, h. The weights of h stand apart, and with a bias
    of their own the reset gate acts behind their product."""
    hidden = state[0]
    recurrent = _products(hidden, weights[0])
    z, r = (cell.activate(0, cell.gate(projected, k) + cell.gate(recurrent, k)) for k in range(2))
    if len(weights) == 3:
        inner = r * (_products(hidden, weights[1]) + weights[2])
    else:
        inner = _products(r * hidden, weights[1])
    h = cell.activate(1, cell.gate(projected, 2) + inner)
    return [(1 - z) * h + z * hidden]


@composition
def lstm_step(cell: Cell, projected: Any, state: list[Any], weights: list[Any]) -> list[Any]:
    """The next hidden state and cell of an LSTM; gates are i, o, f, c. Peepholes let the first three see
    the cell."""
    return lstm_gates(cell, projected + _products(state[0], weights[0]), state[1], weights[1:])


def lstm_gates(cell: Cell, total: Any, before: Any, peepholes: list[Any]) -> list[Any]:
    """The next hidden state and cell from the sums that enter the gates, and the cell before."""
    i, o, f, c = (cell.gate(total, k) for k in range(4))
    for held in peepholes:
        i = i + cell.gate(held, 0) * before
        f = f + cell.gate(held, 2) * before
    i = cell.activate(0, i)
    f = 1 - i if cell.call.attr("input_forget", 0) else cell.activate(0, f)
    after = f * before + i * cell.activate(1, c)
    for held in peepholes:
        o = o + cell.gate(held, 1) * after
    return [cell.activate(0, o) * cell.functions[2](after), after]


def _activations(call: OnnxCall, defaults: Sequence[str], directions: int) -> list[list[Function]]:
    """The functions of every direction; each takes its parameters from the lists in turn."""
    names = call.attr("activations") or [*defaults] * directions
    if len(names) != len(defaults) * directions:
        raise ArgumentError(
            f"{call.node.op_type}: {len(names)} activations, {len(defaults) * directions} are expected"
        )
    given = [iter(call.attr(name) or ()) for name in ("activation_alpha", "activation_beta")]
    made = []
    for name in names:
        if name.lower() not in ACTIVATIONS:
            raise ArgumentError(
                f"{call.node.op_type}: activation {name!r} is unknown",
                hint=f"use one of {', '.join(ACTIVATIONS)}",
            )
        function, parameters = ACTIVATIONS[name.lower()]
        values = [next(source, value) for source, value in zip(given, parameters, strict=False)]
        made.append(_with(function, values))
    return [made[d * len(defaults) : (d + 1) * len(defaults)] for d in range(directions)]


def _with(function: Callable[..., Any], values: list[float]) -> Function:
    return lambda x: function(x, *values)


Weights = Callable[[int, int], tuple[Any, Any, list[Any]]]
Step = Callable[[Cell, Any, list[Any], list[Any]], list[Any]]


def run_network(
    call: OnnxCall,
    x: Operand,
    r: Operand,
    lengths: Operand | None,
    initial: Sequence[Operand | None],
    defaults: Sequence[str],
    weights: Weights,
    step: Step,
) -> tuple[Any, ...]:
    """All directions of a network.

    `weights(direction, hidden size)` gives the weights of the input (or a function that multiplies it by
    them), their bias and the constants of a step.
    """
    directions = r.shape[0]
    direction = call.attr("direction", "forward")
    if direction not in ("forward", "reverse", "bidirectional"):
        raise ArgumentError(f"{call.node.op_type}: direction {direction!r} is unknown")
    if directions != (2 if direction == "bidirectional" else 1):
        raise ShapeError(f"{call.node.op_type}: {directions} sets of weights for direction {direction!r}")
    assert isinstance(directions, int)
    batch_first = bool(call.attr("layout", 0))
    rows = call.importer.as_value(x)
    rows = transpose(rows, (1, 0, 2)) if batch_first else rows
    functions_of = _activations(call, defaults, directions)
    hidden = call.attr("hidden_size", r.shape[-1])
    if not isinstance(hidden, int):
        raise ShapeError(f"{call.node.op_type}: the hidden size {hidden} is not fixed")
    outputs, finals = [], []
    for d in range(directions):
        cell = Cell(call, hidden, functions_of[d])
        start = [_start(s, d, rows, hidden, batch_first) for s in initial]
        reverse = direction == "reverse" or d == 1
        final, output = _one_direction(cell, rows, start, weights(d, hidden), step, lengths, reverse)
        outputs.append(output)
        finals.append(final)
    whole = stack(outputs, 1)
    last = [stack([final[k] for final in finals], 0) for k in range(len(initial))]
    if batch_first:
        whole, last = transpose(whole, (2, 0, 1, 3)), [transpose(s, (1, 0, 2)) for s in last]
    return (whole, *last)


def _start(initial: Operand | None, d: int, rows: Any, hidden: int, batch_first: bool) -> Any:
    """The initial state of a direction, [n, hidden]."""
    if initial is None:
        return full_like(rows, 0, (rows.shape[1], hidden))
    return select(initial, 1 if batch_first else 0, d)


def _one_direction(
    cell: Cell,
    rows: Any,
    start: list[Any],
    weights: tuple[Any, Any, list[Any]],
    step: Step,
    lengths: Operand | None,
    reverse: bool,
) -> tuple[list[Any], Any]:
    """The final states and [t, n, hidden] outputs; a sequence that is over keeps its state and gives 0."""
    w, bias, constants = weights
    projected = w(rows) if callable(w) else prim.dot(rows, w, spec="tni,oi->tno")
    projected = projected if bias is None else projected + bias
    count = projected.shape[0]
    if lengths is None:

        def body(carry: list[Any], row: list[Any], held: list[Any]) -> tuple[list[Any], list[Any]]:
            after = step(cell, row[0], carry, held)
            return after, after[:1]

        final, stacked = scan(cell.call, body, start, [projected], constants, count, reverse)
        return final, stacked[0]

    def masked(carry: list[Any], row: list[Any], held: list[Any]) -> tuple[list[Any], list[Any]]:
        after = step(cell, row[0], carry, held[1:])
        running = reshape(prim.lt(row[1], held[0]), (-1, 1))
        kept = [prim.where(running, new, old) for new, old in zip(after, carry, strict=True)]
        return kept, [prim.where(running, after[0], 0)]

    times = iota_like(rows, (count,), 0)
    held = [convert(lengths, dtypes.i64), *constants]
    final, stacked = scan(cell.call, masked, start, [projected, times], held, count, reverse)
    return final, stacked[0]


def _bias(b: Operand | None, d: int, size: int) -> tuple[Any, Any]:
    """The biases of the input and of the recurrence, or None for both."""
    if b is None:
        return None, None
    own = select(b, 0, d)
    return narrow(own, 0, 0, size), narrow(own, 0, size, size)


def _sum(a: Any, b: Any) -> Any:
    return None if a is None else prim.add(a, b)


@onnx_op("RNN")
def rnn(
    call: OnnxCall,
    x: Operand,
    w: Operand,
    r: Operand,
    b: Operand | None = None,
    lengths: Operand | None = None,
    h: Operand | None = None,
) -> Any:
    def weights(d: int, hidden: int) -> tuple[Any, Any, list[Any]]:
        return select(w, 0, d), _sum(*_bias(b, d, hidden)), [select(r, 0, d)]

    return run_network(call, x, r, lengths, [h], ["Tanh"], weights, rnn_step)


@onnx_op("GRU")
def gru(
    call: OnnxCall,
    x: Operand,
    w: Operand,
    r: Operand,
    b: Operand | None = None,
    lengths: Operand | None = None,
    h: Operand | None = None,
) -> Any:
    linear = bool(call.attr("linear_before_reset", 0))

    def weights(d: int, hidden: int) -> tuple[Any, Any, list[Any]]:
        own = select(r, 0, d)
        apart = [narrow(own, 0, 0, 2 * hidden), narrow(own, 0, 2 * hidden, hidden)]
        of_input, of_state = _bias(b, d, 3 * hidden)
        if not linear:
            return select(w, 0, d), _sum(of_input, of_state), apart
        if of_state is None:
            zeros = full_like(own, 0, (hidden,), dtype_of(own))
            return select(w, 0, d), None, [*apart, zeros]
        inner = narrow(of_state, 0, 2 * hidden, hidden)
        outer = prim.concat(narrow(of_state, 0, 0, 2 * hidden), inner * 0, axis=0)
        return select(w, 0, d), _sum(of_input, outer), [*apart, inner]

    return run_network(call, x, r, lengths, [h], ["Sigmoid", "Tanh"], weights, gru_step)


@onnx_op("LSTM")
def lstm(
    call: OnnxCall,
    x: Operand,
    w: Operand,
    r: Operand,
    b: Operand | None = None,
    lengths: Operand | None = None,
    h: Operand | None = None,
    c: Operand | None = None,
    peepholes: Operand | None = None,
) -> Any:
    def weights(d: int, hidden: int) -> tuple[Any, Any, list[Any]]:
        held = [select(r, 0, d)] if peepholes is None else [select(r, 0, d), select(peepholes, 0, d)]
        return select(w, 0, d), _sum(*_bias(b, d, 4 * hidden)), held

    return run_network(call, x, r, lengths, [h, c], ["Sigmoid", "Tanh", "Tanh"], weights, lstm_step)
