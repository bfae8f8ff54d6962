"""Blocks of places moved between channels and spatial axes, and crops around the centre."""

from __future__ import annotations

from typing import Any

from intaglio.ops.compositions.basic import axis_of, reshape
from intaglio.ops.registry import prim
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared.errors import ArgumentError, ShapeError, UnsupportedError


def _mode(call: OnnxCall, x: Operand) -> str:
    mode = str(call.attr("mode", "DCR"))
    if mode not in ("DCR", "CRD"):
        raise ArgumentError(f"{call.node.op_type}: mode {mode!r} is neither DCR nor CRD")
    if len(x.shape) != 4:
        raise ShapeError(f"{call.node.op_type}: {list(x.shape)} has not four axes")
    return mode


@onnx_op("DepthToSpace")
def depth_to_space(call: OnnxCall, x: Operand) -> Any:
    size, mode = call.required("blocksize"), _mode(call, x)
    n, channels, height, width = x.shape
    if isinstance(channels, int) and channels % (size * size):
        raise ShapeError(f"DepthToSpace: {channels} channels are no multiple of {size} x {size}")
    inner = channels // (size * size)
    if mode == "DCR":
        apart, order = (n, size, size, inner, height, width), (0, 3, 4, 1, 5, 2)
    else:
        apart, order = (n, inner, size, size, height, width), (0, 1, 4, 2, 5, 3)
    moved = prim.transpose(reshape(x, apart), perm=order)
    return reshape(moved, (n, inner, height * size, width * size))


@onnx_op("SpaceToDepth")
def space_to_depth(call: OnnxCall, x: Operand) -> Any:
    size, mode = call.required("blocksize"), _mode(call, x)
    n, channels, height, width = x.shape
    if any(isinstance(e, int) and e % size for e in (height, width)):
        raise ShapeError(f"SpaceToDepth: {height} x {width} is no multiple of {size}")
    apart = reshape(x, (n, channels, height // size, size, width // size, size))
    moved = prim.transpose(apart, perm=(0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4))
    return reshape(moved, (n, channels * size * size, height // size, width // size))


@onnx_op("CenterCropPad", 18)
def center_crop_pad(call: OnnxCall, x: Operand, shape: Operand) -> Any:
    rank = len(x.shape)
    wanted = call.ints(shape, "the shape")
    axes = [axis_of(a, rank, "axis") for a in call.attr("axes") or range(rank)]
    if len(axes) != len(wanted):
        raise ShapeError(f"CenterCropPad: {len(wanted)} extents for axes {axes}")
    padding = [(0, 0)] * rank
    for axis, target in zip(axes, wanted, strict=True):
        extent = x.shape[axis]
        if not isinstance(extent, int) or not isinstance(target, int):
            raise UnsupportedError(
                f"CenterCropPad: axis {axis} goes from {extent} to {target} elements",
                hint="give the symbols fixed sizes with shapes=",
            )
        low = -((extent - target) // 2) if extent >= target else (target - extent) // 2
        padding[axis] = (low, target - extent - low)
    return prim.pad(x, padding=tuple(padding), mode="constant", value=0.0)
