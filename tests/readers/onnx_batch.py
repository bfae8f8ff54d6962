"""Many small cases as one ONNX model, so that one C program runs them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from intaglio.compile import compile_graph
from intaglio.graph.eval import evaluate
from intaglio.readers.onnx.importer import load_packed

SETS = {"": 21, "com.microsoft": 1, "ai.onnx.ml": 3, "ai.onnx.preview.training": 1}


@dataclass
class Case:
    """One node: its operands (None for an absent one), those of them that are weights, its outputs."""

    op: str
    operands: Sequence[Any]
    weights: Sequence[int] = ()
    outputs: int = 1
    domain: str = ""
    slack: int = 0
    attributes: dict[str, Any] = field(default_factory=dict)


def case(op: str, *operands: Any, domain: str = "", outputs: int = 1, **rest: Any) -> Case:
    """A case; keywords that are none of its fields are attributes."""
    own = {k: rest.pop(k) for k in ("weights", "slack") if k in rest}
    return Case(op, operands, domain=domain, outputs=outputs, attributes=rest, **own)


def merged(
    cases: Sequence[Case], sets: dict[str, int] | None = None
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """One model of all cases, and its inputs."""
    nodes, weights, infos, results = [], [], [], []
    feeds: dict[str, Any] = {}
    for k, one in enumerate(cases):
        names = []
        for j, operand in enumerate(one.operands):
            names.append("" if operand is None else f"x{k}_{j}")
            if operand is None:
                continue
            array = np.asarray(operand)
            if j in one.weights:
                weights.append(numpy_helper.from_array(array, names[-1]))
            else:
                code = helper.np_dtype_to_tensor_dtype(array.dtype)
                infos.append(helper.make_tensor_value_info(names[-1], code, array.shape))
                feeds[names[-1]] = array
        made = [f"y{k}_{j}" for j in range(one.outputs)]
        nodes.append(helper.make_node(one.op, names, made, domain=one.domain, **one.attributes))
        results += [onnx.ValueInfoProto(name=name) for name in made]
    graph = helper.make_graph(nodes, "batch", infos, results, weights)
    opsets = [helper.make_opsetid(n, v) for n, v in {**SETS, **(sets or {})}.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10), feeds


def run(model: onnx.ModelProto, feeds: dict[str, Any], compiled: bool = True) -> list[Any]:
    """The model's outputs through compiled C, or by the interpreter of graphs."""
    graph, packing = load_packed(model)
    arrays = packing.flatten(list(feeds.values()))
    if compiled:
        return packing.pack(compile_graph(graph, threads=1, opt="fast-compile").run_arrays(arrays))
    return packing.pack(evaluate(graph, arrays)[0])


def onnxruntime(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    """What ONNX Runtime makes of it, on one thread."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    providers = ["CPUExecutionProvider"]
    session = ort.InferenceSession(model.SerializeToString(), options, providers=providers)
    return list(session.run(None, feeds))


def compare(
    cases: Sequence[Case], got: Sequence[Any], wanted: Sequence[Any], rtol: float = 1e-4, atol: float = 1e-5
) -> None:
    """Floats are close; integers are equal, or at most `slack` of their case apart."""
    owners = [one for one in cases for _ in range(one.outputs)]
    for one, ours, theirs in zip(owners, got, wanted, strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), one
        if ours.dtype.kind == "f":
            np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol, err_msg=str(one))
        else:
            apart = np.abs(ours.astype(np.int64) - theirs.astype(np.int64))
            assert apart.max(initial=0) <= one.slack, one
