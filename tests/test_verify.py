"""`intaglio verify`: models against ONNX Runtime, with faults put into every stage of the compiler."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

pytest.importorskip("onnxruntime")

import intaglio.compile as pipeline
from intaglio import verify
from intaglio.__main__ import app
from intaglio.graph.ir import Graph
from intaglio.graph.passes import PASSES
from intaglio.ops.registry import REGISTRY
from intaglio.readers.onnx.registry import _HANDLERS
from intaglio.view.compare import difference, ulps


def sample(path: Path) -> Path:
    """A model `tanh(relu(x @ w))` with a part in a branch, which reads a value from outside."""
    node, info = helper.make_node, helper.make_tensor_value_info
    branch = helper.make_graph(
        [node("Exp", ["h"], ["e"], name="inner_exp"), node("Tanh", ["e"], ["t"], name="inner_tanh")],
        "then", [], [info("t", TensorProto.FLOAT, None)],
    )  # fmt: skip
    other = helper.make_graph([node("Neg", ["h"], ["n"])], "else", [], [info("n", TensorProto.FLOAT, None)])
    weights = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    nodes = [
        node("MatMul", ["x", "w"], ["m"], name="product"),
        node("Relu", ["m"], ["h"], name="relu"),
        node("If", ["c"], ["i"], name="choice", then_branch=branch, else_branch=other),
        node("Mul", ["i", "h"], ["y"], name="last"),
    ]
    graph = helper.make_graph(
        nodes, "sample",
        [info("x", TensorProto.FLOAT, ["batch", 4]), info("c", TensorProto.BOOL, [])],
        [info("y", TensorProto.FLOAT, None)], [onnx.numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(proto, str(path))
    return path


INPUTS = {"x": np.arange(8, dtype=np.float32).reshape(2, 4) / 8, "c": np.asarray(True)}


def search(path: Path, **settings: Any) -> verify.Report:
    return verify.verify_onnx(sample(path / "m.onnx"), INPUTS, opt="fast-compile", **settings)


def test_agrees(tmp_path: Path) -> None:
    report = search(tmp_path)
    assert report.agrees
    assert report.culprit is None
    assert report.differences[0].ulp < 64


def test_fault_in_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((since, handler),) = _HANDLERS["", "Tanh"]
    wrong = [(since, lambda call, x: handler(call, x) * np.float32(1.01))]
    monkeypatch.setitem(_HANDLERS, ("", "Tanh"), wrong)
    report = search(tmp_path, save=tmp_path / "found")
    assert not report.agrees
    culprit = report.culprit
    assert culprit is not None
    assert (culprit.stage, culprit.title) == ("import", "Tanh() 'inner_tanh'")
    assert any(formula.startswith("tanh: y[*i] = ") for formula in culprit.primitives)
    assert 0.009 < culprit.differences[0].relative < 0.011
    assert culprit.differences[0].ulp > 1000
    numbers = np.load(tmp_path / "found" / "operator.npz")
    np.testing.assert_allclose(numbers["expected_0"], np.tanh(numbers["input_0"]), rtol=1e-6)
    np.testing.assert_allclose(numbers["got_0"], 1.01 * numbers["expected_0"], rtol=1e-6)
    model = onnx.load(str(tmp_path / "found" / "operator.onnx"))
    alone = verify.runtime(model, {model.graph.input[0].name: numbers["input_0"]})
    np.testing.assert_array_equal(alone[0], numbers["expected_0"])


def test_fault_in_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "exp", replace(REGISTRY["exp"], formula="y[*i] = exp(x[*i]) * 1.5"))
    culprit = search(tmp_path).culprit
    assert culprit is not None
    assert (culprit.stage, culprit.title) == ("alone", "Exp() 'inner_exp'")


def test_fault_in_a_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(graph: Graph) -> Graph:
        made = graph.copy()
        made.outputs = [REGISTRY["neg"](value) for value in made.outputs]
        return made

    name = "EliminateCommonSubexpr"
    passes = tuple(replace(one, function=wrong) if one.name == name else one for one in PASSES)
    monkeypatch.setattr(pipeline, "PASSES", passes)
    monkeypatch.setattr(verify._Search, "_alone", lambda self, run, stage: None)
    culprit = search(tmp_path).culprit
    assert culprit is not None
    assert (culprit.stage, culprit.node) == (name, None)
    assert f"graph pass {name}" in culprit.describe()


def test_fault_of_operators_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program with both `exp` and `tanh` is wrong; each of them alone is right."""
    compiled = verify.compile_graph

    def wrong(graph: Graph, **settings: Any) -> Any:
        if {"exp", "tanh", "dot"} <= _operators(graph):
            graph = graph.copy()
            graph.outputs = [REGISTRY["neg"](value) for value in graph.outputs]
        return compiled(graph, **settings)

    monkeypatch.setattr(verify, "compile_graph", wrong)
    monkeypatch.setattr(verify, "TOGETHER", 1)
    culprit = search(tmp_path).culprit
    assert culprit is not None
    assert (culprit.stage, culprit.title) == ("together", "Tanh() 'inner_tanh'")


def _operators(graph: Graph) -> set[str]:
    """Operators that the outputs need, in branches too."""
    found: set[str] = set()
    for node in pipeline.optimise(graph, pipeline.Settings()).nodes:
        found.add(node.op.name)
        for attr in node.attrs.values():
            found |= _operators(attr) if isinstance(attr, Graph) else set()
    return found


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sample(tmp_path / "m.onnx")
    np.savez(tmp_path / "inputs.npz", **INPUTS)
    arguments = ["verify", str(path), "--input", str(tmp_path / "inputs.npz")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert CliRunner().invoke(app, ["verify", str(path), "--size", "batch=3"]).exit_code == 0
    ((since, handler),) = _HANDLERS["", "Relu"]
    monkeypatch.setitem(_HANDLERS, ("", "Relu"), [(since, lambda call, x: handler(call, x) + x)])
    result = CliRunner().invoke(app, [*arguments, "--save", str(tmp_path / "found")])
    assert result.exit_code == 1
    assert "first difference: Relu() 'relu', interpreted" in result.output
    assert (tmp_path / "found" / "operator.npz").exists()


def test_distances() -> None:
    one = np.array([1.0, -3.0], np.float32)
    assert ulps(one, np.nextafter(one, np.float32(9))) == 1
    assert ulps(np.array([5, 7]), np.array([5, 4])) == 3
    assert ulps(np.array([np.nan]), np.array([1.0])) == np.inf
    assert difference("y", one, one[:1]).relative == np.inf
    half = np.array([1.0], np.float16)
    assert ulps(half, half + np.float16(2**-10)) == 1
