"""The contract between lowering and recipes: what a fast nest is made for, and what comes back.

Lowering describes the heavy operator of a kernel as an `Anchor`; a recipe answers with a `Nest`, or with
None when it has nothing better than the plain loops.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol, get_args

import numpy as np

from intaglio.loop import places
from intaglio.loop.ir import Alloc, Block, Buffer, Combine, Stmt, Store, walk
from intaglio.ops.expr import Const, Expr
from intaglio.ops.registry import lookup
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.index import IndexLike, variable
from intaglio.shared.types import TensorType

Place = tuple[IndexLike, ...]
Accuracy = Literal["high", "standard", "relaxed"]
"""How a recipe may compute: sums of products as they are written, in any order (`high`); also other formulas
that round no worse (`standard`); also some that lose a decimal digit (`relaxed`)."""
ACCURACIES: tuple[Accuracy, ...] = get_args(Accuracy)


class Operand(Protocol):
    """An operand of the anchor: `x[index]` is its element, with whatever was fused into the read.

    The reads of the expression name `Buffer`s. Recipes find out by themselves how the element's place
    moves with the index (`loop.places.strides`), so no layout is declared here.
    """

    @property
    def type(self) -> TensorType: ...

    @property
    def data(self) -> np.ndarray[Any, Any] | None:
        """The content of a constant."""

    def __getitem__(self, index: Any) -> Expr: ...


@dataclass(frozen=True)
class Pooling:
    """Windows of an anchor's result, side by side, of which one number each is stored.

    `element(index, value)` carries the value of one of the anchor's elements to what the windows are over:
    statements, and what it is there. `finish` and `finish_at` are for the results of windows what those of an
    anchor are for its own. What `rises` with the anchor's elements may be combined before it is carried on.
    """

    kernel: tuple[int, ...]
    combine: Combine
    result: TensorType
    element: Callable[[Place, Expr], tuple[list[Stmt], Expr]]
    finish: Callable[[Place, Expr], list[Stmt]]
    finish_at: Callable[[Place, Expr, Expr], list[Stmt]] | None = None
    rises: bool = False


@dataclass(frozen=True)
class Anchor:
    """One reduction (contraction, convolution, sum, ...) and what follows each of its results.

    `finish(index, value)` stores the reduced value of the result's element at `index` through the fused
    epilogue; it may give several stores. An extreme whose place is wanted too has `finish_at(index, value,
    place)` besides. A reduction over sliding windows has the attributes of the windows
    (those of `unfold`), and what they slide over as its operand. With `pooling` only windows of the results
    are stored, by its `finish`. A kernel in a loop of the driver runs `runs` times, with the same content in
    the arrays that are `fixed`. `taken` are names that local buffers and variables must not have.
    """

    op: str
    attrs: Mapping[str, Any]
    operands: tuple[Operand, ...]
    result: TensorType
    finish: Callable[[Place, Expr], list[Stmt]]
    taken: frozenset[str] = frozenset()
    accuracy: Accuracy = "standard"
    windows: Mapping[str, Any] | None = None
    finish_at: Callable[[Place, Expr, Expr], list[Stmt]] | None = None
    pooling: Pooling | None = None
    runs: int = 1
    fixed: Callable[[Buffer], bool] = lambda buffer: False

    def runs_with(self, value: Expr) -> int:
        """Runs of the kernel in which a value that depends on operands alone stays the same."""
        sources = (read.source for read in places.reads(value))
        same = all(isinstance(source, Buffer) and self.fixed(source) for source in sources)
        return self.runs if same else 1

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

    @cached_property
    def names(self) -> frozenset[str]:
        """Names that a recipe's own buffers and variables must not have: `taken`, and those of all arrays."""
        index = tuple(variable(f"i{k}", extent) for k, extent in enumerate(self.result.shape))
        found = {
            read.source
            for x in self.operands
            for read in places.reads(
                x[tuple(variable(f"i{k}", extent) for k, extent in enumerate(x.type.shape))]
            )
        }
        zero = Const(0, self.dtype)
        after = (
            self.finish_at(index, zero, Const(0, dtypes.i64)) if self.finish_at else self.finish(index, zero)
        )
        for statement in walk(Block(tuple(after))):
            found |= {read.source for read in places.statement_reads(statement)}
            if isinstance(statement, (Store, Alloc)):
                found.add(statement.buffer)
        return self.taken | {buffer.name for buffer in found if isinstance(buffer, Buffer)}


@dataclass(frozen=True)
class Nest:
    """A kernel's body. `scratch` are heap buffers it wants as further parameters: from the arena (role
    `scratch`), or with content of their own (role `constant`), as constant operands have that were packed
    when compiling. `first` prepares, once before a loop of the driver, what stays the same in it. `notes` say
    in the field's words how it was made."""

    body: Block
    notes: tuple[str, ...] = ()
    scratch: tuple[Buffer, ...] = field(default=())
    first: Block = field(default=Block())
