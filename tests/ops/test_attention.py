"""Attention against PyTorch: values and derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from against_torch import compare

from intaglio.ops.compositions import attention
from intaglio.shared.errors import ArgumentError, ShapeError

rng = np.random.default_rng(0)
Q, K, V = (
    rng.standard_normal((2, 3, 5, 4)),
    rng.standard_normal((2, 3, 6, 4)),
    rng.standard_normal((2, 3, 6, 7)),
)
MASK = rng.uniform(size=(5, 6)) < 0.7
MASK[:, 0] = True


@pytest.mark.parametrize("mask", [None, MASK, rng.standard_normal((2, 1, 5, 6))])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention(mask, scale) -> None:
    other = None if mask is None else torch.tensor(mask)
    compare(
        lambda q, k, v: attention.scaled_dot_product_attention(q, k, v, mask, scale=scale),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, other, scale=scale),
        [Q, K, V],
    )


def test_causal_and_grouped_heads() -> None:
    compare(
        lambda q, v: attention.scaled_dot_product_attention(q, q, v, is_causal=True),
        lambda q, v: F.scaled_dot_product_attention(q, q, v, is_causal=True),
        [Q, Q * 2],
    )
    compare(
        lambda q, k, v: attention.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        [rng.standard_normal((2, 6, 5, 4)), K, V],
    )


@pytest.mark.parametrize("causal", [False, True])
def test_heads(causal: bool) -> None:
    module = torch.nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        module.in_proj_bias.copy_(torch.tensor(rng.standard_normal(24)))
    weights = tuple(module.in_proj_weight.detach().numpy().reshape(3, 8, 8))
    biases = tuple(module.in_proj_bias.detach().numpy().reshape(3, 8))
    out, bias = module.out_proj.weight.detach().numpy(), module.out_proj.bias.detach().numpy()
    hidden = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1) if causal else None

    def ours(x):
        return attention.multi_head_attention(x, x, x, 2, weights, biases, out, bias, is_causal=causal)

    compare(ours, lambda x: module(x, x, x, attn_mask=hidden)[0], [rng.standard_normal((3, 5, 8))])


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="exclude each other"):
        attention.scaled_dot_product_attention(Q, K, V, MASK, is_causal=True)
    with pytest.raises(ShapeError, match="attention: query, key and value are"):
        attention.scaled_dot_product_attention(Q, V, V)
