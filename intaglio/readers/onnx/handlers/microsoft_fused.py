"""Fused float operators of ONNX Runtime's own domain, as its optimiser writes them."""

from __future__ import annotations

from functools import partial
from typing import Any

from intaglio.ops.compositions import activation
from intaglio.ops.compositions.basic import (
    convert,
    dtype_of,
    full_like,
    iota_like,
    rank_of,
    reshape,
    shape_of,
    static,
    transpose,
)
from intaglio.ops.compositions.functions import clamp, rsqrt
from intaglio.ops.compositions.indexing import embedding, narrow, stack
from intaglio.ops.compositions.linear import matmul
from intaglio.ops.compositions.reduction import mean, var_mean
from intaglio.ops.dispatch import composition
from intaglio.ops.registry import prim
from intaglio.readers.onnx.handlers.activation import swish
from intaglio.readers.onnx.handlers.convolution import conv
from intaglio.readers.onnx.handlers.indexing import trilu
from intaglio.readers.onnx.handlers.linear import gemm
from intaglio.readers.onnx.handlers.recurrent import ACTIVATIONS
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, ShapeError, UnsupportedError

microsoft = partial(onnx_op, domain="com.microsoft")


@microsoft("Gelu")
@microsoft("BiasGelu")
def gelu(_: OnnxCall, x: Operand, bias: Operand | None = None) -> Any:
    return activation.gelu(x if bias is None else prim.add(x, bias))


@microsoft("FastGelu")
def fast_gelu(_: OnnxCall, x: Operand, bias: Operand | None = None) -> Any:
    return activation.gelu(x if bias is None else prim.add(x, bias), "tanh")


@microsoft("QuickGelu")
def quick_gelu(call: OnnxCall, x: Operand) -> Any:
    return swish(x, call.attr("alpha", 1.702))


microsoft("Trilu")(trilu)


def activated(name: str, x: Any, parameters: list[float]) -> Any:
    """An activation function by the name that fused operators have for it."""
    if name in ("", "Identity"):
        return x
    if name == "Clip":
        return clamp(x, *parameters)
    if name.lower() not in ACTIVATIONS:
        raise UnsupportedError(f"activation {name!r} is not supported")
    function, defaults = ACTIVATIONS[name.lower()]
    return function(x, *(parameters or defaults)[: len(defaults)])


@microsoft("FusedConv")
def fused_conv(
    call: OnnxCall, x: Operand, w: Operand, bias: Operand | None = None, added: Operand | None = None
) -> Any:
    y = conv(call, x, w, bias)
    y = y if added is None else y + added
    return activated(call.attr("activation", ""), y, list(call.attr("activation_params") or ()))


@microsoft("FusedGemm")
def fused_gemm(call: OnnxCall, a: Operand, b: Operand, c: Operand | None = None) -> Any:
    names = ("activation_alpha", "activation_beta", "activation_gamma")
    parameters = [v for v in map(call.attr, names) if v is not None]
    return activated(call.attr("activation", ""), gemm(call, a, b, c), parameters)


@microsoft("FusedMatMul")
@microsoft("TransposeMatMul")
def fused_matmul(call: OnnxCall, a: Operand, b: Operand) -> Any:
    """Operands may have their last axes exchanged, or the first of them before all others."""
    left = _turned(a, call.attr("transA", 0), call.attr("transBatchA", 0))
    right = _turned(b, call.attr("transB", 0), call.attr("transBatchB", 0))
    alpha = call.attr("alpha", 1.0)
    y = matmul(left, right)
    return y if alpha == 1 else y * alpha


def _turned(x: Operand, last: int, batch: int) -> Any:
    rank = rank_of(x)
    if rank < 2:
        return x
    order = [*range(1, rank - 1), 0, rank - 1] if batch else list(range(rank))
    if last:
        order[-2:] = reversed(order[-2:])
    return transpose(x, order)


@composition
def normalized(x: Any, eps: float, scale: Any, bias: Any, centre: bool) -> tuple[Any, Any, Any]:
    """The last axis with unit variance (around 0 without `centre`), the mean, and the inverse deviation."""
    wide = convert(x, dtypes.promote(dtype_of(x), dtypes.f32))
    if centre:
        spread, average = var_mean(wide, -1, correction=0, keepdim=True)
        inverse = rsqrt(spread + eps)
        y = (wide - average) * inverse
    else:
        average = None
        inverse = rsqrt(mean(wide * wide, -1, keepdim=True) + eps)
        y = wide * inverse
    y = y * scale
    return convert(y if bias is None else y + bias, dtype_of(x)), average, inverse


@onnx_op("SimplifiedLayerNormalization")
@microsoft("SimplifiedLayerNormalization")
def simplified_layer_normalization(call: OnnxCall, x: Operand, scale: Operand) -> Any:
    if call.attr("axis", -1) not in (-1, rank_of(x) - 1):
        raise UnsupportedError("SimplifiedLayerNormalization along other axes than the last")
    y, _, inverse = normalized(x, call.attr("epsilon", 1e-5), scale, None, centre=False)
    return y, inverse


@microsoft("SkipLayerNormalization")
def skip_layer_normalization(
    call: OnnxCall,
    x: Operand,
    skip: Operand,
    scale: Operand,
    shift: Operand | None = None,
    bias: Operand | None = None,
) -> Any:
    total = _skipped(x, skip, bias)
    return *normalized(total, call.attr("epsilon", 1e-12), scale, shift, centre=True), total


@microsoft("SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(
    call: OnnxCall, x: Operand, skip: Operand, scale: Operand, bias: Operand | None = None
) -> Any:
    total = _skipped(x, skip, bias)
    return *normalized(total, call.attr("epsilon", 1e-12), scale, None, centre=False), total


def _skipped(x: Operand, skip: Operand, bias: Operand | None) -> Any:
    total = prim.add(x, skip)
    return total if bias is None else total + bias


@microsoft("EmbedLayerNormalization")
def embed_layer_normalization(
    call: OnnxCall,
    ids: Operand,
    segments: Operand | None,
    words: Operand,
    positions: Operand,
    kinds: Operand | None,
    scale: Operand,
    shift: Operand,
    mask: Operand | None = None,
    places: Operand | None = None,
) -> Any:
    """Embeddings of words, places and segments added and normalised; then the lengths by the mask."""
    batch, count = shape_of(ids)
    if places is None:
        places = iota_like(ids, (1, count), 1)
    total = embedding(ids, words) + embedding(places, positions)
    if segments is not None and kinds is not None:
        total = total + embedding(segments, kinds)
    y, _, _ = normalized(total, call.attr("epsilon", 1e-12), scale, shift, centre=True)
    if mask is None:
        lengths = full_like(ids, 0, (batch,), dtypes.i32)
    else:
        lengths = prim.sum(convert(mask, dtypes.i32), axes=(1,))
    return y, lengths, total


@microsoft("CDist")
def pairwise_distances(call: OnnxCall, a: Operand, b: Operand) -> Any:
    """Distances between all rows of one matrix and all of another."""
    metric = call.attr("metric", "sqeuclidean")
    if metric not in ("sqeuclidean", "euclidean"):
        raise UnsupportedError(f"CDist: metric {metric!r} is not supported")
    difference = prim.sub(reshape(a, (shape_of(a)[0], 1, -1)), reshape(b, (1, *shape_of(b))))
    squares = prim.sum(difference * difference, axes=(2,))
    return squares if metric == "sqeuclidean" else prim.sqrt(squares)


def unpacked(x: Any, bits: int, count: int) -> Any:
    """The numbers packed into the bytes of the last axis, low bits first; the first `count` of them."""
    if bits == 8:
        return x
    parts = [prim.and_(prim.shr(x, k * bits), (1 << bits) - 1) for k in range(8 // bits)]
    wide = stack(parts, -1)
    return narrow(reshape(wide, (*shape_of(x)[:-1], -1)), -1, 0, count)


@microsoft("MatMulNBits")
def matmul_n_bits(
    call: OnnxCall,
    a: Operand,
    packed: Operand,
    scales: Operand,
    zeros: Operand | None = None,
    groups: Operand | None = None,
    bias: Operand | None = None,
) -> Any:
    """A product with weights of few bits, `[columns, blocks, bytes]`, each block with a scale."""
    rows, columns = call.required("K"), call.required("N")
    bits, block = call.attr("bits", 4), call.required("block_size")
    if bits not in (2, 4, 8):
        raise ArgumentError(f"MatMulNBits: {bits} bits; 2, 4 and 8 are known")
    if groups is not None:
        raise UnsupportedError("MatMulNBits: an order of groups (g_idx) is not supported")
    count = -(-rows // block)
    if static(shape_of(packed)[1], "MatMulNBits") != count:
        raise ShapeError(f"MatMulNBits: {list(shape_of(packed))} for {rows} rows in blocks of {block}")
    codes = convert(unpacked(packed, bits, block), dtype_of(a))
    if zeros is None:
        shift: Any = float(1 << (bits - 1))
    else:
        if dtype_of(zeros) == dtypes.u8:
            zeros = unpacked(reshape(zeros, (columns, -1)), bits, count)
        shift = reshape(convert(zeros, dtype_of(a)), (columns, count, 1))
    whole = (codes - shift) * reshape(scales, (columns, count, 1))
    weight = narrow(reshape(whole, (columns, count * block)), 1, 0, rows)
    y = matmul(a, transpose(weight, (1, 0)))
    return y if bias is None else y + bias
