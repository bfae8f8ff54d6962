"""Mutations of ONNX files: of their bytes, and of their structure."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, TensorProto, helper

NUMBERS = (0, 1, -1, 2, 3, 4, 7, 8, 31, 64, 127, 255, 1000, 65536, 2**31 - 1, 2**31, -(2**31), 2**40, 2**62,
           2**63 - 1, -(2**63))  # fmt: skip
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-40, 3e38, float("inf"), float("-inf"), float("nan"), 1e10)
NAMES = ("", "x", "y", "*/ int evil; /*", 'a"b', "line\nline", "../../x", "/etc/passwd", "??/", "\u202e",
         "%s%n", "int", "main", "\x00", "é" * 50, "a" * 5000, "{", "$(id)", "#define", "\\")  # fmt: skip
OPERATORS = (
    "Add", "Mul", "Div", "Sub", "Pow", "Relu", "Exp", "Sqrt", "Identity", "Reshape", "Transpose",
    "Concat", "Shape", "ConstantOfShape", "Expand", "Tile", "Range", "Pad", "Resize", "Gather", "Slice",
    "MatMul", "Gemm", "Conv", "MaxPool", "ReduceSum", "Softmax", "Cast", "Where", "Unsqueeze", "Squeeze",
    "Flatten", "Split",
    "OneHot", "TopK", "ScatterND", "GatherND", "CumSum", "EyeLike", "NonZero", "Loop", "If", "Scan", "Einsum",
    "BatchNormalization", "LSTM", "QuantizeLinear", "DequantizeLinear", "Clip", "Mod", "Max", "Equal",
    "Trilu", "NoSuchOperator", "",
)  # fmt: skip


def mutate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """A file near to `data`; `other` lends parts."""
    if rng.random() < 0.2:
        return _bytes(rng, data, other)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return _bytes(rng, data, other)
    edits = GENTLE if rng.random() < 0.5 else EDITS
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        rng.choice(edits)(rng, model)
    try:
        return model.SerializeToString()
    except (ValueError, DecodeError):
        return data


def _bytes(rng: random.Random, data: bytes, other: bytes) -> bytes:
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(made) + 1)
        kind = rng.randrange(6)
        if kind == 0 and at < len(made):
            made[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(made):
            made[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del made[at:]
        elif kind == 3:
            del made[at : at + rng.randrange(1, 9)]
        elif kind == 4:
            made[at:at] = made[at : at + rng.randrange(1, 60)]
        else:
            start = rng.randrange(len(other) + 1)
            made[at:at] = other[start : start + rng.randrange(1, 60)]
    return bytes(made)


def _graphs(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    found, k = [model.graph], 0
    while k < len(found) and k < 50:
        for node in found[k].node:
            for attribute in node.attribute:
                found.extend(g for g in (attribute.g, *attribute.graphs) if g.node or g.output)
        k += 1
    return found


def _node(rng: random.Random, model: onnx.ModelProto) -> onnx.NodeProto:
    lists = [g.node for g in _graphs(model)] + [f.node for f in model.functions]
    nodes = rng.choice([n for n in lists if n] or [model.graph.node])
    if not nodes:
        nodes.append(helper.make_node("Relu", ["x"], ["y"]))
    return rng.choice(nodes)


def _names(model: onnx.ModelProto) -> list[str]:
    found = ["x", ""]
    for graph in _graphs(model):
        found += [i.name for i in graph.input] + [t.name for t in graph.initializer]
        found += [name for node in graph.node for name in (*node.output, *node.input)]
    return found


def _rewire(rng: random.Random, model: onnx.ModelProto) -> None:
    node = _node(rng, model)
    name = rng.choice(_names(model))
    if node.input and rng.random() < 0.8:
        node.input[rng.randrange(len(node.input))] = name
    elif rng.random() < 0.5:
        node.input.append(name)
    elif node.input:
        del node.input[rng.randrange(len(node.input))]


def _outputs(rng: random.Random, model: onnx.ModelProto) -> None:
    node = _node(rng, model)
    if rng.random() < 0.5 or not node.output:
        node.output.append(rng.choice(_names(model)))
    else:
        node.output[rng.randrange(len(node.output))] = rng.choice(_names(model))


def _operator(rng: random.Random, model: onnx.ModelProto) -> None:
    node = _node(rng, model)
    if rng.random() < 0.9:
        node.op_type = rng.choice(OPERATORS)
        if rng.random() < 0.5:
            del node.attribute[:]
    else:
        node.domain = rng.choice(("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "own", "evil*/"))


def _count(rng: random.Random, model: onnx.ModelProto) -> None:
    """Delete, repeat or move a node."""
    nodes = rng.choice(_graphs(model)).node
    if not nodes:
        return
    k, kind = rng.randrange(len(nodes)), rng.randrange(3)
    if kind == 0:
        del nodes[k]
    elif kind == 1:
        nodes.add().CopyFrom(nodes[k])
    else:
        held = list(nodes)
        rng.shuffle(held)
        copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in held]
        del nodes[:]
        nodes.extend(copies)


def _attribute(rng: random.Random, model: onnx.ModelProto) -> None:
    node = _node(rng, model)
    if not node.attribute:
        _operator(rng, model)
        return
    attribute = rng.choice(node.attribute)
    kind = rng.randrange(7)
    if kind == 0:
        attribute.name = rng.choice(("axis", "axes", "to", "perm", "value", *NAMES))
    elif kind == 1:
        attribute.type = rng.choice(AttributeProto.AttributeType.values())
    elif kind == 2:
        node.attribute.remove(attribute)
    elif attribute.type == AttributeProto.INTS:
        _integers(rng, attribute.ints)
    elif attribute.type == AttributeProto.FLOATS:
        attribute.floats.append(rng.choice(FLOATS))
    elif attribute.type == AttributeProto.TENSOR:
        _edit_tensor(rng, attribute.t)
    elif attribute.type == AttributeProto.STRING:
        attribute.s = rng.choice(("linear", "SAME_UPPER", "", "\x00", "ij,jk->ik", "...i,...i->")).encode()
    elif attribute.type == AttributeProto.FLOAT:
        attribute.f = rng.choice(FLOATS)
    else:
        attribute.i = rng.choice(NUMBERS)


def _integers(rng: random.Random, ints: list[int]) -> None:
    kind = rng.randrange(4)
    if kind == 0 or not ints:
        ints.append(rng.choice(NUMBERS))
    elif kind == 1:
        del ints[rng.randrange(len(ints))]
    elif kind == 2:
        ints[rng.randrange(len(ints))] += rng.choice((1, -1))
    else:
        ints[rng.randrange(len(ints))] = rng.choice(NUMBERS)


def _tensor(rng: random.Random, model: onnx.ModelProto) -> None:
    weights = rng.choice(_graphs(model)).initializer
    if weights:
        _edit_tensor(rng, rng.choice(weights))
        if rng.random() < 0.05:
            del weights[rng.randrange(len(weights))]


def _edit_tensor(rng: random.Random, tensor: TensorProto) -> None:
    kind = rng.randrange(7)
    if kind == 0:
        _integers(rng, tensor.dims)
    elif kind == 1:
        tensor.data_type = rng.randrange(30)
    elif kind == 2:
        tensor.name = rng.choice(NAMES)
    elif kind == 3:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=rng.choice(NAMES))
        tensor.external_data.add(key=rng.choice(("offset", "length")), value=str(rng.choice(NUMBERS)))
    elif tensor.data_type == TensorProto.INT64 and tensor.raw_data:
        values = list(memoryview(tensor.raw_data[: len(tensor.raw_data) // 8 * 8]).cast("q"))
        if values:
            values[rng.randrange(len(values))] = rng.choice(NUMBERS)
            tensor.raw_data = b"".join(v.to_bytes(8, "little", signed=True) for v in values)
    elif tensor.raw_data:
        tensor.raw_data = _bytes(rng, tensor.raw_data, tensor.raw_data)
    else:
        tensor.int64_data.append(rng.choice(NUMBERS))


def _interface(rng: random.Random, model: onnx.ModelProto) -> None:
    graph = rng.choice(_graphs(model))
    infos = rng.choice((graph.input, graph.output))
    if not infos:
        return
    info = rng.choice(infos)
    type_, kind = info.type.tensor_type, rng.randrange(6)
    if kind == 0:
        type_.elem_type = rng.randrange(30)
    elif kind == 1:
        info.name = rng.choice((*NAMES, *_names(model)))
    elif kind == 2:
        infos.remove(info)
    elif kind == 3:
        infos.add().CopyFrom(info)
    elif kind == 4 and type_.shape.dim:
        type_.shape.dim[rng.randrange(len(type_.shape.dim))].dim_value = rng.choice(NUMBERS)
    else:
        type_.shape.dim.add().dim_param = rng.choice(NAMES)


def _rename(rng: random.Random, model: onnx.ModelProto) -> None:
    """Give a value another name everywhere, or another name to the graph or a node."""
    old, new = rng.choice(_names(model)), rng.choice(NAMES)
    for graph in _graphs(model):
        for info in (*graph.input, *graph.output, *graph.initializer):
            info.name = new if info.name == old else info.name
        for node in graph.node:
            for names in (node.input, node.output):
                for k, name in enumerate(names):
                    if name == old:
                        names[k] = new
    _node(rng, model).name = rng.choice(NAMES)
    model.graph.name = rng.choice(NAMES)


def _versions(rng: random.Random, model: onnx.ModelProto) -> None:
    if model.opset_import and rng.random() < 0.7:
        rng.choice(model.opset_import).version = rng.choice((*range(1, 30), *NUMBERS))
    else:
        model.opset_import.add(domain=rng.choice(("", "ai.onnx.ml", "own")), version=rng.randrange(30))


def _insert(rng: random.Random, model: onnx.ModelProto) -> None:
    """A node with operands of the graph, at the end; its result may become an output."""
    graph, names = model.graph, _names(model)
    op = rng.choice(OPERATORS)
    operands = [rng.choice(names) for _ in range(rng.randrange(4))]
    made = f"new{len(graph.node)}"
    graph.node.append(helper.make_node(op, operands, [made]))
    if rng.random() < 0.5:
        graph.output.add().name = made


def _nest(rng: random.Random, model: onnx.ModelProto) -> None:
    """Put the graph inside of branches of itself, some levels deep."""
    inner = onnx.GraphProto()
    inner.CopyFrom(model.graph)
    del inner.input[:]
    for level in range(rng.choice((1, 2, 12, 30))):
        outer = onnx.GraphProto(name="nest")
        names = [f"{o.name}_{level}" for o in inner.output]
        outer.node.append(helper.make_node("If", ["flag"], names, then_branch=inner, else_branch=inner))
        outer.output.extend(helper.make_tensor_value_info(n, TensorProto.UNDEFINED, None) for n in names)
        if outer.ByteSize() > 20_000:
            break
        inner = outer
    inner.input.extend(model.graph.input)
    if rng.random() < 0.5:
        inner.input.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    else:
        inner.initializer.append(helper.make_tensor("flag", TensorProto.BOOL, [], [rng.randrange(2)]))
    model.graph.CopyFrom(inner)


def _alike(rng: random.Random, model: onnx.ModelProto) -> None:
    """Another operator of the same kind."""
    for node in rng.sample(list(model.graph.node), min(8, len(model.graph.node))):
        kind = next((kind for kind in ALIKE if node.op_type in kind), None)
        if kind is not None:
            node.op_type = rng.choice(kind)
            return


def _chain(rng: random.Random, model: onnx.ModelProto) -> None:
    """One more operator between a value and one of its readers."""
    nodes = model.graph.node
    k = rng.randrange(len(nodes)) if nodes else 0
    if not nodes or not any(nodes[k].input):
        return
    place = rng.choice([p for p, name in enumerate(nodes[k].input) if name])
    name, made = nodes[k].input[place], f"link{len(nodes)}_{k}"
    kind = rng.choice(ALIKE)
    operands = [name] if kind is ALIKE[0] else [name, rng.choice((name, name, *_names(model)))]
    nodes[k].input[place] = made
    nodes.insert(k, helper.make_node(rng.choice(kind), operands, [made]))


def _result(rng: random.Random, model: onnx.ModelProto) -> None:
    """An inner value becomes a result, too."""
    name = rng.choice(_names(model))
    if name and all(o.name != name for o in model.graph.output):
        model.graph.output.add().name = name


def _values(rng: random.Random, model: onnx.ModelProto) -> None:
    """Other numbers in a weight."""
    weights = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and t.raw_data]
    if weights:
        tensor = rng.choice(weights)
        count = len(tensor.raw_data) // 4
        numbers = [rng.choice((*FLOATS, rng.gauss(0, 1))) for _ in range(min(count, 4))]
        at = rng.randrange(count - len(numbers) + 1)
        data = struct.pack(f"{len(numbers)}f", *numbers)
        tensor.raw_data = tensor.raw_data[: 4 * at] + data + tensor.raw_data[4 * at + len(data) :]


def _extent(rng: random.Random, model: onnx.ModelProto) -> None:
    """Another size of an input's axis, or a symbol."""
    if model.graph.input:
        dims = rng.choice(model.graph.input).type.tensor_type.shape.dim
        if dims:
            dim = rng.choice(dims)
            if rng.random() < 0.5:
                dim.dim_param = rng.choice(("batch", "n"))
            else:
                dim.dim_value = rng.choice((0, 1, 2, 3, 5))


ALIKE = (
    ("Relu", "Exp", "Neg", "Abs", "Sqrt", "Tanh", "Sigmoid", "Identity", "Softplus", "Erf", "Log", "Floor",
     "Sign", "Reciprocal", "Elu", "Softmax", "LogSoftmax", "HardSigmoid", "Transpose", "Ceil", "Gelu"),
    ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "MatMul", "Mean", "Sum", "PRelu", "Equal"),
    ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
     "ReduceLogSumExp", "ReduceSumSquare", "ReduceLogSum", "ArgMax", "ArgMin"),
)  # fmt: skip
GENTLE = (_alike, _alike, _chain, _chain, _result, _values, _extent, _attribute)
EDITS: tuple[Callable[[random.Random, onnx.ModelProto], None], ...] = (
    _rewire, _rewire, _outputs, _operator, _operator, _count, _attribute, _attribute, _attribute, _tensor,
    _tensor, _interface, _rename, _versions, _insert, _insert, _nest,
)  # fmt: skip
