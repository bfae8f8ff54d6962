"""Walks an ONNX graph and builds ours.

What is known at import - weights, shapes, and everything computed from them - stays a NumPy array and is
computed at once; the rest becomes graph values. A shape with symbols is an array of Python objects, so
that the usual arithmetic on shapes works on it too.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, helper

from intaglio.graph.ir import Graph, Node, Value
from intaglio.graph.symbols import narrowed
from intaglio.ops.dispatch import type_of
from intaglio.readers.onnx import handlers
from intaglio.readers.onnx.bodies import shape_value
from intaglio.readers.onnx.check import (
    MALFORMED,
    check_names,
    check_node,
    check_output,
    check_results,
    check_type,
    shown,
)
from intaglio.readers.onnx.elements import (
    ELEMENTS,
    Coded,
    as_coded,
    check_declared,
    join_elements,
    plain_type,
    split_elements,
)
from intaglio.readers.onnx.frames import Frames
from intaglio.readers.onnx.known import KnownValues
from intaglio.readers.onnx.limits import PER_WEIGHT, Limits, check_functions
from intaglio.readers.onnx.model import named_extent, operator_sets, read_model, read_tensor
from intaglio.readers.onnx.packing import Layout, Packing, layout_of
from intaglio.readers.onnx.registry import Array, InputNeeded, OnnxCall, Operand, find_handler
from intaglio.shared.errors import FileFormatError, IntaglioError, ShapeError, UnsupportedError
from intaglio.shared.index import IndexLike, Var, var_index
from intaglio.shared.types import TensorType
from intaglio.shared.where import Where

assert handlers.LOADED
OWN_SHAPE = object()
"""Stands for the shape that the model itself gives an input."""


def load(
    source: Any,
    *,
    bounds: dict[str, int] | None = None,
    shapes: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
    known: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
) -> Graph:
    """The graph of an ONNX model.

    Args:
        source: a path, the bytes of a file, or a ModelProto.
        bounds: upper bounds of named dimensions; one without a bound stays open.
        shapes: shapes for inputs, where the model's own are symbolic or missing: numbers and names of
            symbols. Of a sequence, a list of the shapes of its elements; of an absent optional, None.
        values: inputs that are fixed to a value; the graph does not have them.
        known: values that inputs will have, where they decide shapes; the graph has these inputs.
        limits: what importing may cost; the default suits models of any size.

    Raises:
        FileFormatError: not a valid model.
        UnsupportedError: an operator, type or feature that is not supported; the message names the node.
    """
    return load_packed(source, bounds=bounds, shapes=shapes, values=values, known=known, limits=limits)[0]


def load_packed(
    source: Any,
    *,
    bounds: dict[str, int] | None = None,
    shapes: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
    known: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
    decided: set[tuple[str, int]] | None = None,
) -> tuple[Graph, Packing]:
    """As `load`, with how the model's inputs and outputs are packed into those of the graph.

    `decided` takes up what the values in `known` were used for: operators, and which operand of theirs.
    """
    model, directory = read_model(source)
    limits = limits or Limits()
    if model.functions:
        check_functions(model, limits)
        model = _inlined(model)
    file = "model" if isinstance(source, (bytes, onnx.ModelProto)) else Path(source).name
    importer = Importer(model, directory, bounds or {}, shapes or {}, values or {}, limits, file)
    importer.given.update(known or {})
    importer.decided = set() if decided is None else decided
    with importer.budget.spent():
        try:
            return importer.run()
        except (UnsupportedError, ShapeError) as error:
            if isinstance(error, InputNeeded) or not importer.sized_by:
                raise
            raise InputNeeded(error.message, list(importer.sized_by)) from error


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnx import inliner

    try:
        return inliner.inline_local_functions(model)
    except Exception as error:  # the inliner raises whatever its C++ side does
        raise FileFormatError(f"the model's functions cannot be inlined: {error}") from error


class Importer:
    """Imports one model; `scope` maps names of the ONNX graph to operands, inner graphs see outer names."""

    def __init__(
        self,
        model: onnx.ModelProto,
        directory: Path | None,
        bounds: dict[str, int],
        shapes: Mapping[str, Any],
        values: Mapping[str, Any],
        limits: Limits,
        file: str = "model",
    ) -> None:
        self.model = model
        self.file = file
        self.directory = directory
        self.bounds = bounds
        self.shapes = shapes
        self.values = values
        self.versions = operator_sets(model)
        self.frames = Frames(Graph(model.graph.name or "model"))
        self.scope: ChainMap[str, Any] = ChainMap()
        self.symbols: dict[str, IndexLike] = {}
        self.sized_by: dict[str, None] = {}  # inputs whose values would make sizes known at import
        self.tensors: dict[Value, str] = {}
        self.given: dict[str, Any] = {}
        self.known = KnownValues(self.frames.outer)
        self.decided: set[tuple[str, int]] = set()
        self.depth = 0
        self.checked: dict[int, onnx.GraphProto] = {}
        self.limits = limits
        self.budget = limits.budget(model.ByteSize())

    @property
    def graph(self) -> Graph:
        """The graph that nodes go into: the model's own, or that of the body being imported."""
        return self.frames.graph

    def run(self) -> tuple[Graph, Packing]:
        proto = self.model.graph
        check_names(proto)
        self.read_weights(proto)
        inputs: list[tuple[str, Layout]] = []
        for info in proto.input:
            if info.name not in self.scope:
                layout, self.scope[info.name] = self.input(info)
                inputs.append((info.name, layout))
        self.nodes(proto)
        results: list[Value] = []
        names: list[str] = []

        def place(operand: Any, name: str) -> int:
            results.append(self.as_value(operand))
            names.append(name)
            return len(results) - 1

        outputs: list[tuple[str, Layout]] = []
        for info in proto.output:
            operand = self.lookup(info.name, "output of the model")
            check_declared(info, operand)
            outputs.append((info.name, layout_of(operand, info.name, place)))
        self.graph.set_outputs(results, names)
        for value, name in zip(results, names, strict=True):
            check_output(proto.output, value, name)
        return narrowed(self.graph), Packing(tuple(inputs), tuple(outputs))

    def input(self, info: onnx.ValueInfoProto) -> tuple[Layout, Any]:
        """An input's layout and operand: a value of the graph, a sequence of them, or a fixed array."""
        if info.name in self.values:
            fixed = _fixed(self.values[info.name])
            return fixed, fixed
        shape = self.shapes.get(info.name, OWN_SHAPE)
        operand = self.typed_input(info.name, info.type, shape)
        if isinstance(operand, Value):
            self.tensors[operand] = info.name
            if info.name in self.given:
                self.known.add(operand, np.asarray(self.given[info.name]))
        first = self.graph.inputs.index
        return layout_of(operand, info.name, lambda value, _: first(value)), operand

    def typed_input(self, name: str, type_: onnx.TypeProto, shape: Any) -> Any:
        kind = type_.WhichOneof("value")
        if kind == "optional_type":
            return None if shape is None else self.typed_input(name, type_.optional_type.elem_type, shape)
        if kind == "sequence_type":
            if shape is OWN_SHAPE:
                raise UnsupportedError(
                    f"input {name!r} is a sequence; how many elements it has must be known when compiling",
                    hint=f"load(..., shapes={{{name!r}: [shape of each element, ...]}})",
                )
            element = type_.sequence_type.elem_type
            return [self.typed_input(f"{name}_{k}", element, part) for k, part in enumerate(shape)]
        if kind != "tensor_type":
            raise UnsupportedError(
                f"input {name!r} is a {kind}; tensors, sequences and optionals can be inputs"
            )
        value = self.graph.input(self.tensor_type(name, type_.tensor_type, shape), name)
        own = ELEMENTS.get(type_.tensor_type.elem_type)
        return value if own is None else Coded(value, own)

    def read_weights(self, proto: onnx.GraphProto) -> None:
        for tensor in proto.initializer:
            array = read_tensor(tensor, self.directory)
            if self.depth:
                self.budget.allocate("weights of inner graphs", array.nbytes)
            elif tensor.external_data:
                self.budget.grow(PER_WEIGHT * array.nbytes)
            self.scope[tensor.name] = as_coded(array)
        if proto.sparse_initializer:
            raise UnsupportedError("sparse weights are not supported", hint="store them dense")

    def tensor_type(self, name: str, tensor: onnx.TypeProto.Tensor, given: Any) -> TensorType:
        if given is not OWN_SHAPE:
            shape: tuple[IndexLike, ...] = tuple(self.symbol(e) if isinstance(e, str) else e for e in given)
        elif not tensor.HasField("shape"):
            raise ShapeError(f"input {name!r} has no shape", hint=f"load(..., shapes={{{name!r}: [...]}})")
        else:
            shape = tuple(self.extent(d, f"{name}_{k}") for k, d in enumerate(tensor.shape.dim))
        element = ELEMENTS.get(tensor.elem_type)
        dtype = plain_type(tensor.elem_type) if element is None else element.held
        type_ = TensorType(dtype, shape)
        check_type(f"input {shown(name)!r}", type_, self.limits)
        return type_

    def extent(self, dim: onnx.TensorShapeProto.Dimension, default: str) -> IndexLike:
        """An extent: a number, or a symbol with the bound it was given."""
        size = named_extent(dim)
        if isinstance(size, int) and size < 0:
            raise FileFormatError(f"dimension {default} is {size}")
        return size if isinstance(size, int) else self.symbol(size or default)

    def symbol(self, name: str) -> IndexLike:
        """The symbol of a named dimension."""
        if name not in self.symbols:
            self.symbols[name] = var_index(Var(name, 1, self.bounds.get(name)))
        return self.symbols[name]

    def new_symbol(self, wanted: str, most: int) -> IndexLike:
        """A symbol for a size that is found at run time."""
        name, k = wanted, 0
        while name in self.symbols:
            k += 1
            name = f"{wanted}_{k}"
        self.symbols[name] = var_index(Var(name, 0, most))
        return self.symbols[name]

    def nodes(self, proto: onnx.GraphProto) -> None:
        """Import every node, in the file's order, which must be an order of execution."""
        if id(proto) not in self.checked:
            self.checked[id(proto)] = proto
            check_names(proto)
        for number, node in enumerate(proto.node, 1):
            first = len(self.graph.nodes)
            self.node(node)
            self.locate(self.graph.nodes[first:], Where(self.file, number, node_place(node)))

    def node(self, node: onnx.NodeProto) -> None:
        place = node_place(node)
        domain = "" if node.domain == "ai.onnx" else node.domain
        try:
            self.budget.operator("the model")
            given = [self.lookup(name, f"input of {place}") if name else None for name in node.input]
            inputs, elements = split_elements(node, given)
            if not domain and domain not in self.versions:
                raise FileFormatError("the model does not say which operator set it uses")
            version = self.versions.get(domain, 1)
            handler = find_handler(domain, node.op_type, version)
            check_node(node, domain, version, inputs)
            results = handler(OnnxCall(self, node, version, elements, tuple(inputs)), *inputs)
            many = results if isinstance(results, tuple) else (results,)
            check_results(node, many, inputs, self.limits, self.budget)
            named = join_elements(node, elements, many)
        except IntaglioError as error:
            if place not in error.message:
                error.message = f"{place}: {error.message}"
            raise
        except MALFORMED as error:
            raise FileFormatError(f"{place} is malformed: {type(error).__name__}: {error}") from error
        for name, result in zip(node.output, named, strict=False):
            if name:
                self.scope[name] = result

    def locate(self, nodes: Sequence[Node], where: Where) -> None:
        """Say which node of the file made nodes; those of inner graphs know already."""
        for node in nodes:
            if node.where is None or node.where.file != self.file:
                node.where = where

    def lookup(self, name: str, what: str) -> Any:
        if name not in self.scope:
            raise FileFormatError(f"{name!r}, {what}, is not defined before it is used")
        operand = self.scope[name]
        if isinstance(operand, np.ndarray) and operand.dtype.kind in "OUS":
            refuse_text(operand, what)
        if isinstance(operand, Coded):
            return Coded(self.frames.local(operand.codes), operand.element)
        return self.frames.local(operand)

    def inputs_behind(self, value: Value) -> list[str]:
        """The inputs of the model that a value is computed from; none when there are others behind it."""
        found: dict[str, None] = {}
        seen: set[Value] = set()
        waiting = [value]
        while waiting:
            one = waiting.pop()
            if one in seen or one.source == "constant":
                continue
            seen.add(one)
            around = self.frames.outer(one)
            if one.node is not None:
                waiting.extend(one.node.inputs)
            elif around is not None:
                waiting.append(around)
            elif one in self.tensors:
                found[self.tensors[one]] = None
            else:
                return []
        return list(found)

    def as_value(self, operand: Any) -> Value:
        """A graph value for an operand: known arrays become constants, sizes are counted at run time."""
        if isinstance(operand, Value):
            return operand
        if isinstance(operand, Coded):
            raise UnsupportedError(f"elements of type {operand.element} are not supported here")
        if not isinstance(operand, np.ndarray):
            raise UnsupportedError("a sequence or optional cannot be a tensor here")
        if operand.dtype == object:
            return shape_value(self.graph, operand)
        return self.graph.constant(operand)

    def attribute(self, attribute: onnx.AttributeProto) -> Any:
        """The Python value of an attribute."""
        kind = attribute.type
        if kind == AttributeProto.TENSOR:
            return read_tensor(attribute.t, self.directory)
        if kind == AttributeProto.GRAPH:
            return attribute.g
        if kind in (AttributeProto.SPARSE_TENSOR, AttributeProto.TYPE_PROTO):
            raise UnsupportedError(f"attribute {attribute.name!r} has an unsupported kind")
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if isinstance(value, (list, tuple)) or (hasattr(value, "__iter__") and not isinstance(value, str)):
            return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in value]
        return value

    def subgraph(self, proto: onnx.GraphProto, inputs: Sequence[Any]) -> list[Any]:
        """Import an inner graph in place with the given inputs; returns its outputs."""
        self.depth += 1
        if self.depth > self.limits.depth:
            raise FileFormatError(f"graphs are nested more than {self.limits.depth} deep")
        outer, self.scope = self.scope, self.scope.new_child()
        try:
            self.read_weights(proto)
            for info, value in zip(proto.input, inputs, strict=True):
                self.scope[info.name] = value
            self.nodes(proto)
            return [self.lookup(info.name, "output of an inner graph") for info in proto.output]
        finally:
            self.scope = outer
            self.depth -= 1


def refuse_text(array: Array, what: str) -> None:
    """Raise UnsupportedError for an array of strings."""
    if array.dtype.kind != "O" or (array.size and isinstance(array.reshape(-1)[0], (str, bytes))):
        raise UnsupportedError(
            f"{what} is text, and a compiled program holds numbers only",
            hint="prepare the text before the model, and give the model its numbers",
        )


def node_place(node: onnx.NodeProto) -> str:
    """A node of the file in words: its operator and its name."""
    return f"{shown(node.op_type)} node" + (f" {shown(node.name)!r}" if node.name else "")


def _fixed(value: Any) -> Any:
    """A value given for an input: arrays, lists of them, None."""
    if isinstance(value, (list, tuple)):
        return [_fixed(part) for part in value]
    return None if value is None else as_coded(np.asarray(value))


def shape_array(operand: Operand) -> Array:
    """The shape of an operand as an array: int64, or objects when it has symbols."""
    shape = type_of(operand).shape if isinstance(operand, Value) else operand.shape
    if all(isinstance(extent, int) for extent in shape):
        return np.array(shape, np.int64)
    array = np.empty(len(shape), object)
    array[:] = list(shape)
    return array
