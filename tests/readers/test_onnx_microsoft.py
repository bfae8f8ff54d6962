"""Fused float operators and attention of ONNX Runtime's domain against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio.readers.onnx import load
from intaglio.shared.errors import UnsupportedError
from tests.readers.onnx_batch import case, compare, merged, onnxruntime, run

RNG = np.random.default_rng(7)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def ints(high, *shape):
    return RNG.integers(0, high, shape).astype(np.int32)


def microsoft(op, *operands, **rest):
    return case(op, *operands, domain="com.microsoft", **rest)


def vector(*numbers):
    return np.array(numbers, np.int32)


FUSED = [
    microsoft("Gelu", floats(3, 4)),
    microsoft("BiasGelu", floats(3, 4), floats(4)),
    microsoft("FastGelu", floats(3, 4)),
    microsoft("FastGelu", floats(3, 4), floats(4)),
    microsoft("QuickGelu", floats(3, 4), alpha=1.5),
    microsoft("FusedMatMul", floats(2, 4, 3), floats(2, 5, 4), transA=1, transB=1, alpha=0.5),
    microsoft("FusedMatMul", floats(3, 2, 4), floats(2, 3, 5), transBatchA=1, transA=1),
    microsoft(
        "FusedGemm", floats(3, 4), floats(4, 5), floats(5), activation="LeakyRelu", activation_alpha=0.2
    ),
    microsoft("FusedConv", floats(1, 3, 5, 5), floats(4, 3, 3, 3), floats(4), activation="Relu"),
    microsoft(
        "FusedConv",
        floats(1, 3, 5, 5),
        floats(4, 3, 3, 3),
        floats(4),
        floats(1, 4, 3, 3),
        activation="Clip",
        activation_params=[0.0, 0.5],
    ),
    microsoft("SkipLayerNormalization", *(floats(2, 3, 8) for _ in range(2)), *(floats(8) for _ in range(3))),
    microsoft("SkipSimplifiedLayerNormalization", floats(2, 3, 8), floats(2, 3, 8), floats(8), epsilon=1e-5),
    case("SimplifiedLayerNormalization", floats(2, 3, 8), floats(8), epsilon=1e-5),
    microsoft(
        "EmbedLayerNormalization",
        *(ints(10, 2, 4), ints(2, 2, 4)),
        *(floats(n, 8) for n in (10, 6, 2)),
        *(floats(8), floats(8)),
        np.array([[1, 1, 1, 0], [1, 1, 0, 0]], np.int32),
        outputs=3,
    ),
    microsoft("CDist", floats(3, 4), floats(5, 4), metric="euclidean"),
    microsoft(
        "MatMulNBits",
        floats(2, 40),
        ints(256, 6, 3, 8).astype(np.uint8),
        floats(18),
        weights=(1, 2),
        K=40,
        N=6,
        bits=4,
        block_size=16,
    ),
    microsoft(
        "MatMulNBits",
        floats(2, 32),
        ints(256, 6, 2, 8).astype(np.uint8),
        floats(12),
        ints(256, 6).astype(np.uint8),
        weights=(1, 2, 3),
        K=32,
        N=6,
        bits=4,
        block_size=16,
    ),
    microsoft(
        "MatMulNBits",
        floats(2, 32),
        ints(256, 6, 2, 16).astype(np.uint8),
        floats(12),
        weights=(1, 2),
        K=32,
        N=6,
        bits=8,
        block_size=16,
    ),
    microsoft("Inverse", floats(2, 4, 4) + 3 * np.eye(4, dtype=np.float32)[::-1]),
    microsoft("ExpandDims", floats(2, 3), np.int32(1), weights=(1,)),
    microsoft("GatherND", floats(2, 3), np.array([[1, 2]])),
    microsoft("Pad", floats(2, 4), np.array([0, 1, 0, 1]), weights=(1,)),
    *(
        microsoft(
            "GatherBlockQuantized",
            ints(256, 4, 16).astype(np.uint8),
            np.array([[1, 2], [0, 3]]),
            floats(4, 2),
            *zeros,
            block_size=16,
            weights=(0, 2, 3),
        )
        for zeros in ((), (ints(256, 4, 1).astype(np.uint8),))
    ),
]


def attention(mask=None, past=None, added=None, outputs=1, **rest):
    operands = (floats(2, 4, 6), floats(6, 24), floats(24), mask, past, added)
    return microsoft("Attention", *operands, num_heads=2, outputs=outputs, **rest)


def heads(mask=None, added=None, bias=None, **rest):
    operands = (floats(2, 4, 8), floats(2, 5, 8), floats(2, 5, 12), bias, mask, added)
    return microsoft("MultiHeadAttention", *operands, num_heads=2, **rest)


def grouped(count, past, length, *tables, **rest):
    cache = () if past is None else (floats(2, 2, past, 16), floats(2, 2, past, 16))
    operands = (*(floats(2, count, 16 * n) for n in (4, 2, 2)), *(cache or (None, None)))
    place = np.full(2, length - 1, np.int32)
    settings = {"num_heads": 4, "kv_num_heads": 2, "outputs": 3, "weights": (6,), **rest}
    return microsoft("GroupQueryAttention", *operands, place, np.int32(length), *tables, **settings)


ANGLES = (floats(32, 8), floats(32, 8))
ATTENTION = [
    attention(),
    attention(unidirectional=1, scale=0.3),
    attention(vector(3, 2)),
    attention(vector(3, 4, 0, 1)),
    attention(np.array([[1, 1, 1, 0], [1, 0, 1, 1]], np.int32)),
    attention(ints(2, 2, 4, 4)),
    attention(past=floats(2, 2, 2, 3, 4), outputs=2, unidirectional=1),
    attention(added=floats(2, 2, 4, 4)),
    heads(),
    heads(vector(3, 2)),
    heads(bias=floats(28)),
    heads(added=floats(1, 2, 4, 5), scale=0.2),
    microsoft("RotaryEmbedding", floats(2, 4, 16), np.array([[0, 1, 2, 3], [2, 3, 4, 5]]), *ANGLES),
    microsoft("RotaryEmbedding", floats(2, 2, 4, 16), np.array([3]), *ANGLES, interleaved=1),
    grouped(4, None, 4),
    grouped(4, None, 4, *ANGLES, do_rotary=1),
    grouped(1, 5, 6, *ANGLES, do_rotary=1),
    grouped(1, 5, 6, do_rotary=0, local_window_size=3, softcap=5.0),
]


@pytest.mark.parametrize("cases", [FUSED, ATTENTION], ids=["fused", "attention"])
def test_as_onnx_runtime(cases):
    pytest.importorskip("onnxruntime")
    model, feeds = merged(cases)
    compare(cases, run(model, feeds), onnxruntime(model, feeds))


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (attention(do_rotary=1), "do_rotary"),
        (attention(ints(2, 2, 1, 9, 9)), "a mask"),
        (microsoft("MultiHeadAttention", floats(2, 4, 2, 3, 4), num_heads=2), "packed"),
        (microsoft("FusedConv", floats(1, 1, 3, 3), floats(1, 1, 3, 3), activation="Wave"), "'Wave'"),
        (microsoft("CDist", floats(3, 4), floats(5, 4), metric="cosine"), "cosine"),
    ],
)
def test_what_is_refused(one, message):
    with pytest.raises(UnsupportedError, match=message):
        load(merged([one])[0])
