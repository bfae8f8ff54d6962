"""The graph level: a program is a list of tensor operators in static single assignment.

A `Graph` is built by appending nodes. Its values come from inputs (given at each call), states (kept
between calls and overwritten at the end of one by `updates`), constants (arrays frozen in the
program) and nodes. Applying an `ops` function to a `Value` appends to the value's graph, so that
compositions and derivatives written for tensors build graphs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from intaglio.graph import eval as interpreter
from intaglio.graph.symbols import substitute_attrs, substitute_type
from intaglio.ops.budget import step
from intaglio.ops.operators import Operators
from intaglio.ops.registry import Op
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import ArgumentError, VerifyError
from intaglio.shared.index import IndexLike, Var
from intaglio.shared.regions import Phase, Region, current_phase, current_region
from intaglio.shared.types import TensorType
from intaglio.shared.where import Where, caller

Source = Literal["input", "state", "constant", "node"]


class Value(Operators):
    """A tensor of a graph, written once. `data` is the array of a constant, the initial one of a state."""

    __slots__ = ("data", "graph", "name", "node", "position", "source", "type")

    def __init__(
        self,
        graph: Graph,
        type_: TensorType,
        source: Source,
        name: str,
        *,
        node: Node | None = None,
        position: int = 0,
        data: np.ndarray[Any, Any] | None = None,
    ) -> None:
        self.graph = graph
        self.type = type_
        self.source: Source = source
        self.name = name
        self.node = node
        self.position = position
        self.data = data

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def shape(self) -> tuple[IndexLike, ...]:
        return self.type.shape

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"

    def __intaglio_apply__(self, op: Op, operands: Sequence[Any], attrs: dict[str, Any]) -> Any:
        results = self.graph.append(op, operands, attrs)
        return results if len(results) > 1 else results[0]

    def __intaglio_lift__(self, value: Any, dtype: DType | None) -> Value:
        return self.graph.constant(np.asarray(value, dtype.numpy if dtype else None))


@dataclass(eq=False, slots=True)
class Node:
    """One application of an operator."""

    op: Op
    inputs: tuple[Value, ...]
    attrs: dict[str, Any]
    outputs: tuple[Value, ...] = ()
    where: Where | None = None
    region: Region | None = None
    phase: Phase = "forward"

    def __repr__(self) -> str:
        return f"{', '.join(map(repr, self.outputs))} = {self.op.name}({', '.join(map(repr, self.inputs))})"


@dataclass(eq=False)
class Graph:
    """A tensor program; `updates` pairs a state with the value that replaces it after the call.

    While `origin` is set, appended operators take its line, region and phase: they replace that node.
    """

    name: str = "main"
    inputs: list[Value] = field(default_factory=list)
    states: list[Value] = field(default_factory=list)
    constants: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    output_names: list[str] = field(default_factory=list)
    updates: list[tuple[Value, Value]] = field(default_factory=list)
    origin: Node | None = None
    _taken: set[str] = field(default_factory=set)
    _numbers: dict[str, int] = field(default_factory=dict)

    def unique_name(self, wanted: str) -> str:
        """`wanted`, with a number behind it when it is taken."""
        name, k = wanted, self._numbers.get(wanted, 0)
        while name in self._taken:
            k += 1
            name = f"{wanted}_{k}"
        self._numbers[wanted] = k
        self._taken.add(name)
        return name

    def input(self, type_: TensorType, name: str = "x") -> Value:
        """Declare an input given at each call."""
        value = Value(self, type_, "input", self.unique_name(name))
        self.inputs.append(value)
        return value

    def state(self, initial: np.ndarray[Any, Any], name: str = "state") -> Value:
        """Declare an array kept between calls, with its initial content."""
        value = Value(self, _type_of_array(initial), "state", self.unique_name(name), data=initial)
        self.states.append(value)
        return value

    def constant(self, data: Any, name: str = "c") -> Value:
        """Freeze an array in the program."""
        array = np.asarray(data)
        value = Value(self, _type_of_array(array), "constant", self.unique_name(name), data=array)
        self.constants.append(value)
        return value

    def append(
        self, op: Op, inputs: Sequence[Value], attrs: Mapping[str, Any], where: Where | None = None
    ) -> tuple[Value, ...]:
        """Append an operator; its shape rule runs now. Raises ShapeError or DTypeError."""
        for value in inputs:
            if value.graph is not self:
                raise VerifyError(f"{op.name}: operand {value!r} belongs to another graph")
        step(op.name)
        types = op.infer([value.type for value in inputs], dict(attrs))
        node = Node(op, tuple(inputs), dict(attrs))
        if self.origin is not None:
            node.where, node.region, node.phase = self.origin.where, self.origin.region, self.origin.phase
        else:
            node.where, node.region, node.phase = where or caller(), current_region(), current_phase()
        return self.place(node, types, [self.unique_name(op.name) for _ in types])

    def place(self, node: Node, types: Sequence[TensorType], names: Sequence[str]) -> tuple[Value, ...]:
        """Append a node whose result types and names are known already."""
        node.outputs = tuple(
            Value(self, t, "node", name, node=node, position=k)
            for k, (t, name) in enumerate(zip(types, names, strict=True))
        )
        self.nodes.append(node)
        return node.outputs

    def set_outputs(self, values: Sequence[Value], names: Sequence[str] | None = None) -> None:
        """Declare the results, with names (default `y`, or `y0`, `y1`, ...)."""
        default = ["y"] if len(values) == 1 else [f"y{k}" for k in range(len(values))]
        self.outputs = list(values)
        self.output_names = list(names) if names is not None else default
        if len(self.output_names) != len(self.outputs):
            raise ArgumentError(f"{len(self.outputs)} outputs but {len(self.output_names)} names")

    def update(self, state: Value, value: Value) -> None:
        """After the call `state` holds what `value` is now."""
        if state.type != value.type:
            raise VerifyError(f"state {state!r} cannot be updated with {value!r}")
        self.updates.append((state, value))

    @property
    def roots(self) -> list[Value]:
        """What the program is run for: outputs, then the new values of states."""
        return [*self.outputs, *(value for _, value in self.updates)]

    def values(self) -> Iterator[Value]:
        """Every value, in order of definition."""
        yield from self.inputs
        yield from self.states
        yield from self.constants
        for node in self.nodes:
            yield from node.outputs

    def uses(self) -> dict[Value, list[Node]]:
        """The nodes that read each value (once per operand)."""
        readers: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in node.inputs:
                readers.setdefault(value, []).append(node)
        return readers

    def run(self, *arrays: Any) -> tuple[np.ndarray[Any, Any], ...]:
        """The outputs for these inputs, computed with NumPy; states have their initial content."""
        return tuple(interpreter.evaluate(self, arrays)[0])

    def copy(self) -> Graph:
        """An equal graph with values and nodes of its own; arrays and inner graphs are shared."""
        return self.specialise({})

    def specialise(self, sizes: Mapping[Var, IndexLike]) -> Graph:
        """A copy in which symbolic dimensions have the given sizes, in inner graphs too."""
        made, new = Graph(self.name, _taken=set(self._taken)), dict[Value, Value]()
        for group, target in (
            (self.inputs, made.inputs),
            (self.states, made.states),
            (self.constants, made.constants),
        ):
            for value in group:
                new[value] = Value(
                    made, substitute_type(value.type, sizes), value.source, value.name, data=value.data
                )
                target.append(new[value])
        for node in self.nodes:
            copied = Node(
                node.op,
                tuple(new[v] for v in node.inputs),
                substitute_attrs(node.attrs, sizes),
                where=node.where,
                region=node.region,
                phase=node.phase,
            )
            types = [substitute_type(v.type, sizes) for v in node.outputs]
            made.place(copied, types, [v.name for v in node.outputs])
            new.update(zip(node.outputs, copied.outputs, strict=True))
        made.set_outputs([new[v] for v in self.outputs], self.output_names)
        made.updates = [(new[state], new[value]) for state, value in self.updates]
        return made


def _type_of_array(array: np.ndarray[Any, Any]) -> TensorType:
    return TensorType(dtypes.from_numpy(array.dtype), array.shape)
