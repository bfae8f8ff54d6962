"""Quantised layers of real sizes: integers exactly, codes within one of ONNX Runtime's, open batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from intaglio.compile import Settings, compile_graph, optimise
from intaglio.native.targets import detect
from intaglio.readers.onnx import load
from intaglio.verify import runtime

pytest.importorskip("onnxruntime")
RNG = np.random.default_rng(11)
CHANNELS = 24


def model(
    nodes: list[Any], inputs: dict[str, tuple[int, list[Any]]], weights: dict[str, Any], outputs: list[str]
) -> onnx.ModelProto:
    infos = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    results = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph(nodes, "g", infos, results, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def block(number: int, kernel: int, groups: int = 1) -> tuple[list[Any], dict[str, Any]]:
    """Dequantised bytes through a convolution and an activation, and quantised again."""
    w = RNG.integers(-127, 128, (CHANNELS, CHANNELS // groups, kernel, kernel)).astype(np.int8)
    weights = {
        f"w{number}": w,
        f"s{number}": (0.002 + RNG.random(CHANNELS) * 0.01).astype(np.float32),
        f"z{number}": np.zeros(CHANNELS, np.int8),
        f"b{number}": RNG.standard_normal(CHANNELS).astype(np.float32),
    }
    attrs = {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4, "group": groups}
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "sx", "zx"], [f"d{number}"]),
        helper.make_node(
            "DequantizeLinear", [f"w{number}", f"s{number}", f"z{number}"], [f"e{number}"], axis=0
        ),
        helper.make_node("Conv", [f"d{number}", f"e{number}", f"b{number}"], [f"c{number}"], **attrs),
        helper.make_node("Relu", [f"c{number}"], [f"r{number}"]),
        helper.make_node("QuantizeLinear", [f"r{number}", "sx", "zx"], [f"q{number}"]),
    ]
    return nodes, weights


def test_dequantised_convolutions() -> None:
    """Dense, depthwise and grouped ones, and a residual; margins are zero points."""
    nodes: list[Any] = []
    weights: dict[str, Any] = {"sx": np.float32(0.04), "zx": np.uint8(17)}
    for number, (kernel, groups) in enumerate([(1, 1), (3, CHANNELS), (3, 1), (3, 3)]):
        more, held = block(number, kernel, groups)
        nodes += more
        weights |= held
    nodes += [
        helper.make_node("DequantizeLinear", ["q0", "sx", "zx"], ["left"]),
        helper.make_node("DequantizeLinear", ["q2", "sx", "zx"], ["right"]),
        helper.make_node("Add", ["left", "right"], ["a"]),
        helper.make_node("QuantizeLinear", ["a", "sx", "zx"], ["y"]),
    ]
    proto = model(nodes, {"x": (2, [2, CHANNELS, 9, 11])}, weights, ["q1", "q3", "y"])
    codes = RNG.integers(0, 256, (2, CHANNELS, 9, 11)).astype(np.uint8)
    graph = load(proto)
    optimised = optimise(graph, Settings())
    assert {str(n.outputs[0].dtype) for n in optimised.nodes if n.op.name == "conv"} == {"i32"}
    ours = compile_graph(graph, threads=2).run_arrays([codes])
    for others in (runtime(proto, {"x": codes}), optimised.run(codes)):
        for got, want, most in zip(ours, others, (1, 1, 2), strict=True):
            apart = np.abs(got.astype(int) - want.astype(int))
            assert apart.max() <= most
            assert (apart > 0).mean() < 0.01


@pytest.mark.parametrize("target", ["native", "x86-64-v3", "generic"])
def test_integer_products_of_open_batches(target) -> None:
    if target == "x86-64-v3" and "avx2" not in detect().features:
        pytest.skip("no AVX2")
    weights = {
        "w": RNG.integers(0, 256, (37, 45)).astype(np.uint8),
        "zw": RNG.integers(0, 256, 45).astype(np.uint8),
        "v": RNG.integers(-128, 128, (37, 45)).astype(np.int8),
    }
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z", "zw"], ["y"]),
        helper.make_node("MatMulInteger", ["q", "v", "z"], ["t"]),
    ]
    proto = model(nodes, {"x": (1, ["batch", 37])}, weights, ["y", "t"])
    program = compile_graph(load(proto, bounds={"batch": 20}), threads=1, target=target)
    for batch in (1, 5, 20):
        x = RNG.standard_normal((batch, 37)).astype(np.float32)
        for ours, theirs in zip(program.run_arrays([x]), runtime(proto, {"x": x}), strict=True):
            np.testing.assert_array_equal(ours, theirs)
