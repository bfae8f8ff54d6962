"""Small real models to mutate: ONNX's node tests, networks of every common kind, and the light models."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(7)
LARGEST = 20_000
"""Bytes of a file that is worth mutating."""


def f32(*shape: int) -> Any:
    return (RNG.standard_normal(shape) * 0.3).astype(np.float32)


def i64(*values: int) -> Any:
    return np.array(values, np.int64)


def network(
    nodes: str,
    weights: dict[str, Any],
    inputs: dict[str, Any],
    outputs: str = "y",
    opset: int = 18,
    **attrs: Any,
) -> onnx.ModelProto:
    """A model from lines `y = Op(a, b)`; `attrs` maps an output's name to its node's attributes."""
    made = []
    for line in nodes.strip().splitlines():
        left, right = (part.strip() for part in line.split("=", 1))
        op, operands = right.rstrip(")").split("(")
        outs = [name.strip() for name in left.split(",")]
        ins = [name.strip() for name in operands.split(",")] if operands else []
        made.append(helper.make_node(op, ins, outs, name=f"n_{outs[0]}", **attrs.get(outs[0], {})))
    infos = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(np.dtype(t)), s)
        for k, (t, s) in inputs.items()
    ]
    results = [helper.make_tensor_value_info(n, TensorProto.UNDEFINED, None) for n in outputs.split(",")]
    tensors = [numpy_helper.from_array(np.asarray(a), k) for k, a in weights.items()]
    graph = helper.make_graph(made, "net", infos, results, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def convolutional() -> onnx.ModelProto:
    return network(
        """c1 = Conv(x, w1)
        b1 = BatchNormalization(c1, g, b, m, v)
        r1 = Relu(b1)
        p1 = MaxPool(r1)
        c2 = Conv(p1, w2, bias)
        h2 = HardSwish(c2)
        s = Add(h2, p1)
        a = GlobalAveragePool(s)
        f = Flatten(a)
        z = Gemm(f, w3, b3)
        y = Softmax(z)""",
        {"w1": f32(4, 3, 3, 3), "g": f32(4), "b": f32(4), "m": f32(4), "v": np.abs(f32(4)) + 1,
         "w2": f32(4, 1, 3, 3), "bias": f32(4), "w3": f32(5, 4), "b3": f32(5)},
        {"x": ("f4", ["batch", 3, 8, 8])},
        c1={"pads": [1, 1, 1, 1], "strides": [2, 2]}, p1={"kernel_shape": [2, 2], "strides": [1, 1]},
        c2={"pads": [1, 1, 1, 1], "group": 4}, z={"transB": 1}, y={"axis": -1},
    )  # fmt: skip


def attention() -> onnx.ModelProto:
    return network(
        """q = MatMul(x, wq)
        k = MatMul(x, wk)
        t = Transpose(k)
        s = MatMul(q, t)
        d = Mul(s, scale)
        p = Softmax(d)
        o = MatMul(p, q)
        e = Erf(o)
        n = LayerNormalization(e, g, b)
        r = Add(n, x)
        y = ReduceMean(r, axes)""",
        {"wq": f32(6, 6), "wk": f32(6, 6), "scale": np.float32(0.4), "g": f32(6), "b": f32(6),
         "axes": i64(-1)},
        {"x": ("f4", [2, 5, 6])}, t={"perm": [0, 2, 1]}, p={"axis": -1},
    )  # fmt: skip


def shapes() -> onnx.ModelProto:
    return network(
        """s = Shape(x)
        n = Gather(s, zero)
        u = Unsqueeze(n, zeros)
        t = Concat(u, rest)
        r = Reshape(x, t)
        c = ConstantOfShape(u)
        k = Cast(c)
        e = Expand(one, s)
        i = Range(start, limit, step)
        l = Slice(r, a, b, ax)
        w = Pad(l, pads)
        z = Tile(w, twice)
        q = Add(z, one)
        y, y2 = Split(q)""",
        {"zero": np.int64(0), "zeros": i64(0), "rest": i64(-1), "one": np.float32([1]), "a": i64(0),
         "b": i64(4), "ax": i64(1), "pads": i64(0, 1, 0, 1), "twice": i64(1, 2), "start": np.int64(0),
         "limit": np.int64(6), "step": np.int64(2)},
        {"x": ("f4", [2, 3, 4])}, "y,y2",
        t={"axis": 0}, k={"to": 1}, y={"axis": 1, "num_outputs": 2},
    )  # fmt: skip


def quantised() -> onnx.ModelProto:
    return network(
        """xq = QuantizeLinear(x, sx, zx)
        xd = DequantizeLinear(xq, sx, zx)
        wd = DequantizeLinear(wq, sw, zw)
        m = MatMul(xd, wd)
        yq = QuantizeLinear(m, sy, zy)
        y = DequantizeLinear(yq, sy, zy)""",
        {"sx": np.float32(0.1), "zx": np.uint8(3), "wq": RNG.integers(-90, 90, (4, 5)).astype(np.int8),
         "sw": np.float32(0.02), "zw": np.int8(0), "sy": np.float32(0.2), "zy": np.uint8(128)},
        {"x": ("f4", [3, 4])},
    )  # fmt: skip


def resized() -> onnx.ModelProto:
    return network(
        """r = Resize(x, none, scales)
        a = AveragePool(r)
        t = ConvTranspose(a, w)
        c = Clip(t, lo, hi)
        i = ArgMax(c)
        g = Cast(i)
        o = TopK(c, k)
        y = Add(g, g)""".replace("o = TopK", "o, oi = TopK").replace("x, none,", "x,,"),
        {"scales": np.float32([1, 1, 2, 2]), "w": f32(2, 3, 2, 2), "lo": np.float32(-1), "hi": np.float32(1),
         "k": i64(2)},
        {"x": ("f4", [1, 2, 4, 4])}, "y,o",
        r={"mode": "linear"}, a={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        t={"strides": [2, 2]}, i={"axis": 1}, g={"to": 1},
    )  # fmt: skip


def recurrent() -> onnx.ModelProto:
    return network(
        """h, hn, cn = LSTM(x, w, r, b)
        s = Squeeze(h, one)
        y = Einsum(s, v)""",
        {"w": f32(1, 12, 4), "r": f32(1, 12, 3), "b": f32(1, 24), "one": i64(1), "v": f32(3, 2)},
        {"x": ("f4", [5, 2, 4])}, "y,hn",
        h={"hidden_size": 3}, y={"equation": "tbh,ho->tbo"},
    )  # fmt: skip


def _info(name: str, code: int, shape: list[Any] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, code, shape)


def branching() -> onnx.ModelProto:
    then = helper.make_graph([helper.make_node("Relu", ["x"], ["t"])], "then", [], [_info("t", 1, None)])
    orelse = helper.make_graph([helper.make_node("Neg", ["x"], ["e"])], "else", [], [_info("e", 1, None)])
    body = helper.make_graph(
        [helper.make_node("Add", ["v", "x"], ["v2"]), helper.make_node("Identity", ["go"], ["go2"]),
         helper.make_node("Mul", ["v2", "half"], ["row"])],
        "body", [_info("k", 7, []), _info("go", 9, []), _info("v", 1, [2, 3])],
        [_info("go2", 9, []), _info("v2", 1, [2, 3]), _info("row", 1, [2, 3])],
        [numpy_helper.from_array(np.float32(0.5), "half")],
    )  # fmt: skip
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["i"], then_branch=then, else_branch=orelse),
        helper.make_node("Loop", ["count", "", "i"], ["last", "rows"], body=body),
        helper.make_node("ReduceMax", ["rows"], ["y"], keepdims=0),
    ]
    weights = [numpy_helper.from_array(np.asarray(a), k)
               for k, a in {"zero": np.float32(0), "count": np.int64(3)}.items()]  # fmt: skip
    graph = helper.make_graph(nodes, "branching", [_info("x", 1, [2, 3])],
                              [_info("y", 1, None), _info("last", 1, None)], weights)  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def functions() -> onnx.ModelProto:
    sets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    inner = helper.make_function("own", "inner", ["a"], ["b"], [helper.make_node("Exp", ["a"], ["b"])], sets)
    outer = helper.make_function(
        "own", "outer", ["a", "s"], ["c"],
        [helper.make_node("inner", ["a"], ["b"], domain="own"), helper.make_node("Mul", ["b", "s"], ["c"])],
        sets,
    )  # fmt: skip
    nodes = [
        helper.make_node("outer", ["x", "x"], ["t"], domain="own"),
        helper.make_node("Tanh", ["t"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "functions", [_info("x", 1, [2, 3])], [_info("y", 1, [2, 3])])
    return helper.make_model(graph, opset_imports=sets, functions=[inner, outer])


NETWORKS = (convolutional, attention, shapes, quantised, resized, recurrent, branching, functions)


def node_tests() -> list[bytes]:
    """The models of ONNX's own tests of operators, without the large ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    data = [case.model.SerializeToString() for case in cases if case.model is not None]
    return [one for one in data if len(one) <= LARGEST]


def light_models() -> list[bytes]:
    """The light models whose weights are few."""
    import onnx.backend.test

    folder = Path(onnx.backend.test.__file__).parent / "data" / "light"
    return [(folder / f"light_{name}.onnx").read_bytes() for name in ("squeezenet", "shufflenet")]


def networks() -> list[bytes]:
    return [build().SerializeToString() for build in NETWORKS]
