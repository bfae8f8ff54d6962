"""Slices of axes whose extent is a symbol, against NumPy at every size."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from intaglio.readers.onnx import load
from intaglio.shared.errors import UnsupportedError

MOST = 6
FAR = (1 << 63) - 1


def sliced(start: object, end: object, step: int) -> bytes:
    """`x[start:end:step]`; a limit `n` or `n - 1` is computed from the shape."""
    nodes = [
        helper.make_node("Shape", ["x"], ["n"]),
        helper.make_node("Sub", ["n", "one"], ["n-1"]),
        helper.make_node("Slice", ["x", "start", "end", "axes", "step"], ["y"]),
    ]
    limits = {"start": start, "end": end}
    weights = {"one": 1, "axes": 0, "step": step} | {k: v for k, v in limits.items() if isinstance(v, int)}
    for name, limit in limits.items():
        if isinstance(limit, str):
            nodes[-1].input[list(limits).index(name) + 1] = limit
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.INT64, ["size"])], [info("y", TensorProto.INT64, None)],
        [numpy_helper.from_array(np.array([v]), k) for k, v in weights.items()],
    )  # fmt: skip
    data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    return data


@pytest.mark.parametrize(
    ("start", "end", "step"),
    [(0, FAR, 1), (0, -1, 1), (-1, FAR, 1), (-2, FAR, 1), (1, "n", 1), ("n-1", FAR, 1), (0, "n-1", 1),
     (0, 4, 1), (2, 5, 1), (-4, -1, 1), (0, FAR, 2), (-1, -FAR, -1), (FAR, -FAR, -1), (FAR, 0, -1),
     ("n-1", -FAR, -1), (0, 1000, 3)],
)  # fmt: skip
@pytest.mark.parametrize("bounded", [True, False])
def test_as_in_python(start: object, end: object, step: int, bounded: bool) -> None:
    graph = load(sliced(start, end, step), bounds={"size": MOST} if bounded else None)
    for size in range(1, MOST + 1):
        x = np.arange(size)
        limits = [{"n": size, "n-1": size - 1}.get(str(v), v) for v in (start, end)]
        (got,) = graph.run(x)
        np.testing.assert_array_equal(got, x[slice(*limits, step)])


def test_a_limit_of_unknown_sign_is_refused() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["n"]),
        helper.make_node("Sub", ["n", "three"], ["m"]),
        helper.make_node("Slice", ["x", "zero", "m"], ["y"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.INT64, ["size"])], [info("y", TensorProto.INT64, None)],
        [numpy_helper.from_array(np.array([v]), k) for k, v in (("three", 3), ("zero", 0))],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    with pytest.raises(UnsupportedError, match="counts from the end is not known"):
        load(proto)
