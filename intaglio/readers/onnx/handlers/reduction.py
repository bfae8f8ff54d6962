"""Reductions: axes come as an attribute or, in newer operator sets, as an input."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from intaglio.ops.compositions.basic import convert, expand
from intaglio.ops.dispatch import type_of
from intaglio.ops.registry import lookup
from intaglio.readers.onnx.handlers.elementwise import apply
from intaglio.readers.onnx.handlers.movement import normal_axes, reshape_to
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.index import product

Body = Callable[[Operand, tuple[int, ...]], Any]


def _reduce(name: str, x: Operand, axes: tuple[int, ...]) -> Any:
    return lookup(name)(x, axes=axes) if axes else x


def _extreme(name: str, x: Operand, axes: tuple[int, ...]) -> Any:
    """The largest or smallest element; of none it is what every other element replaces."""
    dtype = type_of(x).dtype
    if dtype == dtypes.bool_:
        return convert(_extreme(name, convert(x, dtypes.u8), axes), dtype)
    if all(extent != 0 for extent in x.shape):
        return _reduce(name, x, axes)
    lowest, highest = _limits(dtype)
    left = tuple(e for k, e in enumerate(x.shape) if k not in axes)
    neutral = np.asarray(lowest if name == "reduce_max" else highest, dtype.numpy)
    return expand(neutral, left)


def _limits(dtype: DType) -> tuple[Any, Any]:
    if dtype.is_float:
        return -np.inf, np.inf
    limits = np.iinfo(np.dtype(dtype.numpy).name)
    return limits.min, limits.max


def _sum(x: Operand, axes: tuple[int, ...]) -> Any:
    return _reduce("sum", x, axes)


def _mean(x: Operand, axes: tuple[int, ...]) -> Any:
    count = product(tuple(x.shape[k] for k in axes))
    return apply("div", _sum(x, axes), np.asarray(count, type_of(x).dtype.numpy))


def _l2(x: Operand, axes: tuple[int, ...]) -> Any:
    return apply("sqrt", _sum(apply("mul", x, x), axes))


def _log_sum_exp(x: Operand, axes: tuple[int, ...]) -> Any:
    if any(extent == 0 for extent in x.shape):
        return apply("log", _sum(apply("exp", x), axes))
    top = _reduce("reduce_max", x, axes)
    kept = tuple(1 if k in axes else e for k, e in enumerate(x.shape))
    shifted = apply("exp", apply("sub", x, reshape_to(top, kept)))
    return apply("add", apply("log", _sum(shifted, axes)), top)


REDUCTIONS: dict[str, Body] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceMax": partial(_extreme, "reduce_max"),
    "ReduceMin": partial(_extreme, "reduce_min"),
    "ReduceProd": partial(_reduce, "prod"),
    "ReduceL1": lambda x, axes: _sum(apply("abs", x), axes),
    "ReduceL2": _l2,
    "ReduceSumSquare": lambda x, axes: _sum(apply("mul", x, x), axes),
    "ReduceLogSum": lambda x, axes: apply("log", _sum(x, axes)),
    "ReduceLogSumExp": _log_sum_exp,
}


def _handle(body: Body, call: OnnxCall, x: Operand, axes: Operand | None = None) -> Any:
    rank = len(x.shape)
    given = call.attr("axes") if axes is None else call.ints(axes, "the axes")
    if given is not None and len(given) == 0:
        given = None
    if given is None and call.attr("noop_with_empty_axes", 0):
        return body(x, ()) if call.node.op_type not in ("ReduceSum", "ReduceMean") else x
    chosen = tuple(range(rank)) if given is None else normal_axes(given, rank, call.node.op_type)
    result = body(x, chosen)
    if not call.attr("keepdims", 1):
        return result
    return reshape_to(result, tuple(1 if k in chosen else e for k, e in enumerate(x.shape)))


for _name, _body in REDUCTIONS.items():
    onnx_op(_name)(partial(_handle, _body))


def _argument(name: str, call: OnnxCall, x: Operand) -> Any:
    axis = call.attr("axis", 0)
    axis = axis + len(x.shape) if axis < 0 else axis
    if call.attr("select_last_index", 0):
        flipped = lookup("slice")(
            x,
            start=tuple(e - 1 if k == axis else 0 for k, e in enumerate(x.shape)),
            stop=tuple(-1 if k == axis else e for k, e in enumerate(x.shape)),
            step=tuple(-1 if k == axis else 1 for k in range(len(x.shape))),
        )
        last = np.asarray(x.shape[axis] - 1, np.int64)
        result = apply("sub", last, lookup(name)(flipped, axes=(axis,)))
    else:
        result = lookup(name)(x, axes=(axis,))
    if not call.attr("keepdims", 1):
        return result
    return reshape_to(result, tuple(1 if k == axis else e for k, e in enumerate(x.shape)))


onnx_op("ArgMax")(partial(_argument, "argmax"))
onnx_op("ArgMin")(partial(_argument, "argmin"))
