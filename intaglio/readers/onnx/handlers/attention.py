"""Attention: with masks, windows, caches and groups of heads; rotary embeddings; updates of caches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from intaglio.ops.compositions.activation import softmax
from intaglio.ops.compositions.basic import (
    axis_of,
    constant_like,
    convert,
    dtype_of,
    expand,
    full_like,
    iota_like,
    movedim,
    reshape,
    static,
    transpose,
)
from intaglio.ops.compositions.indexing import concat, get_items, narrow, select, stack
from intaglio.ops.dispatch import composition
from intaglio.ops.registry import prim
from intaglio.readers.onnx.elements import plain_type
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, ShapeError
from intaglio.shared.index import IndexLike

OUTPUT_RAW, OUTPUT_CAPPED, OUTPUT_MASKED, OUTPUT_SOFTMAX = range(4)


def split_heads(x: Any, heads: int) -> Any:
    """`[batch, places, heads * features]` as `[batch, heads, places, features]`."""
    batch, places, width = x.shape
    if isinstance(width, int) and width % heads:
        raise ShapeError(f"attention: {width} features do not divide into {heads} heads")
    return transpose(reshape(x, (batch, places, heads, width // heads)), (0, 2, 1, 3))


def join_heads(x: Any) -> Any:
    """`[batch, heads, places, features]` as `[batch, places, heads * features]`."""
    batch, heads, places, features = x.shape
    return reshape(transpose(x, (0, 2, 1, 3)), (batch, places, heads * features))


def _groups(q: Any, k: Any) -> int:
    """How many heads of the query share one of the key."""
    own, other = static(q.shape[1], "attention heads"), static(k.shape[1], "attention heads")
    if other == 0 or own % other:
        raise ShapeError(f"attention: {own} heads of the query share {other} of the key")
    return own // other


@composition
def attention_scores(q: Any, k: Any) -> Any:
    """Products of every query with every key of its head, `[batch, heads, places, places]`."""
    groups = _groups(q, k)
    if groups == 1:
        return prim.dot(q, k, spec="bhqd,bhkd->bhqk")
    batch, heads, places, features = q.shape
    grouped = reshape(q, (batch, heads // groups, groups, places, features))
    scores = prim.dot(grouped, k, spec="bhgqd,bhkd->bhgqk")
    return reshape(scores, (batch, heads, places, k.shape[2]))


@composition
def attended(weights: Any, v: Any) -> Any:
    """Sums of the values of a head by weights."""
    groups = _groups(weights, v)
    if groups == 1:
        return prim.dot(weights, v, spec="bhqk,bhkd->bhqd")
    batch, heads, places, keys = weights.shape
    grouped = reshape(weights, (batch, heads // groups, groups, places, keys))
    return reshape(prim.dot(grouped, v, spec="bhgqk,bhkd->bhgqd"), (batch, heads, places, v.shape[3]))


class Mask:
    """Which keys a query sees: a condition, and numbers added to the scores; either may be None."""

    def __init__(self) -> None:
        self.allowed: Any = None
        self.added: Any = None

    def only(self, condition: Any) -> None:
        self.allowed = condition if self.allowed is None else prim.and_(self.allowed, condition)

    def apply(self, scores: Any) -> Any:
        scores = scores if self.added is None else prim.add(scores, self.added)
        return scores if self.allowed is None else prim.where(self.allowed, scores, -math.inf)

    def seen(self) -> Any:
        """Whether a query sees any key, with a last axis of extent 1; None when all do."""
        reachable = self.allowed
        if self.added is not None:
            finite = prim.lt(-math.inf, self.added)
            reachable = finite if reachable is None else prim.and_(reachable, finite)
        if reachable is None:
            return None
        rank = len(reachable.shape)
        return reshape(prim.reduce_or(reachable, axes=(rank - 1,)), (*reachable.shape[:-1], 1))


def _mask_of(
    call: OnnxCall,
    q: Any,
    keys: IndexLike,
    attn_mask: Operand | None,
    past: Operand | None,
    lengths: Operand | None,
) -> Mask:
    """The mask of an attention whose keys are `keys` in number, those of the past among them."""
    mask = Mask()
    if attn_mask is not None:
        whole = _continued(attn_mask, keys)
        if dtype_of(whole).kind == "bool":
            mask.only(whole)
        else:
            mask.added = whole
    query, key = iota_like(q, (q.shape[2], 1), 0), iota_like(q, (1, keys), 1)
    sizes = None
    place: Any = query
    if lengths is not None:
        sizes = reshape(convert(lengths, dtypes.i64), (-1, 1, 1, 1))
        place = query + (sizes - _count(q, q.shape[2]))
    elif past is not None:
        place = query + _count(q, past.shape[2])
    left, right = call.attr("left_window_size", -1), call.attr("right_window_size", -1)
    if min(left, right) < -1:
        raise ArgumentError(f"Attention: windows {left} and {right}; -1 is the least")
    if call.attr("is_causal", 0):
        mask.only(prim.le(key, place))
    if left >= 0:
        mask.only(prim.le(place - left, key))
    if right >= 0:
        mask.only(prim.le(key, place + right))
    if sizes is not None:
        mask.only(prim.lt(key, sizes))
    return mask


def _count(like: Any, extent: IndexLike) -> Any:
    """An extent as a number in the graph."""
    if isinstance(extent, int):
        return constant_like(like, np.asarray(extent, np.int64))
    return prim.sum(full_like(like, 1, (extent,), dtypes.i64), axes=(0,))


def _continued(mask: Operand, keys: IndexLike) -> Any:
    """A mask continued to all keys: what it does not name is not seen."""
    rank = len(mask.shape)
    if rank == 0 or mask.shape[-1] == keys:
        return mask
    value = 0.0 if dtype_of(mask).kind == "bool" else -math.inf
    padding = (*((0, 0),) * (rank - 1), (0, keys - mask.shape[-1]))
    return prim.pad(mask, padding=padding, mode="constant", value=value)


@onnx_op("Attention", 23)
def attention(
    call: OnnxCall,
    q: Operand,
    k: Operand,
    v: Operand,
    attn_mask: Operand | None = None,
    past_key: Operand | None = None,
    past_value: Operand | None = None,
    lengths: Operand | None = None,
) -> Any:
    flat = len(q.shape) == 3
    if flat:
        own, other = call.required("q_num_heads"), call.required("kv_num_heads")
        q, k, v = split_heads(q, own), split_heads(k, other), split_heads(v, other)
    if (past_key is None) != (past_value is None) or (past_key is not None and lengths is not None):
        raise ArgumentError("Attention: past keys and values go together, and without nonpad_kv_seqlen")
    if past_key is not None:
        k, v = concat([past_key, k], 2), concat([past_value, v], 2)
    dtype = dtype_of(q)
    scale = call.attr("scale")
    scale = 1 / math.sqrt(static(q.shape[3], "Attention")) if scale is None else scale
    mask = _mask_of(call, q, k.shape[2], attn_mask, past_key, lengths)
    kept: list[Any] = [_scaled_scores(q, k, scale)]
    cap = call.attr("softcap", 0.0)
    kept.append(prim.tanh(kept[0] / cap) * cap if cap > 0 else kept[0])
    kept.append(mask.apply(kept[1]))
    kept.append(_probabilities(call, kept[2], mask, dtype))
    y = attended(kept[OUTPUT_SOFTMAX], v)
    shown = kept[call.attr("qk_matmul_output_mode", OUTPUT_RAW)] if call.wants(3) else None
    return (
        join_heads(y) if flat else y,
        k if call.wants(1) else None,
        v if call.wants(2) else None,
        None if shown is None else convert(shown, dtype),
    )


def _scaled_scores(q: Any, k: Any, scale: float) -> Any:
    """Scores times the scale, by which queries are multiplied; in narrow types, where products could
    overflow, queries and keys both by its root."""
    if dtype_of(q).arithmetic == dtype_of(q):
        return attention_scores(prim.mul(q, scale), k)
    root = math.sqrt(scale)
    return attention_scores(prim.mul(q, root), prim.mul(k, root))


def _probabilities(call: OnnxCall, scores: Any, mask: Mask, dtype: dtypes.DType) -> Any:
    """The softmax of scores in the precision asked for; 0 for a query that sees no key."""
    code = call.attr("softmax_precision")
    wide = dtype if code is None else plain_type(code)
    weights = convert(softmax(convert(scores, wide), -1), dtype)
    seen = mask.seen()
    return weights if seen is None else prim.where(seen, weights, 0)


@onnx_op("FlexAttention", 1, "ai.onnx.preview")
def flex_attention(call: OnnxCall, q: Operand, k: Operand, v: Operand) -> Any:
    """Attention whose scores and probabilities inner graphs may change."""
    dtype, code = dtype_of(q), call.attr("softmax_precision")
    wide = dtypes.promote(dtype, dtypes.f32)
    wide = wide if code is None else plain_type(code)
    scale = call.attr("scale")
    scale = 1 / math.sqrt(static(q.shape[3], "FlexAttention")) if scale is None else scale
    weights = convert(attention_scores(prim.mul(q, scale), k), wide)
    for name in ("score_mod", "prob_mod"):
        body = call.attr(name)
        if body is not None:
            (weights,) = call.importer.subgraph(body, [weights])
        if name == "score_mod":
            weights = softmax(weights, -1)
    return attended(convert(weights, dtype), v)


@onnx_op("RotaryEmbedding", 23)
def rotary_embedding(
    call: OnnxCall, x: Operand, cos: Operand, sin: Operand, positions: Operand | None = None
) -> Any:
    """Pairs of features turned by the angle of their place; the pairs lie side by side or in two halves."""
    flat = len(x.shape) == 3
    y = split_heads(x, call.required("num_heads")) if flat else x
    features = static(y.shape[3], "RotaryEmbedding")
    width = call.attr("rotary_embedding_dim", 0) or features
    if positions is not None:
        cos, sin = (get_items(c, [positions]) for c in (cos, sin))
    if cos.shape[-1] != width // 2 or sin.shape != cos.shape or width > features:
        raise ShapeError(f"RotaryEmbedding: {width} of {features} features, but the cache is {cos.shape}")
    turned = rotated(y, cos, sin, width, bool(call.attr("interleaved", 0)))
    return join_heads(turned) if flat else turned


@composition
def rotated(x: Any, cos: Any, sin: Any, width: int, interleaved: bool) -> Any:
    """The first `width` features of `[batch, heads, places, features]` turned by angles whose cosines and
    sines are `[batch, places, width / 2]`."""
    (batch, places), half = cos.shape[:2], width // 2
    features = static(x.shape[3], "rotary embedding")
    cos, sin = (reshape(c, (batch, 1, places, half)) for c in (cos, sin))
    turned = narrow(x, -1, 0, width)
    if interleaved:
        pairs = reshape(turned, (*x.shape[:3], half, 2))
        first, second = select(pairs, -1, 0), select(pairs, -1, 1)
    else:
        first, second = narrow(turned, -1, 0, half), narrow(turned, -1, half, half)
    parts = [cos * first - sin * second, sin * first + cos * second]
    turned = reshape(stack(parts, -1), (*x.shape[:3], width)) if interleaved else concat(parts, -1)
    if width < features:
        turned = concat([turned, narrow(x, -1, width, features - width)], -1)
    return turned


@onnx_op("TensorScatter", 24)
def tensor_scatter(call: OnnxCall, cache: Operand, update: Operand, places: Operand | None = None) -> Any:
    """The cache with the update written from a place of each sample on."""
    axis = axis_of(call.attr("axis", -2), len(cache.shape), "axis")
    mode = call.attr("mode", "linear")
    if axis == 0 or mode not in ("linear", "circular"):
        raise ArgumentError(f"TensorScatter: mode {mode!r} on axis {axis}")
    held, new = movedim(cache, axis, 1), movedim(update, axis, 1)
    whole = tuple(new.shape[:2])
    at = iota_like(new, whole, 1)
    if places is not None:
        at = at + reshape(convert(places, dtypes.i64), (-1, 1))
    if mode == "circular":
        at = prim.remainder(at, _count(new, held.shape[1]))
    written = prim.scatter(held, new, iota_like(new, whole, 0), expand(at, whole), axes=(0, 1), mode="set")
    return movedim(written, 1, axis)
