"""Reading between elements: grids of coordinates."""

from __future__ import annotations

from typing import Any

from intaglio.ops.compositions import sampling
from intaglio.ops.compositions.basic import convert, dtype_of
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import UnsupportedError

MODES = {"bilinear": "linear", "bicubic": "cubic"}


@onnx_op("GridSample", 16)
def grid_sample(call: OnnxCall, x: Operand, grid: Operand) -> Any:
    mode = call.attr("mode", "linear")
    dtype = dtype_of(x)
    wide = x if mode == "nearest" else convert(x, dtypes.promote(dtype, dtypes.f32))
    y = sampling.grid_sample(
        wide,
        grid,
        MODES.get(mode, mode),
        call.attr("padding_mode", "zeros"),
        bool(call.attr("align_corners", 0)),
    )
    return convert(y, dtype)


@onnx_op("AffineGrid", 20)
def affine_grid(call: OnnxCall, theta: Operand, size: Operand) -> Any:
    extents = call.ints(size, "the size")[2:]
    if not all(isinstance(e, int) for e in extents):
        raise UnsupportedError(
            f"AffineGrid: size {list(extents)} is not fixed", hint="give the symbols fixed sizes with shapes="
        )
    call.afford(*extents, len(extents) + 1)
    return sampling.affine_grid(theta, extents, bool(call.attr("align_corners", 0)))
