"""Scalar expressions: what one element of a result is, in terms of elements of the operands.

Formulas evaluate to these, fusion substitutes them into one another, the loop level stores them and
the C printer spells them. Functions are known by name; `FUNCTIONS` gives their NumPy meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias, Union

from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import DTypeError
from intaglio.shared.index import Dynamic, Index, IndexLike, Var, interval, var_index

Number: TypeAlias = Union[int, float, bool]


@dataclass(frozen=True, slots=True)
class Function:
    """A scalar function: `numpy` is its meaning, `result` its type rule (`same` as the last
    argument, or `bool`)."""

    name: str
    numpy: Callable[..., Any]
    result: str = "same"


FUNCTIONS: dict[str, Function] = {}


class Expr:
    """A scalar value with a type; Python operators build larger expressions."""

    dtype: DType

    @property
    def variables(self) -> frozenset[Var]:
        """Index variables the value depends on."""
        return frozenset()

    def __add__(self, other: ExprLike) -> Expr:
        return apply("add", self, other)

    def __radd__(self, other: Number) -> Expr:
        return apply("add", other, self)

    def __sub__(self, other: ExprLike) -> Expr:
        return apply("sub", self, other)

    def __rsub__(self, other: Number) -> Expr:
        return apply("sub", other, self)

    def __mul__(self, other: ExprLike) -> Expr:
        return apply("mul", self, other)

    def __rmul__(self, other: Number) -> Expr:
        return apply("mul", other, self)

    def __truediv__(self, other: ExprLike) -> Expr:
        return apply("div", self, other)

    def __rtruediv__(self, other: Number) -> Expr:
        return apply("div", other, self)

    def __neg__(self) -> Expr:
        return apply("neg", self)

    def __lt__(self, other: ExprLike) -> Expr:
        return apply("lt", self, other)

    def __le__(self, other: ExprLike) -> Expr:
        return apply("le", self, other)

    def __gt__(self, other: ExprLike) -> Expr:
        return apply("lt", other, self)

    def __ge__(self, other: ExprLike) -> Expr:
        return apply("le", other, self)

    def __and__(self, other: ExprLike) -> Expr:
        return apply("and", self, other)

    def __or__(self, other: ExprLike) -> Expr:
        return apply("or", self, other)

    def __xor__(self, other: ExprLike) -> Expr:
        return apply("xor", self, other)

    def __invert__(self) -> Expr:
        return apply("not", self)

    def __lshift__(self, other: ExprLike) -> Expr:
        return apply("shl", self, other)

    def __rshift__(self, other: ExprLike) -> Expr:
        return apply("shr", self, other)


ExprLike: TypeAlias = Union[Expr, Number]


@dataclass(frozen=True)
class Const(Expr):
    """A literal of a type."""

    value: Number
    dtype: DType

    def __str__(self) -> str:
        plain = self.dtype in (dtypes.f32, dtypes.i64)
        return f"{self.value!r}" if plain else f"{self.dtype}({self.value!r})"


@dataclass(frozen=True)
class Read(Expr):
    """One element of a source: a buffer, or an operand of an operator."""

    source: Hashable
    index: tuple[IndexLike, ...]
    dtype: DType

    def __str__(self) -> str:
        name = getattr(self.source, "name", self.source)
        return f"{name}[{', '.join(map(str, self.index))}]"

    @cached_property
    def variables(self) -> frozenset[Var]:
        return frozenset(var for i in self.index if isinstance(i, Index) for var in i.variables)


@dataclass(frozen=True)
class Apply(Expr):
    """A function of scalar values; `cast` and `bitcast` go to `dtype`."""

    fn: str
    args: tuple[Expr, ...]
    dtype: DType

    def __str__(self) -> str:
        name = f"cast_{self.dtype}" if self.fn == "cast" else self.fn
        return f"{name}({', '.join(map(str, self.args))})"

    @cached_property
    def variables(self) -> frozenset[Var]:
        return frozenset(var for argument in self.args for var in argument.variables)

    @cached_property
    def _hash(self) -> int:
        return hash((self.fn, self.args, self.dtype))

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True)
class IndexValue(Expr):
    """The value of an index expression as a number."""

    index: IndexLike
    dtype: DType = dtypes.i64

    @cached_property
    def variables(self) -> frozenset[Var]:
        return self.index.variables if isinstance(self.index, Index) else frozenset()

    def __str__(self) -> str:
        return f"index({self.index})" if self.dtype == dtypes.i64 else f"index_{self.dtype}({self.index})"


def apply(fn: str, *args: ExprLike) -> Expr:
    """`fn(args)`; plain numbers take the type of the other arguments."""
    typed = next((a for a in reversed(args) if isinstance(a, Expr)), None)
    if typed is None:
        raise DTypeError(f"{fn}: at least one argument must be an expression")
    exprs = tuple(a if isinstance(a, Expr) else Const(a, typed.dtype) for a in args)
    result = dtypes.bool_ if FUNCTIONS[fn].result == "bool" else exprs[-1].dtype
    return Apply(fn, exprs, result)


def where(condition: Expr, a: ExprLike, b: ExprLike) -> Expr:
    """`a` where the condition holds, else `b`; only the chosen one is evaluated."""
    typed = a if isinstance(a, Expr) else b
    assert isinstance(typed, Expr)
    a, b = (v if isinstance(v, Expr) else Const(v, typed.dtype) for v in (a, b))
    if isinstance(condition, Const):
        return a if condition.value else b
    return Apply("where", (condition, a, b), a.dtype)


def cast(value: Expr, dtype: DType) -> Expr:
    """The value converted to another type; no node when it already has it."""
    return value if value.dtype == dtype else Apply("cast", (value,), dtype)


def in_range(index: IndexLike, lo: IndexLike, hi: IndexLike) -> Expr:
    """Whether `lo <= index < hi`, decided at compile time where the bounds allow it."""
    conditions = [_less_equal(lo, index), _less_equal(index + 1, hi)]
    return all_of(conditions)


def _less_equal(a: IndexLike, b: IndexLike) -> Expr:
    lo, hi = interval(b - a)
    if lo is not None and lo >= 0:
        return Const(True, dtypes.bool_)
    if hi is not None and hi < 0:
        return Const(False, dtypes.bool_)
    return Apply("le", (IndexValue(a), IndexValue(b)), dtypes.bool_)


def all_of(conditions: list[Expr]) -> Expr:
    """The conjunction, with constants folded."""
    total: Expr = Const(True, dtypes.bool_)
    for condition in conditions:
        if isinstance(condition, Const):
            if not condition.value:
                return condition
        else:
            total = condition if isinstance(total, Const) else Apply("and", (total, condition), dtypes.bool_)
    return total


def as_index(value: Expr, lo: int | None = None, hi: int | None = None) -> IndexLike:
    """An integer value used as an index, with the inclusive bounds its producer guarantees."""
    if isinstance(value, IndexValue):
        return value.index
    if isinstance(value, Const):
        return int(value.value)
    return var_index(Dynamic(value, lo, hi))
