"""Attention in linear time: a state that every place updates and reads, and causal convolution with one."""

from __future__ import annotations

import math
from typing import Any

from intaglio.ops.compositions.activation import silu
from intaglio.ops.compositions.basic import convert, dtype_of, full_like, reshape, static, transpose
from intaglio.ops.compositions.indexing import concat
from intaglio.ops.registry import prim
from intaglio.readers.onnx.handlers.convolution import add_channels
from intaglio.readers.onnx.handlers.recurrent import scan
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, ShapeError

RULES = ("linear", "gated", "delta", "gated_delta")


@onnx_op("LinearAttention", 27)
def linear_attention(
    call: OnnxCall,
    query: Operand,
    key: Operand,
    value: Operand,
    past: Operand | None = None,
    decay: Operand | None = None,
    beta: Operand | None = None,
) -> Any:
    """One `scan` over the places, in f32; the state is `[batch, heads, key features, value features]`."""
    rule = call.attr("update_rule", "gated_delta")
    own, heads = call.required("q_num_heads"), call.required("kv_num_heads")
    if rule not in RULES or own < 1 or heads < 1 or own % heads:
        raise ArgumentError(
            f"LinearAttention: rule {rule!r} with {own} heads of the query, {heads} of the key"
        )
    gated, delta = rule in ("gated", "gated_delta"), rule in ("delta", "gated_delta")
    if gated != (decay is not None) or delta != (beta is not None):
        raise ArgumentError(f"LinearAttention: rule {rule!r} does not fit the inputs decay and beta")
    batch, places, width = query.shape
    features = static(width, "LinearAttention") // own
    q, k, v = _places_first(query, own), _places_first(key, heads), _places_first(value, heads)
    q = reshape(q, (places, batch, heads, own // heads, features))
    rows = [q, k, v] + [_places_first(x, _heads(x, heads)) for x in (decay, beta) if x is not None]
    state = (batch, heads, features, v.shape[-1])
    start = full_like(v, 0, state) if past is None else convert(past, dtypes.f32)

    def step(carry: list[Any], row: list[Any], _: list[Any]) -> tuple[list[Any], list[Any]]:
        held, new = carry[0], row[2]
        if gated:
            held = held * reshape(prim.exp(row[3]), (*row[3].shape, 1))
        if delta:
            new = row[-1] * (new - prim.dot(held, row[1], spec="bhdm,bhd->bhm"))
        held = held + reshape(row[1], (*row[1].shape, 1)) * reshape(new, (batch, heads, 1, new.shape[-1]))
        return [held], [prim.dot(row[0], held, spec="bhgd,bhdm->bhgm")]

    (last,), (read,) = scan(call, step, [start], rows, [], places)
    scale = call.attr("scale", 0.0) or 1 / math.sqrt(features)
    joined = reshape(transpose(read * scale, (1, 0, 2, 3, 4)), (batch, places, own * v.shape[-1]))
    return convert(joined, dtype_of(query)), convert(last, dtype_of(query if past is None else past))


def _places_first(x: Any, heads: int) -> Any:
    """`[batch, places, heads * features]` as `[places, batch, heads, features]` in f32."""
    batch, places, width = x.shape
    if isinstance(width, int) and width % heads:
        raise ShapeError(f"LinearAttention: {width} features do not divide into {heads} heads")
    apart = reshape(convert(x, dtypes.f32), (batch, places, heads, width // heads))
    return transpose(apart, (1, 0, 2, 3))


def _heads(x: Operand, heads: int) -> int:
    """The heads of a gate, which may have one number for all."""
    return 1 if x.shape[-1] == 1 else heads


@onnx_op("CausalConvWithState", 27)
def causal_conv_with_state(
    call: OnnxCall,
    x: Operand,
    weight: Operand,
    bias: Operand | None = None,
    past: Operand | None = None,
) -> Any:
    """A convolution of every channel with the places before, which the state holds between calls."""
    activation = call.attr("activation", "none")
    if activation not in ("none", "silu", "swish"):
        raise ArgumentError(f"CausalConvWithState: activation {activation!r} is unknown")
    batch, channels, places = x.shape
    before = static(weight.shape[2], "CausalConvWithState") - 1
    start = full_like(x, 0, (batch, channels, before)) if past is None else past
    whole = concat([start, x], 2) if before else x
    y = prim.conv(
        whole,
        weight,
        strides=(1,),
        dilations=(1,),
        padding=((0, 0),),
        groups=static(channels, "CausalConvWithState"),
    )
    y = add_channels(y, bias)
    return silu(y) if activation != "none" else y, _last(whole, places, before)


def _last(x: Any, start: Any, count: int) -> Any:
    """The last places of a signal."""
    batch, channels, _ = x.shape
    return prim.slice(x, start=(0, 0, start), stop=(batch, channels, start + count), step=(1, 1, 1))
