"""Attention and its relatives of ONNX, against its reference evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx_cases import Case, assert_agree, case, f32, with_reference

B, HEADS, KV, Q, K, D, V = 2, 4, 2, 3, 5, 8, 6
SEEN = np.tril(np.ones((Q, K), bool), 1)
LENGTHS = np.array([3, 5], np.int64)


def attention(
    mask: Any = None,
    past: int = 0,
    lengths: Any = None,
    heads: int = HEADS,
    outputs: int = 1,
    **attributes: Any,
) -> Case:
    """Grouped heads with random inputs; `past` keys lie in a cache."""
    inputs = [f32(B, heads, Q, D), f32(B, KV, K - past, D), f32(B, KV, K - past, V), mask]
    inputs += [f32(B, KV, past, D), f32(B, KV, past, V)] if past else [None, None]
    return case("Attention", *inputs, lengths, outputs=outputs, **attributes)


def flat(outputs: int = 1, **attributes: Any) -> Case:
    """Heads side by side on the last axis."""
    inputs = [f32(B, Q, HEADS * D), f32(B, K, KV * D), f32(B, K, KV * V)]
    return case("Attention", *inputs, outputs=outputs, q_num_heads=HEADS, kv_num_heads=KV, **attributes)


CACHE = f32(6, 4)
ATTENTION = {
    "grouped": attention(),
    "scaled": attention(heads=KV, scale=0.3, softcap=2.0),
    "causal": attention(is_causal=1),
    "mask": attention(SEEN),
    "mask_added": attention(f32(B, 1, Q, K), is_causal=1),
    "mask_short": attention(SEEN[:, :4]),
    "mask_of_nothing": attention(np.zeros((Q, K), bool)),
    "past": attention(None, 2, is_causal=1, outputs=3),
    "lengths": attention(None, 0, LENGTHS, is_causal=1),
    "lengths_short": attention(f32(Q, K), 0, np.array([1, 4], np.int64), is_causal=1),
    **{f"scores_{k}": attention(SEEN, outputs=4, qk_matmul_output_mode=k, softcap=1.5) for k in (1, 2, 3)},
    "window": attention(None, 2, left_window_size=1, right_window_size=0),
    "flat": flat(),
    "flat_window": flat(left_window_size=2, right_window_size=1),
    "rotary": case("RotaryEmbedding", f32(B, HEADS, Q, D), f32(6, 4), CACHE,
                   np.array([[0, 5, 2], [1, 1, 3]])),
    "rotary_pairs": case("RotaryEmbedding", f32(B, Q, 2 * D), f32(B, Q, 3), f32(B, Q, 3), num_heads=2,
                         rotary_embedding_dim=6, interleaved=1),
    "written": case("TensorScatter", f32(B, 2, 6, 3), f32(B, 2, 2, 3), np.array([4, 1])),
    "written_around": case("TensorScatter", f32(B, 6, 3), f32(B, 3, 3), np.array([5, 2]), axis=1,
                           mode="circular"),
}  # fmt: skip
DECAY, BETA = -np.abs(f32(B, Q, KV)), np.abs(f32(B, Q, KV))
WIDE = [f32(B, Q, HEADS * D), f32(B, Q, KV * D) / 4, f32(B, Q, KV * V)]
HEADED: dict[str, Any] = {"q_num_heads": HEADS, "kv_num_heads": KV, "outputs": 2}
LINEAR = {
    "linear": case("LinearAttention", *WIDE, update_rule="linear", **HEADED),
    "gated": case("LinearAttention", *WIDE, f32(B, KV, D, V), DECAY, update_rule="gated", **HEADED),
    "delta": case("LinearAttention", *WIDE, None, None, BETA, update_rule="delta", scale=0.4, **HEADED),
    "both": case("LinearAttention", *WIDE, None, -np.abs(f32(B, Q, KV * D)), BETA[:, :, :1], **HEADED),
    "convolution": case("CausalConvWithState", f32(B, 3, 5), f32(3, 1, 3), f32(3), f32(B, 3, 2), outputs=2,
                        activation="silu"),
    "short": case("CausalConvWithState", f32(B, 3, 1), f32(3, 1, 4), outputs=2),
    "swiglu": case("SwiGLU", f32(3, 4), f32(3, 4), alpha=1.2),
}  # fmt: skip


def test_attention_agrees_with_the_reference() -> None:
    assert_agree(ATTENTION, 25, with_reference)


def test_linear_attention_agrees_with_the_reference() -> None:
    assert_agree(LINEAR, 28, with_reference)
