"""Attention operators of ONNX Runtime's own domain."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from intaglio.ops.compositions.activation import softmax
from intaglio.ops.compositions.basic import convert, iota_like, rank_of, reshape, shape_of, static
from intaglio.ops.compositions.indexing import concat, get_items, narrow, select, stack
from intaglio.ops.compositions.linear import matmul
from intaglio.ops.registry import prim
from intaglio.readers.onnx import quantized as q
from intaglio.readers.onnx.handlers.attention import (
    attended,
    attention_scores,
    join_heads,
    rotated,
    split_heads,
)
from intaglio.readers.onnx.handlers.microsoft_quantized import scaled_product
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, ShapeError, UnsupportedError

microsoft = partial(onnx_op, domain="com.microsoft")


def refuse(call: OnnxCall, *names: str) -> None:
    """Raise UnsupportedError when one of the attributes is given."""
    for name in names:
        if call.attr(name, 0):
            raise UnsupportedError(f"{call.node.op_type} with attribute {name!r} is not supported")


def attend(
    call: OnnxCall, query: Any, key: Any, value: Any, hidden: list[Any], added: Operand | None = None
) -> Any:
    """Attention of heads. Where a condition of `hidden` holds, a large negative number joins the score."""
    scale = call.attr("scale", 0.0) or 1 / math.sqrt(static(query.shape[3], call.node.op_type))
    scores = attention_scores(prim.mul(query, scale), key)
    scores = scores if added is None else scores + added
    for condition in hidden:
        scores = scores + prim.where(condition, call.attr("mask_filter_value", -10000.0), 0.0)
    return join_heads(attended(softmax(scores, -1), value))


def hidden_keys(call: OnnxCall, mask: Operand | None, query: Any, key: Any, causal: bool) -> list[Any]:
    """Conditions for the keys that a query does not see: by a mask, and by their place."""
    count, keys = query.shape[2], key.shape[2]
    conditions = []
    if mask is not None:
        rank, batch = rank_of(mask), query.shape[0]
        place = iota_like(key, (1, keys), 1)
        if rank == 1 and shape_of(mask)[0] == batch:
            conditions.append(reshape(prim.le(reshape(mask, (-1, 1)), place), (batch, 1, 1, keys)))
        elif rank == 1 and shape_of(mask)[0] == 2 * batch:
            end, start = (reshape(narrow(mask, 0, k * batch, batch), (-1, 1)) for k in range(2))
            outside = prim.or_(prim.le(end, place), prim.lt(place, start))
            conditions.append(reshape(outside, (batch, 1, 1, keys)))
        elif rank in (2, 3) and shape_of(mask)[-1] == keys:
            whole = (shape_of(mask)[0], 1, *((1,) if rank == 2 else ()), *shape_of(mask)[1:])
            conditions.append(reshape(prim.eq(mask, 0), whole))
        else:
            raise UnsupportedError(
                f"{call.node.op_type}: a mask {list(shape_of(mask))} for {keys} keys of {batch} samples"
            )
    if causal:
        rows, columns = iota_like(key, (count, keys), 0), iota_like(key, (count, keys), 1)
        conditions.append(prim.lt(rows + static(keys - count, call.node.op_type), columns))
    return conditions


def parts_of(call: OnnxCall, projected: Any, heads: int) -> list[Any]:
    """Query, key and value from their joint projection."""
    width = static(shape_of(projected)[-1], call.node.op_type)
    sizes = call.attr("qkv_hidden_sizes") or [width // 3] * 3
    if sum(sizes) != width:
        raise ShapeError(f"{call.node.op_type}: {width} features are not {sizes}")
    starts = [0, sizes[0], sizes[0] + sizes[1]]
    return [split_heads(narrow(projected, -1, s, n), heads) for s, n in zip(starts, sizes, strict=True)]


def self_attention(
    call: OnnxCall, projected: Any, mask: Operand | None, past: Operand | None, added: Operand | None
) -> Any:
    """What follows the projection in `Attention`; the second result is what the next call needs as past."""
    refuse(call, "do_rotary", "past_present_share_buffer")
    query, key, value = parts_of(call, projected, call.required("num_heads"))
    if past is not None:
        key, value = (concat([select(past, 0, k), x], 2) for k, x in enumerate((key, value)))
    hidden = hidden_keys(call, mask, query, key, bool(call.attr("unidirectional", 0)))
    y = attend(call, query, key, value, hidden, added)
    return (y, stack([key, value], 0)) if call.wants(1) else y


@microsoft("Attention")
def attention(
    call: OnnxCall,
    x: Operand,
    weight: Operand,
    bias: Operand | None = None,
    mask: Operand | None = None,
    past: Operand | None = None,
    added: Operand | None = None,
) -> Any:
    projected = matmul(x, weight)
    return self_attention(call, projected if bias is None else projected + bias, mask, past, added)


@microsoft("QAttention")
def quantized_attention(
    call: OnnxCall,
    x: Operand,
    weight: Operand,
    bias: Operand,
    x_scale: Operand,
    weight_scale: Operand,
    mask: Operand | None = None,
    x_zero: Operand | None = None,
    weight_zero: Operand | None = None,
    past: Operand | None = None,
) -> Any:
    zero = None if x_zero is None else q.scalar_or(x_zero, ())
    projected = scaled_product(x, q.scalar_or(x_scale, ()), zero, weight, weight_scale, weight_zero, bias)
    return self_attention(call, projected, mask, past, None)


@microsoft("MultiHeadAttention")
def multi_head_attention(
    call: OnnxCall,
    query: Operand,
    key: Operand | None = None,
    value: Operand | None = None,
    bias: Operand | None = None,
    mask: Operand | None = None,
    added: Operand | None = None,
    past_key: Operand | None = None,
    past_value: Operand | None = None,
) -> Any:
    heads = call.required("num_heads")
    if key is None or value is None or rank_of(query) != 3:
        raise UnsupportedError("MultiHeadAttention of packed tensors is not supported")
    given: list[Any] = [query, key, value]
    if bias is not None:
        widths = [static(shape_of(query)[-1], "MultiHeadAttention")] * 2
        widths.append(static(shape_of(bias)[0], "MultiHeadAttention") - 2 * widths[0])
        starts = (0, widths[0], 2 * widths[0])
        for k, (start, width) in enumerate(zip(starts, widths, strict=True)):
            if rank_of(given[k]) == 3:
                given[k] = given[k] + narrow(bias, 0, start, width)
    own, k, v = (x if rank_of(x) == 4 else split_heads(x, heads) for x in given)
    if past_key is not None and past_value is not None:
        k, v = concat([past_key, k], 2), concat([past_value, v], 2)
    hidden = hidden_keys(call, mask, own, k, bool(call.attr("unidirectional", 0)))
    return attend(call, own, k, v, hidden, added), k, v


def angles(cos: Operand, sin: Operand, positions: Any) -> tuple[Any, Any]:
    """Cosines and sines of places, `[batch, places, half]`."""
    return get_items(cos, [positions]), get_items(sin, [positions])


@microsoft("RotaryEmbedding")
def rotary_embedding(call: OnnxCall, x: Operand, positions: Operand, cos: Operand, sin: Operand) -> Any:
    """Positions are those of all places, or of the first."""
    refuse(call, "is_packed_batching")
    flat = rank_of(x) == 3
    width = static(shape_of(cos)[-1], "RotaryEmbedding") * 2
    heads = call.attr("num_heads", 0) or (static(shape_of(x)[-1], "RotaryEmbedding") // width if flat else 0)
    y = split_heads(x, heads) if flat else x
    batch, places = shape_of(y)[0], shape_of(y)[2]
    if rank_of(positions) == 1:
        positions = prim.broadcast(
            reshape(positions, (1, 1)) + iota_like(x, (1, places), 1), shape=(batch, places)
        )
    y = rotated(y, *angles(cos, sin, positions), width, bool(call.attr("interleaved", 0)))
    return join_heads(y) if flat else y


@microsoft("GroupQueryAttention")
def group_query_attention(
    call: OnnxCall,
    query: Operand,
    key: Operand | None,
    value: Operand | None,
    past_key: Operand | None,
    past_value: Operand | None,
    last: Operand,
    total: Operand,
    cos: Operand | None = None,
    sin: Operand | None = None,
    *rest: Operand | None,
) -> Any:
    """Causal attention with caches: `last` is the place of each sample's last token. New keys are written
    behind those of the past; a cache has room for the `total` length."""
    refuse(call, "smooth_softmax", "do_rotary_packed", "kv_cache_bit_width", "qk_output")
    if any(x is not None for x in rest):
        raise UnsupportedError(
            "GroupQueryAttention with positions, bias or sinks of its own is not supported"
        )
    heads, shared = call.required("num_heads"), call.required("kv_num_heads")
    (length,) = call.ints(total, "the total length")
    own, new_key, new_value = _grouped_parts(query, key, value, heads, shared)
    batch, count = own.shape[0], static(own.shape[2], "GroupQueryAttention")
    step = iota_like(own, (batch, count), 1)
    first = 0 if count == length else reshape(convert(last, dtypes.i64), (-1, 1)) + (1 - count)
    places = step + first
    if call.attr("do_rotary", 0):
        if cos is None or sin is None:
            raise ArgumentError("GroupQueryAttention: rotary embeddings need their cosines and sines")
        turn, width = angles(cos, sin, places), static(shape_of(cos)[-1], "GroupQueryAttention") * 2
        interleaved = bool(call.attr("rotary_interleaved", 0))
        own, new_key = (rotated(x, *turn, width, interleaved) for x in (own, new_key))
    room = max(length, static(shape_of(past_key)[2], "the cache") if past_key is not None else 0)
    k, v = (_written(past, new, places, room) for past, new in ((past_key, new_key), (past_value, new_value)))
    at, seen_from = iota_like(own, (1, 1, 1, room), 3), reshape(places, (batch, 1, count, 1))
    seen = prim.le(at, seen_from)
    window = call.attr("local_window_size", -1)
    if window >= 0:
        seen = prim.and_(seen, prim.lt(seen_from - window, at))
    scale = call.attr("scale", 0.0) or 1 / math.sqrt(static(own.shape[3], "GroupQueryAttention"))
    scores = attention_scores(own * scale, k)
    cap = call.attr("softcap", 0.0)
    scores = prim.tanh(scores / cap) * cap if cap else scores
    weights = softmax(prim.where(seen, scores, -math.inf), -1)
    return join_heads(attended(weights, v)), k, v


def _grouped_parts(
    query: Operand, key: Operand | None, value: Operand | None, heads: int, shared: int
) -> tuple[Any, Any, Any]:
    """Query, key and value by heads; without keys the query holds all three."""
    if key is None or value is None:
        size = static(shape_of(query)[-1], "GroupQueryAttention") // (heads + 2 * shared)
        starts, counts = (0, heads, heads + shared), (heads, shared, shared)
        parts = [narrow(query, -1, s * size, n * size) for s, n in zip(starts, counts, strict=True)]
    else:
        parts = [query, key, value]
    own, other, third = (split_heads(x, n) for x, n in zip(parts, (heads, shared, shared), strict=True))
    return own, other, third


def _written(past: Operand | None, new: Any, places: Any, room: int) -> Any:
    """A cache of some room with new rows at the places of each sample."""
    batch = new.shape[0]
    if past is None:
        past = new * 0 if room == new.shape[2] else None
    if past is None:
        raise ShapeError("GroupQueryAttention: there is no past for places behind it")
    held = static(shape_of(past)[2], "the cache")
    if held < room:
        past = prim.pad(past, padding=((0, 0), (0, 0), (0, room - held), (0, 0)), mode="constant", value=0.0)
    rows = prim.transpose(new, perm=(0, 2, 1, 3))
    sample = iota_like(new, (batch, rows.shape[1]), 0)
    return prim.scatter(past, rows, sample, places, axes=(0, 2), mode="set")
