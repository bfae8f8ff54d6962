"""Operators whose indices or sizes are data: gather, scatter, iota, sort, prefix."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.ops import expr
from intaglio.ops.dispatch import type_of
from intaglio.ops.elementwise import apply, masked
from intaglio.ops.expr import Expr, IndexValue
from intaglio.ops.like import full_like, iota_like
from intaglio.ops.registry import op
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import ArgumentError, DTypeError, ShapeError, UnsupportedError
from intaglio.shared.index import Dynamic, IndexLike, Var, interval, maximum, minimum, upper, var_index
from intaglio.shared.types import TensorType

Shape = tuple[IndexLike, ...]
Ints = tuple[int, ...]


def bounded_index(value: Expr, extent: IndexLike) -> IndexLike:
    """An index read at run time: negative ones count from the end, and it is clamped into the axis so that
    memory outside is never touched. Of an axis that may be empty the first place is read: there is memory."""
    if isinstance(value, IndexValue):
        lowest = interval(value.index)[0]
        if lowest is not None and lowest >= 0:
            return maximum(minimum(value.index, extent - 1), 0)
    value = expr.cast(value, dtypes.i64)
    wrapped = expr.where(value < 0, value + IndexValue(extent), value)
    bounded = expr.apply("max", expr.apply("min", wrapped, IndexValue(extent - 1)), 0)
    return var_index(Dynamic(bounded, 0, upper(extent - 1)))


def wrap_indices(name: str, indices: Any, extent: int) -> Any:
    """Negative indices counted from the end. Raises ArgumentError for one out of range."""
    indices = np.asarray(indices)
    if indices.size and (indices.min() < -extent or indices.max() >= extent):
        bad = indices[(indices < -extent) | (indices >= extent)].flat[0]
        raise ArgumentError(f"{name}: index {bad} is out of range for an axis of {extent}")
    return np.where(indices < 0, indices.astype(np.int64) + extent, indices.astype(np.int64))


def _check_indices(name: str, x: TensorType, indices: tuple[TensorType, ...], axes: Ints) -> Shape:
    if (
        len(indices) != len(axes)
        or not axes
        or any(not 0 <= k < x.rank for k in axes)
        or len(set(axes)) != len(axes)
    ):
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
    return [
        apply("scatter", full_like(g, 0.0, type_of(x).shape), g, *indices, axes=axes, mode="add"),
        *(None for _ in indices),
    ]


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
        for k, row in enumerate(u.reshape(flat[0].size, *u.shape[at[0].ndim :])):
            y[tuple(j[k] for j in flat)] = row
    else:
        function.at(y, at, u)
    return np.transpose(y, np.argsort(order))


def _scatter_gradient(g: Any, x: Any, u: Any, *rest: Any, axes: Ints, mode: str) -> list[Any]:
    *indices, y = rest
    none = [None for _ in indices]
    if mode == "mul":
        raise UnsupportedError("scatter with mode 'mul' has no derivative", hint="use mode 'add' or 'set'")
    if mode in ("max", "min"):
        return [*_extreme_gradient(g, x, u, y, indices, axes), *none]
    updates = lambda: apply("gather", g, *indices, axes=axes)
    if mode == "add":
        return [g, updates, *none]
    zeros = full_like(u, 0.0)
    return [lambda: apply("scatter", g, zeros, *indices, axes=axes, mode="set"), updates, *none]


def _extreme_gradient(g: Any, x: Any, u: Any, y: Any, indices: list[Any], axes: Ints) -> list[Any]:
    """To the element and the updates that equal the result, in equal parts."""
    own = apply("eq", x, y)
    won = apply("eq", u, apply("gather", y, *indices, axes=axes))
    dtype = type_of(g).dtype
    count = apply("scatter", apply("cast", own, dtype=dtype), apply("cast", won, dtype=dtype), *indices,
                  axes=axes, mode="add")  # fmt: skip
    share = apply("div", g, count)
    return [masked(own, share), lambda: masked(won, apply("gather", share, *indices, axes=axes))]


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
        np.arange(shape[axis])
        .astype(dtype.numpy)
        .reshape([-1 if k == axis else 1 for k in range(len(shape))]),
        shape,
    )
    accepts = "any"
    samples: Any = (
        ([], {"shape": (3, 4), "axis": 1, "dtype": dtypes.i64}),
        ([], {"shape": (3,), "axis": 0, "dtype": dtypes.f32}),
    )

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
    indices = [order if k == axis else iota_like(x, shape, k) for k in range(len(shape))]
    return [
        apply(
            "scatter",
            full_like(from_values, 0.0),
            from_values,
            *indices,
            axes=tuple(range(len(shape))),
            mode="set",
        )
    ]


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


def _prefix_gradient(g: Any, x: Any, count: Any, y: Any, extent: IndexLike) -> list[Any]:
    """The rows that were kept; the others have no part in the result."""
    rows, *rest = type_of(x).shape
    padding = ((0, rows - extent), *((0, 0) for _ in rest))
    return [apply("pad", g, padding=padding, mode="constant", value=0.0), None]


@op
class prefix:
    """The first rows of `x`, as many as `count` says, which is computed at run time.

    `extent` is the symbol that stands for that number in shapes: this operator gives it its value, `count`
    kept inside of the symbol's bounds. Where the number is known, `extent` is that number."""

    kind = "opaque"
    formula = "y[n,*i] = x[n,*i]"
    ref = lambda x, count, extent: x[:extent]
    grad = _prefix_gradient
    accepts = "any"
    samples = (([(4, 3), np.array(2)], {"extent": 2}), ([(3,), np.array(3)], {"extent": 3}))

    @staticmethod
    def infer(x: TensorType, count: TensorType, *, extent: IndexLike) -> TensorType:
        if count != TensorType(dtypes.i64, ()):
            raise ShapeError(f"prefix: the count is {count}, expected i64[]")
        lowest, highest = interval(extent)
        rows = x.shape[0] if x.rank else 0
        if not isinstance(rows, int) or lowest is None or lowest < 0 or highest is None or highest > rows:
            raise ShapeError(f"prefix: {extent} in {lowest} .. {highest} rows are not inside {x}")
        if not (isinstance(extent, int) or (extent.is_atom and isinstance(extent.terms[0][0], Var))):
            raise ShapeError(f"prefix: {extent} is neither a number nor just a symbol")
        return TensorType(x.dtype, (extent, *x.shape[1:]))
