"""Recording a Python function over Tensors as one graph.

Tensors made inside are stand-ins for graph values. A Tensor from outside that the function touches
becomes a *state*: the program reads its memory at each call, and when the function writes it in place,
its last value becomes an update. Nothing of a Tensor is frozen into the program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from intaglio.array.naming import state_names
from intaglio.array.tensor import Array, Tensor, as_native, mode
from intaglio.graph.ir import Graph, Value
from intaglio.ops.registry import Op
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, TraceError
from intaglio.shared.types import TensorType
from intaglio.shared.where import caller

T = TypeVar("T")
Guard = tuple[Callable[[], Any], Any]


class Trace:
    """A recording. An inner one (the body of a loop) takes tensors from outside as further inputs."""

    def __init__(self, name: str = "main", outer: Trace | None = None) -> None:
        self.graph = Graph(name)
        self.outer = outer
        self.lifted: dict[int, tuple[Tensor, Value]] = {}
        self.latest: dict[int, Value] = {}
        self.captured: dict[int, tuple[Tensor, Value]] = {}
        self.host: list[Callable[[], float]] = []
        self.host_values: list[Value] = []
        self.guards: list[Guard] = []

    def apply(self, op: Op, operands: Sequence[Tensor], attrs: dict[str, Any]) -> tuple[Tensor, ...]:
        """Append an operator."""
        values = [self.value_of(x) for x in operands]
        return tuple(Tensor._traced(v, self) for v in self.graph.append(op, values, attrs, caller()))

    def lift(self, array: Array) -> Tensor:
        """An array as a constant of the graph."""
        return Tensor._traced(self.graph.constant(array), self)

    def value_of(self, x: Tensor) -> Value:
        """The graph value a tensor stands for now."""
        if id(x) in self.latest:
            return self.latest[id(x)]
        if x._value is not None and x._trace is self:
            return x._value
        if x._alias is not None and x._alias is not x:
            return self.value_of(x._alias)
        if self.outer is not None:
            return self.capture(x)
        if x._value is not None:
            raise TraceError(
                f"a tensor of type {x.type} made by another traced function is used here",
                where=caller(),
                hint="return it from that function and pass it in",
            )
        if id(x) not in self.lifted:
            array = x._array
            assert array is not None
            self.lifted[id(x)] = (x, self.graph.state(array, "state"))
        return self.lifted[id(x)][1]

    def capture(self, x: Tensor) -> Value:
        """A tensor from outside of a loop's body becomes an input of the body."""
        if id(x) not in self.captured:
            assert self.outer is not None
            type_ = x._value.type if x._value is not None else x.type
            self.captured[id(x)] = (x, self.graph.input(type_, "outer"))
        return self.captured[id(x)][1]

    def assign(self, x: Tensor, value: Tensor) -> None:
        """A tensor changed in place stands for another value from now on."""
        new = self.value_of(value)
        if x._value is not None and x._trace is self:
            x._value = new
            return
        if self.outer is not None:
            raise TraceError(
                "a tensor from outside is changed inside of a loop or branch",
                where=caller(),
                hint="carry it through the loop, or draw random numbers before it",
            )
        self.value_of(x)
        self.latest[id(x)] = new


@contextmanager
def recording(trace: Trace) -> Iterator[None]:
    """Operators on Tensors are appended to the trace."""
    before, mode.trace = mode.trace, trace
    try:
        yield
    finally:
        mode.trace = before


def host_scalar(read: Callable[[], float]) -> Any:
    """A number of Python's side that may change from call to call, such as a learning rate: the number
    itself eagerly, and while tracing a Tensor (f64) that is read anew at each call."""
    trace = _outermost()
    if trace is None:
        return read()
    value = trace.graph.input(TensorType(dtypes.f64, ()), "host")
    trace.host.append(read)
    trace.host_values.append(value)
    return Tensor._traced(value, trace)


def host_static(read: Callable[[], T]) -> T:
    """A plain value of Python's side that decides what is recorded. A change of it before a later call
    leads to a new recording."""
    value, trace = read(), _outermost()
    if trace is not None:
        trace.guards.append((read, value))
    return value


def _outermost() -> Trace | None:
    trace = mode.trace
    while isinstance(trace, Trace) and trace.outer is not None:
        trace = trace.outer
    return trace if isinstance(trace, Trace) else None


@dataclass
class Traced:
    """A recorded function.

    `states` are the outside tensors in the order of the graph's states, `host` what is read at each call
    (inputs behind the arguments), `guards` what must still be the same for the recording to hold, `rebuild`
    makes the function's result from the list of outputs.
    """

    graph: Graph
    states: list[Tensor]
    host: list[Callable[[], float]]
    guards: list[Guard]
    rebuild: Callable[[list[Any]], Any]


def flatten(tree: Any, leaves: list[Any]) -> Any:
    """Take tensors and arrays out of tuples, lists and dicts; what is left says how to put them back."""
    if isinstance(tree, (Tensor, np.ndarray)):
        leaves.append(tree)
        return _Leaf(len(leaves) - 1)
    if isinstance(tree, (tuple, list)):
        parts = [flatten(x, leaves) for x in tree]
        return tuple(parts) if isinstance(tree, tuple) else parts
    if isinstance(tree, dict):
        return {key: flatten(x, leaves) for key, x in tree.items()}
    return tree


@dataclass(frozen=True)
class _Leaf:
    position: int


def unflatten(tree: Any, leaves: Sequence[Any]) -> Any:
    """Put leaves back where `flatten` took them from."""
    if isinstance(tree, _Leaf):
        return leaves[tree.position]
    if isinstance(tree, (tuple, list)):
        parts = [unflatten(x, leaves) for x in tree]
        return tuple(parts) if isinstance(tree, tuple) else parts
    if isinstance(tree, dict):
        return {key: unflatten(x, leaves) for key, x in tree.items()}
    return tree


def trace(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
    name: str | None = None,
) -> Traced:
    """Record a function on arguments like these; their values do not matter, their types and shapes do.

    Raises:
        TraceError: what the function does depends on values that are only known when it runs.
    """
    if mode.trace is not None:
        raise TraceError(
            "a function is compiled inside of another one", where=caller(), hint="compile the outer one only"
        )
    leaves: list[Any] = []
    tree = flatten((args, kwargs or {}), leaves)
    recorder = Trace(name or getattr(function, "__name__", "") or type(function).__name__)
    stand_ins = []
    names = _argument_names(function, len(leaves))
    for leaf, own in zip(leaves, names, strict=True):
        array = leaf.numpy() if isinstance(leaf, Tensor) else as_native(leaf)
        type_ = TensorType(dtypes.from_numpy(array.dtype), array.shape)
        stand_in = Tensor._traced(recorder.graph.input(type_, own), recorder)
        stand_in._leaf = isinstance(leaf, Tensor) and leaf._leaf
        stand_ins.append(stand_in)
    positional, named = unflatten(tree, stand_ins)
    with recording(recorder):
        result = function(*positional, **named)
        results: list[Any] = []
        shape = flatten(result, results)
        values = [recorder.value_of(r if isinstance(r, Tensor) else recorder.lift(r)) for r in results]
    graph = recorder.graph
    graph.set_outputs(values)
    states = [x for x, _ in recorder.lifted.values()]
    names = state_names(function)
    for x, value in recorder.lifted.values():
        value.name = graph.unique_name(names.get(id(x), value.name))
        if id(x) in recorder.latest:
            graph.update(value, recorder.latest[id(x)])
            x._version += 1
    _order_host_inputs(graph, recorder)
    return Traced(graph, states, recorder.host, recorder.guards, lambda outputs: unflatten(shape, outputs))


def _order_host_inputs(graph: Graph, recorder: Trace) -> None:
    host = {id(v) for v in recorder.host_values}
    graph.inputs = [v for v in graph.inputs if id(v) not in host] + recorder.host_values


def _argument_names(function: Callable[..., Any], count: int) -> list[str]:
    """Names of inputs: the parameters' where each takes one tensor, else x0, x1, ..."""
    target = getattr(function, "forward", function)
    code = getattr(getattr(target, "__func__", target), "__code__", None)
    if code is not None and not code.co_flags & 0x04:
        names = [n for n in code.co_varnames[: code.co_argcount] if n != "self"]
        if len(names) == count:
            return names
    return ["x"] if count == 1 else [f"x{k}" for k in range(count)]


def trace_body(
    function: Callable[..., Any], types: Sequence[TensorType], name: str = "body"
) -> tuple[Graph, list[Tensor], Any]:
    """Record the body of a loop or branch inside of the trace that is going on.

    Returns:
        its graph (inputs: the given ones, then one per captured tensor), the captured tensors, and how its
        result was nested.
    """
    outer = mode.trace
    if not isinstance(outer, Trace):
        raise ArgumentError("the body of a loop is only recorded while a function is traced")
    inner = Trace(name, outer)
    operands = [Tensor._traced(inner.graph.input(t, f"{name}{k}"), inner) for k, t in enumerate(types)]
    grad_before, mode.grad = mode.grad, False
    try:
        with recording(inner):
            result = function(*operands)
            leaves: list[Any] = []
            tree = flatten(result, leaves)
            values = [
                inner.value_of(x if isinstance(x, Tensor) else inner.lift(as_native(x))) for x in leaves
            ]
    finally:
        mode.grad = grad_before
    inner.graph.set_outputs(values)
    return inner.graph, [x for x, _ in inner.captured.values()], tree
