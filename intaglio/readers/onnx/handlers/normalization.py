"""Normalization over batches, layers, groups, channels and vectors."""

from __future__ import annotations

from typing import Any

from onnx import TensorProto

from intaglio.ops.compositions import normalization
from intaglio.ops.compositions.basic import axis_of, convert, dtype_of, expand, reshape
from intaglio.ops.compositions.functions import rsqrt
from intaglio.ops.compositions.reduction import norm, var_mean
from intaglio.ops.reduce import keepdims
from intaglio.ops.registry import prim
from intaglio.readers.onnx.elements import plain_type
from intaglio.readers.onnx.handlers.movement import normal_axes
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import ShapeError


def stash_dtype(call: OnnxCall, x: Operand) -> dtypes.DType:
    """The type in which statistics are computed: that of the attribute `stash_type`, or x's if wider."""
    return dtypes.promote(dtype_of(x), plain_type(call.attr("stash_type", TensorProto.FLOAT)))


def affine(y: Any, scale: Operand, bias: Operand | None) -> Any:
    y = prim.mul(y, scale)
    return y if bias is None else prim.add(y, bias)


@onnx_op("BatchNormalization")
def batch_normalization(
    call: OnnxCall, x: Operand, scale: Operand, bias: Operand, mean: Operand, var: Operand
) -> Any:
    """With given statistics, or in training with the batch's own; the latter also move the given ones."""
    if not call.attr("spatial", 1):
        flat = reshape(x, (x.shape[0], -1))
        parts = _batch_normalized(call, flat, *(reshape(v, (-1,)) for v in (scale, bias, mean, var)))
        return (reshape(parts[0], x.shape), *(reshape(p, x.shape[1:]) for p in parts[1:]))
    return _batch_normalized(call, x, scale, bias, mean, var)


def _batch_normalized(
    call: OnnxCall, x: Operand, scale: Operand, bias: Operand, mean: Operand, var: Operand
) -> tuple[Any, ...]:
    eps, momentum = call.attr("epsilon", 1e-5), call.attr("momentum", 0.9)
    training = call.attr("training_mode", 0) if call.version >= 14 else call.outputs > 1
    if not training:
        return (convert(normalization.batch_norm(x, mean, var, scale, bias, eps), dtype_of(x)),)
    axes = tuple(k for k in range(len(x.shape)) if k != 1)
    own_var, own_mean = var_mean(convert(x, dtypes.promote(dtype_of(x), dtypes.f32)), axes, correction=0)
    y = convert(normalization.batch_norm(x, own_mean, own_var, scale, bias, eps), dtype_of(x))
    moved = [
        convert(prim.mul(given, momentum) + prim.mul(own, 1 - momentum), dtype_of(given))
        for given, own in ((mean, own_mean), (var, own_var))
    ]
    return (y, *moved, *(convert(own, dtype_of(mean)) for own in (own_mean, own_var)))


@onnx_op("InstanceNormalization")
def instance_normalization(call: OnnxCall, x: Operand, scale: Operand, bias: Operand) -> Any:
    return normalization.instance_norm(x, scale, bias, call.attr("epsilon", 1e-5))


@onnx_op("LayerNormalization")
def layer_normalization(call: OnnxCall, x: Operand, scale: Operand, bias: Operand | None = None) -> Any:
    axis, eps = axis_of(call.attr("axis", -1), len(x.shape), "axis"), call.attr("epsilon", 1e-5)
    wide = convert(x, stash_dtype(call, x))
    if not call.wants(1) and not call.wants(2):
        normal = normalization.layer_norm(wide, x.shape[axis:], eps=eps)
        return affine(convert(normal, dtype_of(x)), scale, bias)
    axes = tuple(range(axis, len(x.shape)))
    spread, average = var_mean(wide, axes, correction=0, keepdim=True)
    inverse = rsqrt(spread + eps)
    y = affine(convert((wide - average) * inverse, dtype_of(x)), scale, bias)
    stash = plain_type(call.attr("stash_type", TensorProto.FLOAT))
    return y, convert(average, stash), convert(inverse, stash)


@onnx_op("RMSNormalization")
def rms_normalization(call: OnnxCall, x: Operand, scale: Operand) -> Any:
    axis = axis_of(call.attr("axis", -1), len(x.shape), "axis")
    wide = convert(x, stash_dtype(call, x))
    normal = normalization.rms_norm(wide, x.shape[axis:], eps=call.attr("epsilon", 1e-5))
    return affine(convert(normal, dtype_of(x)), scale, None)


@onnx_op("GroupNormalization", 18)
def group_normalization_18(call: OnnxCall, x: Operand, scale: Operand, bias: Operand) -> Any:
    """Here scale and bias have one number per group."""
    groups, channels = call.required("num_groups"), x.shape[1]
    if isinstance(channels, int) and channels % groups:
        raise ShapeError(f"GroupNormalization: {groups} groups of {channels} channels")
    each = (groups, channels // groups)
    own_scale, own_bias = (reshape(expand(reshape(v, (groups, 1)), each), (channels,)) for v in (scale, bias))
    return normalization.group_norm(x, groups, own_scale, own_bias, call.attr("epsilon", 1e-5))


@onnx_op("GroupNormalization", 21)
def group_normalization_21(call: OnnxCall, x: Operand, scale: Operand, bias: Operand) -> Any:
    wide = convert(x, stash_dtype(call, x))
    normal = normalization.group_norm(wide, call.required("num_groups"), eps=call.attr("epsilon", 1e-5))
    ones = (1,) * (len(x.shape) - 2)
    return affine(convert(normal, dtype_of(x)), *(reshape(v, (-1, *ones)) for v in (scale, bias)))


@onnx_op("MeanVarianceNormalization")
def mean_variance_normalization(call: OnnxCall, x: Operand) -> Any:
    axes = normal_axes(call.attr("axes", [0, 2, 3]), len(x.shape), "MeanVarianceNormalization")
    spread, average = var_mean(x, axes, correction=0, keepdim=True)
    return (x - average) / (prim.sqrt(spread) + 1e-9)


@onnx_op("LRN")
def local_response_normalization(call: OnnxCall, x: Operand) -> Any:
    return normalization.local_response_norm(
        x,
        call.required("size"),
        call.attr("alpha", 1e-4),
        call.attr("beta", 0.75),
        call.attr("bias", 1.0),
        more_behind=True,
    )


@onnx_op("LpNormalization")
def lp_normalization(call: OnnxCall, x: Operand) -> Any:
    """A vector without length stays 0."""
    axis = axis_of(call.attr("axis", -1), len(x.shape), "axis")
    length = keepdims(norm(x, call.attr("p", 2), axis), x, (axis,))
    empty = prim.eq(length, 0)
    return prim.where(empty, 0, x / prim.where(empty, 1, length))
