"""Random nests of If, Loop and Scan: interpreter and C, at every opt level, agree with ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from intaglio.compile import compile_graph
from intaglio.graph.spec import verify
from intaglio.readers.onnx import load

MAX_DEPTH = 3


class Scope:
    """The nodes of one graph under construction, and the vectors of three that may be used in it."""

    def __init__(self, maker: Maker, vectors: list[str], depth: int) -> None:
        self.maker, self.vectors, self.depth = maker, list(vectors), depth
        self.nodes: list[onnx.NodeProto] = []

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        names = [self.maker.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names

    def constant(self, array: Any) -> str:
        return self.add("Constant", value=numpy_helper.from_array(np.asarray(array)))[0]

    def pick(self) -> str:
        return self.vectors[self.maker.rng.integers(len(self.vectors))]

    def condition(self) -> str:
        (total,) = self.add("ReduceSum", self.pick(), keepdims=0)
        return self.add("Less", total, self.constant(np.float32(self.maker.rng.standard_normal())))[0]

    def results(self, count: int) -> list[str]:
        latest = self.vectors[-3:]
        chosen = [latest[self.maker.rng.integers(len(latest))] for _ in range(count)]
        return [self.add("Identity", name)[0] for name in chosen]


class Maker:
    """Makes models; every choice comes from `rng`."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def model(self) -> onnx.ModelProto:
        scope = Scope(self, ["a", "b"], 0)
        self.fill(scope, 2, 6)
        infos = [info("a"), info("b")], [info(name) for name in scope.results(3)]
        graph = helper.make_graph(scope.nodes, "nest", *infos)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

    def fill(self, scope: Scope, low: int, high: int) -> None:
        deeper = [self.branch, self.loop, self.scan] if scope.depth < MAX_DEPTH else []
        for _ in range(self.rng.integers(low, high)):
            make = [self.arithmetic, self.arithmetic, *deeper][self.rng.integers(2 + len(deeper))]
            scope.vectors += make(scope)

    def arithmetic(self, scope: Scope) -> list[str]:
        kind = ("Add", "Max", "Sub", "Tanh")[self.rng.integers(4)]
        return scope.add(kind, *([scope.pick()] if kind == "Tanh" else [scope.pick(), scope.pick()]))

    def branch(self, scope: Scope) -> list[str]:
        count, graphs = int(self.rng.integers(1, 3)), []
        for _ in range(2):
            inner = Scope(self, scope.vectors, scope.depth + 1)
            self.fill(inner, 1, 4)
            graphs.append(graph(inner, [], [info(name) for name in inner.results(count)]))
        return scope.add("If", scope.condition(), outputs=count, then_branch=graphs[0], else_branch=graphs[1])

    def loop(self, scope: Scope) -> list[str]:
        """Carries one or two vectors; may end by itself, may stack rows, whose sum and number are used."""
        carried, rows = [self.name() for _ in range(self.rng.integers(1, 3))], int(self.rng.integers(2))
        step, go = self.name(), self.name()
        inner = Scope(self, [*scope.vectors, *carried], scope.depth + 1)
        inner.vectors += inner.add("Add", carried[0], *inner.add("Cast", step, to=TensorProto.FLOAT))
        self.fill(inner, 1, 4)
        again = inner.condition() if self.rng.random() < 0.5 else inner.add("Identity", go)[0]
        results = inner.results(len(carried) + rows)
        inputs = [info(step, (), TensorProto.INT64), info(go, (), TensorProto.BOOL), *map(info, carried)]
        body = graph(inner, inputs, [info(again, (), TensorProto.BOOL), *map(info, results)])
        limit = scope.constant(np.int64(self.rng.integers(0, 5)))
        first = scope.constant(np.bool_(True)) if self.rng.random() < 0.5 else scope.condition()
        start = [scope.pick() for _ in carried]
        found = scope.add("Loop", limit, first, *start, outputs=len(results), body=body)
        if not rows:
            return found
        *found, stacked = found
        (total,) = scope.add("ReduceSum", stacked, scope.constant(np.array([0])), keepdims=0)
        (shape,) = scope.add("Cast", *scope.add("Shape", stacked), to=TensorProto.FLOAT)
        return [*found, *scope.add("Add", total, *scope.add("ReduceSum", shape, keepdims=0))]

    def scan(self, scope: Scope) -> list[str]:
        """Over the elements of a vector, in either direction; the stacked results are averaged."""
        state, element = self.name(), self.name()
        inner = Scope(self, [*scope.vectors, state], scope.depth + 1)
        inner.vectors += inner.add("Add", state, element)
        self.fill(inner, 1, 3)
        results = inner.results(2)
        body = graph(inner, [info(state), info(element, ())], [info(name) for name in results])
        ways = {f"scan_{side}_directions": [int(self.rng.integers(2))] for side in ("input", "output")}
        last, stacked = scope.add(
            "Scan", scope.pick(), scope.pick(), outputs=2, body=body, num_scan_inputs=1, **ways
        )
        axis = scope.constant(np.array([self.rng.integers(2)]))
        return [last, *scope.add("ReduceMean", stacked, axis, keepdims=0)]


def info(name: str, shape: tuple[int, ...] = (3,), kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def graph(scope: Scope, inputs: Any, outputs: Any) -> onnx.GraphProto:
    return helper.make_graph(scope.nodes, scope.maker.name(), inputs, outputs)


@pytest.mark.parametrize("seed", range(6))
def test_random_nests(seed: int) -> None:
    runtime = pytest.importorskip("onnxruntime")
    maker = Maker(seed)
    proto = maker.model()
    session = runtime.InferenceSession(proto.SerializeToString())
    made = load(proto)
    verify(made)
    program = compile_graph(made, threads=1, opt_level=seed % 4, opt="fast-compile")
    for scale in (0.5, 2.0):
        a, b = (scale * maker.rng.standard_normal((2, 3))).astype(np.float32)
        expected = session.run(None, {"a": a, "b": b})
        for got in (made.run(a, b), program.run_arrays([a, b])):
            for ours, theirs in zip(got, expected, strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-4)
