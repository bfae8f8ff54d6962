"""Gathering, scattering, picking and running sums against ONNX's reference evaluator."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from intaglio.readers.onnx import load
from intaglio.shared.errors import ArgumentError, FileFormatError, ShapeError
from tests.readers.onnx_batch import case, compare, merged, run

RNG = np.random.default_rng(17)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def places(high, *shape):
    return RNG.integers(-high, high, shape)


def index(*numbers):
    return np.array(numbers)


X = floats(3, 4, 5)
NAN = np.array([[np.nan, 1, -np.inf, np.inf]], np.float32)
CASES = [
    case("GatherElements", X, places(4, 3, 2, 5), axis=1),
    case("GatherElements", X, places(5, 3, 4, 2), axis=2),
    case("GatherND", X, RNG.integers(0, 3, (2, 2))),
    case("GatherND", X, RNG.integers(0, 4, (3, 2, 1)), batch_dims=1),
    *(
        case("ScatterElements", X, index([[0], [3], [-1], [0]]), floats(1, 4, 1), axis=2, reduction=how)
        for how in ("none", "add", "mul", "max", "min")
    ),
    *(
        case("ScatterND", X, index([0], [2]), floats(2, 4, 5), reduction=how)
        for how in ("none", "add", "mul", "max", "min")
    ),
    case("ReverseSequence", X, index(4, 1, 2), batch_axis=0, time_axis=1),
    case("ReverseSequence", X, index(1, 3, 2, 1), batch_axis=1, time_axis=0),
    case("TopK", X, index(2), weights=(1,), outputs=2, axis=1),
    case("TopK", RNG.integers(0, 4, (3, 6)), index(3), weights=(1,), outputs=2, largest=0),
    case("OneHot", places(4, 2, 3), np.int64(4), floats(2), weights=(1,)),
    case("OneHot", index(7, -1, 2), np.int64(4), index(5, 6), weights=(1,), axis=0),
    case("EyeLike", X[0], k=1, dtype=7),
    case("EyeLike", X[0], k=-1),
    case("Trilu", X, np.int64(1)),
    case("Trilu", X, np.int64(-1), weights=(1,), upper=0),
    case("CumSum", X, np.int32(1), weights=(1,), exclusive=1),
    case("CumSum", X, np.int32(-1), weights=(1,), reverse=1),
    case("CumProd", X, np.int32(0), weights=(1,), exclusive=1, reverse=1),
    case("BitShift", index(1, 255).astype(np.uint8), index(3, 1).astype(np.uint8), direction="LEFT"),
    case("BitShift", index(1, 2**40).astype(np.uint64), index(3, 1).astype(np.uint64), direction="RIGHT"),
    case("IsNaN", NAN),
    *(case("IsInf", NAN, detect_negative=a, detect_positive=b) for a in (0, 1) for b in (0, 1)),
    case("Pow", index(2, -3), np.array([0.5, 2], np.float32)),
    case("Pow", floats(2) ** 2, index(2, -3)),
    case("Pow", floats(7), np.float32(3), weights=(1,)),
    case("Pow", index(-2, 5), np.int64(3), weights=(1,)),
    case("BitCast", NAN, to=6),
    case("BitCast", index(0, 255).astype(np.uint8), to=3),
]


def test_as_the_reference():
    model, feeds = merged(CASES, {"": 26})
    with np.errstate(all="ignore"):
        wanted = [np.asarray(y) for y in ReferenceEvaluator(model).run(None, feeds)]
    compare(CASES, run(model, feeds), wanted)


def test_a_place_found_at_run_time_picks_from_a_table():
    """The greatest column names a label: the index is computed in the loop that reads by it."""
    nodes = [case("ArgMax", floats(5, 3), axis=1, keepdims=0)]
    model, feeds = merged(nodes)
    model.graph.node.append(case_node("Gather", ["table", "y0_0"], ["label"]))
    model.graph.initializer.append(weight(index(4, 5, 9), "table"))
    model.graph.output[0].name = "label"
    (label,) = run(model, feeds)
    np.testing.assert_array_equal(label, index(4, 5, 9)[next(iter(feeds.values())).argmax(1)])


def case_node(op, inputs, outputs):
    from onnx import helper

    return helper.make_node(op, inputs, outputs)


def weight(array, name):
    from onnx import numpy_helper

    return numpy_helper.from_array(array, name)


@pytest.mark.parametrize(
    ("one", "error", "message"),
    [
        (case("GatherND", X, index([0, 0, 0, 0])), ShapeError, "4 indices for rank 3"),
        (case("ScatterElements", X, index([[0]]), floats(1, 1, 2)), ShapeError, "updates are"),
        (case("ScatterND", X, index([0]), floats(1, 4, 5), reduction="mean"), ArgumentError, "'mean'"),
        (
            case("ReverseSequence", X, index(1, 1, 1), batch_axis=2, time_axis=1),
            ArgumentError,
            "batch axis 2",
        ),
        (
            case("BitShift", index(1).astype(np.uint8), index(1).astype(np.uint8), direction="UP"),
            ArgumentError,
            "'UP'",
        ),
        (case("TopK", X, index(1, 2), weights=(1,), outputs=2), FileFormatError, "malformed"),
    ],
)
def test_what_is_refused(one, error, message):
    with pytest.raises(error, match=message):
        load(merged([one])[0])
