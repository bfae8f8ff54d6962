"""Applying an operator to whatever holds tensors: NumPy arrays, eager tensors, graph values.

A holder offers `__intaglio_apply__(op, operands, attrs)` and `__intaglio_lift__(number_or_array,
dtype)`; arrays need neither. Elementwise operators are made to fit here, once: plain numbers take the
other operand's type, types are promoted, shapes are broadcast by explicit `cast` and `broadcast`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from intaglio.ops.registry import REGISTRY, Op
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import IntaglioError, ShapeError
from intaglio.shared.index import IndexLike
from intaglio.shared.regions import Region, region
from intaglio.shared.where import caller

P = ParamSpec("P")
T = TypeVar("T")


def dispatch(op: Op, operands: Sequence[Any], attrs: dict[str, Any]) -> Any:
    """Apply `op`; the holder is the first operand that is one."""
    holder = next((x for x in operands if hasattr(x, "__intaglio_apply__")), None)
    try:
        fitted = _fit(op, list(operands), holder) if op.kind == "map" else _lift(operands, holder)
        if holder is None:
            return evaluate(op, fitted, attrs)
        return holder.__intaglio_apply__(op, fitted, attrs)
    except IntaglioError as error:
        if error.where is None:
            error.where = caller()
        raise


def evaluate(op: Op, arrays: Sequence[Any], attrs: dict[str, Any]) -> Any:
    """Run the NumPy oracle after the shape rule has passed; results have exactly the inferred types."""
    types = [type_of(a) for a in arrays]
    inferred = op.infer(types, attrs)
    with np.errstate(all="ignore"):
        results = op.ref(*(arrays if op.kind == "view" else _arithmetic(arrays)), **attrs)
    many = results if isinstance(results, tuple) else (results,)
    shaped = tuple(
        np.asarray(r).astype(t.dtype.numpy, copy=False).reshape(t.shape)  # type: ignore[arg-type]
        for r, t in zip(many, inferred, strict=True)
    )
    return shaped if isinstance(results, tuple) else shaped[0]


def _arithmetic(arrays: Sequence[Any]) -> list[Any]:
    """f16 and bf16 are computed in f32, as the generated C does."""
    widened = []
    for a in arrays:
        a = np.asarray(a)
        dtype = dtypes.from_numpy(a.dtype)
        widened.append(a.astype(np.float32) if dtype.arithmetic != dtype else a)
    return widened


def type_of(value: Any) -> Any:
    """The TensorType of an array, tensor or graph value."""
    from intaglio.shared.types import TensorType

    held = getattr(value, "type", None)
    if isinstance(held, TensorType):
        return held
    array = np.asarray(value)
    return TensorType(dtypes.from_numpy(array.dtype), array.shape)


def _lift(operands: Sequence[Any], holder: Any) -> list[Any]:
    if holder is None:
        return [np.asarray(x) for x in operands]
    return [x if hasattr(x, "__intaglio_apply__") else holder.__intaglio_lift__(x, None) for x in operands]


def _fit(op: Op, operands: list[Any], holder: Any) -> list[Any]:
    """Lift numbers, promote types and broadcast shapes of an elementwise operator's operands."""
    typed = [x for x in operands if not isinstance(x, (bool, int, float))]
    first = 1 if op.name == "where" else 0
    common = _common_dtype(
        [type_of(x).dtype for x in operands[first:] if any(x is t for t in typed)],
        [x for x in operands[first:] if not any(x is t for t in typed)],
    )
    if op.accepts == ("float",) and common is not None and not common.is_float:
        common = dtypes.f32
    fitted = []
    for position, x in enumerate(operands):
        target = None if position < first or op.name == "cast" else common
        fitted.append(_as_dtype(x, target, holder))
    shapes = [type_of(x).shape for x in fitted]
    if all(s == shapes[0] for s in shapes):
        return fitted
    shape = broadcast_shapes(op.name, shapes)
    return [x if type_of(x).shape == shape else REGISTRY["broadcast"](x, shape=shape) for x in fitted]


def _common_dtype(typed: list[DType], numbers: list[Any]) -> DType | None:
    common: DType | None = None
    for dtype in typed:
        common = dtype if common is None else dtypes.promote(common, dtype)
    for number in numbers:
        weak = (
            dtypes.bool_
            if isinstance(number, bool)
            else dtypes.i64
            if isinstance(number, int)
            else dtypes.f32
        )
        order = ("bool", "uint", "int", "float")
        if common is None or (
            order.index(weak.kind) > order.index(common.kind)
            and not (weak.kind == "int" and common.kind == "uint")
        ):
            common = weak
    return common


def _as_dtype(x: Any, dtype: DType | None, holder: Any) -> Any:
    if isinstance(x, (bool, int, float)) or (holder is not None and not hasattr(x, "__intaglio_apply__")):
        lifted_type = dtype if isinstance(x, (bool, int, float)) else None
        if holder is None:
            return np.asarray(x, dtype.numpy if dtype else None)
        x = holder.__intaglio_lift__(x, lifted_type)
    if dtype is not None and type_of(x).dtype != dtype:
        return REGISTRY["cast"](x, dtype=dtype)
    return x if holder is not None else np.asarray(x)


def broadcast_shapes(name: str, shapes: Sequence[tuple[IndexLike, ...]]) -> tuple[IndexLike, ...]:
    """The common shape by NumPy's rule. Raises ShapeError naming both shapes."""
    rank = max(len(s) for s in shapes)
    result: list[IndexLike] = [1] * rank
    for shape in shapes:
        for k, extent in enumerate(shape, rank - len(shape)):
            if result[k] == 1:
                result[k] = extent
            elif extent not in (1, result[k]):
                shown = " and ".join(str(list(s)) for s in shapes)
                raise ShapeError(
                    f"{name}: shapes {shown} do not broadcast: axis {k - rank} is "
                    f"{result[k]} in one and {extent} in another",
                    hint="extents must be equal or 1, counted from the last axis",
                )
    return tuple(result)


def composition(function: Callable[P, T]) -> Callable[P, T]:
    """Keep what a Python function over primitives makes as one named region."""
    name = function.__name__

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        with region(name):
            return function(*args, **kwargs)

    return wrapped


__all__ = [
    "Region",
    "broadcast_shapes",
    "composition",
    "dispatch",
    "evaluate",
    "region",
    "type_of",
]
