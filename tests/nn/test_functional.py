"""`functional` against PyTorch's: same values, same gradients, from the same text."""

from __future__ import annotations

import pytest
import torch.nn.functional as torch_functional
from torch_pairs import arrays, both, compare

from intaglio.nn import functional

X = (4, 6)
L1 = (2, 4, 9)
I2 = (2, 4, 8, 7)
CLASS = ("int", 6, (4,))
QKVM = [(2, 4, 5), (2, 6, 5), (2, 6, 3), (4, 6)]
UNIT = ("unit", X)

# The arguments are called a, b, c, d in the text.
CASES = [
    ("F.linear(a, b)", [X, (3, 6)]),
    ("F.linear(a, b, c)", [(2, 3, 6), (3, 6), (3,)]),
    ("F.linear(a, b)", [(6,), (3, 6)]),
    ("F.bilinear(a, b, c, d)", [X, (4, 5), (3, 6, 5), (3,)]),
    ("F.conv1d(a, b, c, stride=2, padding=1)", [L1, (6, 4, 3), (6,)]),
    ("F.conv1d(a, b)", [(4, 9), (6, 4, 3)]),
    ("F.conv2d(a, b, c)", [I2, (6, 4, 3, 3), (6,)]),
    ("F.conv2d(a, b, None, 2, 'valid', 1, 2)", [I2, (6, 2, 3, 2)]),
    ("F.conv2d(a, b, padding='same', dilation=2)", [I2, (6, 4, 3, 2)]),
    ("F.conv3d(a, b, padding=(1, 0, 1))", [(1, 2, 4, 5, 3), (3, 2, 2, 3, 2)]),
    ("F.conv_transpose1d(a, b, c, stride=3, padding=1, output_padding=2)", [L1, (4, 3, 4), (3,)]),
    ("F.conv_transpose2d(a, b, stride=2, groups=2)", [I2, (4, 3, 3, 2)]),
    ("F.max_pool1d(a, 3)", [L1]),
    ("F.max_pool2d(a, 2)", [I2]),
    ("F.max_pool2d(a, 3, 2, 1, ceil_mode=True)", [I2]),
    ("F.max_pool2d(a, 2)", [(4, 8, 7)]),
    ("F.avg_pool1d(a, 4, 2, 1)", [L1]),
    ("F.avg_pool2d(a, (2, 3), padding=1, count_include_pad=False)", [I2]),
    ("F.avg_pool2d(a, 3, stride=2, ceil_mode=True, divisor_override=5)", [I2]),
    ("F.avg_pool3d(a, 2)", [(1, 2, 4, 5, 6)]),
    ("F.max_pool3d(a, 2)", [(1, 2, 4, 5, 6)]),
    ("F.adaptive_avg_pool1d(a, 4)", [L1]),
    ("F.adaptive_avg_pool2d(a, (3, 5))", [I2]),
    ("F.adaptive_max_pool2d(a, 3)", [I2]),
    ("F.relu(a)", [X]), ("F.relu6(a * 4)", [X]), ("F.leaky_relu(a, 0.3)", [X]), ("F.elu(a)", [X]),
    ("F.celu(a, 2.0)", [X]), ("F.selu(a)", [X]), ("F.gelu(a)", [X]), ("F.gelu(a, approximate='tanh')", [X]),
    ("F.silu(a)", [X]), ("F.mish(a)", [X]), ("F.sigmoid(a)", [X]), ("F.logsigmoid(a * 30)", [X]),
    ("F.tanh(a)", [X]),
    ("F.tanhshrink(a)", [X]), ("F.hardtanh(a)", [X]), ("F.hardsigmoid(a * 3)", [X]),
    ("F.hardswish(a * 3)", [X]),
    ("F.hardshrink(a)", [X]), ("F.softshrink(a)", [X]), ("F.softplus(a * 30)", [X]), ("F.softsign(a)", [X]),
    ("F.threshold(a, 0.2, 7.0)", [X]), ("F.glu(a)", [X]), ("F.prelu(a, b)", [I2, (4,)]),
    ("F.softmax(a, dim=0)", [X]), ("F.softmax(a * 100, -1)", [X]), ("F.log_softmax(a * 100, dim=1)", [X]),
    ("F.softmin(a, dim=1)", [X]),
    ("F.layer_norm(a, (6,), b, c)", [X, (6,), (6,)]),
    ("F.layer_norm(a, (8, 7))", [I2]),
    ("F.group_norm(a, 2, b, c)", [I2, (4,), (4,)]),
    ("F.instance_norm(a)", [I2]),
    ("F.batch_norm(a, None, None, b, c, training=True)", [I2, (4,), (4,)]),
    ("F.batch_norm(a, b.detach(), c.detach().abs())", [I2, (4,), (4,)]),
    ("F.rms_norm(a, (6,), b)", [X, (6,)]),
    ("F.normalize(a)", [X]), ("F.normalize(a, p=1.0, dim=0)", [X]),
    ("F.local_response_norm(a, 3)", [I2]),
    ("F.embedding(a, b)", [("int", 7, (2, 3)), (7, 4)]),
    ("F.one_hot(a, 6)", [CLASS]),
    ("F.dropout(a, 0.5, training=False)", [X]),
    ("F.dropout(a, 0.0)", [X]), ("F.dropout(a, 1.0)", [X]),
    ("F.mse_loss(a, b)", [X, X]), ("F.mse_loss(a, b, reduction='none')", [X, X]),
    ("F.l1_loss(a, b)", [X, X]), ("F.smooth_l1_loss(a, b, beta=0.3)", [X, X]),
    ("F.smooth_l1_loss(a, b, beta=0.0)", [X, X]),
    ("F.huber_loss(a, b, delta=0.4, reduction='sum')", [X, X]),
    ("F.cross_entropy(a, b)", [X, CLASS]),
    ("F.cross_entropy(a * 200, b, reduction='none')", [X, CLASS]),
    ("F.cross_entropy(a, b, weight=c.detach().abs(), ignore_index=2)", [X, CLASS, (6,)]),
    ("F.cross_entropy(a, b, weight=c.detach().abs(), label_smoothing=0.2)", [X, CLASS, (6,)]),
    ("F.cross_entropy(a, b, reduction='sum', label_smoothing=0.1, ignore_index=1)", [X, CLASS]),
    ("F.cross_entropy(a, b)", [(2, 6, 3, 4), ("int", 6, (2, 3, 4))]),
    ("F.cross_entropy(a, F.softmax(b, 1))", [X, X]),
    ("F.cross_entropy(a, b)", [(6,), ("int", 6, ())]),
    ("F.nll_loss(F.log_softmax(a, 1), b, weight=c.detach().abs())", [X, CLASS, (6,)]),
    ("F.nll_loss(a, b, ignore_index=3)", [X, CLASS]),
    ("F.binary_cross_entropy(a, b.detach())", [UNIT, UNIT]),
    ("F.binary_cross_entropy(a, b.detach(), weight=b.detach(), reduction='sum')", [UNIT, UNIT]),
    ("F.binary_cross_entropy_with_logits(a * 50, b.detach())", [X, UNIT]),
    ("F.binary_cross_entropy_with_logits(a, b.detach(), pos_weight=c.detach().abs())", [X, UNIT, (6,)]),
    ("F.kl_div(F.log_softmax(a, 1), F.softmax(b, 1), reduction='batchmean')", [X, X]),
    ("F.kl_div(a, b, log_target=True)", [X, X]),
    ("F.soft_margin_loss(a, b.detach().sign())", [X, X]),
    ("F.hinge_embedding_loss(a, b.detach().sign())", [X, X]),
    ("F.margin_ranking_loss(a, b, c.detach().sign(), margin=0.3)", [X, X, X]),
    ("F.cosine_embedding_loss(a, b, c.detach().sign(), margin=0.1)", [X, X, (4,)]),
    ("F.triplet_margin_loss(a, b, c)", [X, X, X]),
    ("F.gaussian_nll_loss(a, b.detach(), c)", [X, X, UNIT]),
    ("F.poisson_nll_loss(a, b.detach())", [X, UNIT]),
    ("F.cosine_similarity(a, b)", [X, X]), ("F.cosine_similarity(a, b, dim=0)", [X, X]),
    ("F.pairwise_distance(a, b)", [X, X]),
    ("F.pad(a, (1, 2))", [X]), ("F.pad(a, (1, 2, 0, 3), value=2.5)", [X]), ("F.pad(a, (-1, 2, 1, -2))", [X]),
    ("F.pad(a, (1, 2, 3, 0), mode='reflect')", [I2]), ("F.pad(a, (1, 2), mode='replicate')", [L1]),
    ("F.pad(a, (2, 1), mode='circular')", [L1]),
    ("F.interpolate(a, scale_factor=2)", [I2]), ("F.interpolate(a, size=(5, 10))", [I2]),
    ("F.interpolate(a, size=12, mode='linear')", [L1]),
    ("F.interpolate(a, scale_factor=1.5, mode='bilinear')", [I2]),
    ("F.interpolate(a, size=(3, 4), mode='bilinear', align_corners=True)", [I2]),
    ("F.interpolate(a, size=(12, 5), mode='nearest-exact')", [I2]),
    ("F.pixel_shuffle(a, 2)", [I2]), ("F.pixel_unshuffle(a, 2)", [(1, 2, 4, 6)]),
    ("F.unfold(a, 3, padding=1, stride=2)", [I2]),
    ("F.scaled_dot_product_attention(a, b, c)", [(2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 5)]),
    ("F.scaled_dot_product_attention(a, b, c, None, 0.0, True)", [(2, 4, 5), (2, 4, 5), (2, 4, 5)]),
    ("F.scaled_dot_product_attention(a, b, c, is_causal=True)", [(2, 4, 5), (2, 4, 5), (2, 4, 5)]),
    ("F.scaled_dot_product_attention(a, b, c, attn_mask=d, scale=0.3)", QKVM),
    ("F.scaled_dot_product_attention(a, b, c, attn_mask=d.detach() > -0.5)", QKVM),
]  # fmt: skip


@pytest.mark.parametrize(("text", "specs"), CASES, ids=[f"{t} {k}" for k, (t, _) in enumerate(CASES)])
def test_values_and_gradients(text, specs):
    ours, theirs = both(arrays(*specs, seed=3))
    our_leaves, their_leaves = (dict(zip("abcd", x, strict=False)) for x in (ours, theirs))
    compare(
        eval(text, {"F": functional, **our_leaves}),
        eval(text, {"F": torch_functional, **their_leaves}),
        our_leaves, their_leaves, 5e-5,
    )  # fmt: skip
