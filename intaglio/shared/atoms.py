"""What an integer expression is made of besides sums: variables and the operations that do not simplify away.

`shared.index` builds these, and only it should.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from intaglio.shared.index import Index, IndexLike


@dataclass(frozen=True, slots=True)
class Var:
    """A variable with inclusive bounds: a loop variable, or a dimension known only at run time."""

    name: str
    lo: int = 0
    hi: int | None = None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Div:
    """`num // den`, rounding down, den > 0."""

    num: Index
    den: IndexLike

    def __str__(self) -> str:
        return f"({self.num}) // {_atomic(self.den)}"


@dataclass(frozen=True, slots=True)
class Mod:
    """`num % den`, never negative, den > 0."""

    num: Index
    den: IndexLike

    def __str__(self) -> str:
        return f"({self.num}) % {_atomic(self.den)}"


@dataclass(frozen=True, slots=True)
class Min:
    a: IndexLike
    b: IndexLike

    def __str__(self) -> str:
        return f"min({self.a}, {self.b})"


@dataclass(frozen=True, slots=True)
class Max:
    a: IndexLike
    b: IndexLike

    def __str__(self) -> str:
        return f"max({self.a}, {self.b})"


@dataclass(frozen=True, slots=True)
class Product:
    """A product of two expressions neither of which is constant."""

    a: Index
    b: Index

    def __str__(self) -> str:
        return f"({self.a}) * ({self.b})"


@dataclass(frozen=True, slots=True)
class Dynamic:
    """A value known only at run time (an element of an integer buffer), with inclusive bounds."""

    value: Hashable
    lo: int | None = None
    hi: int | None = None

    def __str__(self) -> str:
        return f"[{self.value}]"


Atom: TypeAlias = Var | Div | Mod | Min | Max | Product | Dynamic


def _atomic(value: IndexLike) -> str:
    return str(value) if isinstance(value, int) or value.is_atom else f"({value})"
