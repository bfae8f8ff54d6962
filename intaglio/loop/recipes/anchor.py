"""The contract between lowering and recipes: what a fast nest is made for, and what comes back.

Lowering describes the heavy operator of a kernel as an `Anchor`; a recipe answers with a `Nest`, or with
None when it has nothing better than the plain loops.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from intaglio.loop.ir import Block, Buffer, Combine, Stmt
from intaglio.ops.expr import Expr
from intaglio.ops.registry import lookup
from intaglio.shared.dtypes import DType
from intaglio.shared.index import IndexLike
from intaglio.shared.types import TensorType

Place = tuple[IndexLike, ...]


class Operand(Protocol):
    """An operand of the anchor: `x[index]` is its element, with whatever was fused into the read.

    The reads of the expression name `Buffer`s. Recipes find out by themselves how the element's place
    moves with the index (`loop.places.strides`), so no layout is declared here.
    """

    @property
    def type(self) -> TensorType: ...

    def __getitem__(self, index: Any) -> Expr: ...


@dataclass(frozen=True)
class Anchor:
    """One reduction (contraction, convolution, sum, ...) and what follows each of its results.

    `finish(index, value)` stores the reduced value of the result's element at `index` through the fused
    epilogue; it may give several stores. `taken` are names that local buffers and variables must not have.
    """

    op: str
    attrs: Mapping[str, Any]
    operands: tuple[Operand, ...]
    result: TensorType
    finish: Callable[[Place, Expr], list[Stmt]]
    taken: frozenset[str] = frozenset()

    @property
    def combine(self) -> Combine:
        """How terms combine."""
        combine: Combine = lookup(self.op).combine  # type: ignore[assignment]
        return combine

    @property
    def dtype(self) -> DType:
        """The type in which terms are accumulated."""
        return self.result.dtype.arithmetic

    @property
    def reduced(self) -> Place:
        """Extents of the reduced axes."""
        return lookup(self.op).extents([x.type for x in self.operands], dict(self.attrs))

    def term(self, index: Place, reduced: Place) -> Expr:
        """The term at result index `index` and reduction index `reduced`."""
        return lookup(self.op).term(index, reduced, list(self.operands), dict(self.attrs))

    def fresh(self, name: str) -> str:
        """`name`, with a number behind it when it is taken."""
        if name not in self.taken:
            return name
        return next(n for k in range(1, len(self.taken) + 2) if (n := f"{name}_{k}") not in self.taken)


@dataclass(frozen=True)
class Nest:
    """A kernel's body. `scratch` are heap buffers (role `scratch`) it wants from the arena as further
    parameters, `notes` say in the field's words how it was made."""

    body: Block
    notes: tuple[str, ...] = ()
    scratch: tuple[Buffer, ...] = field(default=())
