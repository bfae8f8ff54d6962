"""Pooling over windows and over whole channels, and the inverse of the former."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from intaglio.ops.compositions import pooling
from intaglio.ops.compositions.basic import constant_like, iota_like, reshape, shape_of, static
from intaglio.ops.compositions.reduction import amax, mean, norm
from intaglio.ops.registry import prim
from intaglio.readers.onnx.handlers.convolution import auto_pad, given_pads, per_axis, window_pads
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared.errors import ShapeError


def _window(call: OnnxCall, x: Operand) -> dict[str, Any]:
    """The settings of a pooling over windows, as the compositions take them."""
    rank = len(x.shape) - 2
    kernel = tuple(int(k) for k in call.required("kernel_shape"))
    if len(kernel) != rank:
        raise ShapeError(f"{call.node.op_type}: kernel_shape {list(kernel)} for {rank} spatial axes")
    strides, dilations = per_axis(call, "strides", rank), per_axis(call, "dilations", rank)
    return {
        "kernel_size": kernel,
        "stride": strides,
        "padding": window_pads(call, x.shape[2:], kernel, strides, dilations),
        "dilation": dilations,
        "ceil_mode": auto_pad(call) == "NOTSET" and bool(call.attr("ceil_mode", 0)),
    }


@onnx_op("MaxPool")
def max_pool(call: OnnxCall, x: Operand) -> Any:
    rank = len(x.shape) - 2
    if not call.wants(1):
        return pooling.max_pool(rank, x, **_window(call, x))
    y, place = pooling.max_pool(rank, x, **_window(call, x), return_indices=True)
    size = [static(e, "MaxPool with indices") for e in x.shape[2:]]
    if call.attr("storage_order", 0):
        place = _column_major(place, size)
    sample = iota_like(place, shape_of(place), 0) * x.shape[1] + iota_like(place, shape_of(place), 1)
    return y, sample * math.prod(size) + place


def _column_major(place: Any, size: list[int]) -> Any:
    """Row-major places as column-major ones."""
    total: Any = 0
    for k in reversed(range(len(size))):
        inner = math.prod(size[k + 1 :])
        at = prim.remainder(prim.floor_div(place, inner), size[k])
        total = at + total * size[k]
    return total


@onnx_op("AveragePool")
def average_pool(call: OnnxCall, x: Operand) -> Any:
    include = bool(call.attr("count_include_pad", 0))
    return pooling.avg_pool(len(x.shape) - 2, x, **_window(call, x), count_include_pad=include)


@onnx_op("LpPool")
def lp_pool(call: OnnxCall, x: Operand) -> Any:
    return pooling.lp_pool(len(x.shape) - 2, prim.abs(x), call.attr("p", 2), **_window(call, x))


def _spatial(x: Operand) -> tuple[int, ...]:
    return tuple(range(2, len(x.shape)))


@onnx_op("GlobalAveragePool")
def global_average_pool(_: OnnxCall, x: Operand) -> Any:
    return mean(x, _spatial(x), keepdim=True)


@onnx_op("GlobalMaxPool")
def global_max_pool(_: OnnxCall, x: Operand) -> Any:
    return amax(x, _spatial(x), keepdim=True)


@onnx_op("GlobalLpPool")
def global_lp_pool(call: OnnxCall, x: Operand) -> Any:
    return norm(x, call.attr("p", 2), _spatial(x), keepdim=True)


@onnx_op("MaxUnpool")
def max_unpool(call: OnnxCall, x: Operand, indices: Operand, output_shape: Operand | None = None) -> Any:
    """Places count in the extents that the window implies; a larger `output_shape` adds zeros at the ends."""
    rank = len(x.shape) - 2
    kernel = [int(k) for k in call.required("kernel_shape")]
    strides, pads = per_axis(call, "strides", rank), given_pads(call, rank)
    size = [
        (static(n, "MaxUnpool") - 1) * s - low - high + k
        for n, s, (low, high), k in zip(x.shape[2:], strides, pads, kernel, strict=True)
    ]
    place = prim.remainder(indices, constant_like(indices, np.asarray(math.prod(size), np.int64)))
    y = pooling.max_unpool(rank, x, place, size)
    if output_shape is None:
        return y
    wanted = call.ints(output_shape, "the output's shape")
    grown = tuple((0, w - n) for w, n in zip(wanted, shape_of(y), strict=True))
    return reshape(prim.pad(y, padding=grown, mode="constant", value=0.0), wanted)
