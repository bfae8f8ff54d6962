"""Sequences and optionals: a sequence is a list of operands whose length is known at import."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from intaglio.ops.registry import lookup
from intaglio.readers.onnx.bodies import is_known, stack
from intaglio.readers.onnx.handlers.movement import reshape_to, take_slice
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared.errors import FileFormatError, ShapeError, UnsupportedError

Sequence = list[Any]


@onnx_op("SequenceEmpty", 11)
def sequence_empty(_: OnnxCall) -> Sequence:
    return []


@onnx_op("SequenceConstruct", 11)
def sequence_construct(_: OnnxCall, *elements: Operand) -> Sequence:
    return list(elements)


@onnx_op("SequenceInsert", 11)
def sequence_insert(
    call: OnnxCall, sequence: Sequence, element: Operand, position: Operand | None = None
) -> Sequence:
    made = _checked(sequence)
    (place,) = (len(made),) if position is None else call.ints(position, "the position in the sequence")
    if not -len(made) <= place <= len(made):
        raise ShapeError(f"position {place} in a sequence with {len(made)} elements")
    made.insert(place, element)
    return made


@onnx_op("SequenceErase", 11)
def sequence_erase(call: OnnxCall, sequence: Sequence, position: Operand | None = None) -> Sequence:
    made = _checked(sequence)
    del made[-1 if position is None else _place(call, position, len(made))]
    return made


@onnx_op("SequenceAt", 11)
def sequence_at(call: OnnxCall, sequence: Sequence, position: Operand) -> Any:
    elements = _checked(sequence)
    if isinstance(position, np.ndarray):
        return elements[_place(call, position, len(elements))]
    if len({(x.dtype, x.shape) for x in map(call.importer.as_value, elements)}) != 1:
        raise UnsupportedError(
            "SequenceAt: the position is computed at run time, and the elements have different types",
            hint="fix it: load(..., values=...)",
        )
    table = call.importer.as_value(stack(call.importer, elements))
    return lookup("gather")(table, reshape_to(position, ()), axes=(0,))


@onnx_op("SequenceLength", 11)
def sequence_length(_: OnnxCall, sequence: Sequence) -> Any:
    return np.asarray(len(_checked(sequence)))


@onnx_op("SplitToSequence", 11)
def split_to_sequence(call: OnnxCall, x: Operand, sizes: Operand | None = None) -> Sequence:
    axis = _axis(call.attr("axis", 0), len(x.shape))
    extent = x.shape[axis]
    if not isinstance(extent, int):
        raise UnsupportedError(
            f"SplitToSequence: axis {axis} of symbolic size {extent} gives an unknown number of elements",
            hint="give the symbol a fixed size with shapes=",
        )
    given = None if sizes is None else call.static(sizes, "the sizes")
    if given is None:
        lengths = [1] * extent
    elif given.ndim == 0:
        size = int(given)
        if size < 1:
            raise ShapeError(f"SplitToSequence: parts of {size}")
        lengths = [min(size, extent - start) for start in range(0, extent, size)]
    else:
        lengths = [int(n) for n in given]
    if sum(lengths) != extent or any(n < 0 for n in lengths):
        raise ShapeError(f"SplitToSequence: parts {lengths} of an axis of {extent}")
    parts, start = [], 0
    for length in lengths:
        part = take_slice(call, x, [start], [start + length], [axis], [1])
        if given is None and not call.attr("keepdims", 1):
            part = reshape_to(part, tuple(e for k, e in enumerate(x.shape) if k != axis))
        parts.append(part)
        start += length
    return parts


@onnx_op("ConcatFromSequence", 11)
def concat_from_sequence(call: OnnxCall, sequence: Sequence) -> Any:
    elements = _checked(sequence)
    if not elements:
        raise ShapeError("ConcatFromSequence: the sequence is empty")
    axis = call.required("axis")
    if call.attr("new_axis", 0):
        return stack(call.importer, elements, axis)
    if all(map(is_known, elements)):
        call.afford(sum(x.size for x in elements))
        return np.concatenate(elements, axis)
    values = [call.importer.as_value(x) for x in elements]
    return values[0] if len(values) == 1 else lookup("concat")(*values, axis=_axis(axis, values[0].type.rank))


@onnx_op("SequenceMap", 17)
def sequence_map(call: OnnxCall, sequence: Sequence, *others: Any) -> tuple[Sequence, ...]:
    """The body once per element; what is a sequence among the other inputs is taken element by element."""
    body: onnx.GraphProto = call.required("body")
    results: list[Sequence] = [[] for _ in body.output]
    for k, element in enumerate(_checked(sequence)):
        rest = [_checked(x)[k] if isinstance(x, list) else x for x in others]
        for made, result in zip(results, call.importer.subgraph(body, [element, *rest]), strict=True):
            made.append(result)
    return tuple(results)


@onnx_op("Optional", 15)
def optional(_: OnnxCall, element: Any = None) -> Any:
    return element


@onnx_op("OptionalHasElement", 15)
def optional_has_element(_: OnnxCall, element: Any = None) -> Any:
    return np.asarray(element is not None)


@onnx_op("OptionalGetElement", 15)
def optional_get_element(_: OnnxCall, element: Any) -> Any:
    return element


def _checked(sequence: Any) -> Sequence:
    if not isinstance(sequence, list):
        raise FileFormatError("a sequence is expected")
    return list(sequence)


def _place(call: OnnxCall, position: Operand, count: int) -> int:
    """A position counted from the front. Raises ShapeError for one out of range."""
    (place,) = call.ints(position, "the position in the sequence")
    if not -count <= place < count:
        raise ShapeError(f"position {place} of a sequence with {count} places")
    return int(place) % count


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ShapeError(f"axis {axis} of a tensor of rank {rank}")
    return axis % rank
