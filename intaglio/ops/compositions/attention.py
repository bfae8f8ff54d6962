"""Attention, with PyTorch's arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from intaglio.ops.compositions.activation import softmax
from intaglio.ops.compositions.basic import dtype_of, iota_like, rank_of, reshape, shape_of, static, transpose
from intaglio.ops.compositions.indexing import repeat_interleave
from intaglio.ops.compositions.linear import linear, matmul
from intaglio.ops.dispatch import composition
from intaglio.ops.registry import prim
from intaglio.shared.errors import ArgumentError, ShapeError


@composition
def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    dropout: Callable[[Any], Any] | None = None,
) -> Any:
    """`softmax(query @ key^T * scale + mask) @ value` over the last two dimensions.

    Args:
        query, key, value: `[*batch, places, features]`; value may have other features.
        attn_mask: truth values (False is left out), or numbers to add to the scores.
        is_causal: a place sees itself and those before it.
        scale: by default one over the root of the number of features.
        enable_gqa: key and value have fewer heads (third last dimension), each for several of the query.
        dropout: what is done to the weights before they meet the values.
    """
    if attn_mask is not None and is_causal:
        raise ArgumentError("attention: attn_mask and is_causal exclude each other")
    if enable_gqa:
        heads = shape_of(query)[-3]
        key, value = (
            repeat_interleave(x, static(heads // shape_of(x)[-3], "heads"), -3) for x in (key, value)
        )
    if shape_of(query)[-1] != shape_of(key)[-1] or shape_of(key)[-2] != shape_of(value)[-2]:
        shown = ", ".join(str(list(shape_of(x))) for x in (query, key, value))
        raise ShapeError(f"attention: query, key and value are {shown}")
    features = static(shape_of(query)[-1], "attention")
    factor = 1 / math.sqrt(features) if scale is None else scale
    rank = rank_of(key)
    turned = transpose(key, (*range(rank - 2), rank - 1, rank - 2))
    scores = matmul(query * factor, turned)
    if is_causal:
        attn_mask = _causal(scores)
    if attn_mask is not None:
        scores = _masked(scores, attn_mask)
    weights = softmax(scores, -1)
    return matmul(weights if dropout is None else dropout(weights), value)


def _causal(scores: Any) -> Any:
    """Whether the second last index is not below the last."""
    shape = shape_of(scores)[-2:]
    return prim.le(iota_like(scores, shape, 1), iota_like(scores, shape, 0))


def _masked(scores: Any, mask: Any) -> Any:
    if dtype_of(mask).kind == "bool":
        return prim.where(mask, scores, -math.inf)
    return scores + mask


@composition
def multi_head_attention(
    query: Any,
    key: Any,
    value: Any,
    num_heads: int,
    in_weights: tuple[Any, Any, Any],
    in_biases: tuple[Any, Any, Any] | None,
    out_weight: Any,
    out_bias: Any = None,
    attn_mask: Any = None,
    is_causal: bool = False,
) -> Any:
    """Attention of several heads between projections of the last dimension.

    Args:
        query, key, value: `[batch, places, features]`.
        in_weights, in_biases: the projections of query, key and value.
        attn_mask: as in `scaled_dot_product_attention`, broadcast to `[batch, heads, places, places]`.
    """
    biases = in_biases or (None, None, None)
    projected = [linear(x, w, b) for x, w, b in zip((query, key, value), in_weights, biases, strict=True)]
    q, k, v = (_split_heads(x, num_heads) for x in projected)
    y = scaled_dot_product_attention(q, k, v, attn_mask, is_causal)
    batch, heads, places, features = shape_of(y)
    joined = reshape(transpose(y, (0, 2, 1, 3)), (batch, places, heads * features))
    return linear(joined, out_weight, out_bias)


def _split_heads(x: Any, heads: int) -> Any:
    batch, places, features = shape_of(x)
    if static(features, "attention") % heads:
        raise ShapeError(f"attention: {features} features do not divide into {heads} heads")
    return transpose(reshape(x, (batch, places, heads, features // heads)), (0, 2, 1, 3))
