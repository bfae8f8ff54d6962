"""Walks an ONNX graph and builds ours.

What is known at import - weights, shapes, and everything computed from them - stays a NumPy array and is
computed at once; the rest becomes graph values. A shape with symbols is an array of Python objects, so
that the usual arithmetic on shapes works on it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper

from intaglio.graph.ir import Graph, Value
from intaglio.ops.dispatch import type_of
from intaglio.readers.onnx import handlers
from intaglio.readers.onnx.frames import Frames
from intaglio.readers.onnx.check import check_node, shown
from intaglio.readers.onnx.model import operator_sets, read_model, read_tensor
from intaglio.readers.onnx.limits import Limits, check_functions
from intaglio.readers.onnx.registry import Array, OnnxCall, Operand, find_handler
from intaglio.shared import dtypes
from intaglio.shared.errors import FileFormatError, IntaglioError, ShapeError, UnsupportedError
from intaglio.shared.index import IndexLike, Var, var_index
from intaglio.shared.types import TensorType

assert handlers.LOADED


def load(
    source: Any,
    *,
    bounds: dict[str, int] | None = None,
    shapes: dict[str, Sequence[int]] | None = None,
    limits: Limits | None = None,
) -> Graph:
    """The graph of an ONNX model.

    Args:
        source: a path, the bytes of a file, or a ModelProto.
        bounds: upper bounds of named dimensions; one without a bound stays open.
        shapes: shapes for inputs, where the model's own are symbolic or missing.
        limits: what importing may cost; the default suits models of any size.

    Raises:
        FileFormatError: not a valid model.
        UnsupportedError: an operator, type or feature that is not supported; the message names the node.
    """
    model, directory = read_model(source)
    limits = limits or Limits()
    if model.functions:
        check_functions(model, limits)
        model = _inlined(model)
    importer = Importer(model, directory, bounds or {}, shapes or {}, limits)
    with importer.budget.spent():
        return importer.run()


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
        shapes: dict[str, Sequence[int]],
        limits: Limits,
    ) -> None:
        self.model = model
        self.directory = directory
        self.bounds = bounds
        self.shapes = shapes
        self.versions = operator_sets(model)
        self.frames = Frames(Graph(model.graph.name or "model"))
        self.scope: dict[str, Any] = {}
        self.symbols: dict[str, IndexLike] = {}
        self.depth = 0
        self.limits = limits
        self.budget = limits.budget(model.ByteSize())

    @property
    def graph(self) -> Graph:
        """The graph that nodes go into: the model's own, or that of the body being imported."""
        return self.frames.graph

    def run(self) -> Graph:
        proto = self.model.graph
        self.read_weights(proto)
        for info in proto.input:
            if info.name not in self.scope:
                self.scope[info.name] = self.graph.input(self.input_type(info), info.name)
        self.nodes(proto)
        results = [self.lookup(info.name, "output of the model") for info in proto.output]
        names = [info.name for info in proto.output]
        self.graph.set_outputs([self.as_value(r) for r in results], names)
        return self.graph

    def read_weights(self, proto: onnx.GraphProto) -> None:
        for tensor in proto.initializer:
            self.scope[tensor.name] = read_tensor(tensor, self.directory)
        if proto.sparse_initializer:
            raise UnsupportedError("sparse weights are not supported", hint="store them dense")

    def input_type(self, info: onnx.ValueInfoProto) -> TensorType:
        kind = info.type.WhichOneof("value")
        if kind != "tensor_type":
            raise UnsupportedError(f"input {info.name!r} is a {kind}; only tensors can be inputs")
        tensor = info.type.tensor_type
        if info.name in self.shapes:
            shape: tuple[IndexLike, ...] = tuple(self.shapes[info.name])
        elif not tensor.HasField("shape"):
            raise ShapeError(
                f"input {info.name!r} has no shape", hint=f"load(..., shapes={{{info.name!r}: [...]}})"
            )
        else:
            shape = tuple(self.extent(d, f"{info.name}_{k}") for k, d in enumerate(tensor.shape.dim))
        return TensorType(self.element_type(tensor.elem_type), shape)

    def extent(self, dim: onnx.TensorShapeProto.Dimension, default: str) -> IndexLike:
        """An extent: a number, or a symbol with the bound it was given."""
        if dim.HasField("dim_value"):
            if dim.dim_value < 0:
                raise FileFormatError(f"dimension {default} is {dim.dim_value}")
            return int(dim.dim_value)
        name = dim.dim_param or default
        if name not in self.symbols:
            self.symbols[name] = var_index(Var(name, 1, self.bounds.get(name)))
        return self.symbols[name]

    @staticmethod
    def element_type(code: int) -> dtypes.DType:
        try:
            return dtypes.from_numpy(helper.tensor_dtype_to_np_dtype(code))
        except (KeyError, ValueError, TypeError) as error:
            names = {v: k for k, v in TensorProto.DataType.items()}
            raise UnsupportedError(f"element type {names.get(code, code)} is not supported") from error

    def nodes(self, proto: onnx.GraphProto) -> None:
        """Import every node, in the file's order, which must be an order of execution."""
        for node in proto.node:
            self.node(node)

    def node(self, node: onnx.NodeProto) -> None:
        shown = f"{node.op_type} node {node.name!r}" if node.name else f"{node.op_type} node"
        domain = "" if node.domain == "ai.onnx" else node.domain
        try:
            inputs = [self.lookup(name, f"input of {shown}") if name else None for name in node.input]
            version = self.versions.get(domain, 1)
            handler = find_handler(domain, node.op_type, version)
            results = handler(OnnxCall(self, node, version), *inputs)
        except IntaglioError as error:
            if shown not in error.message:
                error.message = f"{shown}: {error.message}"
            raise
        except (TypeError, ValueError, IndexError, KeyError, OverflowError, AttributeError) as error:
            raise FileFormatError(f"{shown} is malformed: {error}") from error
        many = results if isinstance(results, tuple) else (results,)
        for name, result in zip(node.output, many, strict=False):
            if name:
                self.scope[name] = result

    def lookup(self, name: str, what: str) -> Any:
        if name not in self.scope:
            raise FileFormatError(f"{name!r}, {what}, is not defined before it is used")
        return self.frames.local(self.scope[name])

    def as_value(self, operand: Any) -> Value:
        """A graph value for an operand: known arrays become constants."""
        if isinstance(operand, Value):
            return operand
        if not isinstance(operand, np.ndarray):
            raise UnsupportedError("a sequence or optional cannot be a tensor here")
        if operand.dtype == object:
            raise UnsupportedError(
                "a shape with symbols cannot be computed at run time",
                hint="give the symbols fixed sizes with shapes=",
            )
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
        if self.depth > MAX_DEPTH:
            raise FileFormatError(f"graphs are nested more than {MAX_DEPTH} deep")
        outer = dict(self.scope)
        try:
            self.read_weights(proto)
            for info, value in zip(proto.input, inputs, strict=True):
                self.scope[info.name] = value
            self.nodes(proto)
            return [self.lookup(info.name, "output of an inner graph") for info in proto.output]
        finally:
            self.scope = outer
            self.depth -= 1


def shape_array(operand: Operand) -> Array:
    """The shape of an operand as an array: int64, or objects when it has symbols."""
    shape = type_of(operand).shape if isinstance(operand, Value) else operand.shape
    if all(isinstance(extent, int) for extent in shape):
        return np.array(shape, np.int64)
    array = np.empty(len(shape), object)
    array[:] = list(shape)
    return array
