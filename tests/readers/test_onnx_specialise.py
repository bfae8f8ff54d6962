"""Values that decide shapes, followed back to inputs; old operator sets. Oracle: ONNX's evaluator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("onnx")
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from typer.testing import CliRunner

from intaglio.__main__ import app
from intaglio.ops.registry import prim
from intaglio.readers.onnx import load
from intaglio.readers.onnx.registry import _HANDLERS
from intaglio.readers.onnx.specialise import load_for
from intaglio.shared import dtypes
from intaglio.shared.errors import UnsupportedError
from intaglio.specialised import SpecialisedModel
from tests.readers.onnx_models import check, model, node

F32, I64 = np.float32, np.int64
X = np.arange(12, dtype=F32)


def body(nodes: list[onnx.NodeProto], inputs: list[str], outputs: list[str]) -> onnx.GraphProto:
    infos = [[onnx.ValueInfoProto(name=name) for name in names] for names in (inputs, outputs)]
    return helper.make_graph(nodes, "body", *infos)


STEP = body(
    [node("Identity", "go", out="again"), node("Add", "sum", "d", out="next"),
     node("Mul", "sum", "d", out="row")],
    ["k", "go", "sum"], ["again", "next", "row"],
)  # fmt: skip
GROWN = body(
    [node("Identity", "go", out="again"), node("Concat", "rows", "x", out="more", axis=0)],
    ["k", "go", "rows"], ["again", "more"],
)  # fmt: skip
SHAPED = body([node("Max", "s", "one", out="positive"), node("Reshape", "x", "positive", out="t")], [], ["t"])
FLAT = body([node("Reshape", "x", "size", out="e")], [], ["e"])

MODELS: dict[str, tuple[list[onnx.NodeProto], list[dict[str, Any]], set[str]]] = {
    # Range, as ONNX writes it with other operators: the number of steps is computed from floats.
    "steps": (
        [
            node("Sub", "b", "a", out="span"), node("Div", "span", "d", out="exact"),
            node("Ceil", "exact", out="whole"), node("Cast", "whole", out="n", to=TensorProto.INT64),
            node("Cast", "whole", out="go", to=TensorProto.BOOL),
            helper.make_node("Loop", ["n", "go", "a"], ["last", "y"], body=STEP),
        ],
        [{"a": F32([a]), "b": F32(b), "d": F32(d)} for a, b, d in ((1, 5, 2), (1, 9, 2), (2, 5, 0.5))],
        {"a", "b", "d"},
    ),
    # A condition of an inner graph, and a shape that is also data.
    "branches": (
        [
            node("Shape", "x", out="size"), node("ReduceSum", "s", out="total", keepdims=0),
            node("Less", "total", "limit", out="short"),
            helper.make_node("If", ["short"], ["shaped"], then_branch=SHAPED, else_branch=FLAT),
            node("Cast", "total", out="factor", to=TensorProto.FLOAT), node("Mul", "shaped", "factor"),
        ],
        [{"x": X, "s": np.array(s, I64), "limit": I64(10)} for s in ((3, 4), (12, 0), (6, 2))],
        {"s", "limit"},
    ),
    # A loop that grows what it carries.
    "growing": (
        [helper.make_node("Loop", ["n", "c", "x"], ["y"], body=GROWN)],
        [{"n": I64(n), "c": np.bool_(c), "x": X[:2]} for n, c in ((0, True), (3, True), (3, False))],
        {"n", "c"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_values_are_followed_to_inputs_and_stay_inputs(name: str) -> None:
    nodes, calls, deciding = MODELS[name]
    proto = model(nodes, calls[0], {"one": I64(1)})
    compiled = SpecialisedModel(proto, opt="fast-compile")
    for inputs in calls:
        (expected,) = ReferenceEvaluator(proto).run(None, inputs)
        (got,) = compiled.run_arrays(list(inputs.values()))
        assert (got.dtype, got.shape) == (expected.dtype, np.shape(expected))
        np.testing.assert_allclose(got, expected, rtol=1e-6)
        special = load_for(proto, proto, list(inputs.values()))
        assert set(special.known) <= deciding
        assert not special.fixed
        assert [value.name for value in special.graph.inputs] == list(inputs)


def test_the_command_line_reads_a_model_for_what_it_is_given(tmp_path: Path) -> None:
    """Shapes and values both; beside ONNX Runtime, too, which finds a fault in a model of this kind."""
    nodes, calls, _ = MODELS["branches"]
    proto = model(nodes, calls[0], {"one": I64(1)})
    proto.ir_version = 10
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    for dim in proto.graph.input[0].type.tensor_type.shape.dim:
        dim.dim_param = "length"
    onnx.save(proto, tmp_path / "m.onnx")
    np.savez(tmp_path / "inputs.npz", **calls[0])
    arguments = [str(tmp_path / "m.onnx"), "--input", str(tmp_path / "inputs.npz")]
    done = CliRunner().invoke(app, ["run", *arguments, "--output", str(tmp_path)])
    assert done.exit_code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), X.reshape(3, 4) * 7)
    with pytest.raises(UnsupportedError, match=r"Less|Reshape|If"):
        CliRunner().invoke(app, ["run", arguments[0]], catch_exceptions=False)
    pytest.importorskip("onnxruntime")
    assert CliRunner().invoke(app, ["verify", *arguments]).exit_code == 0
    with pytest.MonkeyPatch.context() as patch:
        wrong = lambda call, x: prim.cast(x, dtype=dtypes.f32) + 1
        patch.setitem(_HANDLERS, ("", "Cast"), [(9, wrong)])
        result = CliRunner().invoke(app, ["verify", *arguments])
    assert result.exit_code == 1
    assert "first difference: Cast" in result.output


def test_data_that_no_program_can_depend_on_is_refused() -> None:
    """What decides a shape may not have more than 64 elements."""
    proto = model([node("Reshape", "x", "s")], {"x": X, "s": np.ones(65, I64)})
    with pytest.raises(UnsupportedError, match="Reshape"):
        load_for(proto, proto, [X, np.ones(65, I64)])


def test_many_inputs_that_decide_are_read_soon() -> None:
    """Not one import for each of them."""
    many = range(100)
    nodes = [node("Reshape", "x", f"s{k}", out=f"r{k}") for k in many]
    shapes = {f"s{k}": np.array([3, 4] if k % 2 else [12], I64) for k in many}
    proto = model([*nodes, node("Concat", "r0", "r2", axis=0)], {"x": X, **shapes})
    special = load_for(proto, proto, [X, *shapes.values()])
    assert set(shapes) <= set(special.known)
    assert special.graph.outputs[0].shape == (24,)
    with pytest.raises(UnsupportedError, match="Reshape"):
        load_for(proto, proto, [X, *list(shapes.values())[:-1], np.ones(65, I64)])


def test_operators_of_old_sets_that_are_the_same_today() -> None:
    yes = np.array([True, False])
    check(model([node("Not", "x")], {"x": yes}, opset=1), {"x": yes})
    with pytest.raises(UnsupportedError, match=r"ai\.onnx\.Exp of operator set 1 is another one"):
        load(model([node("Exp", "x")], {"x": X}, opset=1))
    with pytest.raises(UnsupportedError, match="operator set 0; 1 to 28"):
        load(model([node("Not", "x")], {"x": yes}, opset=0))
