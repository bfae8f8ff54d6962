"""Which elements of which tensors a node reads: the facts that fusion and lowering rest on.

An operand of an operator's `element` or `term` rule is anything with `.type` and `x[index]`. Here it is
an accessor that follows views down to the tensor that is really read, so that a reshape, transpose
or broadcast costs nothing and its index map ends up inside the reader.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from intaglio.graph.ir import Node, Value
from intaglio.ops.expr import Const, Expr, Read
from intaglio.shared.dtypes import DType
from intaglio.shared.index import Dynamic, Index, IndexLike, variable
from intaglio.shared.types import TensorType

Place = tuple[IndexLike, ...]
T = TypeVar("T")
Resolve = Callable[[Value, Place], Expr]

Order = tuple[int, ...]
"""The axes of a tensor as an array stores them, the slowest first."""

_RENAMING = ("broadcast", "reshape", "transpose")


def ordered(items: tuple[T, ...], order: Order) -> tuple[T, ...]:
    """Extents or an index in the order in which an array stores its axes."""
    return tuple(items[k] for k in order)


def channels_last(rank: int) -> Order:
    """The order of an image's axes with the second one fastest."""
    return (0, *range(2, rank), 1)


@dataclass(frozen=True, slots=True)
class Accessor:
    """An operand as an operator's rule sees it; `resolve` says what reading an element means."""

    value: Value
    resolve: Resolve

    @property
    def type(self) -> TensorType:
        return self.value.type

    @property
    def dtype(self) -> DType:
        return self.value.type.dtype

    @property
    def shape(self) -> Place:
        return self.value.type.shape

    @property
    def data(self) -> np.ndarray[Any, Any] | None:
        """The content of a constant; None for anything else."""
        return self.value.data if self.value.source == "constant" else None

    def __getitem__(self, index: Any) -> Expr:
        return self.resolve(self.value, index if isinstance(index, tuple) else (index,))


def sliding(node: Node) -> Node | None:
    """The view of sliding windows whose windows a reduction goes over; None when there is none."""
    view = node.inputs[0].node if node.inputs else None
    if node.op.kind != "reduce" or view is None or view.op.name != "unfold":
        return None
    inner = len(view.attrs["kernel"])
    return view if tuple(node.attrs.get("axes", ())) == tuple(range(2 + inner, 2 + 2 * inner)) else None


def element(node: Node, index: Place, resolve: Resolve) -> Expr:
    """What one element of a map or view is, its operands read through `resolve`."""
    return node.op.element(index, [Accessor(v, resolve) for v in node.inputs], node.attrs)


def term(node: Node, index: Place, reduced: Place, resolve: Resolve) -> Expr:
    """One term of a reduction."""
    return node.op.term(index, reduced, [Accessor(v, resolve) for v in node.inputs], node.attrs)


def extents(node: Node) -> Place:
    """Extents of the reduced axes of a reduction."""
    return node.op.extents([v.type for v in node.inputs], node.attrs)


def output_variables(value: Value) -> Place:
    """Fresh index variables for a value's axes; axes of extent 1 are 0."""
    return tuple(0 if extent == 1 else variable(f"i{k}", extent) for k, extent in enumerate(value.shape))


def viewed(value: Value) -> Value:
    """What a value shows in another form."""
    while value.node is not None and value.node.op.kind == "view" and len(value.node.inputs) == 1:
        value = value.node.inputs[0]
    return value


def scalar_constant(value: Value) -> Const | None:
    """The literal a constant stands for when all its elements are equal bit by bit, else None."""
    data = value.data
    if value.source != "constant" or data is None or data.size == 0 or data.size > 4096:
        return None
    first = data.reshape(-1)[:1]
    if data.size > 1 and data.tobytes() != first.tobytes() * data.size:
        return None
    arithmetic = value.dtype.arithmetic
    return Const(np.asarray(first[0]).astype(arithmetic.numpy).item(), arithmetic)


def number_at(value: Value, index: Place) -> Const | None:
    """The literal that an element of a constant of integers at a constant place is, else None."""
    place = [k for k in index if isinstance(k, int)]
    if value.source != "constant" or value.data is None or value.dtype.kind not in ("int", "uint"):
        return None
    return Const(int(value.data.item(*place)), value.dtype.arithmetic) if len(place) == len(index) else None


def uniform(value: Value, is_free: Callable[[Node], bool]) -> Const | None:
    """The literal that a constant stands for, seen through free views that only repeat or rename it."""
    while value.node is not None and is_free(value.node) and value.node.op.name in _RENAMING:
        value = value.node.inputs[0]
    return scalar_constant(value)


def reads(node: Node, is_free: Callable[[Node], bool]) -> list[tuple[Value, Place]]:
    """Every tensor a node reads and where, seen from its own output index, through free views."""
    found: list[tuple[Value, Place]] = []

    def resolve(value: Value, index: Place) -> Expr:
        if value.node is not None and is_free(value.node):
            return element(value.node, index, resolve)
        if scalar_constant(value) is None:
            found.append((value, index))
        return Read(value, index, value.dtype.arithmetic)

    own = output_variables(node.outputs[0])
    if node.op.kind == "reduce":
        inner = tuple(0 if e == 1 else variable(f"r{k}", e) for k, e in enumerate(extents(node)))
        term(node, own, inner, resolve)
    elif node.op.kind in ("map", "view"):
        element(node, own, resolve)
    else:
        found.extend((value, ()) for value in node.inputs)
    return found


def reads_plainly(value: Value, is_free: Callable[[Node], bool]) -> bool:
    """Whether an element of `value` is one element of one stored tensor at a static place."""
    own = output_variables(value)

    def resolve(inner: Value, index: Place) -> Expr:
        if inner.node is not None and is_free(inner.node):
            return element(inner.node, index, resolve)
        return Read(inner, index, inner.dtype)

    read = resolve(value, own)
    return isinstance(read, Read) and not any(_is_dynamic(i) for i in read.index)


def _is_dynamic(index: IndexLike) -> bool:
    return isinstance(index, Index) and any(isinstance(atom, Dynamic) for atom, _ in index.terms)


def is_local(
    places: list[tuple[Value, Place]], inside: Callable[[Value], bool], own: Place, rows: int
) -> bool:
    """Whether all reads of values inside a group stay in the same row (the first `rows` axes)."""
    return all(len(index) >= rows and index[:rows] == own[:rows] for value, index in places if inside(value))


_COSTS = {
    "div": 4,
    "sqrt": 4,
    "floor_div": 6,
    "remainder": 6,
    "fmod": 6,
    "add": 1,
    "sub": 1,
    "mul": 1,
    "max": 1,
    "min": 1,
    "neg": 1,
    "abs": 1,
    "where": 1,
    "cast": 1,
    "lt": 1,
    "le": 1,
    "eq": 1,
    "ne": 1,
    "and": 1,
    "or": 1,
    "xor": 1,
    "not": 1,
    "shl": 1,
    "shr": 1,
    "floor": 1,
    "ceil": 1,
    "trunc": 1,
    "round": 1,
    "sign": 2,
    "bitcast": 0,
}


def cost(node: Node) -> int:
    """Rough cost of one element in additions; functions of libm's kind count as 12."""
    return 0 if node.op.kind == "view" else _COSTS.get(node.op.name, 12)
