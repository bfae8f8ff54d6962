"""An ONNX model taken apart: with its intermediate values as outputs, without branches, node by node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from intaglio.readers.onnx.model import read_tensor
from intaglio.readers.onnx.registry import Array
from intaglio.shared.errors import FileFormatError

MAX_ROUNDS = 64


def with_weights(model: onnx.ModelProto, directory: Path | None) -> onnx.ModelProto:
    """The model with the weights that lie in other files inside of it."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for tensor in made.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.CopyFrom(numpy_helper.from_array(read_tensor(tensor, directory), tensor.name))
    return made


def weights_of(model: onnx.ModelProto) -> dict[str, Array]:
    """The weights of the model's own graph."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def title(node: onnx.NodeProto) -> str:
    """A node in one line: operator, attributes, name."""
    shown = []
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        plain = isinstance(value, (int, float, bytes, list))
        shown.append(f"{attribute.name}={value!r}" if plain else f"{attribute.name}=<{type(value).__name__}>")
    return f"{node.op_type}({', '.join(shown)})" + (f" {node.name!r}" if node.name else "")


def results_of(model: onnx.ModelProto) -> list[str]:
    """The names of all results of the nodes of the model's own graph, in order of execution."""
    return [name for node in model.graph.node for name in node.output if name]


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy of the model with these outputs; what kind of values they are is not written down."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.output[:]
    made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return made


def conditions_of(model: onnx.ModelProto) -> list[str]:
    """The names of the values that decide branches of the model's own graph."""
    return list(dict.fromkeys(node.input[0] for node in model.graph.node if node.op_type == "If"))


def without_branches(model: onnx.ModelProto, taken: Mapping[str, bool]) -> onnx.ModelProto:
    """A copy in which each `If` of the model's own graph is replaced by the nodes of the branch it takes.

    Args:
        taken: the conditions by name.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:]
    for position, node in enumerate(model.graph.node):
        if node.op_type == "If":
            _splice(made.graph, node, "then_branch" if taken[node.input[0]] else "else_branch", position)
        else:
            made.graph.node.append(node)
    return made


def _splice(target: onnx.GraphProto, node: onnx.NodeProto, which: str, position: int) -> None:
    branch = next(a.g for a in node.attribute if a.name == which)
    own = [*(t.name for t in branch.initializer), *(name for n in branch.node for name in n.output if name)]
    renamed = {name: f"{node.name or 'If'}_{position}/{name}" for name in own}
    for tensor in branch.initializer:
        copied = target.initializer.add()
        copied.CopyFrom(tensor)
        copied.name = renamed[tensor.name]
    target.node.extend(_renamed(inner, renamed) for inner in branch.node)
    for info, name in zip(branch.output, node.output, strict=True):
        source = renamed.get(info.name, info.name)
        target.node.append(helper.make_node("Identity", [source], [name], name=f"{node.name}/{name}"))


def _renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    """A copy of a node, and of the graphs inside of it, under other names."""
    made = onnx.NodeProto()
    made.CopyFrom(node)
    waiting = [made]
    while waiting:
        one = waiting.pop()
        one.input[:] = [names.get(name, name) for name in one.input]
        one.output[:] = [names.get(name, name) for name in one.output]
        for graph in _inner_graphs(one):
            for item in (*graph.input, *graph.output, *graph.initializer):
                item.name = names.get(item.name, item.name)
            waiting.extend(graph.node)
    return made


def _inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def reads_of(node: onnx.NodeProto) -> list[str]:
    """The names a node reads, those that graphs inside of it take from around them too."""
    found = dict.fromkeys(name for name in node.input if name)
    for graph in _inner_graphs(node):
        own = {info.name for info in graph.input} | {tensor.name for tensor in graph.initializer}
        for inner in graph.node:
            found.update(dict.fromkeys(name for name in reads_of(inner) if name not in own))
            own.update(inner.output)
        found.update(dict.fromkeys(info.name for info in graph.output if info.name not in own))
    return list(found)


def used_in(model: onnx.ModelProto) -> set[str]:
    """The names that something reads: nodes, and whoever runs the model."""
    return {name for node in model.graph.node for name in reads_of(node)} | {
        o.name for o in model.graph.output
    }


def alone(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    known: Mapping[str, Array],
    seen: Mapping[str, Array],
) -> onnx.ModelProto:
    """A model of some nodes, each by itself: whatever one reads is a weight or an input.

    Args:
        known: values that are weights; the others that nodes read are inputs.
        seen: the values of all others, which give the inputs their types.

    Raises:
        FileFormatError: a node reads what is neither known nor seen, for instance a sequence.
    """
    made = [_separated(node) for node in nodes]
    inputs, weights = [], []
    for name in dict.fromkeys(name for node in nodes for name in reads_of(node)):
        if name in known:
            weights.append(numpy_helper.from_array(known[name], name))
        elif name in seen:
            code = helper.np_dtype_to_tensor_dtype(seen[name].dtype)
            inputs.append(helper.make_tensor_value_info(name, code, seen[name].shape))
        else:
            raise FileFormatError(f"{name!r} is not a tensor; the node cannot stand by itself")
    outputs = [onnx.ValueInfoProto(name=name) for node in made for name in node.output if name]
    graph = helper.make_graph(made, "alone", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def separated(name: str) -> str:
    """What `alone` calls a result, whose own name stands for the value that others read."""
    return f"{name}/alone"


def _separated(node: onnx.NodeProto) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    made.output[:] = [separated(name) if name else "" for name in node.output]
    return made


def as_arrays(values: Mapping[str, object]) -> dict[str, Array]:
    """The tensors among values."""
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
