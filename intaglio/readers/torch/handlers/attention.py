"""Scaled-dot-product attention, one region of the graph."""

from __future__ import annotations

import math
from typing import Any

from intaglio.ops.compositions import attention
from intaglio.ops.compositions.basic import dtype_of, shape_of
from intaglio.ops.compositions.functions import logical_not, logical_or
from intaglio.ops.compositions.reduction import any as any_of
from intaglio.ops.registry import prim
from intaglio.readers.torch.handlers.creation import dropped
from intaglio.readers.torch.registry import FxCall, aten


@aten("scaled_dot_product_attention")
def attend(
    call: FxCall,
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    dropout: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """A place whose mask lets it see nothing gives zeros, as PyTorch has it, not the mean of nothing."""
    seeing = None
    if mask is not None:
        mask, seeing = _with_sight(mask)
    drop = (lambda weights: dropped(call, weights, dropout)) if dropout else None
    y = attention.scaled_dot_product_attention(q, k, v, mask, is_causal, scale, enable_gqa, drop)
    return y if seeing is None else prim.where(seeing, y, 0)


def _with_sight(mask: Any) -> tuple[Any, Any]:
    """The mask with the rows opened that let nothing through, and which rows were not such."""
    if dtype_of(mask).kind == "bool":
        seeing = any_of(mask, -1, True)
        return logical_or(mask, logical_not(seeing)), seeing
    seeing = any_of(prim.ne(mask, -math.inf), -1, True)
    return prim.where(seeing, mask, 0), seeing


@aten("_scaled_dot_product_flash_attention_for_cpu")
def flash_attend(call: FxCall, q: Any, k: Any, v: Any, dropout: float = 0.0, is_causal: bool = False, *,
                 attn_mask: Any = None, scale: float | None = None) -> Any:  # fmt: skip
    """Only the result, not the log-sum-exp of the scores; a head of k may serve several of q."""
    shared = shape_of(q)[1] != shape_of(k)[1]
    y = attend(call, q, k, v, attn_mask, dropout, is_causal, scale=scale, enable_gqa=shared)
    return y, None
