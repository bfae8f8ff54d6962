"""Tables of single ONNX nodes: many cases become one model, compiled once, and are compared one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx_models import model, node

from intaglio.compile import compile_graph
from intaglio.readers.onnx import load

RNG = np.random.default_rng(7)


def f32(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """A node with its inputs, None where one is left out; those at places in `known` are weights."""

    op: str
    inputs: Sequence[Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1
    known: Sequence[int] = ()
    domain: str = ""


def case(
    op: str, *inputs: Any, outputs: int = 1, known: Sequence[int] = (), domain: str = "", **attributes: Any
) -> Case:
    return Case(op, inputs, attributes, outputs, known, domain)


def merged(cases: Mapping[str, Case], opset: int) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """One model of all cases, and what it is called with."""
    nodes, outputs = [], []
    feeds: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    for name, one in cases.items():
        names = [f"{name}_{k}" if x is not None else "" for k, x in enumerate(one.inputs)]
        for k, (own, x) in enumerate(zip(names, one.inputs, strict=True)):
            if x is not None:
                (weights if k in one.known else feeds)[own] = x
        made = [f"{name}_out{k}" for k in range(one.outputs)]
        outputs += made
        nodes.append(node(one.op, *names, out=made, domain=one.domain or None, **one.attributes))
    domains = {one.domain.replace(".", "_"): 1 for one in cases.values() if one.domain}
    return model(nodes, feeds, weights, outputs=outputs, opset=opset, **domains), feeds


def with_runtime(proto: onnx.ModelProto, feeds: Mapping[str, Any]) -> list[Any]:
    """What ONNX Runtime makes of a model; it wants the types of the results written down."""
    import onnxruntime

    proto = onnx.shape_inference.infer_shapes(proto, strict_mode=False)
    proto.ir_version = min(proto.ir_version, 10)
    for info in list(proto.graph.output):
        if not info.type.HasField("tensor_type") or not info.type.tensor_type.elem_type:
            info.type.CopyFrom(onnx.TypeProto())
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


def with_reference(proto: onnx.ModelProto, feeds: Mapping[str, Any]) -> list[Any]:
    """What ONNX's reference evaluator makes of a model."""
    from onnx.reference import ReferenceEvaluator

    return list(ReferenceEvaluator(proto).run(None, dict(feeds)))


def assert_agree(
    cases: Mapping[str, Case], opset: int, oracle: Any, rtol: float = 2e-5, atol: float = 2e-6
) -> None:
    """Interpreted and compiled, every case gives what the oracle gives."""
    proto, feeds = merged(cases, opset)
    expected = oracle(proto, feeds)
    graph = load(proto)
    arrays = list(feeds.values())
    names = [info.name for info in proto.graph.output]
    for results in (
        graph.run(*arrays),
        compile_graph(graph, threads=1, opt="fast-compile").run_arrays(arrays),
    ):
        for name, ours, theirs in zip(names, results, expected, strict=True):
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), name
            np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol, err_msg=name)
