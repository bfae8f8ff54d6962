"""Layers in other float types than f32, against the reference's results for the same numbers in f32."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx_cases import Case, case, f32, merged, with_reference

from intaglio.compile import compile_graph
from intaglio.readers.onnx import load

IMAGE, ROWS = f32(1, 2, 5, 4), f32(2, 3, 4)
CASES = {
    "conv": case("Conv", IMAGE, f32(3, 2, 2, 3), f32(3), pads=[1, 0, 0, 1]),
    "transposed": case("ConvTranspose", IMAGE, f32(2, 3, 2, 2), strides=[2, 1]),
    "pool": case("MaxPool", IMAGE, kernel_shape=[2, 2]),
    "average": case("AveragePool", IMAGE, kernel_shape=[2, 2], pads=[1, 1, 0, 0]),
    "layer": case("LayerNormalization", ROWS, f32(4), f32(4)),
    "group": case("GroupNormalization", IMAGE, f32(2), f32(2), num_groups=1),
    "softmax": case("Softmax", ROWS, axis=1),
    "gelu": case("Gelu", ROWS),
    "elu": case("Elu", ROWS),
    "lstm": case("LSTM", ROWS, f32(1, 8, 4), f32(1, 8, 2), f32(1, 16), outputs=3, hidden_size=2),
    "resize": case("Resize", IMAGE, None, np.array([1, 1, 1.5, 0.7], np.float32), known=(2,), mode="linear"),
    "grid": case("GridSample", IMAGE, f32(1, 2, 3, 2) / 2, mode="linear"),
    "attention": case("Attention", f32(1, 2, 3, 4), f32(1, 2, 5, 4), f32(1, 2, 5, 4), is_causal=1),
    "einsum": case("Einsum", ROWS, f32(4, 3), equation="abc,cb->a"),
    "loss": case("NegativeLogLikelihoodLoss", ROWS, np.array([[0, 2, 1, 1], [1, 1, 0, 2]])),
}
TYPES = {"f64": (np.float64, 2e-5), "f16": (np.float16, 1e-2), "bf16": (ml_dtypes.bfloat16, 8e-2)}


def converted(cases: dict[str, Case], dtype: Any) -> dict[str, Case]:
    """The cases with their f32 inputs, but not what is known, in another type."""
    return {
        name: case(
            one.op,
            *(x.astype(dtype) if k not in one.known and x is not None and x.dtype == np.float32 else x
              for k, x in enumerate(one.inputs)),
            outputs=one.outputs,
            known=one.known,
            **one.attributes,
        )
        for name, one in cases.items()
    }  # fmt: skip


@pytest.mark.parametrize("name", TYPES)
def test_layers_in_other_types(name: str) -> None:
    dtype, tolerance = TYPES[name]
    proto, feeds = merged(converted(CASES, dtype), 28)
    rounded = {k: x.astype(np.float32) if x.dtype == dtype else x for k, x in feeds.items()}
    plain, _ = merged(CASES, 28)
    expected = with_reference(plain, rounded)
    graph, arrays = load(proto), list(feeds.values())
    names = [info.name for info in proto.graph.output]
    for results in (graph.run(*arrays), compile_graph(graph, opt="fast-compile").run_arrays(arrays)):
        for what, ours, theirs in zip(names, results, expected, strict=True):
            assert (ours.dtype, ours.shape) == (dtype, theirs.shape), what
            np.testing.assert_allclose(
                ours.astype(np.float32), theirs, rtol=tolerance, atol=tolerance, err_msg=what
            )
