"""Operators that take parts: slice, pad, concat, gather, scatter, iota, sort."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.ops import expr
from intaglio.ops.dispatch import type_of
from intaglio.ops.elementwise import apply
from intaglio.ops.expr import Const, Expr, IndexValue, all_of, in_range
from intaglio.ops.like import constant_like, full_like, iota_like
from intaglio.ops.registry import op
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import ArgumentError, DTypeError, ShapeError
from intaglio.shared.index import Dynamic, IndexLike, interval, maximum, minimum, upper, var_index
from intaglio.shared.types import TensorType

Shape = tuple[IndexLike, ...]
Ints = tuple[int, ...]


def _slice_extent(start: IndexLike, stop: IndexLike, step: int) -> IndexLike:
    if step == 0:
        raise ShapeError("slice: a step is 0")
    span = (stop - start + (step - 1)) // step if step > 0 else (start - stop + (-step - 1)) // -step
    return maximum(span, 0)


def _slice_gradient(g: Any, x: Any, y: Any, start: Shape, stop: Shape, step: Ints) -> list[Any]:
    """Zero outside of the slice: a pad for steps of one, else a scatter."""
    before = type_of(x).shape
    taken = type_of(y).shape
    if all(s == 1 for s in step):
        padding = tuple((a, e - a - t) for a, t, e in zip(start, taken, before, strict=True))
        return [apply("pad", g, padding=padding, mode="constant", value=0.0)]
    axes = tuple(k for k, s in enumerate(step) if s != 1)
    if len(axes) == 1 and all(start[k] == 0 and taken[k] == before[k] for k in range(len(step)) if k != axes[0]):
        return [_spread(g, before, axes[0], start[axes[0]], step[axes[0]])]
    inner = tuple(1 if k in axes else s for k, s in enumerate(step))
    wide_start = tuple(0 if k in axes else a for k, a in enumerate(start))
    middle = tuple(e if k in axes else t for k, (e, t) in enumerate(zip(before, taken, strict=True)))
    for axis in axes:
        shape = tuple(middle[k] if k <= axis else type_of(g).shape[k] for k in range(len(step)))
        g = _spread(g, shape, axis, start[axis], step[axis])
    wide_stop = tuple(a + t for a, t in zip(wide_start, middle, strict=True))
    return _slice_gradient(g, x, g, wide_start, wide_stop, inner)


def _spread(g: Any, shape: Shape, axis: int, start: IndexLike, step: int) -> Any:
    """Rows of `g` at places start, start + step, ... of an axis of zeros."""
    count = type_of(g).shape[axis]
    places = apply("add", apply("mul", iota_like(g, (count,), 0), step), start)
    rank = len(shape)
    order = (axis, *(k for k in range(rank) if k != axis))
    target = tuple(shape[k] for k in order)
    rows = apply("scatter", full_like(g, 0.0, target), apply("transpose", g, perm=order), places, axes=(0,),
                 mode="set")
    return apply("transpose", rows, perm=tuple(int(k) for k in np.argsort(order)))


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
            raise ShapeError(f"slice: {x} needs {x.rank} starts, stops and steps, got {len(start)}, "
                             f"{len(stop)} and {len(step)}")
        for k, (a, b, extent) in enumerate(zip(start, stop, x.shape, strict=True)):
            if all(isinstance(v, int) for v in (a, b, extent)) and (a < 0 or b > extent or a > extent):
                raise ShapeError(f"slice: {a}:{b} of axis {k} is not inside {x}")
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
    for axis, (low, _) in enumerate(padding):
        shape = type_of(g).shape
        if shape[axis] == before[axis]:
            continue
        rank = len(shape)
        order = (axis, *(k for k in range(rank) if k != axis))
        moved = apply("transpose", g, perm=order)
        target = (before[axis], *(shape[k] for k in order[1:]))
        extent, count = int(before[axis]), int(shape[axis])  # type: ignore[call-overload]
        source = [_source(k - int(low), extent, mode) for k in range(count)]  # type: ignore[call-overload]
        added = apply("scatter", full_like(g, 0.0, target), moved, constant_like(g, np.array(source)),
                      axes=(0,), mode="add")
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
        ([(3, 4)], {"padding": ((2, 1), (1, 3)), "mode": "reflect", "value": 0.0}),
    )

    @staticmethod
    def infer(x: TensorType, *, padding: Padding, mode: str, value: float) -> TensorType:
        if len(padding) != x.rank or mode not in PAD_MODES:
            raise ShapeError(f"pad: {x} needs {x.rank} pairs and a mode of {PAD_MODES}, got {padding}, {mode!r}")
        shape = tuple(e + a + b for e, (a, b) in zip(x.shape, padding, strict=True))
        for k, (e, extent, (a, b)) in enumerate(zip(shape, x.shape, padding, strict=True)):
            if isinstance(e, int) and e < 0:
                raise ShapeError(f"pad: {padding[k]} crops more than axis {k} of {x} has")
            if mode == "reflect" and isinstance(extent, int) and max(upper(a) or 0, upper(b) or 0) >= max(extent, 1):
                raise ShapeError(f"pad: reflect padding {padding[k]} must be smaller than axis {k} of {x}")
        return TensorType(x.dtype, shape)

    @staticmethod
    def element(i: Shape, x: Any, *, padding: Padding, mode: str, value: float) -> Expr:
        at = [k - a for k, (a, _) in zip(i, padding, strict=True)]
        if mode != "constant":
            return x[tuple(_source_index(k, e, mode) for k, e in zip(at, x.type.shape, strict=True))]  # type: ignore
        inside = all_of([in_range(k, 0, e) for k, e in zip(at, x.type.shape, strict=True)])
        arithmetic = x.type.dtype.arithmetic
        number = float(value) if arithmetic.is_float else bool(value) if arithmetic == dtypes.bool_ else int(value)
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
        first = xs[0]
        if not 0 <= axis < first.rank:
            raise ShapeError(f"concat: axis {axis} of {first}")
        for x in xs[1:]:
            if x.dtype != first.dtype:
                raise DTypeError(f"concat: {first} and {x} have different element types", hint="cast one of them")
            if x.rank != first.rank or any(
                    a != b for k, (a, b) in enumerate(zip(x.shape, first.shape, strict=True)) if k != axis):
                raise ShapeError(f"concat along axis {axis}: {first} and {x} differ on another axis")
        total: IndexLike = 0
        for x in xs:
            total = total + x.shape[axis]
        return TensorType(first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1:]))

    @staticmethod
    def element(i: Shape, *xs: Any, axis: int) -> Expr:
        ends, end = [], 0
        for x in xs:
            end = end + x.type.shape[axis]
            ends.append(end)
        def read(k: int) -> Expr:
            place = i[axis] - (ends[k - 1] if k else 0)
            found: Expr = xs[k][(*i[:axis], place, *i[axis + 1:])]
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


def bounded_index(value: Expr, extent: IndexLike) -> IndexLike:
    """An index read at run time: negative ones count from the end, and it is clamped into the axis, so that
    memory outside is never touched."""
    raw = var_index(Dynamic(value)) if not isinstance(value, IndexValue) else value.index
    if isinstance(value, IndexValue) and (interval(raw)[0] or -1) >= 0:
        return minimum(raw, extent - 1)
    negative = expr.Apply("lt", (value, Const(0, value.dtype)), dtypes.bool_)
    size = IndexValue(extent, value.dtype)
    wrapped = expr.where(negative, value + size, value)
    low = expr.apply("max", wrapped, Const(0, value.dtype))
    high = expr.apply("min", low, IndexValue(extent - 1, value.dtype))
    return var_index(Dynamic(high, 0, None if upper(extent) is None else upper(extent - 1)))


def wrap_indices(name: str, indices: Any, extent: int) -> Any:
    """Negative indices counted from the end. Raises ArgumentError for one out of range."""
    indices = np.asarray(indices)
    if indices.size and (indices.min() < -extent or indices.max() >= extent):
        bad = indices[(indices < -extent) | (indices >= extent)].flat[0]
        raise ArgumentError(f"{name}: index {bad} is out of range for an axis of {extent}")
    return np.where(indices < 0, indices.astype(np.int64) + extent, indices.astype(np.int64))


def _check_indices(name: str, x: TensorType, indices: tuple[TensorType, ...], axes: Ints) -> Shape:
    if len(indices) != len(axes) or not axes or any(not 0 <= k < x.rank for k in axes) or len(set(axes)) != len(axes):
        raise ShapeError(f"{name}: {len(indices)} index tensors for axes {list(axes)} of {x}")
    for one in indices:
        if not one.dtype.is_integer:
            raise DTypeError(f"{name}: indices are {one}; integers are expected", hint="cast them to i64")
        if one.shape != indices[0].shape:
            raise ShapeError(f"{name}: index tensors {indices[0]} and {one} differ in shape")
    return indices[0].shape


def _gather_array(x: Any, *indices: Any, axes: Ints) -> Any:
    rest = tuple(k for k in range(x.ndim) if k not in axes)
    moved = np.transpose(x, (*axes, *rest))
    return moved[tuple(wrap_indices("gather", j, x.shape[k]) for j, k in zip(indices, axes, strict=True))]


def _gather_gradient(g: Any, x: Any, *rest: Any, axes: Ints) -> list[Any]:
    *indices, _ = rest
    return [apply("scatter", full_like(g, 0.0, type_of(x).shape), g, *indices, axes=axes, mode="add"), *(None for _ in indices)]


@op
class gather:
    """Elements at indices known at run time: `y[*j, *rest] = x` at `indices[*j]` on `axes`, all of the rest.

    Negative indices count from the end. Indices out of range raise an error eagerly and are clamped in
    compiled code, which never reads outside."""

    kind = "view"
    formula = "y[*j,*r] = x[*i,*r]"
    ref = _gather_array
    grad = _gather_gradient
    accepts = "any"
    samples = (
        ([(5, 3), np.array([[0, 4], [-1, 2]])], {"axes": (0,)}),
        ([(2, 5), np.array([0, 1, 1])], {"axes": (1,)}),
        ([(3, 4, 2), np.array([0, 2]), np.array([3, -4])], {"axes": (0, 1)}),
    )

    @staticmethod
    def infer(x: TensorType, *indices: TensorType, axes: Ints) -> TensorType:
        shape = _check_indices("gather", x, indices, axes)
        if any(x.shape[k] == 0 for k in axes) and 0 not in shape:
            raise ShapeError(f"gather: an axis of {list(axes)} of {x} has no elements")
        return TensorType(x.dtype, (*shape, *(e for k, e in enumerate(x.shape) if k not in axes)))

    @staticmethod
    def element(i: Shape, x: Any, *indices: Any, axes: Ints) -> Expr:
        count = len(indices[0].type.shape)
        own, rest = i[:count], iter(i[count:])
        at = {k: bounded_index(j[own], x.type.shape[k]) for j, k in zip(indices, axes, strict=True)}
        read: Expr = x[tuple(at[k] if k in at else next(rest) for k in range(x.type.rank))]
        return read


SCATTER_MODES = {"set": None, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _scatter_array(x: Any, u: Any, *indices: Any, axes: Ints, mode: str) -> Any:
    rest = tuple(k for k in range(x.ndim) if k not in axes)
    order = (*axes, *rest)
    y = np.transpose(x, order).copy()
    at = tuple(wrap_indices("scatter", j, x.shape[k]) for j, k in zip(indices, axes, strict=True))
    function = SCATTER_MODES[mode]
    if function is None:
        flat = [j.reshape(-1) for j in at]
        for k, row in enumerate(u.reshape(flat[0].size, *u.shape[at[0].ndim:])):
            y[tuple(j[k] for j in flat)] = row
    else:
        function.at(y, at, u)
    return np.transpose(y, np.argsort(order))


def _scatter_gradient(g: Any, x: Any, u: Any, *rest: Any, axes: Ints, mode: str) -> list[Any]:
    *indices, _ = rest
    taken = apply("gather", g, *indices, axes=axes)
    none = [None for _ in indices]
    if mode == "add":
        return [g, taken, *none]
    if mode != "set":
        raise ArgumentError(f"scatter with mode {mode!r} has no derivative", hint="use mode 'add' or 'set'")
    cleared = apply("scatter", g, full_like(u, 0.0), *indices, axes=axes, mode="set")
    return [cleared, taken, *none]


@op
class scatter:
    """`x` with updates: at `indices[*j]` on `axes`, `u[*j, *rest]` replaces (`set`) or is combined in, in
    order of `j`, so that the result does not depend on how it is run. Indices as in `gather`.

    The derivative of `set` counts every update, as if the indices were distinct."""

    kind = "opaque"
    formula = "y[*i,*r] = u[*j,*r]"
    ref = _scatter_array
    grad = _scatter_gradient
    accepts = "any"
    ordered = True
    samples = (
        ([(5, 3), (2, 3), np.array([4, -4])], {"axes": (0,), "mode": "set"}),
        ([(5, 3), (4, 3), np.array([0, 2, 0, -1])], {"axes": (0,), "mode": "add"}),
        ([(3, 4, 2), (2, 2), np.array([0, 2]), np.array([3, 1])], {"axes": (0, 1), "mode": "add"}),
        ([(2, 5), (3, 2), np.array([0, 1, 4])], {"axes": (1,), "mode": "max"}),
    )

    @staticmethod
    def infer(x: TensorType, u: TensorType, *indices: TensorType, axes: Ints, mode: str) -> TensorType:
        shape = _check_indices("scatter", x, indices, axes)
        if mode not in SCATTER_MODES:
            raise ArgumentError(f"scatter: mode {mode!r} is not one of {', '.join(SCATTER_MODES)}")
        wanted = TensorType(x.dtype, (*shape, *(e for k, e in enumerate(x.shape) if k not in axes)))
        if u.shape != wanted.shape:
            raise ShapeError(f"scatter: updates are {u} but {wanted} fit {x} at indices {indices[0]}")
        if u.dtype != x.dtype:
            raise DTypeError(f"scatter: updates are {u} but x is {x}", hint="cast the updates")
        return x


@op
class iota:
    """The index along an axis, as a tensor."""

    kind = "view"
    formula = "y[*i] = i"
    ref = lambda shape, axis, dtype: np.broadcast_to(
        np.arange(shape[axis]).astype(dtype.numpy).reshape([-1 if k == axis else 1 for k in range(len(shape))]),
        shape)
    accepts = "any"
    samples = (([], {"shape": (3, 4), "axis": 1, "dtype": dtypes.i64}), ([], {"shape": (3,), "axis": 0,
                                                                             "dtype": dtypes.f32}))

    @staticmethod
    def infer(*, shape: Shape, axis: int, dtype: DType) -> TensorType:
        if not 0 <= axis < len(shape):
            raise ShapeError(f"iota: axis {axis} of shape {list(shape)}")
        return TensorType(dtype, tuple(shape))

    @staticmethod
    def element(i: Shape, *, shape: Shape, axis: int, dtype: DType) -> Expr:
        return IndexValue(i[axis], dtype.arithmetic)


def _sort_array(x: Any, axis: int, descending: bool) -> tuple[Any, Any]:
    if descending:
        flipped = np.flip(x, axis)
        order = x.shape[axis] - 1 - np.flip(np.argsort(flipped, axis=axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis=axis, kind="stable")
    return np.take_along_axis(x, order, axis), order


def _sort_gradient(g: Any, x: Any, y: Any, axis: int, descending: bool) -> list[Any]:
    """Every gradient goes back to the place its element came from."""
    from_values, order = g[0], y[1]
    if from_values is None:
        return [None]
    shape = type_of(x).shape
    indices = [order if k == axis else iota_like(x, shape, k)
               for k in range(len(shape))]
    return [apply("scatter", full_like(from_values, 0.0), from_values, *indices,
                  axes=tuple(range(len(shape))), mode="set")]


@op
class sort:
    """Elements in order along an axis, and the index each came from; equal elements keep their order, NaN
    is the largest."""

    kind = "opaque"
    formula = "y[*i] = x[*j]"
    ref = _sort_array
    grad = _sort_gradient
    ordered = True
    samples = (([(3, 5)], {"axis": 1, "descending": False}), ([(4, 2)], {"axis": 0, "descending": True}))

    @staticmethod
    def infer(x: TensorType, *, axis: int, descending: bool) -> tuple[TensorType, TensorType]:
        if not 0 <= axis < x.rank:
            raise ShapeError(f"sort: axis {axis} of {x}")
        return x, TensorType(dtypes.i64, x.shape)
