"""Python's operators for everything that holds a tensor: eager tensors and graph values."""

from __future__ import annotations

from typing import Any

from intaglio.ops.registry import REGISTRY


def _call(name: str, *operands: Any) -> Any:
    return REGISTRY[name](*operands)


def power(x: Any, exponent: Any) -> Any:
    """`x ** exponent`; the exponents of squares, cubes, roots and reciprocals need no power function."""
    if isinstance(exponent, (int, float)) and not isinstance(exponent, bool):
        if exponent in (1, 2, 3):
            square = x if exponent == 1 else _call("mul", x, x)
            return _call("mul", square, x) if exponent == 3 else square
        if exponent == 0.5:
            return _call("sqrt", x)
        if exponent == -1 and isinstance(exponent, float):
            return _call("div", 1.0, x)
    return _call("pow", x, exponent)


class Operators:
    """`a + b` is the operator `add` applied to both, and so on; `==` compares elements."""

    __slots__ = ()
    __hash__ = object.__hash__
    __array_ufunc__ = None  # `array + tensor` is the tensor's business

    def __add__(self, other: Any) -> Any:
        return _call("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return _call("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return _call("sub", self, other)

    def __rsub__(self, other: Any) -> Any:
        return _call("sub", other, self)

    def __mul__(self, other: Any) -> Any:
        return _call("mul", self, other)

    def __rmul__(self, other: Any) -> Any:
        return _call("mul", other, self)

    def __truediv__(self, other: Any) -> Any:
        return _call("div", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _call("div", other, self)

    def __pow__(self, other: Any) -> Any:
        return power(self, other)

    def __rpow__(self, other: Any) -> Any:
        return _call("pow", other, self)

    def __neg__(self) -> Any:
        return _call("neg", self)

    def __abs__(self) -> Any:
        return _call("abs", self)

    def __lt__(self, other: Any) -> Any:
        return _call("lt", self, other)

    def __le__(self, other: Any) -> Any:
        return _call("le", self, other)

    def __gt__(self, other: Any) -> Any:
        return _call("lt", other, self)

    def __ge__(self, other: Any) -> Any:
        return _call("le", other, self)

    def __and__(self, other: Any) -> Any:
        return _call("and", self, other)

    def __or__(self, other: Any) -> Any:
        return _call("or", self, other)

    def __xor__(self, other: Any) -> Any:
        return _call("xor", self, other)

    def __invert__(self) -> Any:
        return _call("not", self)
