"""Recurrent layers and cells, with PyTorch's parameters, gate order and results.

The time loop is one `scan`, so that it stays a loop in a compiled program. The products of all inputs
with their weights are made before it, at once.
"""

from __future__ import annotations

import math
from typing import Any

from intaglio.array import functional as F
from intaglio.array.control import scan
from intaglio.array.nn import init
from intaglio.array.nn.module import Module, Parameter
from intaglio.ops.compositions.indexing import concat, stack
from intaglio.ops.like import full_like
from intaglio.shared.errors import ArgumentError, ShapeError


class _Recurrent(Module):
    """Several layers in one or two directions; `gates` rows of weights per hidden unit."""

    gates: int
    has_cell = False

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = "f32",
    ) -> None:
        super().__init__()
        if not 0 <= dropout <= 1:
            raise ArgumentError(f"{self._get_name()}: dropout is {dropout}, a probability is between 0 and 1")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        bound = 1 / math.sqrt(hidden_size) if hidden_size else 0.0
        rows = self.gates * hidden_size
        for layer in range(num_layers):
            width = input_size if layer == 0 else hidden_size * (2 if bidirectional else 1)
            for suffix in self._suffixes(layer):
                for name, shape in (
                    ("weight_ih", (rows, width)),
                    ("weight_hh", (rows, hidden_size)),
                    ("bias_ih", (rows,)),
                    ("bias_hh", (rows,)),
                ):
                    if bias or name.startswith("weight"):
                        setattr(self, f"{name}_{suffix}", Parameter(init.uniform(shape, bound, dtype)))

    def _suffixes(self, layer: int) -> list[str]:
        return [f"l{layer}", f"l{layer}_reverse"] if self.bidirectional else [f"l{layer}"]

    def _weights(self, suffix: str) -> tuple[Any, Any, Any, Any]:
        w_ih, w_hh = (getattr(self, f"weight_{part}_{suffix}") for part in ("ih", "hh"))
        b_ih, b_hh = (getattr(self, f"bias_{part}_{suffix}") if self.bias else None for part in ("ih", "hh"))
        return w_ih, w_hh, b_ih, b_hh

    def forward(self, x: Any, state: Any = None) -> Any:
        """Outputs of the last layer at every step, and the state after the last step.

        Args:
            x: [t, n, input_size]; [n, t, input_size] with `batch_first`; the batch axis may be absent.
            state: [layers * directions, n, hidden_size] (a pair of them for an LSTM); zeros when not given.
        """
        rank = len(x.shape)
        if rank not in (2, 3) or x.shape[-1] != self.input_size:
            raise ShapeError(
                f"{self._get_name()}: the input is {list(x.shape)}, expected 2 or 3 axes, the last "
                f"of extent {self.input_size}"
            )
        batched = rank == 3
        x = x.transpose(0, 1) if batched and self.batch_first else x if batched else x.unsqueeze(1)
        states = self._initial(state, x, batched)
        directions = 2 if self.bidirectional else 1
        finals = []
        for layer in range(self.num_layers):
            outputs = []
            for direction, suffix in enumerate(self._suffixes(layer)):
                start = tuple(s[layer * directions + direction] for s in states)
                final, output = self._run(x, start, self._weights(suffix), reverse=direction == 1)
                finals.append(final)
                outputs.append(output)
            x = concat(outputs, dim=-1) if self.bidirectional else outputs[0]
            if self.dropout and layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        last = [stack([final[k] for final in finals]) for k in range(len(states))]
        if not batched:
            x, last = x.squeeze(1), [s.squeeze(1) for s in last]
        elif self.batch_first:
            x = x.transpose(0, 1)
        return x, tuple(last) if self.has_cell else last[0]

    def _initial(self, state: Any, x: Any, batched: bool) -> tuple[Any, ...]:
        layers = self.num_layers * (2 if self.bidirectional else 1)
        shape = (layers, x.shape[1], self.hidden_size)
        if state is None:
            zeros = full_like(x, 0, shape)
            return (zeros, zeros) if self.has_cell else (zeros,)
        states = tuple(state) if self.has_cell else (state,)
        expected = shape if batched else (shape[0], shape[2])
        for given in states:
            if tuple(given.shape) != expected:
                raise ShapeError(
                    f"{self._get_name()}: the initial state is {list(given.shape)}, expected {list(expected)}"
                )
        return states if batched else tuple(s.unsqueeze(1) for s in states)

    def _run(self, x: Any, start: tuple[Any, ...], weights: tuple[Any, ...], reverse: bool) -> Any:
        """One layer in one direction: the state after it, and its outputs [t, n, hidden_size]."""
        w_ih, w_hh, b_ih, b_hh = weights
        projected = F.linear(x, w_ih, b_ih)

        def body(carry: tuple[Any, ...], row: Any) -> Any:
            after = self._cell(row, carry, w_hh, b_hh)
            return after, after[0]

        return scan(body, start, projected, reverse=reverse)

    def _cell(self, projected: Any, state: tuple[Any, ...], w_hh: Any, b_hh: Any) -> tuple[Any, ...]:
        raise NotImplementedError

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        defaults = {
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
        }
        parts += [f"{k}={getattr(self, k)}" for k, default in defaults.items() if getattr(self, k) != default]
        return ", ".join(parts)


class RNN(_Recurrent):
    """Elman network: `h = tanh(W_ih x + b_ih + W_hh h + b_hh)`, or ReLU in place of tanh."""

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = "f32",
    ) -> None:
        _check_nonlinearity("RNN", nonlinearity)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype
        )
        self.nonlinearity = nonlinearity

    def _cell(self, projected: Any, state: tuple[Any, ...], w_hh: Any, b_hh: Any) -> tuple[Any, ...]:
        return (F.rnn_gates(projected, *state, w_hh, b_hh, self.nonlinearity),)


class LSTM(_Recurrent):
    """Long short-term memory; its state is the pair of hidden state and cell, its gates are i, f, g, o."""

    gates = 4
    has_cell = True

    def _cell(self, projected: Any, state: tuple[Any, ...], w_hh: Any, b_hh: Any) -> tuple[Any, ...]:
        hidden, cell = F.lstm_gates(projected, *state, w_hh, b_hh)
        return hidden, cell


class GRU(_Recurrent):
    """Gated recurrent unit, gates in the order r, z, n; the reset gate acts after the product with W_hn."""

    gates = 3

    def _cell(self, projected: Any, state: tuple[Any, ...], w_hh: Any, b_hh: Any) -> tuple[Any, ...]:
        return (F.gru_gates(projected, *state, w_hh, b_hh),)


class _Cell(Module):
    gates: int

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: Any = "f32") -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        bound = 1 / math.sqrt(hidden_size) if hidden_size else 0.0
        rows = self.gates * hidden_size
        self.weight_ih = Parameter(init.uniform((rows, input_size), bound, dtype))
        self.weight_hh = Parameter(init.uniform((rows, hidden_size), bound, dtype))
        self.register_parameter("bias_ih", Parameter(init.uniform((rows,), bound, dtype)) if bias else None)
        self.register_parameter("bias_hh", Parameter(init.uniform((rows,), bound, dtype)) if bias else None)

    def _projected(self, x: Any) -> Any:
        return F.linear(x, self.weight_ih, self.bias_ih)

    def _zeros(self, x: Any) -> Any:
        return full_like(x, 0, (*x.shape[:-1], self.hidden_size))

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Cell):
    """One step of an Elman network: from x [n, input_size] and h [n, hidden_size] to the next h."""

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        dtype: Any = "f32",
    ) -> None:
        _check_nonlinearity("RNNCell", nonlinearity)
        super().__init__(input_size, hidden_size, bias, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, x: Any, hidden: Any = None) -> Any:
        hidden = self._zeros(x) if hidden is None else hidden
        return F.rnn_gates(self._projected(x), hidden, self.weight_hh, self.bias_hh, self.nonlinearity)


class LSTMCell(_Cell):
    """One step of an LSTM: from x and the pair (h, c) to the next pair."""

    gates = 4

    def forward(self, x: Any, state: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
        hidden, cell = (self._zeros(x), self._zeros(x)) if state is None else state
        hidden, cell = F.lstm_gates(self._projected(x), hidden, cell, self.weight_hh, self.bias_hh)
        return hidden, cell


class GRUCell(_Cell):
    """One step of a GRU: from x and h to the next h."""

    gates = 3

    def forward(self, x: Any, hidden: Any = None) -> Any:
        hidden = self._zeros(x) if hidden is None else hidden
        return F.gru_gates(self._projected(x), hidden, self.weight_hh, self.bias_hh)


def _check_nonlinearity(name: str, nonlinearity: str) -> None:
    if nonlinearity not in ("tanh", "relu"):
        raise ArgumentError(f"{name}: nonlinearity {nonlinearity!r} is neither tanh nor relu")
