"""Layers whose inputs have symbolic dimensions: one program for all sizes within bounds."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from onnx_cases import case, f32, merged, with_reference

from intaglio.compile import compile_graph
from intaglio.readers.onnx import load
from intaglio.shared.errors import ShapeError

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


WINDOWS = {
    "conv": case("Conv", IMAGE, f32(4, 2, 3, 3), known=(1,), strides=[2, 1]),
    "max": case("MaxPool", IMAGE, kernel_shape=[3, 3]),
    "average": case("AveragePool", IMAGE, kernel_shape=[2, 2], dilations=[2, 1]),
}


def test_sizes_too_small_for_a_window_are_refused() -> None:
    """The least size is found when importing, also where one operator leaves too little for the next."""
    proto, feeds = merged(WINDOWS, 23)
    for info in proto.graph.input:
        info.CopyFrom(helper.make_tensor_value_info(info.name, 1, ["batch", 2, "height", 10]))
    graph = load(proto, bounds={"batch": 4, "height": 9})
    compiled = compile_graph(graph, opt="fast-compile")
    short = [np.ascontiguousarray(x[:, :, :3]) for x in feeds.values()]
    for ours, theirs in zip(compiled.run_arrays(short), graph.run(*short), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)
    shorter = [np.ascontiguousarray(x[:, :, :2]) for x in feeds.values()]
    with pytest.raises(ShapeError, match="dimension height is 2 but must be 3 to 9"):
        compiled.run_arrays(shorter)
    with pytest.raises(ShapeError, match="dimension height is 2 but its bounds are 3"):
        graph.run(*shorter)
    with pytest.raises(ShapeError, match=r"does not fit into|too small"):
        load(proto, bounds={"batch": 4, "height": 2})


def test_the_least_size_of_two_windows() -> None:
    first = helper.make_node("MaxPool", ["x"], ["h"], kernel_shape=[3, 3])
    second = helper.make_node("AveragePool", ["h"], ["y"], kernel_shape=[4, 1])
    infos = [helper.make_tensor_value_info("x", 1, ["n", 1, "height", 3])]
    results = [helper.make_tensor_value_info("y", 1, None)]
    proto = helper.make_model(
        helper.make_graph([first, second], "g", infos, results), opset_imports=[helper.make_opsetid("", 19)]
    )
    (height,) = (v for v in load(proto).inputs[0].shape[2].variables)  # type: ignore[union-attr]
    assert (height.lo, height.hi) == (6, None)
