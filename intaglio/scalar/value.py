"""A number that remembers what it was computed from: `micrograd.engine.Value` without its limits.

The graph is the same (`_prev`, `_op`), with the operands in order; so are all results and the order in
which gradients accumulate. There are no closures: what flows back is looked up by `_op`, so a value
costs a fraction of the memory, and `backward` does not recurse, so graphs may be millions deep.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, TypeAlias, Union

from intaglio.scalar.operators import exponent_of
from intaglio.shared.errors import DTypeError

Number: TypeAlias = Union[int, float]
ValueLike: TypeAlias = "Value | int | float"

_count = itertools.count()
_LEAVES = (int, float)


class Value:
    """A scalar with a gradient. `data` is a Python number; `_prev` are the operands in order."""

    __slots__ = ("__weakref__", "_op", "_order", "_prev", "data", "grad")

    def __init__(self, data: Number, _children: tuple[Value, ...] = (), _op: str = "") -> None:
        self.data: Any = data
        self.grad: Any = 0
        self._prev = _children if type(_children) is tuple else tuple(_children)
        self._op = _op
        self._order = next(_count)

    def __add__(self, other: ValueLike) -> Value:
        other = other if isinstance(other, Value) else _leaf(other, "+")
        return Value(self.data + other.data, (self, other), "+")

    def __mul__(self, other: ValueLike) -> Value:
        other = other if isinstance(other, Value) else _leaf(other, "*")
        return Value(self.data * other.data, (self, other), "*")

    def __pow__(self, other: Number) -> Value:
        if not isinstance(other, _LEAVES):
            raise DTypeError(f"**: the exponent is a {type(other).__name__}, not an int or a float")
        exponent = int(other) if isinstance(other, bool) else other
        return Value(_real(self.data**exponent, self.data, exponent), (self,), f"**{exponent}")

    def relu(self) -> Value:
        """The value where it is not negative, else 0."""
        return Value(0 if self.data < 0 else self.data, (self,), "ReLU")

    def exp(self) -> Value:
        """Exponential; OverflowError above 709.78."""
        return Value(math.exp(self.data), (self,), "exp")

    def log(self) -> Value:
        """Natural logarithm; ValueError unless positive."""
        return Value(math.log(self.data), (self,), "log")

    def tanh(self) -> Value:
        """Hyperbolic tangent."""
        return Value(math.tanh(self.data), (self,), "tanh")

    def max(self, other: ValueLike) -> Value:
        """The greater of two; at a tie the gradient goes to `other`."""
        other = other if isinstance(other, Value) else _leaf(other, "max")
        return Value(max(self.data, other.data), (self, other), "max")

    def backward(self) -> None:
        """Add to every value below this one the derivative of this one by it."""
        order = postorder(self)
        self.grad = 1
        for value in reversed(order):
            if value._prev:
                _flow_back(value)

    def __neg__(self) -> Value:
        return self * -1

    def __radd__(self, other: Number) -> Value:
        return self + other

    def __sub__(self, other: ValueLike) -> Value:
        return self + (-other)

    def __rsub__(self, other: Number) -> Value:
        return other + (-self)

    def __rmul__(self, other: Number) -> Value:
        return self * other

    def __truediv__(self, other: ValueLike) -> Value:
        return self * other**-1

    def __rtruediv__(self, other: Number) -> Value:
        return other * self**-1

    def __repr__(self) -> str:
        return f"Value(data={self.data}, grad={self.grad})"


def postorder(root: Value) -> list[Value]:
    """Every value below `root` after its operands, in the order of a depth-first search."""
    order: list[Value] = []
    visited: set[Value] = {root}
    stack = [(root, iter(root._prev))]
    while stack:
        value, operands = stack[-1]
        for operand in operands:
            if operand not in visited:
                visited.add(operand)
                stack.append((operand, iter(operand._prev)))
                break
        else:
            stack.pop()
            order.append(value)
    return order


def _leaf(number: Any, op: str) -> Value:
    if isinstance(number, _LEAVES) or (hasattr(number, "__float__") and not getattr(number, "ndim", 0)):
        return Value(number)
    kind = f"{type(number).__module__}.{type(number).__name__}".removeprefix("builtins.")
    raise DTypeError(
        f"{op}: the other operand is a {kind}, neither a Value nor a number",
        hint="a graph is made of the values of one package"
        if hasattr(number, "_prev")
        else "wrap the number in Value(...), or convert it with float(...)",
    )


def _real(result: Any, base: Any, exponent: Number) -> Any:
    if isinstance(result, complex):
        raise DTypeError(f"**: {base} to the power {exponent} is no real number")
    return result


def _flow_back(out: Value) -> None:
    """Add what flows from a result to its operands."""
    op, prev, g = out._op, out._prev, out.grad
    if op == "+":
        prev[0].grad += g
        prev[1].grad += g
    elif op == "*":
        a, b = prev
        a.grad += b.data * g
        b.grad += a.data * g
    elif op == "ReLU":
        prev[0].grad += (out.data > 0) * g
    elif op == "exp":
        prev[0].grad += out.data * g
    elif op == "log":
        prev[0].grad += (1 / prev[0].data) * g
    elif op == "tanh":
        prev[0].grad += (1 - out.data**2) * g
    elif op == "max":
        winner = prev[0] if prev[0].data > prev[1].data else prev[1]
        winner.grad += g
    elif op.startswith("**"):
        k, x = exponent_of(op), prev[0].data
        prev[0].grad += (k * _real(x ** (k - 1), x, k - 1)) * g
    else:
        raise DTypeError(f"backward: no derivative is known for the operator {op!r}")
