"""Applying an operator to whatever holds tensors: NumPy arrays, eager tensors, graph values.

A holder offers `__intaglio_apply__(op, operands, attrs)` and `__intaglio_lift__(number_or_array,
dtype)`; arrays need neither. Elementwise operators are made to fit here, once: plain numbers take the
other operand's type, types are promoted, shapes are broadcast by explicit `cast` and `broadcast`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce, wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from intaglio.ops.budget import current_budget
from intaglio.ops.registry import REGISTRY, Op
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import DTypeError, IntaglioError, ShapeError
from intaglio.shared.index import IndexLike
from intaglio.shared.regions import Region, region
from intaglio.shared.types import TensorType
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
    budget = current_budget()
    if budget is not None:
        budget.weigh(op, types, inferred, attrs)
    with np.errstate(all="ignore"):
        results = op.ref(*(_arithmetic(arrays) if _computes(op, attrs) else arrays), **attrs)
    many = results if isinstance(results, tuple) else (results,)
    shaped = tuple(
        np.asarray(r).astype(t.dtype.numpy, copy=False).reshape(t.shape)  # type: ignore[arg-type]
        for r, t in zip(many, inferred, strict=True)
    )
    return shaped if isinstance(results, tuple) else shaped[0]


def _computes(op: Op, attrs: dict[str, Any]) -> bool:
    """Whether an operator computes with its operands itself: views move them, loops hand them to a body."""
    return op.kind != "view" and not any(hasattr(value, "run") for value in attrs.values())


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
    held = getattr(value, "type", None)
    if isinstance(held, TensorType):
        return held
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    return TensorType(dtypes.from_numpy(array.dtype), array.shape)


def _lift(operands: Sequence[Any], holder: Any) -> list[Any]:
    if holder is None:
        return [np.asarray(x) for x in operands]
    return [x if hasattr(x, "__intaglio_apply__") else holder.__intaglio_lift__(x, None) for x in operands]


def _fit(op: Op, operands: list[Any], holder: Any) -> list[Any]:
    """Lift numbers, promote types and broadcast shapes of an elementwise operator's operands."""
    own = 1 if op.name == "where" else 0
    common = None if op.name == "cast" else _common_dtype(operands[own:], holder)
    if op.accepts == ("float",) and common is not None and not common.is_float:
        common = dtypes.f32
    fitted = [_as_dtype(x, None if k < own else common, holder) for k, x in enumerate(operands)]
    shapes = [type_of(x).shape for x in fitted]
    if all(s == shapes[0] for s in shapes):
        return fitted
    whole = broadcast_shapes(op.name, shapes)
    return [
        x if shape == whole else REGISTRY["broadcast"](x, shape=whole)
        for x, shape in zip(fitted, shapes, strict=True)
    ]


def _is_number(x: Any, holder: Any) -> bool:
    """Plain numbers have no type of their own; NumPy's scalars have one, except beside a tensor."""
    return isinstance(x, (bool, int, float)) and (holder is not None or not isinstance(x, np.generic))


def _common_dtype(operands: Sequence[Any], holder: Any) -> DType | None:
    """The type of an operation, as PyTorch has it: tensors with dimensions decide before those without,
    and these before plain numbers; a later group counts only when it is of a higher kind."""
    groups: tuple[list[DType], ...] = ([], [], [])
    for x in operands:
        if _is_number(x, holder):
            groups[2].append(_dtype_of_number(x))
        else:
            type_ = type_of(x)
            groups[0 if type_.shape else 1].append(type_.dtype)
    common: DType | None = None
    for group in groups:
        if group:
            found = reduce(dtypes.promote, group)
            if common is None or dtypes.is_higher(found, common):
                common = found
    return common


def _dtype_of_number(x: Any) -> DType:
    return dtypes.bool_ if isinstance(x, bool) else dtypes.i64 if isinstance(x, int) else dtypes.f32


def _as_dtype(x: Any, dtype: DType | None, holder: Any) -> Any:
    if _is_number(x, holder):
        array = _as_array(x, dtype)
        return array if holder is None else holder.__intaglio_lift__(array, dtype)
    if holder is None:
        x = np.asarray(x)
    elif not hasattr(x, "__intaglio_apply__"):
        x = holder.__intaglio_lift__(x, None)
    if dtype is not None and type_of(x).dtype != dtype:
        return REGISTRY["cast"](x, dtype=dtype)
    return x


def _as_array(number: Any, dtype: DType | None) -> Any:
    try:
        return np.asarray(number, dtype.numpy if dtype else None)
    except OverflowError:
        raise DTypeError(f"{number} is no {dtype or dtypes.i64}", hint="cast the other operand") from None


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
