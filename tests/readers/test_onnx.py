"""ONNX models, imported and compiled, against ONNX's own reference evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx_models import check, model, node

from intaglio.readers.onnx import load
from intaglio.shared.errors import FileFormatError, UnsupportedError

RNG = np.random.default_rng(0)


def f32(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


X = {"x": f32(2, 3, 4)}
CASES: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], dict[str, Any]]] = {
    "gemm": ([node("Gemm", "x", "w", "b", transB=1, alpha=0.5)], {"x": f32(3, 4)},
             {"w": f32(5, 4), "b": f32(5)}),
    "matmul_batched": ([node("MatMul", "x", "w")], {"x": f32(2, 1, 3, 4)}, {"w": f32(5, 4, 2)}),
    "chain": ([node("Exp", "x", out="e"), node("Add", "e", "x", out="s"), node("Tanh", "s")], X, {}),
    "reduce_mean": ([node("ReduceMean", "x", "axes", keepdims=0)], X, {"axes": np.array([-1])}),
    "logsumexp": ([node("ReduceLogSumExp", "x")], X, {}),
    "argmax": ([node("ArgMax", "x", axis=1, keepdims=0)], X, {}),
    "argmax_last": ([node("ArgMax", "x", axis=2, select_last_index=1)], X, {}),
    "shape_arithmetic": ([
        node("Shape", "x", out="s"), node("Gather", "s", "zero", out="n"),
        node("Unsqueeze", "n", "axes", out="u"),
        node("Concat", "u", "rest", out="t", axis=0), node("Reshape", "x", "t")],
        X, {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1])}),
    "slice": ([node("Slice", "x", "a", "b", "k", "s")], X,
              {"a": np.array([-1, 0]), "b": np.array([-100, 3]), "k": np.array([2, 1]),
               "s": np.array([-1, 2])}),
    "split": ([node("Split", "x", out=["a", "b"], axis=2, num_outputs=2),
               node("Mul", "a", "b")], X, {}),
    "expand_tile": ([node("Tile", "x", "r")], X, {"r": np.array([1, 2, 1])}),
    "where": ([node("Greater", "x", "z", out="c"), node("Where", "c", "x", "z")], X, {"z": f32(1, 3, 1)}),
    "integer_division": ([node("Div", "x", "w")], {"x": np.array([-7, 7, -8], np.int32)},
                         {"w": np.array([2, -2, 3], np.int32)}),
    "gather_run_time": ([node("Gather", "w", "x")], {"x": np.array([[0, 2], [1, -1]])}, {"w": f32(3, 4)}),
    "cast": ([node("Cast", "x", to=TensorProto.INT32)], X, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_reference(name: str) -> None:
    nodes, inputs, weights = CASES[name]
    check(model(nodes, inputs, weights), inputs)


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(UnsupportedError, match="NoSuchOperator"):
        load(model([node("NoSuchOperator", "x")], X))


def test_a_truncated_file_is_refused() -> None:
    data = model([node("Exp", "x")], X, {"w": f32(64)}).SerializeToString()
    with pytest.raises(FileFormatError):
        load(data[: len(data) - 40])


def test_a_future_operator_set_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="99"):
        load(model([node("Exp", "x")], X, opset=99))


def test_external_data_stays_inside_the_directory(tmp_path: Any) -> None:
    proto = model([node("Add", "x", "w")], X, {"w": f32(4)})
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../secret.bin")
    (tmp_path.parent / "secret.bin").write_bytes(bytes(16))
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(FileFormatError, match="outside"):
        load(tmp_path / "m.onnx")


def test_weights_that_do_not_fill_their_shape_are_refused() -> None:
    proto = model([node("Add", "x", "w")], X, {"w": f32(4)})
    proto.graph.initializer[0].dims[0] = 5
    with pytest.raises(FileFormatError, match="bytes"):
        load(proto)


@pytest.mark.parametrize("size", [{"dim_value": -1}, {"dim_param": "?"}, {}])
def test_dimensions_without_a_name_differ(size: dict[str, Any]) -> None:
    """Some exporters write -1 or a question mark where an extent is open; each such axis is its own."""
    proto = model([node("Relu", "x")], {"x": np.zeros((2, 3), np.float32)})
    for dim in proto.graph.input[0].type.tensor_type.shape.dim:
        dim.Clear()
        for name, value in size.items():
            setattr(dim, name, value)
    assert [str(extent) for extent in load(proto).inputs[0].shape] == ["x_0", "x_1"]


def test_constants_expand_to_open_shapes() -> None:
    proto = model(
        [node("Shape", "x", out="s"), node("Expand", "zero", "s", out="z"), node("Add", "x", "z")],
        {"x": np.zeros((2, 3), np.float32)},
        {"zero": np.float32([1.5])},
    )
    graph = load(proto, shapes={"x": ("n", 3)})
    np.testing.assert_array_equal(graph.run(np.ones((4, 3), np.float32))[0], np.full((4, 3), 2.5))


def test_constants_are_read_at_open_places() -> None:
    """Rows of a table, at an index that depends on a size, and elements as many as there are words."""
    nodes = [
        node("Shape", "x", out="s"), node("Gather", "table", "s", out="row"),
        node("Expand", "zero", "s", out="places"), node("GatherElements", "list", "places", out="e"),
        node("Add", "x", "e", out="sum"), node("Slice", "sum", "begin", "s", "begin", out="all"),
        node("ReduceSum", "row", out="total", keepdims=0), node("Mul", "all", "total"),
    ]  # fmt: skip
    weights = {"table": np.arange(6, dtype=np.float32) ** 2, "zero": np.array([0]),
               "list": np.float32([7, 8]), "begin": np.array([0])}  # fmt: skip
    graph = load(model(nodes, {"x": np.zeros(4, np.float32)}, weights), shapes={"x": ("n",)})
    np.testing.assert_array_equal(graph.run(np.ones(4, np.float32))[0], np.full(4, 8 * 16.0))
