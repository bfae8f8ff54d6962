"""The interpreter: the graph computed row by row in Python's arithmetic, the meaning all engines keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from intaglio.scalar.capture import CONST, INPUT, PARAM, Trace
from intaglio.scalar.operators import ADD, BY_CODE, EXP, LOG, MAX, MUL, POW, RELU, TANH
from intaglio.shared.errors import ArgumentError


class Interpreter:
    """Data and gradients of every row, as lists of Python floats."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.op, self.a, self.b, self.k = (c.tolist() for c in (trace.op, trace.a, trace.b, trace.k))
        self.data: list[Any] = list(self.k)
        self.grad: list[Any] = [0] * len(self.op)

    def set(self, rows: Sequence[int], values: Sequence[float]) -> None:
        """Data of leaves; rows of -1 are of no one's interest."""
        for row, value in zip(rows, values, strict=True):
            if row >= 0:
                self.data[row] = value

    def forward(self) -> None:
        """Compute every row. Raises what Python's arithmetic raises."""
        data, a, b, k = self.data, self.a, self.b, self.k
        for i, op in enumerate(self.op):
            if op == ADD:
                data[i] = data[a[i]] + data[b[i]]
            elif op == MUL:
                data[i] = data[a[i]] * data[b[i]]
            elif op == POW:
                data[i] = _power(data[a[i]], k[i])
            elif op not in (CONST, PARAM, INPUT):
                operands = (data[a[i]], data[b[i]]) if b[i] >= 0 else (data[a[i]],)
                data[i] = BY_CODE[op].data(*operands)

    def backward(self, *, accumulate: Sequence[int] = ()) -> None:
        """Gradients of the first output by every row; those of the rows `accumulate` are added to."""
        kept = [(row, self.grad[row]) for row in accumulate if row >= 0]
        root = int(self.trace.outputs[0])
        grad = self.grad = [0] * len(self.op)
        for row, before in kept:
            grad[row] = before
        grad[root] = 1
        for i in range(root, -1, -1):
            if self.a[i] >= 0:
                self._flow_back(i, grad[i])

    def _flow_back(self, i: int, g: Any) -> None:
        data, grad, op, a, b = self.data, self.grad, self.op[i], self.a[i], self.b[i]
        if op == ADD:
            grad[a] += g
            grad[b] += g
        elif op == MUL:
            grad[a] += data[b] * g
            grad[b] += data[a] * g
        elif op == RELU:
            grad[a] += (data[i] > 0) * g
        elif op == EXP:
            grad[a] += data[i] * g
        elif op == LOG:
            grad[a] += (1 / data[a]) * g
        elif op == TANH:
            grad[a] += (1 - data[i] ** 2) * g
        elif op == MAX:
            grad[a if data[a] > data[b] else b] += g
        elif op == POW:
            grad[a] += (self.k[i] * _power(data[a], self.k[i] - 1)) * g

    def update(self, rows: Sequence[int], lr: float) -> None:
        """One step of gradient descent on the leaves `rows`."""
        for row in rows:
            if row >= 0:
                self.data[row] -= lr * self.grad[row]


def _power(base: Any, exponent: float) -> Any:
    result = base**exponent
    if isinstance(result, complex):
        raise ArgumentError(f"**: {base} to the power {exponent} is no real number")
    return result
