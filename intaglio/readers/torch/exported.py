"""Programs of `torch.export` as graphs: parameters are constants, changed buffers states, sizes symbols."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from intaglio.graph.ir import Graph, Value
from intaglio.readers.torch.arrays import array_of, dtype_of_torch
from intaglio.readers.torch.importer import OUTSIDE, Importer, RandomState
from intaglio.readers.torch.symbols import Symbols
from intaglio.shared.errors import ArgumentError, FileFormatError, UnsupportedError
from intaglio.shared.types import TensorType
from intaglio.shared.where import Where

KEPT = ("lstm.input", "gru.input", "rnn_tanh.input", "rnn_relu.input", "scaled_dot_product_attention",
        "linear", "matmul", "gelu", "silu", "hardswish", "hardsigmoid", "mish", "layer_norm", "group_norm",
        "rms_norm", "einsum", "pixel_shuffle", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
        "upsample_bilinear2d.vec", "upsample_nearest2d.vec", "upsample_bicubic2d.vec", "one_hot",
        "cross_entropy_loss", "nll_loss", "softplus", "leaky_relu", "elu", "glu", "dropout", "unbind.int",
        "split.Tensor", "softmax.int", "log_softmax.int", "chunk")  # fmt: skip
"""Operators that keep their name: the graph has a better word for them than PyTorch's decomposition."""


def load(
    model: Any,
    example_inputs: Sequence[Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    kwargs: Mapping[str, Any] | None = None,
) -> Graph:
    """The graph of a PyTorch module, an exported program, or a `.pt2` file.

    Args:
        model: a module in the mode it is to run in (mostly `module.eval()`), an ExportedProgram, or a path.
        example_inputs: the positional arguments to export a module with.
        dynamic_shapes: as `torch.export.export` takes it; dimensions become symbols with their bounds.
        kwargs: keyword arguments to export with.

    Raises:
        UnsupportedError: an operator, type or feature that is not supported; names it and the module's line.
    """
    return Reader(decomposed(exported(model, example_inputs, dynamic_shapes, kwargs or {}))).run()


def exported(
    model: Any, example_inputs: Any, dynamic_shapes: Any, kwargs: Mapping[str, Any]
) -> ExportedProgram:
    if isinstance(model, ExportedProgram):
        return model
    if isinstance(model, (str, Path)):
        try:
            return torch.export.load(str(model))
        except Exception as error:  # it raises whatever zipfile, json and pickle do
            raise FileFormatError(f"{model} is no exported PyTorch program: {error}") from error
    if example_inputs is None:
        raise ArgumentError("a PyTorch module needs example inputs", hint="compile(module, [tensor, ...])")
    inputs = tuple(x if isinstance(x, torch.Tensor) else _tensor(x) for x in example_inputs)
    with _errors_of_pytorch():
        found: ExportedProgram = torch.export.export(
            model, inputs, dict(kwargs), dynamic_shapes=dynamic_shapes
        )
        return found


def decomposed(program: ExportedProgram) -> ExportedProgram:
    """The program in the operators that are read."""
    with _errors_of_pytorch():
        found: ExportedProgram = program.run_decompositions(decompositions())
        return found


@contextmanager
def _errors_of_pytorch() -> Iterator[None]:
    """Whatever PyTorch raises where it traces a module becomes an error with the innermost line of the
    user's program: the module is wrong, or does what cannot be traced."""
    try:
        yield
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if not f.filename.startswith((*OUTSIDE, "<")) and f.lineno is not None]
        where = Where(own[-1].filename, own[-1].lineno or 0) if own else None
        reason = str(error).split("\n\n")[0]
        raise UnsupportedError(
            f"torch.export cannot take this module: {type(error).__name__}: {reason}", where=where
        ) from error


def _tensor(value: Any) -> Any:
    return torch.as_tensor(value) if hasattr(value, "__array__") else value


def decompositions() -> Any:
    """PyTorch's own table to core ATen, without what is kept."""
    table: Any = torch.export.default_decompositions()
    for name in KEPT:
        operator, _, overload = name.partition(".")
        table.pop(getattr(getattr(torch.ops.aten, operator), overload or "default"), None)
    return table


class Reader:
    """Reads one exported program.

    `trained` are the parameters that become states; `seed` starts the random numbers of dropout, which is
    an error without one. Names of states lose the `prefix`.
    """

    def __init__(
        self,
        program: ExportedProgram,
        trained: Collection[str] = (),
        seed: int | None = None,
        prefix: str = "",
    ) -> None:
        self.program = program
        self.prefix = prefix
        self.trained = trained
        self.graph = Graph("model")
        self.importer = Importer(program.graph_module, self.graph)
        if seed is not None:
            self.importer.random = RandomState(self.graph, seed)
        self.symbols = Symbols(program.range_constraints)
        self.states: dict[str, Value] = {}
        self._tied: dict[Any, Value] = {}

    def run(self) -> Graph:
        signature = self.program.graph_signature
        changed = {spec.target for spec in signature.output_specs if spec.kind == OutputKind.BUFFER_MUTATION}
        nodes = {n.name: n for n in self.program.graph.nodes if n.op == "placeholder"}
        placeholders = {}
        for spec in signature.input_specs:
            name = spec.arg.name
            if spec.kind == InputKind.USER_INPUT:
                placeholders[name] = self.input(nodes[name])
            elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
                target = str(spec.target)
                placeholders[name] = self.held(target, target in changed or target in self.trained)
            else:
                raise UnsupportedError(f"input {name} is a {spec.kind.name.lower()}")
        results = self.importer.run(placeholders)
        outputs: list[Value] = []
        names: list[str] = []
        for spec, result in zip(signature.output_specs, results, strict=True):
            if spec.kind == OutputKind.BUFFER_MUTATION:
                self.graph.update(self.states[str(spec.target)], self.importer.as_value(result))
            elif spec.kind == OutputKind.USER_OUTPUT:
                if result is not None:
                    outputs.append(self.importer.as_value(result))
                    names.append(f"y{len(names)}")
            else:
                raise UnsupportedError(f"the program changes {spec.target}, a {spec.kind.name.lower()}")
        self.graph.set_outputs(outputs, names if len(names) > 1 else None)
        if self.importer.random is not None:
            self.importer.random.finish()
        return self.graph

    def held(self, name: str, changes: bool) -> Value:
        """A parameter or buffer: a constant, or a state when the program changes it; tied ones are one."""
        program = self.program
        tensor = program.state_dict.get(name)
        tensor = program.constants[name] if tensor is None else tensor
        if not changes:
            return self.importer.constant(tensor, name)
        same = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        if same not in self._tied or tensor.numel() == 0:
            shown = name.removeprefix(self.prefix).replace(".", "_")
            self._tied[same] = self.graph.state(array_of(tensor).copy(), shown)
        self.states[name] = self._tied[same]
        return self.states[name]

    def input(self, node: Any) -> Any:
        """A user's argument: a tensor is an input of the graph, a number what it was when exporting."""
        value = node.meta["val"]
        if not isinstance(value, torch.Tensor):
            if isinstance(value, (int, float, bool, str)) or value is None:
                return value
            raise UnsupportedError(f"argument {node.name} is a {type(value).__name__}")
        if value.layout != torch.strided:
            raise UnsupportedError(f"argument {node.name} is a {value.layout} tensor", hint="make it dense")
        shape = tuple(self.symbols.extent(e) for e in value.shape)
        return self.graph.input(TensorType(dtype_of_torch(value.dtype), shape), node.name)
