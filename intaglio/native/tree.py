"""A small C tree: what the emitter builds and the printer spells.

Everything is frozen data; names are already unique C identifiers. Hand-written helper functions come
in as `Verbatim` text, which the printer copies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias, Union

from intaglio.shared.dtypes import DType, i64


@dataclass(frozen=True, slots=True)
class Type:
    """`const float *restrict`: a named type, and whether it is a pointer to it."""

    name: str
    pointer: bool = False
    const: bool = False
    restrict: bool = False


@dataclass(frozen=True, slots=True)
class Number:
    """A literal of an element type."""

    value: int | float | bool
    dtype: DType


@dataclass(frozen=True, slots=True)
class Name:
    text: str


@dataclass(frozen=True, slots=True)
class Unary:
    op: str
    a: Expr


@dataclass(frozen=True, slots=True)
class Binary:
    op: str
    a: Expr
    b: Expr


@dataclass(frozen=True, slots=True)
class Conditional:
    condition: Expr
    a: Expr
    b: Expr


@dataclass(frozen=True, slots=True)
class Invoke:
    """A call of a C function by name."""

    function: str
    args: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Element:
    """`base[index]`"""

    base: Expr
    index: Expr


@dataclass(frozen=True, slots=True)
class Cast:
    type: Type
    a: Expr


@dataclass(frozen=True, slots=True)
class Member:
    """`base->name`"""

    base: Expr
    name: str


@dataclass(frozen=True, slots=True)
class Braces:
    """`{a, b}`, an initialiser; with a type, a compound literal."""

    items: tuple[Expr, ...]
    type: Type | None = None


Expr: TypeAlias = Union[Number, Name, Unary, Binary, Conditional, Invoke, Element, Cast, Member, Braces]


@dataclass(frozen=True, slots=True)
class Declare:
    """`type name[dims] = value;`, aligned to `align` bytes when that is not 0."""

    type: Type
    name: str
    dims: tuple[int, ...] = ()
    value: Expr | None = None
    align: int = 0


@dataclass(frozen=True, slots=True)
class Assign:
    """`target = value;` or, with another `op`, `target += value;`"""

    target: Expr
    value: Expr
    op: str = "="


@dataclass(frozen=True, slots=True)
class Do:
    """An expression for its effect."""

    value: Expr


@dataclass(frozen=True, slots=True)
class Loop:
    """`for (type var = start; var < stop; var += step)`; `hints` are macros that stand before it."""

    type: Type
    var: str
    start: Expr
    stop: Expr
    step: int
    body: tuple[Stmt, ...]
    hints: tuple[Expr, ...] = ()


@dataclass(frozen=True, slots=True)
class Branch:
    condition: Expr
    then: tuple[Stmt, ...]
    orelse: tuple[Stmt, ...] = ()


@dataclass(frozen=True, slots=True)
class WhileLoop:
    condition: Expr
    body: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class Remark:
    text: str


@dataclass(frozen=True, slots=True)
class Return:
    value: Expr | None = None


@dataclass(frozen=True, slots=True)
class Break:
    """Leaves the innermost loop."""


Stmt: TypeAlias = Union[Declare, Assign, Do, Loop, Branch, WhileLoop, Remark, Return, Break]


@dataclass(frozen=True, slots=True)
class Param:
    type: Type
    name: str


@dataclass(frozen=True, slots=True)
class Function:
    """A function definition; `doc` is the comment above it."""

    result: Type
    name: str
    params: tuple[Param, ...]
    body: tuple[Stmt, ...]
    doc: tuple[str, ...] = ()
    static: bool = True


@dataclass(frozen=True, slots=True)
class Struct:
    """`struct name { fields };`"""

    name: str
    fields: tuple[Param, ...]


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Text written by hand in C."""

    text: str


Item: TypeAlias = Union[Function, Struct, Verbatim]


@dataclass(frozen=True, slots=True)
class Unit:
    """One C file in parts: what it needs, its kernels, and the functions the outside calls."""

    doc: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    helpers: tuple[Item, ...] = ()
    kernels: tuple[Item, ...] = ()
    drivers: tuple[Item, ...] = field(default=())


def number(value: int) -> Number:
    """A plain `int` literal."""
    return Number(value, i64)


INT = Type("int")
INT64 = Type("int64_t")
VOID = Type("void")
VOID_POINTER = Type("void", pointer=True)
