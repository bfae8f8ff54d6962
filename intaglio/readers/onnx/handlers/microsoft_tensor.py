"""Operators on tensors of ONNX Runtime's own domain."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from intaglio.ops.compositions.basic import (
    axis_of,
    convert,
    dtype_of,
    expand,
    iota_like,
    rank_of,
    reshape,
    shape_of,
    static,
    unsqueeze,
)
from intaglio.ops.compositions.indexing import concat, index_select, narrow
from intaglio.ops.registry import prim
from intaglio.readers.onnx import quantized as q
from intaglio.readers.onnx.handlers.indexing import gather_nd
from intaglio.readers.onnx.handlers.microsoft_fused import unpacked
from intaglio.readers.onnx.handlers.movement import pad_11
from intaglio.readers.onnx.handlers.recurrent import scan
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import ShapeError, UnsupportedError

microsoft = partial(onnx_op, domain="com.microsoft")
microsoft("GatherND")(gather_nd)
microsoft("Pad")(pad_11)


@microsoft("ExpandDims")
def expand_dims(call: OnnxCall, x: Operand, axis: Operand) -> Any:
    (place,) = call.ints(axis, "the axis")
    return unsqueeze(x, axis_of(place, rank_of(x) + 1, "axis"))


@microsoft("Inverse")
def inverse(call: OnnxCall, x: Operand) -> Any:
    """By elimination beside the unit matrix, the largest element of a column as pivot."""
    shape = shape_of(x)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ShapeError(f"Inverse: {list(shape)} holds no square matrices")
    n = static(shape[-1], "Inverse")
    matrices = reshape(x, (-1, n, n))
    count = shape_of(matrices)[0]
    unit = expand(reshape(np.eye(n, dtype=dtype_of(x).numpy), (1, n, n)), (count, n, n))
    row = reshape(np.arange(n), (1, n, 1))

    def step(carry: list[Any], rows: list[Any], _: list[Any]) -> tuple[list[Any], list[Any]]:
        whole, k = carry[0], rows[0]
        column = prim.gather(whole, expand(reshape(k, (1,)), (1,)), axes=(2,))
        column = reshape(column, (count, n, 1))
        size = prim.where(prim.lt(row, k), -1, prim.abs(column))
        best = reshape(prim.argmax(reshape(size, (count, n)), axes=(1,)), (count, 1, 1))
        chosen, top = (_row(whole, row, at) for at in (best, k))
        whole = prim.where(prim.eq(row, k), chosen, prim.where(prim.eq(row, best), top, whole))
        here = prim.eq(iota_like(chosen, (1, 1, 2 * n), 2), k)
        pivot = reshape(prim.sum(prim.where(here, chosen, 0), axes=(1, 2)), (count, 1, 1))
        factor = prim.sum(prim.where(here, whole, 0), axes=(2,))
        scaled = chosen / pivot
        return [prim.where(prim.eq(row, k), scaled, whole - reshape(factor, (count, n, 1)) * scaled)], []

    places = iota_like(x, (n,), 0)
    final = scan(call, step, [concat([matrices, unit], 2)], [places], [], n)[0][0]
    return reshape(narrow(final, 2, n, n), shape)


def _row(whole: Any, row: Any, place: Any) -> Any:
    """One row of each matrix, `[n, 1, columns]`."""
    count, _, columns = shape_of(whole)
    return reshape(prim.sum(prim.where(prim.eq(row, place), whole, 0), axes=(1,)), (count, 1, columns))


@microsoft("GatherBlockQuantized")
def gather_block_quantized(
    call: OnnxCall, x: Operand, places: Operand, scales: Operand, zeros: Operand | None = None
) -> Any:
    """Places of an axis of a tensor of few bits: `(code - zero point) * scale`, a scale for each block."""
    bits, block = call.attr("bits", 4), call.attr("block_size", 128)
    if dtype_of(x) != dtypes.u8 or bits not in (4, 8):
        raise UnsupportedError(f"GatherBlockQuantized of {dtype_of(x)} with {bits} bits is not supported")
    axis = axis_of(call.attr("quantize_axis", 1), rank_of(x), "quantize_axis")
    if axis != rank_of(x) - 1:
        raise UnsupportedError("GatherBlockQuantized: bytes are packed along another axis than the last")
    width = static(shape_of(x)[-1], "GatherBlockQuantized") * (8 // bits)
    codes = convert(unpacked(x, bits, width), dtype_of(scales))
    count = static(shape_of(scales)[-1], "GatherBlockQuantized")
    shift: Any = float(1 << (bits - 1))
    if zeros is not None:
        shift = convert(unpacked(zeros, bits, count), dtype_of(scales))
        shift = q.spread(shift, codes, axis, block)
    whole = (codes - shift) * q.spread(scales, codes, axis, block)
    return index_select(whole, call.attr("gather_axis", 0), places)
