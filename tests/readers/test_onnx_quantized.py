"""Quantised operators against ONNX Runtime: integers exactly, or one apart where a float decides a tie."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from tests.readers.onnx_batch import case, compare, merged, onnxruntime, run

RNG = np.random.default_rng(5)
f32 = np.float32


def floats(*shape):
    return RNG.standard_normal(shape).astype(f32)


def bytes_(*shape):
    return RNG.integers(0, 256, shape).astype(np.uint8)


def signed(*shape):
    return RNG.integers(-128, 128, shape).astype(np.int8)


def scales(*shape):
    return (0.01 + RNG.random(shape) * 0.1).astype(f32)


def u8(number):
    return np.asarray(number, np.uint8)


def i8(number):
    return np.asarray(number, np.int8)


TIES = np.array([[-2.5, -1.5, -0.5, 0.5], [1.5, 2.5, 126.5, 300.0]], f32)
STANDARD = [
    case("QuantizeLinear", TIES, f32(1), u8(3)),
    case("QuantizeLinear", TIES, f32(1), i8(-3)),
    case("QuantizeLinear", TIES * 200, f32(0.5), np.uint16(9)),
    case("QuantizeLinear", floats(2, 3, 4), scales(3), signed(3), axis=1),
    case("QuantizeLinear", floats(6, 4), scales(3, 4), signed(3, 4), axis=0, block_size=2),
    case("DequantizeLinear", bytes_(2, 3, 4), scales(3), bytes_(3), axis=1),
    case("DequantizeLinear", RNG.integers(-(2**31), 2**31, 5).astype(np.int32), f32(0.1)),
    case("DequantizeLinear", signed(6, 4), scales(3, 4), axis=0, block_size=2),
    case("DynamicQuantizeLinear", floats(3, 5), outputs=3),
    case("DynamicQuantizeLinear", np.abs(floats(4)), outputs=3),
    case("DynamicQuantizeLinear", np.zeros(3, f32), outputs=3),
    case("MatMulInteger", bytes_(3, 8), signed(8, 5), u8(7), i8(-4)),
    case("MatMulInteger", bytes_(2, 3, 8), bytes_(8, 5), u8(7), bytes_(5), weights=(3,)),
    case("ConvInteger", bytes_(1, 2, 5, 5), bytes_(3, 2, 3, 3), u8(9), u8(5), pads=[1, 1, 1, 1]),
    case("QLinearMatMul", bytes_(3, 8), f32(0.02), u8(7), signed(8, 5), f32(0.03), i8(2), f32(0.2), u8(90)),
    case(
        "QLinearMatMul",
        bytes_(2, 3, 8),
        f32(0.02),
        u8(7),
        signed(8, 5),
        scales(5),
        signed(5),
        f32(0.2),
        u8(90),
        weights=(4, 5),
    ),
    case(
        "QLinearConv",
        bytes_(1, 2, 5, 5),
        f32(0.02),
        u8(9),
        signed(4, 2, 3, 3),
        scales(4),
        i8(np.zeros(4)),
        f32(0.2),
        u8(99),
        RNG.integers(-999, 999, 4).astype(np.int32),
        pads=[1, 0, 1, 0],
        strides=[1, 2],
    ),
    case(
        "QLinearConv",
        bytes_(1, 4, 5, 5),
        f32(0.02),
        u8(9),
        bytes_(4, 1, 3, 3),
        f32(0.01),
        u8(100),
        f32(0.2),
        u8(99),
        group=4,
        dilations=[2, 2],
    ),
]


def microsoft(op, *operands, **rest):
    return case(op, *operands, domain="com.microsoft", **rest)


MICROSOFT = [
    microsoft("DynamicQuantizeMatMul", floats(3, 8), signed(8, 5), f32(0.02), i8(3)),
    microsoft(
        "DynamicQuantizeMatMul",
        floats(2, 8),
        bytes_(8, 5),
        scales(5),
        bytes_(5),
        floats(5),
        weights=(1, 2, 3, 4),
    ),
    microsoft(
        "MatMulIntegerToFloat", bytes_(3, 8), signed(8, 5), f32(0.1), f32(0.02), u8(7), i8(3), floats(5)
    ),
    microsoft(
        "QLinearAdd",
        bytes_(3, 8),
        f32(0.11),
        u8(3),
        bytes_(1, 8),
        f32(0.05),
        u8(100),
        f32(0.12),
        u8(50),
        slack=1,
    ),
    microsoft(
        "QLinearMul",
        signed(3, 8),
        f32(0.11),
        i8(3),
        signed(3, 8),
        f32(0.05),
        i8(9),
        f32(0.42),
        i8(5),
        slack=1,
    ),
    microsoft("QLinearSigmoid", bytes_(3, 8), f32(0.1), u8(100), f32(1 / 256), u8(0), slack=1),
    microsoft(
        "QLinearLeakyRelu",
        signed(3, 8),
        f32(0.1),
        i8(10),
        f32(0.07),
        i8(0),
        alpha=0.2,
        slack=1,
        weights=(1, 2, 3, 4),
    ),
    microsoft(
        "QLinearGlobalAveragePool",
        bytes_(2, 5, 5, 3),
        f32(0.1),
        u8(100),
        f32(0.02),
        u8(10),
        channels_last=1,
        slack=1,
    ),
    microsoft(
        "QLinearAveragePool",
        bytes_(2, 3, 5, 5),
        f32(0.1),
        u8(100),
        f32(0.02),
        u8(10),
        kernel_shape=[2, 2],
        slack=1,
    ),
    microsoft(
        "QLinearConcat", f32(0.1), u8(3), bytes_(2, 3), f32(0.2), u8(4), bytes_(2, 4), f32(0.1), u8(3), axis=1
    ),
    microsoft(
        "QLinearWhere",
        RNG.random((3, 4)) > 0.5,
        bytes_(3, 4),
        f32(0.1),
        u8(3),
        bytes_(3, 4),
        f32(0.05),
        u8(4),
        f32(0.1),
        u8(9),
        slack=1,
    ),
    microsoft(
        "QGemm",
        bytes_(3, 8),
        f32(0.1),
        u8(3),
        signed(8, 5),
        f32(0.02),
        i8(3),
        RNG.integers(-99, 99, 5).astype(np.int32),
        f32(0.5),
        u8(100),
    ),
    microsoft(
        "QGemm",
        bytes_(3, 8),
        f32(0.1),
        u8(3),
        signed(5, 8),
        scales(5),
        signed(5),
        RNG.integers(-99, 99, 5).astype(np.int32),
        transB=1,
        alpha=1.5,
        weights=(4, 5),
    ),
    microsoft(
        "QAttention",
        bytes_(2, 4, 6),
        signed(6, 24),
        floats(24),
        f32(0.02),
        f32(0.01),
        np.array([3, 2], np.int32),
        u8(120),
        i8(3),
        num_heads=2,
    ),
    *(
        microsoft(
            "QLinearSoftmax",
            bytes_(3, 4, 5),
            f32(0.1),
            u8(9),
            f32(1 / 256),
            u8(0),
            weights=(1, 2, 3, 4),
            axis=1,
            opset=version,
            slack=1,
        )
        for version in (12, 13)
    ),
    microsoft("NhwcMaxPool", bytes_(1, 5, 5, 4), kernel_shape=[2, 2]),
    microsoft(
        "QLinearConv",
        *(bytes_(1, 5, 5, 3), f32(0.1), u8(3)),
        *(bytes_(4, 3, 3, 3), f32(0.01), u8(100)),
        *(f32(0.3), u8(9), RNG.integers(-9, 9, 4).astype(np.int32)),
        channels_last=1,
        weights=(3,),
    ),
]


def lstm(directions, steps=5, batch=3, size=6, hidden=4, direction="forward"):
    zero = np.zeros(directions, np.int8)
    return microsoft(
        "DynamicQuantizeLSTM",
        floats(steps, batch, size),
        signed(directions, size, 4 * hidden),
        signed(directions, hidden, 4 * hidden),
        floats(directions, 8 * hidden),
        None,
        floats(directions, batch, hidden),
        floats(directions, batch, hidden),
        None,
        *(scales(directions), zero, scales(directions), zero),
        weights=(1, 2, 3, 8, 9, 10, 11),
        outputs=3,
        direction=direction,
        hidden_size=hidden,
    )


@pytest.mark.parametrize(
    "cases",
    [STANDARD, MICROSOFT, [lstm(1), lstm(2, direction="bidirectional"), lstm(1, direction="reverse")]],
    ids=["standard", "microsoft", "lstm"],
)
def test_as_onnx_runtime(cases):
    pytest.importorskip("onnxruntime")
    model, feeds = merged(cases)
    compare(cases, run(model, feeds), onnxruntime(model, feeds), rtol=1e-3, atol=1e-4)


def test_small_types_as_the_reference():
    """Types that ONNX Runtime does not have: 2 bits, floats of 8 and 4 bits, in blocks and per axis."""
    x, wide = floats(2, 6) * 3, scales(2, 3)
    cases = [
        case("QuantizeLinear", x, f32(0.7), np.array(t(1)))
        for t in (ml_dtypes.int2, ml_dtypes.uint2, ml_dtypes.uint4)
    ]
    for t in (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2fnuz, ml_dtypes.float4_e2m1fn):
        cases.append(case("QuantizeLinear", x, f32(0.3), np.array(t(0))))
        cases.append(case("DequantizeLinear", x.astype(t), wide, axis=1, block_size=2))
    cases.append(case("QuantizeLinear", x, wide, axis=1, block_size=2, output_dtype=22))
    cases.append(case("QuantizeLinear", x.astype(np.float16), np.float16(0.3), i8(4)))
    cases.append(
        case(
            "DequantizeLinear", x.astype(ml_dtypes.int4), scales(2), np.array([1, -2], ml_dtypes.int4), axis=0
        )
    )
    model, feeds = merged(cases, {"": 25})
    wanted = ReferenceEvaluator(model).run(None, feeds)
    for one, ours, theirs in zip(cases, run(model, feeds), wanted, strict=True):
        assert ours.dtype == theirs.dtype, one
        np.testing.assert_array_equal(ours.astype(f32), theirs.astype(f32), err_msg=str(one))
