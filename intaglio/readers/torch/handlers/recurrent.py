"""Recurrent networks: the loop over time is one `scan`, not an operator per step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from intaglio.graph.ir import Graph
from intaglio.ops.compositions import indexing, linear, recurrent
from intaglio.ops.compositions.basic import rank_of, shape_of, transpose
from intaglio.ops.dispatch import type_of
from intaglio.ops.registry import prim
from intaglio.readers.torch.handlers.creation import dropped
from intaglio.readers.torch.registry import FxCall, aten
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.types import TensorType

Cell = Callable[..., tuple[Any, ...]]


def _lstm(x: Any, hidden: Any, cell: Any, w_hh: Any, b_hh: Any = None) -> tuple[Any, ...]:
    return recurrent.lstm_gates(x, hidden, cell, w_hh, b_hh)


def _projected_lstm(
    x: Any, hidden: Any, cell: Any, projection: Any, w_hh: Any, b_hh: Any = None
) -> tuple[Any, ...]:
    hidden, cell = recurrent.lstm_gates(x, hidden, cell, w_hh, b_hh)
    return linear.linear(hidden, projection), cell


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


@dataclass(frozen=True)
class _Layers:
    """The form of a recurrent network, with PyTorch's arguments; `projects` adds a weight to each LSTM."""

    cell: Cell
    has_biases: bool
    num_layers: int
    bidirectional: bool
    batch_first: bool
    projects: bool = False

    def run(
        self, x: Any, states: Sequence[Any], params: Sequence[Any], between: Callable[[Any], Any]
    ) -> tuple[Any, list[Any]]:
        """All layers and directions: the outputs of the last layer, and the final states stacked.

        Args:
            between: what happens to the outputs of every layer but the last.
        """
        if rank_of(x) != 3:
            raise UnsupportedError(
                "a recurrent network without a batch axis", hint="unsqueeze the batch axis"
            )
        x = transpose(x, (1, 0, 2)) if self.batch_first else x
        finals: list[list[Any]] = [[] for _ in states]
        directions = 2 if self.bidirectional else 1
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(directions):
                place = layer * directions + direction
                final, output = self._direction(x, states, params, place, direction == 1)
                outputs.append(output)
                for column, state in zip(finals, final, strict=True):
                    column.append(state)
            x = indexing.concat(outputs, -1) if self.bidirectional else outputs[0]
            x = between(x) if layer + 1 < self.num_layers else x
        x = transpose(x, (1, 0, 2)) if self.batch_first else x
        return x, [indexing.stack(column) for column in finals]

    def _direction(
        self, x: Any, states: Sequence[Any], params: Sequence[Any], place: int, reverse: bool
    ) -> Any:
        """One layer in one direction: its final states and its outputs."""
        each = (4 if self.has_biases else 2) + self.projects
        w_ih, w_hh, *rest = params[place * each : (place + 1) * each]
        projection = [rest.pop()] if self.projects else []
        projected = linear.linear(x, w_ih, rest[0] if rest else None)
        start = [indexing.select(s, 0, place) for s in states]
        return _scan(self.cell, projected, start, [*projection, w_hh, *rest[1:]], reverse)


def _between(call: FxCall, p: float, train: bool) -> Callable[[Any], Any]:
    return (lambda x: dropped(call, x, p)) if p and train else lambda x: x


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
    projects = shape_of(states[0])[-1] != shape_of(states[1])[-1]
    cell = _projected_lstm if projects else _lstm
    layers = _Layers(cell, has_biases, num_layers, bidirectional, batch_first, projects)
    y, (h, c) = layers.run(x, states, params, _between(call, dropout, train))
    return y, h, c


@aten("gru.input", "rnn_tanh.input", "rnn_relu.input")
def simple(call: FxCall, x: Any, state: Any, params: Sequence[Any], has_biases: bool, num_layers: int,
           dropout: float, train: bool, bidirectional: bool, batch_first: bool) -> Any:  # fmt: skip
    name = call.node.target._opname  # type: ignore[union-attr]
    cell = _gru if name == "gru" else _rnn(name.removeprefix("rnn_"))
    layers = _Layers(cell, has_biases, num_layers, bidirectional, batch_first)
    y, (h,) = layers.run(x, [state], params, _between(call, dropout, train))
    return y, h
