"""ONNX models compiled at the first call: signatures, guards on values, bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
import onnx
from onnx import TensorProto, helper, numpy_helper

import intaglio
from intaglio.compiled import Compiled
from intaglio.shared.errors import ArgumentError, ShapeError, UnsupportedError
from intaglio.specialised import MAX_PROGRAMS, SpecialisedModel

F32, I64 = TensorProto.FLOAT, TensorProto.INT64
WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3)


def save(path: Path, nodes: list[Any], inputs: list[Any], weights: dict[str, Any] | None = None) -> str:
    tensors = [numpy_helper.from_array(a, n) for n, a in (weights or {}).items()]
    output = helper.make_tensor_value_info("y", F32, None)
    graph = helper.make_graph(nodes, "g", inputs, [output], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path / "m.onnx")
    return str(path / "m.onnx")


def linear(path: Path) -> str:
    x = helper.make_tensor_value_info("x", F32, ["batch", 4])
    return save(path, [helper.make_node("MatMul", ["x", "w"], ["y"])], [x], {"w": WEIGHT})


def reshaping(path: Path) -> str:
    """y = Reshape(x, shape) * Cast(shape)[0]: the shape is data, too."""
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("Cast", ["shape"], ["f"], to=F32),
        helper.make_node("ReduceSum", ["f"], ["s"], keepdims=0),
        helper.make_node("Mul", ["r", "s"], ["y"]),
    ]
    infos = [helper.make_tensor_value_info("x", F32, [12]), helper.make_tensor_value_info("shape", I64, [2])]
    return save(path, nodes, infos)


def test_open_sizes_compile_at_the_first_call_of_each_signature(tmp_path: Path) -> None:
    model = intaglio.compile(linear(tmp_path), opt="fast-compile")
    assert isinstance(model, SpecialisedModel)
    for rows in (1, 3, 1, 3):
        x = np.random.default_rng(rows).standard_normal((rows, 4)).astype(np.float32)
        np.testing.assert_allclose(model(x), x @ WEIGHT, rtol=1e-5)
    assert model.compilations == 2
    assert model.run({"x": x})["y"].shape == (3, 3)
    with pytest.raises(ArgumentError, match="takes 1 inputs, 2 were given"):
        model(x, x)
    with pytest.raises(ArgumentError, match="inputs given are z"):
        model.run({"z": x})


def test_values_that_decide_shapes_are_guarded_and_stay_data(tmp_path: Path) -> None:
    model = intaglio.compile(reshaping(tmp_path), opt="fast-compile")
    x = np.arange(12, dtype=np.float32)
    for shape in ((3, 4), (2, 6), (-1, 3), (3, 4)):
        np.testing.assert_array_equal(model(x, np.array(shape)), x.reshape(shape) * sum(shape))
    assert model.compilations == 3
    assert [v.name for v in model.program(x, np.array([3, 4])).graph.inputs] == ["x", "shape"]


def test_programs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("intaglio.specialised.MAX_PROGRAMS", 2)
    assert MAX_PROGRAMS == 16
    model = intaglio.compile(linear(tmp_path), opt="fast-compile")
    sizes = (1, 2, 3, 3, 1)
    for rows in sizes:
        model.program(np.zeros((rows, 4), np.float32))
    assert model.compilations == 4
    assert "2 programs" in repr(model)


def test_bounds_give_one_program_for_all_sizes(tmp_path: Path) -> None:
    model = intaglio.compile(linear(tmp_path), bounds={"batch": 8}, opt="fast-compile")
    assert isinstance(model, Compiled)
    for rows in (1, 5, 8):
        x = np.ones((rows, 4), np.float32)
        np.testing.assert_allclose(model(x), x @ WEIGHT)
    with pytest.raises(ShapeError, match="must be 1 to 8"):
        model(np.ones((9, 4), np.float32))
    fixed = intaglio.compile(linear(tmp_path), shapes={"x": [2, 4]}, opt="fast-compile")
    assert isinstance(fixed, Compiled)
    assert fixed.output_types["y"].shape == (2, 3)


def test_what_is_asked_for_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="do not decide all sizes"):
        intaglio.compile(linear(tmp_path), shapes={"x": ["n", 4]})
    with pytest.raises(ArgumentError, match=r"bounds and shapes are for \.onnx files"):
        intaglio.compile(lambda x: x, [np.ones(3)], bounds={"n": 3})
    with pytest.raises(UnsupportedError, match="Reshape: the shape is computed") as caught:
        intaglio.readers.onnx.load(reshaping(tmp_path))
    assert "known={'shape': ...}" in str(caught.value)
