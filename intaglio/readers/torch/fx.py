"""FX graphs from `torch.compile` as graphs: their placeholders are inputs, sizes numbers or symbols."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch.fx import GraphModule

from intaglio.graph.ir import Graph, Value
from intaglio.readers.torch.arrays import array_of, dtype_of_torch
from intaglio.readers.torch.checks import IndexChecks
from intaglio.readers.torch.importer import Importer
from intaglio.readers.torch.symbols import Symbols, bounds_of, highest
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import Index
from intaglio.shared.types import TensorType


@dataclass(frozen=True)
class FxProgram:
    """A graph, and how a call's arguments and results relate to its inputs and outputs.

    `taken` says for each input of the graph which argument it is, or what draws its random numbers.
    `results` has an entry per result: a position among the graph's outputs (`output`, or `size` for a number
    of elements, `number` for a number that a tensor held; `laid out` with the order of its dimensions in
    memory), an argument handed through (`argument`) or copied (`copy`), or a `constant`. The last output
    says for each of `checks` whether it found an index out of range.
    """

    graph: Graph
    taken: tuple[int | Callable[[], torch.Tensor], ...]
    results: tuple[tuple[str, Any], ...]
    checks: tuple[str, ...] = ()


def read_fx(
    module: GraphModule,
    arguments: Sequence[Any],
    checked: bool = True,
    visible: int | None = None,
    constants: Collection[int] = (),
    symbolic: bool = False,
) -> FxProgram:
    """The graph of an FX module for arguments of these shapes, types and numbers.

    Args:
        visible: how many results, by default all, a user sees; they lie in memory as PyTorch's do.
        constants: positions of tensors that are to be constants of the graph, with the values they have.
        symbolic: whether PyTorch's symbols are symbols of the graph, and not the numbers of the arguments.
        checked: whether indices are to be checked, which a backward pass does not need to do again.

    Raises:
        UnsupportedError: an operator, type or feature that is not supported.
    """
    graph = Graph("model")
    importer = Importer(module, graph)
    draws = importer.draws = {}
    checks = importer.checks = IndexChecks() if checked else None
    nodes = [node for node in module.graph.nodes if node.op == "placeholder"]
    symbols = Symbols() if symbolic else None
    placeholders = _placed(importer, nodes, arguments, constants, symbols)
    position = {value: k for k, value in enumerate(placeholders.values()) if isinstance(value, Value)}
    results: list[tuple[str, Any]] = []
    outputs: list[Value] = []
    last = next(node for node in module.graph.nodes if node.op == "output")
    for result, node in zip(importer.run(placeholders), last.args[0], strict=True):
        if isinstance(result, Value) and _is_number(node):
            results.append(("number", len(outputs)))
            outputs.append(result)
        elif isinstance(result, Value) and result in position:
            results.append(("argument" if _is_handed_through(node) else "copy", position[result]))
        elif isinstance(result, Index) and node in nodes:
            results.append(("argument", nodes.index(node)))
        elif result is None or isinstance(result, (bool, int, float)):
            results.append(("constant", result))
        else:
            order = _order(node) if visible is None or len(results) < visible else None
            kind = "size" if isinstance(result, Index) else "laid out" if order else "output"
            results.append((kind, (len(outputs), order) if order else len(outputs)))
            outputs.append(importer.as_value(result))
    if checks is not None and checks.flags:
        outputs.append(checks.flags_together())
    graph.set_outputs(outputs, [f"y{k}" for k in range(len(outputs))])
    read = {value for node in graph.nodes for value in node.inputs} | set(outputs)
    graph.inputs = [value for value in graph.inputs if value in read]
    if symbols is not None:
        _check_found(symbols, graph.inputs)
    sources: dict[Value, int | Callable[[], torch.Tensor]] = {**position, **draws}
    taken = tuple(sources[value] for value in graph.inputs)
    return FxProgram(graph, taken, tuple(results), tuple(checks.texts) if checks is not None else ())


def _placed(
    importer: Importer,
    nodes: Sequence[Any],
    arguments: Sequence[Any],
    constants: Collection[int],
    symbols: Symbols | None,
) -> dict[str, Any]:
    """What each placeholder is: an input or constant of the graph, a number or a symbol."""
    graph, placed = importer.graph, dict[str, Any]()
    for k, (node, argument) in enumerate(zip(nodes, arguments, strict=True)):
        found = node.meta.get("val")
        if symbols is None:
            importer.sizes.update(_sizes(found, argument))
        if k in constants:
            placed[node.name] = graph.constant(array_of(argument), node.name)
        elif isinstance(argument, torch.Tensor):
            shape = argument.shape if symbols is None else found.shape
            extents = tuple(int(e) if symbols is None else symbols.extent(e) for e in shape)
            placed[node.name] = graph.input(TensorType(dtype_of_torch(argument.dtype), extents), node.name)
        elif symbols is not None and isinstance(found, torch.SymInt):
            placed[node.name] = symbols.extent(found)
        else:
            placed[node.name] = argument
    return placed


def has_bounded_sizes(inputs: Sequence[Any]) -> bool:
    """Whether some sizes of a graph's inputs are symbols, and all of these have bounds."""
    tensors = [value for value in inputs if isinstance(value, torch.Tensor)]
    sizes: list[Any] = [
        extent for tensor in tensors for extent in tensor.shape if isinstance(extent, torch.SymInt)
    ]
    ranges = [bounds_of(symbol, size) for size in sizes for symbol in size.node.expr.free_symbols]
    return bool(ranges) and all(found.lower >= 1 and highest(found) is not None for found in ranges)


def _check_found(symbols: Symbols, inputs: Sequence[Value]) -> None:
    """Raise UnsupportedError for a symbol that is no axis of an input: nobody would know it."""
    found = {extent for value in inputs for extent in value.type.shape}
    for name, symbol in symbols.known.items():
        if symbol not in found:
            raise UnsupportedError(f"the symbolic size {name} is no axis of an input that is read")


def _is_handed_through(node: Any) -> bool:
    """Whether a result that equals an argument is the argument, not a copy that may be written to alone."""
    aliases = (torch.ops.aten.alias.default, torch.ops.aten.detach.default)
    while node.op == "call_function" and node.target in aliases:
        node = node.args[0]
    return bool(node.op == "placeholder")


def _is_number(node: Any) -> bool:
    """Whether PyTorch has a Python number where the graph has a tensor."""
    found = node.meta.get("val") if isinstance(node, torch.fx.Node) else None
    return isinstance(found, (torch.SymInt, torch.SymFloat, torch.SymBool))


def _order(node: Any) -> tuple[int, ...] | None:
    """The order of a dense tensor's dimensions in memory where it is not theirs."""
    found = node.meta.get("val") if isinstance(node, torch.fx.Node) else None
    if not isinstance(found, torch.Tensor):
        return None
    shape, strides = ([_known(e) for e in numbers] for numbers in (found.shape, found.stride()))
    if None in shape or None in strides or 0 in shape:
        return None
    wide = [k for k, extent in enumerate(shape) if extent != 1]
    order = sorted(wide, key=lambda k: -strides[k])
    dense = all(strides[a] == strides[b] * shape[b] for a, b in pairwise(order))
    if not dense or order == wide or strides[order[-1]] != 1:
        return None
    return tuple(order + [k for k, extent in enumerate(shape) if extent == 1])


def _known(extent: Any) -> Any:
    """The number that a size was when PyTorch traced it; None for one that is data."""
    return extent if isinstance(extent, int) else extent.node.hint


def _sizes(symbolic: Any, argument: Any) -> dict[str, int]:
    """The numbers that an argument gives for PyTorch's symbols."""
    if isinstance(symbolic, torch.SymInt):
        return {str(symbolic): int(argument)}
    if not isinstance(symbolic, torch.Tensor):
        return {}
    pairs = zip(symbolic.shape, argument.shape, strict=True)
    return {str(theirs): int(own) for theirs, own in pairs if isinstance(theirs, torch.SymInt)}
