"""Operators that cut and join tensors: slice, pad, concat. All are views."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.ops import expr
from intaglio.ops.dispatch import type_of
from intaglio.ops.elementwise import apply
from intaglio.ops.expr import Const, Expr, all_of, in_range
from intaglio.ops.like import constant_like, full_like
from intaglio.ops.registry import op
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, DTypeError, ShapeError, UnsupportedError
from intaglio.shared.index import IndexLike, interval, maximum, minimum, upper
from intaglio.shared.types import TensorType

Shape = tuple[IndexLike, ...]
Ints = tuple[int, ...]


def _slice_extent(start: IndexLike, stop: IndexLike, step: int) -> IndexLike:
    if step == 0:
        raise ShapeError("slice: a step is 0")
    span = (stop - start + (step - 1)) // step if step > 0 else (start - stop + (-step - 1)) // -step
    return maximum(span, 0)


def _slice_gradient(g: Any, x: Any, y: Any, start: Shape, stop: Shape, step: Ints) -> list[Any]:
    """The slice at its places among zeros; all of it is views."""
    padding: list[tuple[IndexLike, IndexLike]] = []
    for axis, (first, extent, stride) in enumerate(zip(start, type_of(x).shape, step, strict=True)):
        count = type_of(y).shape[axis]
        if count == 0:
            padding.append((0, extent))
            continue
        if stride < 0:
            g, first, stride = _flipped(g, axis), first + stride * (count - 1), -stride
        if stride > 1:
            g = _spread(g, axis, stride)
        padding.append((first, extent - first - count * stride))
    if all(pair == (0, 0) for pair in padding):
        return [g]
    return [apply("pad", g, padding=tuple(padding), mode="constant", value=0.0)]


def _flipped(x: Any, axis: int) -> Any:
    shape = type_of(x).shape
    start = tuple(e - 1 if k == axis else 0 for k, e in enumerate(shape))
    stop = tuple(-1 if k == axis else e for k, e in enumerate(shape))
    return apply(
        "slice", x, start=start, stop=stop, step=tuple(-1 if k == axis else 1 for k in range(len(shape)))
    )


def _spread(x: Any, axis: int, stride: int) -> Any:
    """The places of an axis with `stride - 1` zeros behind each."""
    shape = type_of(x).shape
    column = apply("reshape", x, shape=(*shape[: axis + 1], 1, *shape[axis + 1 :]))
    padding = tuple((0, stride - 1 if k == axis + 1 else 0) for k in range(len(shape) + 1))
    wide = apply("pad", column, padding=padding, mode="constant", value=0.0)
    return apply("reshape", wide, shape=(*shape[:axis], shape[axis] * stride, *shape[axis + 1 :]))


@op
class slice_:
    """Places start, start + step, ... before stop of every axis, as Python's `range` counts."""

    kind = "view"
    formula = "y[*i] = x[*j]"
    ref = lambda x, start, stop, step: x[np.ix_(*map(np.arange, start, stop, step))]
    grad = _slice_gradient
    accepts = "any"
    samples = (
        ([(4, 5)], {"start": (1, 0), "stop": (3, 5), "step": (1, 1)}),
        ([(4, 7)], {"start": (3, 1), "stop": (-1, 6), "step": (-1, 2)}),
        ([(6,)], {"start": (1,), "stop": (6,), "step": (3,)}),
    )

    @staticmethod
    def infer(x: TensorType, *, start: Shape, stop: Shape, step: Ints) -> TensorType:
        if not len(start) == len(stop) == len(step) == x.rank:
            raise ShapeError(
                f"slice: {x} needs {x.rank} starts, stops and steps, got {len(start)}, "
                f"{len(stop)} and {len(step)}"
            )
        for k, (a, b, extent) in enumerate(zip(start, stop, x.shape, strict=True)):
            lowest, highest = interval(a)[0], interval(maximum(a, b) - extent)[0]
            if (lowest is not None and lowest < 0) or (highest is not None and highest > 0):
                raise ShapeError(f"slice: {a}:{b} of axis {k} is not inside {x}   [{slice_.formula}]")
        return TensorType(x.dtype, tuple(map(_slice_extent, start, stop, step)))

    @staticmethod
    def element(i: Shape, x: Any, *, start: Shape, stop: Shape, step: Ints) -> Expr:
        read: Expr = x[tuple(a + s * k for a, s, k in zip(start, step, i, strict=True))]
        return read


Padding = tuple[tuple[IndexLike, IndexLike], ...]
PAD_MODES = ("constant", "edge", "reflect", "wrap")


def _pad_array(x: Any, padding: Padding, mode: str, value: float) -> Any:
    if not padding:
        return x
    grow = [(max(a, 0), max(b, 0)) for a, b in padding]  # type: ignore[type-var]
    options = {"constant_values": np.asarray(value).astype(x.dtype)} if mode == "constant" else {}
    y = np.pad(x, grow, mode=mode, **options)  # type: ignore[call-overload]
    return y[tuple(slice(max(-a, 0), e - max(-b, 0)) for (a, b), e in zip(padding, y.shape, strict=True))]  # type: ignore


def _pad_gradient(g: Any, x: Any, y: Any, padding: Padding, mode: str, value: float) -> list[Any]:
    """The part that was not padding; for other modes, what was repeated is added to its source."""
    before = type_of(x).shape
    if mode != "constant":
        return [_fold_padding(g, before, padding, mode)]
    crop = tuple((_negated(a), _negated(b)) for a, b in padding)
    return [apply("pad", g, padding=crop, mode="constant", value=0.0)]


def _negated(value: IndexLike) -> IndexLike:
    return 0 - value


def _fold_padding(g: Any, before: Shape, padding: Padding, mode: str) -> Any:
    """Add every padded place to the place it was read from, axis by axis."""
    for axis, (low, high) in enumerate(padding):
        shape = type_of(g).shape
        if low == 0 and high == 0:
            continue
        rank = len(shape)
        order = (axis, *(k for k in range(rank) if k != axis))
        moved = apply("transpose", g, perm=order)
        target = (before[axis], *(shape[k] for k in order[1:]))
        extent, count = before[axis], shape[axis]
        if not (isinstance(extent, int) and isinstance(count, int) and isinstance(low, int)):
            raise UnsupportedError(
                f"the derivative of pad with mode {mode!r} along the symbolic axis {extent}",
                hint="give the axis a fixed size",
            )
        source = [_source(k - low, extent, mode) for k in range(count)]
        added = apply(
            "scatter",
            full_like(g, 0.0, target),
            moved,
            constant_like(g, np.array(source)),
            axes=(0,),
            mode="add",
        )
        g = apply("transpose", added, perm=tuple(int(k) for k in np.argsort(order)))
    return g


def _source(place: int, extent: int, mode: str) -> int:
    if mode == "edge":
        return min(max(place, 0), extent - 1)
    if mode == "wrap":
        return place % extent
    period = max(2 * (extent - 1), 1)
    place = place % period
    return period - place if place >= extent else place


def _source_index(place: IndexLike, extent: IndexLike, mode: str) -> IndexLike:
    if mode == "edge":
        return minimum(maximum(place, 0), extent - 1)
    if mode == "wrap":
        return place % extent
    period = maximum(2 * (extent - 1), 1)
    folded = place % period
    return minimum(minimum(folded, period - folded), extent - 1)


@op
class pad:
    """Grow (or crop, by negative amounts) every axis at both ends; new places hold `value`, the nearest
    element (`edge`), the mirror image without the edge (`reflect`) or the other end (`wrap`)."""

    kind = "view"
    formula = "y[*i] = x[*j]"
    ref = _pad_array
    grad = _pad_gradient
    accepts = "any"
    samples = (
        ([(3, 4)], {"padding": ((1, 2), (0, 1)), "mode": "constant", "value": 0.5}),
        ([(3, 4)], {"padding": ((-1, 2), (1, -2)), "mode": "constant", "value": 0.0}),
        ([(3, 4)], {"padding": ((1, 2), (0, 1)), "mode": "edge", "value": 0.0}),
        ([(3, 4)], {"padding": ((-1, 1), (0, 0)), "mode": "edge", "value": 0.0}),
        ([(3, 4)], {"padding": ((2, 1), (1, 3)), "mode": "reflect", "value": 0.0}),
    )

    @staticmethod
    def infer(x: TensorType, *, padding: Padding, mode: str, value: float) -> TensorType:
        if len(padding) != x.rank or mode not in PAD_MODES:
            raise ShapeError(
                f"pad: {x} needs {x.rank} pairs and a mode of {PAD_MODES}, got {padding}, {mode!r}"
            )
        shape = tuple(e + a + b for e, (a, b) in zip(x.shape, padding, strict=True))
        for k, (e, extent, (a, b)) in enumerate(zip(shape, x.shape, padding, strict=True)):
            if isinstance(e, int) and e < 0:
                raise ShapeError(f"pad: {padding[k]} crops more than axis {k} of {x} has")
            if (
                mode == "reflect"
                and isinstance(extent, int)
                and max(upper(a) or 0, upper(b) or 0) >= max(extent, 1)
            ):
                raise ShapeError(f"pad: reflect padding {padding[k]} must be smaller than axis {k} of {x}")
        return TensorType(x.dtype, shape)

    @staticmethod
    def element(i: Shape, x: Any, *, padding: Padding, mode: str, value: float) -> Expr:
        at = [k - a for k, (a, _) in zip(i, padding, strict=True)]
        if mode != "constant":
            return x[tuple(_source_index(k, e, mode) for k, e in zip(at, x.type.shape, strict=True))]  # type: ignore
        inside = all_of([in_range(k, 0, e) for k, e in zip(at, x.type.shape, strict=True)])
        arithmetic = x.type.dtype.arithmetic
        number = (
            float(value) if arithmetic.is_float else bool(value) if arithmetic == dtypes.bool_ else int(value)
        )
        if isinstance(inside, Const) and not inside.value:
            return Const(number, arithmetic)
        read: Expr = x[tuple(at)]
        return expr.where(inside, read, Const(number, arithmetic))


def _concat_gradient(g: Any, *rest: Any, axis: int) -> list[Any]:
    *xs, _ = rest
    shape = type_of(g).shape
    parts, place = [], 0
    for x in xs:
        extent = type_of(x).shape[axis]
        start = tuple(place if k == axis else 0 for k in range(len(shape)))
        stop = tuple(place + extent if k == axis else e for k, e in enumerate(shape))
        parts.append(apply("slice", g, start=start, stop=stop, step=(1,) * len(shape)))
        place = place + extent
    return parts


@op
class concat:
    """Tensors one behind the other along an axis."""

    kind = "view"
    formula = "y[*i] = x[*j]"
    ref = lambda *xs, axis: np.concatenate(xs, axis)
    grad = _concat_gradient
    accepts = "any"
    samples = (([(2, 3), (2, 1), (2, 2)], {"axis": 1}), ([(1, 2), (3, 2)], {"axis": 0}))

    @staticmethod
    def infer(*xs: TensorType, axis: int) -> TensorType:
        if not xs:
            raise ArgumentError(f"concat: no operands   [{concat.formula}]")
        first = xs[0]
        if not 0 <= axis < first.rank:
            raise ShapeError(f"concat: axis {axis} of {first}")
        for x in xs[1:]:
            if x.dtype != first.dtype:
                raise DTypeError(
                    f"concat: {first} and {x} have different element types", hint="cast one of them"
                )
            if x.rank != first.rank or any(
                a != b for k, (a, b) in enumerate(zip(x.shape, first.shape, strict=True)) if k != axis
            ):
                raise ShapeError(f"concat along axis {axis}: {first} and {x} differ on another axis")
        total: IndexLike = 0
        for x in xs:
            total = total + x.shape[axis]
        return TensorType(first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :]))

    @staticmethod
    def element(i: Shape, *xs: Any, axis: int) -> Expr:
        ends, end = [], 0
        for x in xs:
            end = end + x.type.shape[axis]
            ends.append(end)

        def read(k: int) -> Expr:
            place = i[axis] - (ends[k - 1] if k else 0)
            found: Expr = xs[k][(*i[:axis], place, *i[axis + 1 :])]
            return found

        value: Expr | None = None
        for k in reversed(range(len(xs))):
            inside = in_range(i[axis], ends[k - 1] if k else 0, ends[k])
            if isinstance(inside, Const) and not inside.value:
                continue
            value = read(k) if value is None else expr.where(in_range(i[axis], 0, ends[k]), read(k), value)
        if value is None:
            value = read(len(xs) - 1)
        return value
