"""A quantised network of any batch: products of codes, in one program within bounds."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_models import node

from intaglio.compile import compile_graph
from intaglio.readers.onnx import load

STEP = 0.05


def network():
    """A convolution and a matrix product between QuantizeLinear and DequantizeLinear, of `batch` images."""
    rng = np.random.default_rng(3)
    weights = {
        "s": np.float32(STEP), "z": np.uint8(120), "u": np.float32(0.02),
        "filters": rng.integers(-90, 90, (6, 2, 3, 3)).astype(np.int8),
        "each": (0.01 + rng.random(6) * 0.02).astype(np.float32),
        "zeros": np.zeros(6, np.int8), "z0": np.int8(0),
        "matrix": rng.integers(-90, 90, (6, 5)).astype(np.int8),
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", "x", "s", "z", out="a"),
        node("DequantizeLinear", "a", "s", "z", out="b"),
        node("DequantizeLinear", "filters", "each", "zeros", out="w", axis=0),
        node("Conv", "b", "w", out="c", pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", "c", out="d"),
        node("Flatten", "d", out="e"),
        node("QuantizeLinear", "e", "s", "z", out="f"),
        node("DequantizeLinear", "f", "s", "z", out="g"),
        node("DequantizeLinear", "matrix", "u", "z0", out="m"),
        node("MatMul", "g", "m"),
    ]
    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2, 5, 6])]
    results = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])]
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()]
    graph = helper.make_graph(nodes, "codes", infos, results, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


@pytest.mark.parametrize("level", [0, 3])
def test_any_batch(level):
    proto = network()
    compiled = compile_graph(load(proto, bounds={"batch": 4}), opt_level=level, opt="fast-compile")
    for batch in (1, 4):
        x = np.random.default_rng(batch).standard_normal((batch, 2, 5, 6)).astype(np.float32)
        (expected,) = ReferenceEvaluator(proto).run(None, {"x": x})
        (found,) = compiled.run_arrays([x])
        np.testing.assert_allclose(found, expected, atol=1e-4)
