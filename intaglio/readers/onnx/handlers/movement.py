"""Operators that move elements: reshape, transpose, slice, concatenate, pad, gather and their kin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from intaglio.graph.ir import Value
from intaglio.ops.compositions import indexing
from intaglio.ops.compositions.basic import axis_of
from intaglio.ops.dispatch import broadcast_shapes, type_of
from intaglio.ops.registry import lookup
from intaglio.readers.onnx.cutting import cut_axes
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.readers.onnx.symbolic import is_symbolic
from intaglio.shared.errors import FileFormatError, ShapeError, UnsupportedError
from intaglio.shared.index import IndexLike, interval, maximum, minimum, product

OPEN = (1 << 31) - 1
"""Exporters write limits as far out as this for "to the end"."""


def reshape_to(x: Operand, shape: tuple[IndexLike, ...]) -> Any:
    """`x` under another shape, known array or graph value."""
    if isinstance(x, np.ndarray):
        return x.reshape(tuple(map(int, shape)))  # type: ignore[arg-type]
    return lookup("reshape")(x, shape=shape)


@onnx_op("Reshape")
def reshape(call: OnnxCall, x: Operand, target: Operand) -> Any:
    wanted = list(call.ints(target, "the shape"))
    before = x.shape
    if not call.attr("allowzero", 0):
        wanted = [before[k] if e == 0 and k < len(before) else e for k, e in enumerate(wanted)]
    if wanted.count(-1) > 1:
        raise ShapeError(f"Reshape: shape {wanted} leaves more than one extent open")
    if -1 in wanted:
        known = product(tuple(e for e in wanted if e != -1))
        total = product(before)
        if known == 0 or (isinstance(total, int) and isinstance(known, int) and total % known):
            raise ShapeError(f"Reshape: {type_of(x)} cannot become {wanted}")
        wanted[wanted.index(-1)] = total // known
    return reshape_to(x, tuple(wanted))


@onnx_op("Flatten")
def flatten(call: OnnxCall, x: Operand) -> Any:
    rank = len(x.shape)
    axis = call.attr("axis", 1)
    axis = axis + rank if axis < 0 else axis
    return reshape_to(x, (product(x.shape[:axis]), product(x.shape[axis:])))


def normal_axes(axes: Any, rank: int, what: str) -> tuple[int, ...]:
    """Axes counted from 0, increasing. Raises ShapeError for one out of range or repeated."""
    result = tuple(sorted(int(k) + rank if k < 0 else int(k) for k in axes))
    if any(not 0 <= k < rank for k in result) or len(set(result)) != len(result):
        raise ShapeError(f"{what}: axes {list(axes)} do not fit rank {rank}")
    return result


@onnx_op("Squeeze")
def squeeze(call: OnnxCall, x: Operand, axes: Operand | None = None) -> Any:
    given = call.attr("axes") if axes is None else call.ints(axes, "the axes")
    chosen = (
        [k for k, e in enumerate(x.shape) if e == 1]
        if given is None
        else normal_axes(given, len(x.shape), "Squeeze")
    )
    if any(x.shape[k] != 1 for k in chosen):
        raise ShapeError(f"Squeeze: axes {list(chosen)} of {list(x.shape)} are not all of extent 1")
    return reshape_to(x, tuple(e for k, e in enumerate(x.shape) if k not in chosen))


@onnx_op("Unsqueeze")
def unsqueeze(call: OnnxCall, x: Operand, axes: Operand | None = None) -> Any:
    given = call.attr("axes") if axes is None else call.ints(axes, "the axes")
    chosen = normal_axes(given, len(x.shape) + len(given), "Unsqueeze")
    rest = iter(x.shape)
    return reshape_to(x, tuple(1 if k in chosen else next(rest) for k in range(len(x.shape) + len(chosen))))


@onnx_op("Transpose")
def transpose(call: OnnxCall, x: Operand) -> Any:
    perm = tuple(call.attr("perm", list(reversed(range(len(x.shape))))))
    return lookup("transpose")(x, perm=perm)


@onnx_op("Concat")
def concat(call: OnnxCall, *inputs: Operand) -> Any:
    axis = call.required("axis")
    axis = axis + len(inputs[0].shape) if axis < 0 else axis
    if is_symbolic(*inputs):
        call.afford(sum(int(np.asarray(x, object).size) for x in inputs))
        return np.concatenate([np.asarray(x, object) for x in inputs], axis)
    return inputs[0] if len(inputs) == 1 else lookup("concat")(*inputs, axis=axis)


@onnx_op("Expand")
def expand(call: OnnxCall, x: Operand, target: Operand) -> Any:
    shape = broadcast_shapes("Expand", [x.shape, call.ints(target, "the shape")])
    if shape == x.shape:
        return x
    if not all(isinstance(extent, int) for extent in shape):
        x = call.importer.as_value(x)
    return lookup("broadcast")(x, shape=shape)


@onnx_op("Slice", 1)
def slice_1(call: OnnxCall, x: Operand) -> Any:
    starts, ends = call.required("starts"), call.required("ends")
    return take_slice(call, x, starts, ends, call.attr("axes", list(range(len(starts)))), [1] * len(starts))


@onnx_op("Slice", 10)
def slice_10(
    call: OnnxCall,
    x: Operand,
    starts: Operand,
    ends: Operand,
    axes: Operand | None = None,
    steps: Operand | None = None,
) -> Any:
    count = product(starts.shape)
    if not isinstance(count, int):
        raise UnsupportedError(f"Slice: {count} axes", hint="fix the input shapes")
    chosen = range(count) if axes is None else call.ints(axes, "the axes")
    strides = [1] * count if steps is None else call.ints(steps, "the steps")
    if isinstance(starts, Value) or isinstance(ends, Value):
        return cut_axes(call.importer, x, starts, ends, chosen, strides)
    first, last = call.ints(starts, "the starts"), call.ints(ends, "the ends")
    return take_slice(call, x, first, last, chosen, strides)


def take_slice(call: OnnxCall, x: Operand, starts: Any, ends: Any, axes: Any, steps: Any) -> Any:
    """`x[start:end:step]` on some axes, limits clamped as in Python."""
    rank = len(x.shape)
    bounds: list[tuple[Any, Any, Any]] = [(0, extent, 1) for extent in x.shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        k = int(axis) + rank if axis < 0 else int(axis)
        bounds[k] = _range_of(start, end, step, x.shape[k])
    if isinstance(x, np.ndarray):
        if all(isinstance(limit, int) for limits in bounds for limit in limits):
            return x[tuple(slice(a, b if b >= 0 else None, s) for a, b, s in bounds)]
        x = call.importer.as_value(x)
    starts_, stops, steps_ = zip(*bounds, strict=True) if bounds else ((), (), ())
    return lookup("slice")(x, start=tuple(starts_), stop=tuple(stops), step=tuple(steps_))


def _range_of(start: Any, end: Any, step: Any, extent: IndexLike) -> tuple[IndexLike, IndexLike, int]:
    """Start, stop and step of a slice; of a backward one `stop` may be -1."""
    if not isinstance(step, int) or step == 0:
        raise UnsupportedError(f"Slice: a step of {step}", hint="fix the input shapes")
    if all(isinstance(limit, int) for limit in (start, end, extent)):
        return slice(start, end, step).indices(extent)  # type: ignore[arg-type]
    lowest, highest = (0, extent) if step > 0 else (-1, extent - 1)
    first, last = (_clamped(place, extent, lowest, highest) for place in (start, end))
    return first, last, step


def _clamped(place: Any, extent: IndexLike, lowest: IndexLike, highest: IndexLike) -> IndexLike:
    """A limit of a slice, counted from 0 and moved inside."""
    if isinstance(place, int) and abs(place) >= OPEN:
        return highest if place > 0 else lowest
    low, high = interval(place)
    if high is not None and high < 0:
        place = place + extent
    elif low is None or low < 0:
        raise UnsupportedError(
            f"Slice: whether the limit {place} counts from the end is not known", hint="fix the input shapes"
        )
    return minimum(maximum(place, lowest), highest)


@onnx_op("Pad")
def pad_2(call: OnnxCall, x: Operand) -> Any:
    return _pad(call, x, tuple(call.required("pads")), call.attr("value", 0.0), range(len(x.shape)))


@onnx_op("Pad", 11)
def pad_11(
    call: OnnxCall, x: Operand, pads: Operand, value: Operand | None = None, axes: Operand | None = None
) -> Any:
    chosen = range(len(x.shape)) if axes is None else call.ints(axes, "the axes")
    return _pad(call, x, call.ints(pads, "the amounts"), 0 if value is None else value, chosen)


def _pad(call: OnnxCall, x: Operand, pads: tuple[Any, ...], value: Any, axes: Sequence[int]) -> Any:
    rank, mode = len(x.shape), call.attr("mode", "constant")
    if len(pads) != 2 * len(axes):
        raise ShapeError(f"Pad: {len(pads)} amounts for {len(axes)} axes")
    pairs: list[tuple[IndexLike, IndexLike]] = [(0, 0)] * rank
    for k, axis in enumerate(axes):
        pairs[axis_of(axis, rank, "Pad")] = (pads[k], pads[k + len(axes)])
    if all(pair == (0, 0) for pair in pairs):
        return x
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(()).item()
    if not isinstance(value, Value) or mode != "constant":
        value = 0 if isinstance(value, Value) else value
        return lookup("pad")(x, padding=tuple(pairs), mode=mode, value=value)
    inside = lookup("broadcast")(call.importer.graph.constant(np.ones((), bool)), shape=x.shape)
    attrs = {"padding": tuple(pairs), "mode": "constant", "value": 0}
    return lookup("where")(lookup("pad")(inside, **attrs), lookup("pad")(x, **attrs), reshape_to(value, ()))


@onnx_op("Gather")
def gather(call: OnnxCall, x: Operand, indices: Operand) -> Any:
    axis = call.attr("axis", 0)
    axis = axis + len(x.shape) if axis < 0 else axis
    if isinstance(x, np.ndarray) and isinstance(indices, np.ndarray) and not is_symbolic(indices):
        call.afford(indices.size, x.size // max(x.shape[axis], 1))
        return np.asarray(np.take(x, indices, axis), x.dtype)
    x = call.importer.as_value(x)
    return indexing.get_items(x, [None] * axis + [call.importer.as_value(indices)])


@onnx_op("Split")
def split(call: OnnxCall, x: Operand, sizes: Operand | None = None) -> Any:
    axis = call.attr("axis", 0)
    axis = axis + len(x.shape) if axis < 0 else axis
    extent = x.shape[axis]
    given = call.attr("split") if sizes is None else call.ints(sizes, "the sizes")
    count = call.attr("num_outputs", call.outputs) if given is None else len(given)
    if count != call.outputs:
        raise FileFormatError(f"the node has {call.outputs} outputs, but splits into {count}")
    if given is None:
        step = -(-extent // count)
        given = [step] * (count - 1) + [extent - step * (count - 1)]
    parts, start = [], 0
    for length in given:
        parts.append(take_slice(call, x, [start], [start + length], [axis], [1]))
        start += length
    return tuple(parts)


@onnx_op("Tile")
def tile(call: OnnxCall, x: Operand, repeats: Operand) -> Any:
    counts = call.ints(repeats, "the repeats")
    if isinstance(x, np.ndarray):
        call.afford(x.size, *counts)
        return np.tile(x, counts)
    spread = tuple(e for extent in x.shape for e in (1, extent))
    wide = tuple(e for count, extent in zip(counts, x.shape, strict=True) for e in (count, extent))
    whole = tuple(count * extent for count, extent in zip(counts, x.shape, strict=True))
    return reshape_to(lookup("broadcast")(reshape_to(x, spread), shape=wide), whole)


__all__ = ["Value", "normal_axes", "reshape_to", "take_slice"]
