"""Layers whose inputs have symbolic dimensions: one program for all sizes within bounds."""

from __future__ import annotations

import numpy as np
from onnx import helper
from onnx_cases import case, f32, merged, with_reference

from intaglio.compile import compile_graph
from intaglio.readers.onnx import load

SYMBOLS = {3: "batch", 5: "time", 8: "height", 10: "width"}
BOUNDS = {"batch": 4, "time": 7, "height": 9, "width": 12}
IMAGE, ROWS = f32(3, 2, 8, 10), f32(3, 5, 4)
WEIGHTS = [f32(1, 8, 4), f32(1, 8, 2), f32(1, 16)]
CASES = {
    "conv": case("Conv", IMAGE, f32(4, 2, 3, 3), known=(1,), pads=[1, 1, 1, 1], strides=[2, 1]),
    "transposed": case("ConvTranspose", IMAGE, f32(2, 4, 2, 2), known=(1,), strides=[2, 2]),
    "max": case("MaxPool", IMAGE, kernel_shape=[2, 2], strides=[2, 2]),
    "average": case("AveragePool", IMAGE, kernel_shape=[3, 2], pads=[1, 1, 1, 0], strides=[2, 1]),
    "global": case("GlobalAveragePool", IMAGE),
    "batch": case("BatchNormalization", IMAGE, f32(2), f32(2), f32(2), np.abs(f32(2)), known=(1, 2, 3, 4)),
    "instance": case("InstanceNormalization", IMAGE, f32(2), f32(2), known=(1, 2)),
    "layer": case("LayerNormalization", ROWS, f32(4), f32(4), known=(1, 2)),
    "softmax": case("Softmax", ROWS, axis=1),
    "lstm": case("LSTM", np.ascontiguousarray(ROWS.transpose(1, 0, 2)), *WEIGHTS, outputs=3, known=(1, 2, 3),
                 hidden_size=2),
    "attention": case("Attention", *(np.tile(ROWS, 4) for _ in range(3)), is_causal=1, q_num_heads=4,
                      kv_num_heads=4),
    "resize": case("Resize", IMAGE, None, np.array([1, 1, 2, 2], np.float32), known=(2,),
                   coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    "deep": case("DepthToSpace", f32(3, 4, 8, 10), blocksize=2),
}  # fmt: skip


def test_layers_of_symbolic_sizes() -> None:
    proto, feeds = merged(CASES, 23)
    expected = with_reference(proto, feeds)
    for info in proto.graph.input:
        shape = [SYMBOLS.get(d.dim_value, d.dim_value) for d in info.type.tensor_type.shape.dim]
        info.CopyFrom(helper.make_tensor_value_info(info.name, info.type.tensor_type.elem_type, shape))
    graph, arrays = load(proto, bounds=BOUNDS), list(feeds.values())
    names = [info.name for info in proto.graph.output]
    for results in (graph.run(*arrays), compile_graph(graph, opt="fast-compile").run_arrays(arrays)):
        for name, ours, theirs in zip(names, results, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6, err_msg=name)
