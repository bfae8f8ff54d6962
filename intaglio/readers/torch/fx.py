"""FX graphs from `torch.compile` as graphs: their placeholders are inputs, sizes are known numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule

from intaglio.graph.ir import Graph, Value
from intaglio.readers.torch.arrays import dtype_of_torch
from intaglio.readers.torch.importer import Importer
from intaglio.shared.index import Index
from intaglio.shared.types import TensorType


@dataclass(frozen=True)
class FxProgram:
    """A graph, and how a call's arguments and results relate to its inputs and outputs.

    `taken` says for each input of the graph which argument it is, or what draws its random numbers.
    `results` has an entry per result: a position among the graph's outputs (`output`, or `size` for a number
    of elements), an argument handed through (`argument`), or a `constant`.
    """

    graph: Graph
    taken: tuple[int | Callable[[], torch.Tensor], ...]
    results: tuple[tuple[str, Any], ...]


def read_fx(module: GraphModule, arguments: Sequence[Any]) -> FxProgram:
    """The graph of an FX module for arguments of these shapes, types and numbers.

    Raises:
        UnsupportedError: an operator, type or feature that is not supported.
    """
    graph = Graph("model")
    importer = Importer(module, graph)
    draws = importer.draws = {}
    placeholders: dict[str, Any] = {}
    position: dict[Value, int] = {}
    nodes = [node for node in module.graph.nodes if node.op == "placeholder"]
    for k, (node, argument) in enumerate(zip(nodes, arguments, strict=True)):
        importer.sizes.update(_sizes(node.meta.get("val"), argument))
        if isinstance(argument, torch.Tensor):
            type_ = TensorType(dtype_of_torch(argument.dtype), tuple(int(e) for e in argument.shape))
            value = graph.input(type_, node.name)
            placeholders[node.name] = value
            position[value] = k
        else:
            placeholders[node.name] = argument
    results: list[tuple[str, Any]] = []
    outputs: list[Value] = []
    for result in importer.run(placeholders):
        if isinstance(result, Value) and result in position:
            results.append(("argument", position[result]))
        elif result is None or isinstance(result, (bool, int, float)):
            results.append(("constant", result))
        else:
            results.append(("size" if isinstance(result, Index) else "output", len(outputs)))
            outputs.append(importer.as_value(result))
    graph.set_outputs(outputs, [f"y{k}" for k in range(len(outputs))])
    read = {value for node in graph.nodes for value in node.inputs} | set(outputs)
    graph.inputs = [value for value in graph.inputs if value in read]
    sources: dict[Value, int | Callable[[], torch.Tensor]] = {**position, **draws}
    return FxProgram(graph, tuple(sources[value] for value in graph.inputs), tuple(results))


def _sizes(symbolic: Any, argument: Any) -> dict[str, int]:
    """The numbers that an argument gives for PyTorch's symbols."""
    if isinstance(symbolic, torch.SymInt):
        return {str(symbolic): int(argument)}
    if not isinstance(symbolic, torch.Tensor):
        return {}
    pairs = zip(symbolic.shape, argument.shape, strict=True)
    return {str(theirs): int(own) for theirs, own in pairs if isinstance(theirs, torch.SymInt)}
