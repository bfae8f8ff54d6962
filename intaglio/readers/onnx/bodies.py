"""Inner graphs of a model as bodies of our loops and branches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from intaglio.graph.ir import Graph, Value
from intaglio.ops.registry import lookup
from intaglio.readers.onnx.registry import Array
from intaglio.shared import dtypes
from intaglio.shared.errors import ShapeError, UnsupportedError
from intaglio.shared.index import IndexLike, interval
from intaglio.shared.types import TensorType

if TYPE_CHECKING:
    from intaglio.readers.onnx.importer import Importer


def emit(graph: Graph, name: str, operands: Sequence[Value], **attrs: Any) -> list[Value]:
    """Append an operator to a graph; its results."""
    return list(graph.append(lookup(name), operands, attrs))


def is_known(operand: Any) -> bool:
    """Whether an operand is an array of numbers that is known at import."""
    return isinstance(operand, np.ndarray) and operand.dtype != object


def leaves_of(operand: Any) -> list[Any]:
    """The tensors in an operand: of a sequence those of its elements, of an absent optional none."""
    if isinstance(operand, list):
        return [leaf for part in operand for leaf in leaves_of(part)]
    return [] if operand is None else [operand]


def structure_of(operand: Any) -> Any:
    """What is left of an operand without its tensors: equal for operands that can stand for each other."""
    if isinstance(operand, list):
        return [structure_of(part) for part in operand]
    return operand is not None


def rebuilt(structure: Any, leaves: list[Any]) -> Any:
    """The operand of a structure with these tensors, which are taken from the front of the list."""
    if isinstance(structure, list):
        return [rebuilt(part, leaves) for part in structure]
    return leaves.pop(0) if structure else None


def zeros(graph: Graph, type_: TensorType) -> Value:
    """Zeros of a type, which may have symbols."""
    zero = graph.constant(np.zeros((), type_.dtype.numpy))
    return emit(graph, "broadcast", [zero], shape=type_.shape)[0] if type_.rank else zero


def scalar(value: Value) -> Value:
    """A tensor of one element as one without axes."""
    if value.type.size != 1:
        raise ShapeError(f"{value.type} is not a single element")
    return emit(value.graph, "reshape", [value], shape=())[0] if value.shape else value


def as_row(value: Value) -> Value:
    """A tensor with an axis of extent 1 in front."""
    return emit(value.graph, "reshape", [value], shape=(1, *value.shape))[0]


def moved(x: Value, source: int, target: int) -> Value:
    """The tensor with one axis at another position."""
    order = [k for k in range(x.type.rank) if k != source]
    order.insert(target, source)
    return x if source == target else emit(x.graph, "transpose", [x], perm=tuple(order))[0]


def stack(importer: Importer, rows: Sequence[Any], axis: int = 0) -> Any:
    """Tensors stacked along a new axis."""
    if all(map(is_known, rows)):
        return np.stack(rows, axis)
    values = [importer.as_value(row) for row in rows]
    rank = values[0].type.rank + 1
    axis = axis + rank if axis < 0 else axis
    columns = [
        emit(importer.graph, "reshape", [v], shape=(*v.shape[:axis], 1, *v.shape[axis:]))[0] for v in values
    ]
    return columns[0] if len(columns) == 1 else emit(importer.graph, "concat", columns, axis=axis)[0]


def check_carried(what: str, before: Sequence[Value], after: Sequence[Value]) -> None:
    """Raise ShapeError for a carried value that a step gives another type."""
    for k, (old, new) in enumerate(zip(before, after, strict=True)):
        if old.type != new.type:
            raise ShapeError(f"{what}: carried value {k} is {old.type} before a step but {new.type} after it")


def tensors_only(what: str, results: Sequence[Any]) -> None:
    """Raise UnsupportedError when a sequence or an optional is among the results of a body."""
    if any(isinstance(r, list) or r is None for r in results):
        raise UnsupportedError(
            f"{what}: a sequence or optional changes in a loop with a number of steps known at run time only",
            hint="fix the number of steps: load(..., values=...)",
        )


def size_value(graph: Graph, extent: IndexLike) -> Value:
    """An extent as a number of the program: the element of a count that stands at this index."""
    lowest = interval(extent)[0]
    if lowest is None or lowest < 0:
        raise UnsupportedError(f"the size {extent} may be negative", hint="give its symbols fixed sizes")
    counted = emit(graph, "iota", [], shape=(extent + 1,), axis=0, dtype=dtypes.i64)
    last = emit(graph, "slice", counted, start=(extent,), stop=(extent + 1,), step=(1,))
    return emit(graph, "reshape", last, shape=())[0]


def shape_value(graph: Graph, extents: Array) -> Value:
    """A shape with symbols as a tensor of the program."""
    parts = [
        graph.constant(np.asarray(e)) if isinstance(e, int) else size_value(graph, e)
        for e in extents.reshape(-1).tolist()
    ]
    rows = [as_row(part) for part in parts]
    whole = rows[0] if len(rows) == 1 else emit(graph, "concat", rows, axis=0)[0]
    return emit(graph, "reshape", [whole], shape=extents.shape)[0]


def first_rows(importer: Importer, x: Value, count: Value, most: int, what: str) -> Value:
    """The first rows of a tensor, at most `most`; how many is computed at run time and becomes a symbol."""
    if most == 0:
        return zeros(x.graph, TensorType(x.dtype, (0, *x.shape[1:])))
    symbol = importer.new_symbol(f"n_{what}", most)
    return emit(x.graph, "prefix", [x, count], extent=symbol)[0]
