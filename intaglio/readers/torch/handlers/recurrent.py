"""Recurrent networks: the loop over time is one `scan`, not an operator per step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from intaglio.graph.ir import Graph
from intaglio.ops.compositions import indexing, linear, recurrent
from intaglio.ops.compositions.basic import rank_of, shape_of, transpose
from intaglio.ops.dispatch import type_of
from intaglio.ops.registry import prim
from intaglio.readers.torch.registry import FxCall, aten
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.types import TensorType

Cell = Callable[..., tuple[Any, ...]]


def _lstm(x: Any, hidden: Any, cell: Any, w_hh: Any, b_hh: Any = None) -> tuple[Any, ...]:
    return recurrent.lstm_gates(x, hidden, cell, w_hh, b_hh)


def _gru(x: Any, hidden: Any, w_hh: Any, b_hh: Any = None) -> tuple[Any, ...]:
    return (recurrent.gru_gates(x, hidden, w_hh, b_hh),)


def _rnn(nonlinearity: str) -> Cell:
    return lambda x, hidden, w_hh, b_hh=None: (recurrent.rnn_gates(x, hidden, w_hh, b_hh, nonlinearity),)


def _scan(cell: Cell, projected: Any, start: Sequence[Any], weights: Sequence[Any], reverse: bool) -> Any:
    """Run a cell over the first axis: the states after the last step, and all outputs."""
    body = Graph("step")
    row = type_of(projected)
    states = [body.input(type_of(s), f"state{k}") for k, s in enumerate(start)]
    x = body.input(TensorType(row.dtype, row.shape[1:]), "x")
    constants = [body.input(type_of(w), f"w{k}") for k, w in enumerate(weights)]
    after = cell(x, *states, *constants)
    body.set_outputs([*after, after[0]])
    settings = {"n_carry": len(start), "n_xs": 1, "reverse": reverse, "length": row.shape[0]}
    *final, outputs = prim.scan(*start, projected, *weights, body=body, **settings)
    return final, outputs


def _layers(
    cell: Cell,
    x: Any,
    states: Sequence[Any],
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Any, list[Any]]:
    """All layers and directions: the outputs of the last layer, and the final states stacked."""
    if rank_of(x) != 3:
        raise UnsupportedError("a recurrent network without a batch axis", hint="unsqueeze the batch axis")
    x = transpose(x, (1, 0, 2)) if batch_first else x
    directions, each = (2 if bidirectional else 1), (4 if has_biases else 2)
    finals: list[list[Any]] = [[] for _ in states]
    for layer in range(num_layers):
        outputs = []
        for direction in range(directions):
            place = layer * directions + direction
            own = params[place * each : (place + 1) * each]
            projected = linear.linear(x, own[0], own[2] if has_biases else None)
            start = [indexing.select(s, 0, place) for s in states]
            weights = [own[1], own[3]] if has_biases else [own[1]]
            final, output = _scan(cell, projected, start, weights, direction == 1)
            outputs.append(output)
            for column, state in zip(finals, final, strict=True):
                column.append(state)
        x = indexing.concat(outputs, -1) if bidirectional else outputs[0]
    x = transpose(x, (1, 0, 2)) if batch_first else x
    return x, [indexing.stack(column) for column in finals]


def _check(dropout: float, train: bool) -> None:
    if dropout and train:
        raise UnsupportedError("dropout between recurrent layers", hint="call module.eval()")


@aten("lstm.input")
def lstm(
    call: FxCall,
    x: Any,
    states: Sequence[Any],
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Any:
    _check(dropout, train)
    if shape_of(states[0])[-1] != shape_of(states[1])[-1]:
        raise UnsupportedError("an LSTM with projections")
    y, (h, c) = _layers(_lstm, x, states, params, has_biases, num_layers, bidirectional, batch_first)
    return y, h, c


@aten("gru.input", "rnn_tanh.input", "rnn_relu.input")
def simple(call: FxCall, x: Any, state: Any, params: Sequence[Any], has_biases: bool, num_layers: int,
           dropout: float, train: bool, bidirectional: bool, batch_first: bool) -> Any:  # fmt: skip
    _check(dropout, train)
    name = call.node.target._opname  # type: ignore[union-attr]
    cell = _gru if name == "gru" else _rnn(name.removeprefix("rnn_"))
    y, (h,) = _layers(cell, x, [state], params, has_biases, num_layers, bidirectional, batch_first)
    return y, h
