"""Branches and loops of ONNX, against the reference evaluator: on NumPy, and the main kinds in C."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from intaglio.compile import compile_graph
from intaglio.graph.spec import verify
from intaglio.readers.onnx import load
from intaglio.readers.onnx.registry import InputNeeded
from intaglio.shared.errors import FileFormatError, UnsupportedError
from tests.readers.onnx_models import model, node, run_compiled

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
YES, NO = np.asarray(True), np.asarray(False)


def graph(nodes: Any, inputs: str = "", outputs: str = "", weights: Any = None) -> onnx.GraphProto:
    """An inner graph; its inputs and outputs are given by name."""
    infos = [
        [helper.make_tensor_value_info(n, TensorProto.UNDEFINED, None) for n in names.split()]
        for names in (inputs, outputs)
    ]
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in (weights or {}).items()]
    return helper.make_graph(nodes, "inner", *infos, tensors)


def agree(proto: onnx.ModelProto, inputs: dict[str, Any], *, compiled: bool = False, **fixed: Any) -> None:
    """Our interpreter, and the compiled program if wanted, give what the reference evaluator gives."""
    expected = ReferenceEvaluator(proto).run(None, inputs)
    made = load(proto, values=fixed)
    verify(made)
    rest = {name: array for name, array in inputs.items() if name not in fixed}
    runs = [made.run(*rest.values())]
    if compiled:
        runs.append(run_compiled(proto, inputs))
    for got in runs:
        for ours, theirs in zip(got, expected, strict=True):
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def doubled_or_negated(depth: int = 0) -> list[onnx.NodeProto]:
    """`y = 2 * x if c else -x`, each branch inside of more branches that use values from all around."""
    then = graph([node("Mul", "x", "two", out="a")], outputs="a")
    orelse = graph([node("Neg", "x", out="b")], outputs="b")
    for k in range(depth):
        inner = node("If", "c", out=f"i{k}", then_branch=then, else_branch=orelse)
        then = graph([inner, node("Add", f"i{k}", "x", out=f"a{k}")], outputs=f"a{k}")
        orelse = graph([node("Sub", "x", "two", out=f"b{k}")], outputs=f"b{k}")
    return [node("If", "c", then_branch=then, else_branch=orelse)]


@pytest.mark.parametrize("depth", [0, 3])
@pytest.mark.parametrize("condition", [YES, NO, np.array([True])])
def test_if(depth: int, condition: Any) -> None:
    weights = {"two": np.float32(2)}
    proto = model(doubled_or_negated(depth), {"x": X, "c": condition}, weights)
    agree(proto, {"x": X, "c": condition}, compiled=condition.ndim == 1)
    agree(proto, {"x": X, "c": condition}, c=condition)


def test_known_conditions_leave_no_branch() -> None:
    proto = model(doubled_or_negated(2), {"x": X}, {"two": np.float32(2), "c": YES})
    assert not [n for n in load(proto).nodes if n.op.name == "cond"]


def test_branches_agree_on_what_they_know() -> None:
    """A shape that both branches give is known behind them, so that Reshape can use it."""
    shape = {"s": np.array([4, 3])}
    branch = graph([node("Identity", "s", out="t")], outputs="t", weights=shape)
    nodes = [node("If", "c", out="s", then_branch=branch, else_branch=branch), node("Reshape", "x", "s")]
    agree(model(nodes, {"x": X, "c": YES}), {"x": X, "c": YES})


def uneven_branches() -> onnx.ModelProto:
    then = graph([node("Identity", "x", out="a")], outputs="a")
    orelse = graph([node("Transpose", "x", out="b")], outputs="b")
    return model([node("If", "c", then_branch=then, else_branch=orelse)], {"x": X, "c": YES})


def test_branches_of_different_shapes_are_refused() -> None:
    proto = uneven_branches()
    with pytest.raises(UnsupportedError, match=r"one branch gives f32\[3, ?4\], the other f32\[4, ?3\]"):
        load(proto)
    agree(proto, {"x": X, "c": NO}, c=NO)


STEP = [
    node("Add", "v", "x", out="w"),
    node("Cast", "i", out="f", to=TensorProto.FLOAT),
    node("Mul", "w", "f", out="row"),
    node("ReduceSum", "w", out="total", keepdims=0),
    node("Less", "total", "limit", out="again"),
]
LIMIT = {"limit": np.float32(40)}


def loop(always: bool, rows: bool, x: Any = X) -> onnx.ModelProto:
    """`while again and i < m: v += x`, with the rows `v * i` stacked if wanted."""
    known = [node("Identity", "go", out="again")]
    body = graph(
        [*STEP[:4], *(known if always else STEP[4:])], "i go v", "again w row" if rows else "again w"
    )
    out = ["y", "rows"] if rows else ["y"]
    inputs = {"m": np.asarray(3), "c": YES, "v0": x, "x": x}
    return model([node("Loop", "m", "c", "v0", out=out, body=body)], inputs, LIMIT, outputs=out)


@pytest.mark.parametrize("trips", [0, 1, 5])
@pytest.mark.parametrize("fixed", ["m c", "m", "c", ""])
@pytest.mark.parametrize("always", [True, False])
def test_loop_without_rows(trips: int, fixed: str, always: bool) -> None:
    x = np.abs(X)
    inputs = {"m": np.asarray(trips), "c": YES, "v0": x, "x": x}
    agree(loop(always, False, x), inputs, **{name: inputs[name] for name in fixed.split()})


@pytest.mark.parametrize("trips", [0, 1, 4])
def test_counted_loop_with_rows_is_a_scan(trips: int) -> None:
    """NumPy is the oracle here: the reference evaluator joins the rows along their first axis."""
    made = load(loop(True, True), values={"m": np.asarray(trips), "c": YES})
    verify(made)
    last, rows = made.run(X, X)
    sums = X * (2 + np.arange(trips, dtype=np.float32)[:, None, None])
    np.testing.assert_allclose(last, X * (1 + trips), rtol=1e-6)
    np.testing.assert_allclose(rows, sums * np.arange(trips)[:, None, None], rtol=1e-6)
    assert ("scan" in [n.op.name for n in made.nodes]) == (trips > 1)


def test_loops_compiled() -> None:
    """A condition computed at run time, in C; a condition that fails at once."""
    for start in (0.1, 100.0):
        x = np.full((2, 3), start, np.float32)
        inputs = {"m": np.asarray(50), "c": YES, "v0": x, "x": x}
        agree(loop(False, False, x), inputs, compiled=True)


def test_rows_without_a_limit_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="nothing known limits its number of steps"):
        load(loop(True, True))


def test_inputs_that_decide_are_named() -> None:
    """Where shapes or sequences depend on values, the error names the inputs that would have to be known."""
    for proto, names in ((loop(True, True), ("m", "c")), (uneven_branches(), ("c",))):
        with pytest.raises(InputNeeded) as caught:
            load(proto)
        assert set(caught.value.names) == set(names)


def test_growing_tensors_are_written_out() -> None:
    """The carried value grows by a row at each step, and inner loops see the outer step's number."""
    inner = graph([node("Add", "u", "v_last", out="u2"), node("Identity", "g", out="h")], "j g u", "h u2")
    body = graph(
        [
            node("ReduceSum", "v", "axis", out="v_last", keepdims=1),
            node("Loop", "three", "go", "v_last", out="r", body=inner),
            node("Concat", "v", "r", out="w", axis=0),
            node("Identity", "go", out="again"),
        ],
        "i go v",
        "again w",
    )
    weights = {"three": np.asarray(3), "axis": np.array([0]), "m": np.asarray(4), "c": YES}
    agree(model([node("Loop", "m", "c", "x", body=body)], {"x": X}, weights), {"x": X})


def scan(opset: int = 18, **attributes: Any) -> list[onnx.NodeProto]:
    """Running sums of two streams: one of them, and their product."""
    body = graph(
        [
            node("Add", "s", "a", out="t"),
            node("Identity", "t", out="sum"),
            node("Mul", "a", "b", out="product"),
        ],
        "s a b",
        "t sum product",
    )
    return [node("Scan", "s0", "a", "b", out=["s1", "y", "z"], body=body, num_scan_inputs=2, **attributes)]


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"scan_input_directions": [1, 0], "scan_output_directions": [0, 1]},
        {"scan_input_axes": [1, -1], "scan_output_axes": [1, -1]},
    ],
)
def test_scan(attributes: dict[str, Any]) -> None:
    x = np.arange(9, dtype=np.float32).reshape(3, 3)
    inputs = {"s0": np.ones(3, np.float32), "a": x, "b": x.T.copy()}
    proto = model(scan(**attributes), inputs, outputs=["s1", "y", "z"])
    a, b = (
        np.moveaxis(array, axis, 0)[:: -1 if flip else 1]
        for array, axis, flip in zip(
            (inputs["a"], inputs["b"]), attributes.get("scan_input_axes", [0, 0]),
            attributes.get("scan_input_directions", [0, 0]), strict=True,
        )
    )  # fmt: skip
    sums = inputs["s0"] + np.cumsum(a, 0)
    wanted = [
        np.moveaxis(y[:: -1 if flip else 1], 0, axis)
        for y, axis, flip in zip(
            (sums, a * b), attributes.get("scan_output_axes", [0, 0]),
            attributes.get("scan_output_directions", [0, 0]), strict=True,
        )
    ]  # fmt: skip
    for got in (load(proto).run(*inputs.values()), run_compiled(proto, inputs)):
        for ours, theirs in zip(got, [sums[-1], *wanted], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_scan_8_over_a_batch_with_lengths() -> None:
    x = np.arange(16, dtype=np.float32).reshape(2, 4, 2)
    inputs = {"n": np.array([3, 4]), "s0": np.zeros((2, 2), np.float32), "a": x, "b": x}
    nodes = scan()
    nodes[0].input.insert(0, "n")
    got = load(model(nodes, inputs, outputs=["s1", "y", "z"], opset=8)).run(*inputs.values())
    valid = (np.arange(4)[None, :] < inputs["n"][:, None])[..., None]
    sums = np.cumsum(x * valid, 1)
    for ours, theirs in zip(got, [sums[:, -1], sums * valid, x * x * valid], strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("axis", [0, 1])
def test_branches_of_different_sizes(axis: int) -> None:
    """One axis may differ, by known sizes and by one that a branch finds: nothing, some or all of it."""
    nodes = [
        node("Greater", "x", "zero", out="positive"),
        node("Cast", "positive", out="flags", to=TensorProto.FLOAT),
        node("ReduceMax", "flags", "other", out="any", keepdims=0),
        node("Cast", "any", out="mask", to=TensorProto.BOOL),
        node("Compress", "x", "mask", out="found", axis=axis),
    ]
    start, end, way = "none", "two", "axis"
    orelse = graph(
        [node("Slice", "x", start, end, way, out="few"), node("Neg", "few", out="o2")], outputs="few o2"
    )
    then = graph([*nodes, node("Neg", "found", out="t2")], outputs="found t2")
    after = [
        node("If", "c", out=["u", "v"], then_branch=then, else_branch=orelse),
        node("Shape", "u", out="shape"),
        node("ReduceSum", "v", "axis", out="total", keepdims=0),
        node("Concat", "u", "x", out="both", axis=axis),
    ]
    weights = {
        "zero": np.float32(0), "other": np.array([1 - axis]), "none": np.array([0]), "two": np.array([2]),
        "axis": np.array([axis]),
    }  # fmt: skip
    outputs = ["u", "v", "shape", "total", "both"]
    proto = model(after, {"x": X, "c": YES}, weights, outputs=outputs)
    made = load(proto)
    verify(made)
    program = compile_graph(made, threads=1, opt="fast-compile")
    reference = ReferenceEvaluator(proto)
    for x in (X, -np.abs(X), np.abs(X) + 1, X - 0.7):
        for condition in (YES, NO):
            expected = reference.run(None, {"x": x, "c": condition})
            for got in (made.run(x, condition), program.run_arrays([x, condition])):
                for ours, theirs in zip(got, expected, strict=True):
                    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
                    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_malformed_loops() -> None:
    body = graph([node("Identity", "go", out="again")], "i go", "again")
    with pytest.raises(FileFormatError, match="does not carry 1 values"):
        load(model([node("Loop", "m", "", "x", body=body)], {"x": X, "m": np.asarray(3)}))


@pytest.mark.parametrize(("trips", "steps"), [(5, 3), (2, 2), (2**62, 3)])
def test_a_loop_that_counts_by_itself_is_a_scan(trips: int, steps: int) -> None:
    """Its condition compares a counter it carries with a constant: how many rows it stacks is known."""
    body = graph(
        [
            node("Add", "i", "one", out="next"),
            node("Add", "a", "x", out="sum"),
            node("Identity", "sum", out="row"),
            node("Less", "next", "limit", out="again"),
        ],
        "step goes_on i a", "again next sum row",
    )  # fmt: skip
    proto = model(
        [node("Loop", "trips", "yes", "zero", "x", out=["count", "y", "rows"], body=body)],
        {"x": X},
        outputs=["count", "y", "rows"],
        weights={"trips": np.asarray(trips), "yes": YES, "zero": np.asarray(0), "one": np.asarray(1),
                 "limit": np.asarray(3)},
    )  # fmt: skip
    made = load(proto)
    assert "while_loop" not in {one.op.name for one in made.nodes}
    count, y, rows = made.run(X)
    assert count == steps
    np.testing.assert_allclose(y, X * (steps + 1), rtol=1e-6)
    np.testing.assert_allclose(rows, [X * (k + 2) for k in range(steps)], rtol=1e-6)
