"""Small ONNX models for tests, and their comparison with ONNX's own reference evaluator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from intaglio.compile import compile_graph
from intaglio.readers.onnx import load


def node(op: str, *inputs: str, out: str | Sequence[str] = "y", **attributes: Any) -> onnx.NodeProto:
    """A node; `out` is the name of its output, or the names of several."""
    outputs = [out] if isinstance(out, str) else list(out)
    return helper.make_node(op, list(inputs), outputs, **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Any],
    weights: Mapping[str, Any] | None = None,
    *,
    outputs: Sequence[str] = ("y",),
    opset: int = 18,
    **domains: int,
) -> onnx.ModelProto:
    """A model whose inputs have the shapes and types of the arrays given; `domains` adds operator sets."""
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in inputs.items()
    ]
    tensors = [numpy_helper.from_array(a, n) for n, a in (weights or {}).items()]
    results = [helper.make_tensor_value_info(n, TensorProto.UNDEFINED, None) for n in outputs]
    graph = helper.make_graph(list(nodes), "g", infos, results, tensors)
    sets = [helper.make_opsetid(n.replace("_", "."), v) for n, v in {"": opset, **domains}.items()]
    return helper.make_model(graph, opset_imports=sets)


def run_compiled(proto: onnx.ModelProto, inputs: Mapping[str, Any]) -> list[Any]:
    """The outputs of a model through compiled C."""
    return compile_graph(load(proto), threads=1).run_arrays(list(inputs.values()))


def check(proto: onnx.ModelProto, inputs: Mapping[str, Any], rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Compiled C gives what ONNX's reference evaluator gives: shapes, types and values."""
    expected = ReferenceEvaluator(proto).run(None, dict(inputs))
    got = run_compiled(proto, inputs)
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)
