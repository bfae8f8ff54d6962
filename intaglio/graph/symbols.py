"""Symbolic dimensions of a graph: which there are, what the arrays of a call make them, and fixing them."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from intaglio.shared.errors import ArgumentError, ShapeError
from intaglio.shared.index import Index, IndexLike, Var, interval, substitute, var_index
from intaglio.shared.types import TensorType

if TYPE_CHECKING:
    from intaglio.graph.ir import Graph, Node, Value


WINDOWS = frozenset(("conv", "unfold"))
"""Operators whose result's places are those of windows."""

LARGEST = 2**31
"""A size that is tried when a symbol has no upper bound."""


def substitute_type(type_: TensorType, sizes: Mapping[Var, IndexLike]) -> TensorType:
    """The type with symbols replaced."""
    if all(isinstance(extent, int) for extent in type_.shape):
        return type_
    return TensorType(type_.dtype, tuple(substitute(extent, sizes) for extent in type_.shape))


def substitute_attrs(attrs: Mapping[str, Any], sizes: Mapping[Var, IndexLike]) -> dict[str, Any]:
    """Attributes with symbols replaced, inside of tuples and inner graphs too."""
    return {name: _substitute(value, sizes) for name, value in attrs.items()} if sizes else dict(attrs)


def _substitute(value: Any, sizes: Mapping[Var, IndexLike]) -> Any:
    if isinstance(value, Index):
        return substitute(value, sizes)
    if isinstance(value, tuple):
        return tuple(_substitute(part, sizes) for part in value)
    return value.specialise(sizes) if hasattr(value, "specialise") else value


def symbols_of(graph: Graph) -> list[Var]:
    """Every symbolic dimension in the types and attributes of a graph, in order of appearance."""
    found: dict[Var, None] = {}
    for value in graph.values():
        for extent in value.shape:
            found.update(dict.fromkeys(_variables(extent)))
    for node in graph.nodes:
        for attr in node.attrs.values():
            found.update(dict.fromkeys(_variables(attr)))
    return list(found)


def defined_symbol(node: Node) -> Var | None:
    """The symbol whose value a node finds at run time, if it is such a node."""
    extent = node.attrs.get("extent")
    if node.op.name != "prefix" or not isinstance(extent, Index):
        return None
    (variable,) = extent.variables
    return variable


def defined_symbols(graph: Graph) -> dict[Var, Node]:
    """The symbols that the graph's own nodes define, each with the first of them."""
    found: dict[Var, Node] = {}
    for node in graph.nodes:
        var = defined_symbol(node)
        if var is not None:
            found.setdefault(var, node)
    return found


def used_symbols(node: Node) -> set[Var]:
    """The symbols in a node's result types and attributes, inner graphs included."""
    return variables_of((*node.attrs.values(), *(value.type.shape for value in node.outputs)))


def size_finders(graph: Graph, inside: Container[Node]) -> dict[Node, set[Node]]:
    """The nodes that find the sizes that each node uses, by itself or in operands that live inside of it."""
    finders = defined_symbols(graph)
    found: dict[Node, set[Node]] = {}
    for node in graph.nodes if finders else ():
        own = {finders[var] for var in used_symbols(node) if var in finders}
        behind = (found[v.node] for v in node.inputs if v.node is not None and v.node in inside)
        found[node] = own.union(*behind) - {node}
    return found


def variables_of(value: Any) -> set[Var]:
    """The symbols in an extent, a shape, an attribute, or an inner graph."""
    found: set[Var] = set()
    _gather(value, found)
    return found


def _gather(value: Any, found: set[Var]) -> None:
    """As `_variables`, without an order; inner graphs are asked often, so plain numbers cost no call."""
    if isinstance(value, Index):
        found |= value.variables
    elif isinstance(value, tuple):
        for part in value:
            if not isinstance(part, int):
                _gather(part, found)
    elif hasattr(value, "specialise"):
        for one in value.values():
            _gather(one.type.shape, found)
        for node in value.nodes:
            for attr in node.attrs.values():
                _gather(attr, found)


def _variables(value: Any) -> Iterator[Var]:
    if isinstance(value, Index):
        yield from sorted(value.variables, key=lambda var: var.name)
    elif isinstance(value, tuple):
        for part in value:
            yield from _variables(part)
    elif hasattr(value, "specialise"):
        yield from symbols_of(value)


def narrowed(graph: Graph) -> Graph:
    """The graph with symbols so large that no extent is negative and every window fits at least once.

    What runs only sometimes, as in branches, asks for nothing.

    Raises:
        ShapeError: not even the upper bound of a symbol is large enough.
    """
    least: dict[Var, int] = {}
    found = defined_symbols(graph)
    for node in graph.nodes:
        for extent in (e for value in node.outputs for e in value.shape if isinstance(e, Index)):
            needed = 1 if node.op.name in WINDOWS else 0
            lower, variables = interval(extent)[0], extent.variables
            if len(variables) > 1 or variables & found.keys() or (lower is not None and lower >= needed):
                continue
            (var,) = variables
            least[var] = _least(node, extent, needed, var, least.get(var, var.lo))
    grown = {var: var_index(replace(var, lo=size)) for var, size in least.items() if size > var.lo}
    return graph.specialise(grown) if grown else graph


def _least(node: Node, extent: Index, needed: int, var: Var, start: int) -> int:
    """The smallest size of a symbol, from `start` on, at which an extent that grows with it is enough."""

    def enough(size: int) -> bool:
        return size >= start and interval(substitute(extent, {var: size}))[0] >= needed  # type: ignore[operator]

    low, high = start - 1, start
    most = max(start, LARGEST if var.hi is None else var.hi)
    while not enough(high):
        if high == most:
            message = f"{node.op.name} gives {node.outputs[0].type}: {var} is too small, even if it is {most}"
            raise ShapeError(message, where=node.where)
        low, high = high, min(high + max(1, high - start) * 2, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def bind_symbols(values: Sequence[Value], shapes: Sequence[tuple[int, ...]]) -> dict[Var, IndexLike]:
    """The sizes of the symbols that make the values' shapes these.

    Raises:
        ShapeError: a shape that does not fit, or a symbol outside of its bounds or with two sizes.
    """
    sizes: dict[Var, IndexLike] = {}
    for value, shape in zip(values, shapes, strict=True):
        if len(shape) != value.type.rank:
            raise ShapeError(f"{value!r} has rank {value.type.rank} but the array has shape {list(shape)}")
        for extent, size in zip(value.shape, shape, strict=True):
            _bind(extent, size, sizes)
    for value, shape in zip(values, shapes, strict=True):
        wanted = substitute_type(value.type, sizes).shape
        if wanted != shape:
            raise ShapeError(f"{value!r} has shape {list(wanted)} but the array has shape {list(shape)}")
    for var, bound in sizes.items():
        if not isinstance(bound, int) or bound < var.lo or (var.hi is not None and bound > var.hi):
            raise ShapeError(f"dimension {var} is {bound} but its bounds are {var.lo} .. {var.hi}")
    return sizes


def _bind(extent: IndexLike, size: int, sizes: dict[Var, IndexLike]) -> None:
    """Learn a symbol from `coef * symbol + const == size`."""
    if not isinstance(extent, Index) or len(extent.terms) != 1:
        return
    atom, coef = extent.terms[0]
    if isinstance(atom, Var) and (size - extent.const) % coef == 0:
        sizes.setdefault(atom, (size - extent.const) // coef)


def specialise(graph: Graph, sizes: Mapping[str, int]) -> Graph:
    """A copy of the graph in which the named symbols are numbers.

    Raises:
        ArgumentError: a name that is no symbol of the graph, or a size outside of its bounds.
    """
    found = defined_symbols(graph)
    symbols = [var for var in symbols_of(graph) if var not in found]
    unknown = set(sizes) - {var.name for var in symbols}
    if unknown:
        known = ", ".join(var.name for var in symbols) or "none"
        raise ArgumentError(
            f"{graph.name} has no symbolic dimension {sorted(unknown)[0]!r}", hint=f"its symbols are: {known}"
        )
    fixed: dict[Var, IndexLike] = {}
    for var in symbols:
        if var.name in sizes:
            wanted = sizes[var.name]
            if wanted < var.lo or (var.hi is not None and wanted > var.hi):
                raise ArgumentError(
                    f"dimension {var} cannot be {wanted}: its bounds are {var.lo} .. {var.hi}"
                )
            fixed[var] = wanted
    return graph.specialise(fixed)
