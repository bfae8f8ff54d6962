"""Operators whose results have a size that depends on the data, against ONNX's reference evaluator.

Each model is imported and compiled once and run on several inputs, among them such that nothing or everything
is selected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from intaglio.compile import compile_graph
from intaglio.graph.spec import verify
from intaglio.readers.onnx import load
from intaglio.shared.errors import UnsupportedError
from tests.readers.onnx_models import model, node

RNG = np.random.default_rng(1)
X = RNG.standard_normal((4, 5)).astype(np.float32)
SPARSE = np.where(np.abs(X) < 0.7, 0, X).astype(np.float32)
NONE, ALL = np.zeros_like(X), np.ones_like(X)


def agree(
    proto: onnx.ModelProto, runs: Sequence[dict[str, Any]], *, compiled: bool = True, **options: Any
) -> None:
    """Interpreter and C give shapes, types and values of the reference evaluator for every run."""
    graph = load(proto, **options)
    verify(graph)
    reference = ReferenceEvaluator(proto)
    programs = [graph.run]
    if compiled:
        program = compile_graph(graph, threads=1, opt="fast-compile")
        programs.append(lambda *arrays: tuple(program.run_arrays(arrays)))
    for inputs in runs:
        expected = reference.run(None, inputs)
        for run in programs:
            for ours, theirs in zip(run(*inputs.values()), expected, strict=True):
                assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
                np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_nonzero_and_what_follows() -> None:
    """Shapes of the result are used as numbers, as shapes and for gathering, as exporters write it."""
    nodes = [
        node("NonZero", "x", out="places"),
        node("Transpose", "places", out="rows", perm=[1, 0]),
        node("GatherND", "x", "rows", out="elements"),
        node("Shape", "rows", out="shape"),
        node("Gather", "shape", "zero", out="count"),
        node("Cast", "rows", out="floats", to=TensorProto.FLOAT),
        node("ReduceSum", "floats", "axis", out="sums", keepdims=0),
        node("ConstantOfShape", "shape", out="zeros"),
        node("Concat", "floats", "zeros", out="wide", axis=1),
        node("Reshape", "floats", "flat", out="line"),
    ]
    weights = {"zero": np.asarray(0), "axis": np.array([0]), "flat": np.array([-1])}
    outputs = ["places", "elements", "count", "sums", "wide", "line"]
    proto = model(nodes, {"x": X}, weights, outputs=outputs)
    agree(proto, [{"x": x} for x in (SPARSE, NONE, ALL)])


@pytest.mark.parametrize("axis", [None, 0, -1])
def test_compress(axis: int | None) -> None:
    attributes = {} if axis is None else {"axis": axis}
    size = 9 if axis is None else X.shape[axis] - 1
    nodes = [node("Compress", "x", "c", out="kept", **attributes), node("Mul", "kept", "two")]
    flags = [RNG.random(size) < 0.5, np.zeros(size, bool), np.ones(size, bool)]
    proto = model(nodes, {"x": X, "c": flags[0]}, {"two": np.float32(2)})
    agree(proto, [{"x": X, "c": c} for c in flags])
    fixed = model(nodes, {"x": X}, {"two": np.float32(2), "c": flags[0]})
    agree(fixed, [{"x": X}], compiled=False)


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_unique(in_order: bool, axis: int | None) -> None:
    """NumPy is the oracle: the reference evaluator does not know the order of first appearance on an axis."""
    names = ["y", "first", "number", "counts"]
    attributes = {} if axis is None else {"axis": axis}
    nodes = [node("Unique", "x", out=names, sorted=int(not in_order), **attributes)]
    arrays = [RNG.integers(-1, 2, (6, 3)).astype(np.float32), np.ones((6, 3), np.float32)]
    arrays.append(np.arange(18, dtype=np.float32).reshape(6, 3)[::-1].copy())
    graph = load(model(nodes, {"x": arrays[0]}, outputs=names))
    verify(graph)
    program = compile_graph(graph, threads=1, opt="fast-compile")
    for x in arrays:
        _, first, number, counts = np.unique(x, True, True, True, axis=axis)
        turn = np.argsort(first) if in_order else np.arange(len(first))
        y = np.take(x.reshape(-1) if axis is None else x, first[turn], axis or 0)
        for got in (graph.run(x), program.run_arrays([x])):
            wanted = (y, first[turn], np.argsort(turn)[number.reshape(-1)], counts[turn])
            for ours, theirs in zip(got, wanted, strict=True):
                np.testing.assert_array_equal(ours, theirs)


def suppression(center: bool) -> onnx.ModelProto:
    boxes, scores = np.zeros((2, 12, 4), np.float32), np.zeros((2, 3, 12), np.float32)
    weights = {"most": np.array([4]), "overlap": np.array([0.4], np.float32)}
    call = node(
        "NonMaxSuppression", "boxes", "scores", "most", "overlap", "least", center_point_box=int(center)
    )
    inputs = {"boxes": boxes, "scores": scores, "least": np.zeros(1, np.float32)}
    return model([call], inputs, weights)


@pytest.mark.parametrize("center", [False, True])
def test_non_max_suppression(center: bool) -> None:
    """Crowded boxes, corners in any order; thresholds that let some, all and none through."""
    runs = []
    for least in (0.3, 0.0, 2.0):
        corner, size = RNG.random((2, 12, 2)), 0.2 + RNG.random((2, 12, 2))
        boxes = np.concatenate([corner, size if center else corner + size], 2)
        if not center:
            boxes[:, ::3] = boxes[:, ::3][..., [2, 3, 0, 1]]
        scores = RNG.permutation(72).reshape(2, 3, 12) / 72
        runs.append({"boxes": boxes.astype(np.float32), "scores": scores.astype(np.float32),
                     "least": np.array([least], np.float32)})  # fmt: skip
    agree(suppression(center), runs)


def test_slices_with_limits_computed_at_run_time() -> None:
    """Limits beyond the ends, from the end, backwards; some known, of one axis and of two."""
    nodes = [
        node("Slice", "x", "start", "end", out="a"),
        node("Slice", "x", "start", "known", "one", "minus", out="b"),
        node("Slice", "x", "known", "end", "one", "two", out="c"),
        node("Concat", "start", "end", out="starts", axis=0),
        node("Concat", "end", "end", out="ends", axis=0),
        node("Slice", "x", "starts", "ends", out="d"),
        node("ReduceSum", "a", "zero", out="e", keepdims=0),
    ]
    weights = {name: np.array([v]) for name, v in (("zero", 0), ("one", 1), ("two", 2), ("minus", -1))}
    inputs = {"x": X, "start": np.array([1]), "end": np.array([3])}
    proto = model(nodes, inputs, {**weights, "known": np.array([-4])}, outputs=["a", "b", "c", "d", "e"])
    limits = [(0, 5), (3, 2), (-2, 9), (-99, -1), (2, 2**62), (-(2**62), 2**62)]
    agree(proto, [{"x": X, "start": np.array([a]), "end": np.array([b])} for a, b in limits])


def test_detections() -> None:
    """What a detector does behind its network: candidates, the best of them, those that do not overlap."""
    nodes = [
        node("Greater", "scores", "least", out="mask"),
        node("NonZero", "mask", out="places"),
        node("Squeeze", "places", "front", out="candidates"),
        node("Gather", "scores", "candidates", out="s"),
        node("Gather", "boxes", "candidates", out="b"),
        node("Shape", "s", out="many"),
        node("Min", "many", "eight", out="k"),
        node("TopK", "s", "k", out=["best", "order"]),
        node("Gather", "b", "order", out="best_boxes"),
        node("Unsqueeze", "best_boxes", "front", out="b1"),
        node("Unsqueeze", "best", "both", out="s11"),
        node("NonMaxSuppression", "b1", "s11", "most", "overlap", out="selected"),
        node("Gather", "selected", "last", out="ranks", axis=1),
        node("Gather", "best_boxes", "ranks", out="boxes_out"),
        node("Gather", "best", "ranks", out="scores_out"),
        node("Shape", "ranks", out="count"),
    ]
    weights = {
        "least": np.float32(0.4), "front": np.array([0]), "both": np.array([0, 1]), "eight": np.array([8]),
        "most": np.array([5]), "overlap": np.array([0.5], np.float32), "last": np.asarray(2),
    }  # fmt: skip
    runs = []
    for scale in (1.0, 0.45, 3.0, 0.1):
        corner = RNG.random((20, 2))
        boxes = np.concatenate([corner, corner + 0.7 * RNG.random((20, 2))], 1).astype(np.float32)
        runs.append({"boxes": boxes, "scores": (scale * RNG.random(20)).astype(np.float32)})
    agree(model(nodes, runs[0], weights, outputs=["boxes_out", "scores_out", "count"]), runs)


def test_loop_that_ends_by_itself() -> None:
    """Rows are stacked while the sum is below a limit: as many as there were steps."""
    info = lambda name: helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None)
    body = helper.make_graph(
        [
            node("Add", "v", "x", out="w"),
            node("Identity", "w", out="row"),
            node("ReduceSum", "w", out="total", keepdims=0),
            node("Less", "total", "limit", out="again"),
        ],
        "body",
        [info(n) for n in ("i", "go", "v")],
        [info(n) for n in ("again", "w", "row")],
    )
    loop = node("Loop", "most", "c", "v", out=["last", "rows"], body=body)
    nodes = [loop, node("Shape", "rows", out="shape")]
    inputs = {"v": NONE, "x": ALL, "limit": np.float32(90), "c": np.asarray(True)}
    graph = load(model(nodes, inputs, {"most": np.asarray(8)}, outputs=["last", "rows", "shape"]))
    verify(graph)
    program = compile_graph(graph, threads=1, opt="fast-compile")
    for limit, go, steps in ((90, True, 5), (1e9, True, 8), (90, False, 0), (-1, True, 1)):
        arrays = [NONE, ALL, np.float32(limit), np.asarray(go)]
        for last, rows, shape in (graph.run(*arrays), program.run_arrays(arrays)):
            np.testing.assert_array_equal(last, np.full_like(X, steps))
            np.testing.assert_array_equal(rows, np.arange(1, steps + 1)[:, None, None] * ALL)
            np.testing.assert_array_equal(shape, [steps, 4, 5])


def test_sizes_of_inputs_as_numbers() -> None:
    """With a symbolic batch: what is found depends on it, and it is itself computed with."""
    nodes = [
        node("NonZero", "x", out="places"),
        node("Shape", "x", out="shape"),
        node("Gather", "shape", "zero", out="batch"),
        node("Range", "one", "batch", "two", out="odd"),
        node("Range", "batch", "minus", "minus", out="down"),
        node("ConstantOfShape", "shape", out="zeros"),
        node("Concat", "x", "zeros", out="both", axis=0),
        node("Add", "shape", "shape", out="sum"),
    ]
    weights = {"zero": np.asarray(0), "one": np.asarray(1), "two": np.asarray(2), "minus": np.asarray(-1)}
    outputs = ["places", "odd", "down", "both", "sum"]
    proto = model(nodes, {"x": X}, weights, outputs=outputs)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    agree(proto, [{"x": SPARSE[:1]}, {"x": ALL}, {"x": NONE[:3]}], bounds={"batch": 6})


def test_refused() -> None:
    proto = model([node("NonZero", "x")], {"x": X})
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    with pytest.raises(UnsupportedError, match="no upper bound"):
        load(proto)
    proto = model([node("Unique", "x", axis=0)], {"x": np.zeros((3, 65), np.float32)})
    with pytest.raises(UnsupportedError, match="rows of 65 elements"):
        load(proto)
