"""PyTorch's fused operators of transformers in evaluation, as what they are made of."""

from __future__ import annotations

import math
from typing import Any

from intaglio.ops.compositions import attention, indexing, normalization
from intaglio.ops.compositions.activation import gelu, relu, softmax
from intaglio.ops.compositions.basic import reshape, shape_of, static, transpose
from intaglio.ops.compositions.functions import logical_not
from intaglio.ops.compositions.linear import linear, matmul
from intaglio.ops.compositions.reduction import mean
from intaglio.ops.registry import prim
from intaglio.readers.torch.registry import FxCall, aten

OF_PLACES, OF_KEYS = 0, 1  # what a mask is about; others have all four dimensions


@aten("_native_multi_head_attention")
def native_attention(
    call: FxCall,
    query: Any,
    key: Any,
    value: Any,
    features: int,
    heads: int,
    weight: Any,
    bias: Any,
    out_weight: Any,
    out_bias: Any,
    mask: Any = None,
    need_weights: bool = True,
    average_weights: bool = True,
    mask_type: int | None = None,
) -> Any:
    """The result, and the weights where they are wanted; the mask says what is left out."""
    parts = [(indexing.slice_axis(weight, 0, k * features, (k + 1) * features),
              indexing.slice_axis(bias, 0, k * features, (k + 1) * features)) for k in range(3)]  # fmt: skip
    q, k, v = (_heads(linear(x, *p), heads) for x, p in zip((query, key, value), parts, strict=True))
    seen = None if mask is None else logical_not(_by_scores(mask, mask_type))
    y = transpose(attention.scaled_dot_product_attention(q, k, v, seen), (0, 2, 1, 3))
    batch, places = shape_of(y)[:2]
    y = linear(reshape(y, (batch, places, features)), out_weight, out_bias)
    if not need_weights:
        return y, None
    scores = matmul(q * (1 / math.sqrt(features // heads)), transpose(k, (0, 1, 3, 2)))
    weights = softmax(scores if seen is None else prim.where(seen, scores, -math.inf), -1)
    return y, mean(weights, 1) if average_weights else weights


def _heads(x: Any, heads: int) -> Any:
    batch, places, features = shape_of(x)
    size = static(features, "attention") // heads
    return transpose(reshape(x, (batch, places, heads, size)), (0, 2, 1, 3))


def _by_scores(mask: Any, mask_type: int | None) -> Any:
    """A mask with the dimensions of the scores: batch, heads, places, places."""
    if mask_type == OF_PLACES:
        return reshape(mask, (1, 1, *shape_of(mask)))
    if mask_type == OF_KEYS:
        batch, places = shape_of(mask)
        return reshape(mask, (batch, 1, 1, places))
    return mask


@aten("_transformer_encoder_layer_fwd")
def encoder_layer(
    call: FxCall,
    x: Any,
    features: int,
    heads: int,
    weight: Any,
    bias: Any,
    out_weight: Any,
    out_bias: Any,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: Any,
    norm_bias_1: Any,
    norm_weight_2: Any,
    norm_bias_2: Any,
    weight_1: Any,
    bias_1: Any,
    weight_2: Any,
    bias_2: Any,
    mask: Any = None,
    mask_type: int | None = None,
) -> Any:
    """Attention and two products, each added to what it is of; norms behind the sums or before the parts."""

    def norm(x: Any, scale: Any, shift: Any, wanted: bool) -> Any:
        return normalization.layer_norm(x, (features,), scale, shift, eps) if wanted else x

    before = norm(x, norm_weight_1, norm_bias_1, norm_first)
    projections = (weight, bias, out_weight, out_bias)
    seen, _ = native_attention(
        call, before, before, before, features, heads, *projections, mask, False, True, mask_type
    )
    x = norm(x + seen, norm_weight_1, norm_bias_1, not norm_first)
    before = norm(x, norm_weight_2, norm_bias_2, norm_first)
    inner = linear(before, weight_1, bias_1)
    y = linear(gelu(inner) if use_gelu else relu(inner), weight_2, bias_2)
    return norm(x + y, norm_weight_2, norm_bias_2, not norm_first)
