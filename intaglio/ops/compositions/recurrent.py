"""One step of recurrent networks, given the input's product with its weights; PyTorch's gate orders.

`projected` is [n, gates * hidden], `hidden` and `cell` are [n, hidden], `w_hh` is
[gates * hidden, hidden] and `b_hh` [gates * hidden] or None; the batch axis may be absent.
"""

from __future__ import annotations

from typing import Any

from intaglio.ops.compositions.basic import rank_of, shape_of
from intaglio.ops.dispatch import composition
from intaglio.ops.registry import prim


@composition
def rnn_gates(projected: Any, hidden: Any, w_hh: Any, b_hh: Any = None, nonlinearity: str = "tanh") -> Any:
    """`tanh` (or `relu`) of the projected input plus the hidden state's product: the next hidden state."""
    total = projected + _recurrent(hidden, w_hh, b_hh)
    return prim.tanh(total) if nonlinearity == "tanh" else prim.max(total, 0)


@composition
def lstm_gates(projected: Any, hidden: Any, cell: Any, w_hh: Any, b_hh: Any = None) -> tuple[Any, Any]:
    """The next hidden state and cell of an LSTM; gates are i, f, g, o."""
    total = projected + _recurrent(hidden, w_hh, b_hh)
    i, f, g, o = (_gate(total, k, 4) for k in range(4))
    cell = prim.sigmoid(f) * cell + prim.sigmoid(i) * prim.tanh(g)
    return prim.sigmoid(o) * prim.tanh(cell), cell


@composition
def gru_gates(projected: Any, hidden: Any, w_hh: Any, b_hh: Any = None) -> Any:
    """The next hidden state of a GRU; gates are r, z, n."""
    recurrent = _recurrent(hidden, w_hh, b_hh)
    r, z = (prim.sigmoid(_gate(projected, k, 3) + _gate(recurrent, k, 3)) for k in range(2))
    n = prim.tanh(_gate(projected, 2, 3) + r * _gate(recurrent, 2, 3))
    return (1 - z) * n + z * hidden


def _recurrent(hidden: Any, w_hh: Any, b_hh: Any) -> Any:
    product = prim.dot(hidden, w_hh, spec="nk,ok->no" if rank_of(hidden) == 2 else "k,ok->o")
    return product if b_hh is None else product + b_hh


def _gate(x: Any, k: int, gates: int) -> Any:
    """The k-th of equal parts of the last axis."""
    shape = shape_of(x)
    size = shape[-1] // gates
    start = (0,) * (len(shape) - 1)
    return prim.slice(x, start=(*start, k * size), stop=(*shape[:-1], (k + 1) * size), step=(1,) * len(shape))
