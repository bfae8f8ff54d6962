"""Recording a Python function over Tensors as one graph.

Tensors made inside stand for graph values. A Tensor from outside that the function touches becomes a
*state*: the program reads its memory at each call, and when the function changes it in place, its last
value becomes an update. Derivatives that `backward()` leaves in `grad` of outside Tensors are described by
`GradEffect`. What the function reads of Python's side through `host_scalar` is an input, read at each
call; through `host_static` it is part of the program, which is recorded anew when it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from intaglio.array import tape
from intaglio.array.mode import mode, set_grad_enabled
from intaglio.array.naming import state_names
from intaglio.array.storage import Array, Storage
from intaglio.array.tensor import UNAVAILABLE, Tensor, as_native
from intaglio.array.tree import flatten, unflatten
from intaglio.graph.ir import Graph, Value
from intaglio.ops.registry import Op
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, TraceError
from intaglio.shared.types import TensorType
from intaglio.shared.where import caller

T = TypeVar("T")


@dataclass(eq=False)
class State:
    """A storage from outside: the graph's state, and what it stands for by now."""

    storage: Storage
    value: Value
    latest: Value


@dataclass(eq=False)
class GradEffect:
    """What a function does to `grad` of a tensor from outside.

    `read` says whether it looked at the gradient that was there (`before`) first, `now` is what it left.
    """

    tensor: Tensor
    before: Any
    now: Any
    read: bool


@dataclass(eq=False)
class Trace:
    """A recording. An inner one (the body of a loop) takes what it touches outside as further inputs."""

    graph: Graph
    outer: Trace | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    arrays: Mapping[int, Storage] = field(default_factory=dict)
    states: dict[int, State] = field(default_factory=dict)
    captured: dict[int, tuple[Tensor, Value, Value]] = field(default_factory=dict)
    grads: dict[int, GradEffect] = field(default_factory=dict)
    leaves: dict[int, tuple[Tensor, bool]] = field(default_factory=dict)
    host: list[tuple[Callable[[], float], Value]] = field(default_factory=list)
    statics: list[tuple[Callable[[], Any], Any]] = field(default_factory=list)

    @property
    def outermost(self) -> Trace:
        return self if self.outer is None else self.outer.outermost

    def operand(self, tensor: Tensor) -> Value:
        """The value a tensor stands for now; remembers whether its derivative is asked for."""
        held = tensor._storage.held
        if type(held) is not Value:
            self.outermost.leaves.setdefault(id(tensor), (tensor, tensor._leaf))
        if self.outer is None or (type(held) is Value and held.graph is self.graph):
            return self.read(tensor._storage)
        value = self.outer.operand(tensor)
        if value.source == "constant":
            return self._captured(id(value), tensor, value, True)
        return self._captured(id(tensor) if tensor.requires_grad else id(value), tensor, value, False)

    def _captured(self, key: int, tensor: Tensor, value: Value, constant: bool) -> Value:
        """The input of a body for a tensor outside of it; those with and without derivative are apart."""
        if key not in self.captured:
            own = self.graph.constant(value.data) if constant else self.graph.input(value.type, value.name)
            self.captured[key] = tensor, value, own
        return self.captured[key][2]

    def read(self, storage: Storage) -> Value:
        """The value a storage stands for now."""
        held = storage.held
        if type(held) is not Value:
            return self.outermost._state(storage).latest
        if held.graph is not self.graph:
            raise tape.leaked(held.type)
        return held

    def _state(self, storage: Storage) -> State:
        state = self.states.get(id(storage))
        if state is None:
            value = self.graph.state(storage.held, self.names.get(id(storage), "state"))  # type: ignore[arg-type]
            state = self.states[id(storage)] = State(storage, value, value)
        return state

    def write(self, storage: Storage, value: Value) -> None:
        """Let a storage stand for another value from now on."""
        held = storage.held
        if type(held) is Value and held.graph is self.graph:
            storage.held = value
        elif self.outer is not None:
            raise TraceError(
                f"a tensor {storage.type} from outside of a loop or branch is changed inside of it",
                where=caller(),
                hint="make it part of the carry; draw random numbers before the loop",
            )
        else:
            self._state(storage).latest = value

    def constant(self, array: Array) -> Value:
        """An array as a constant; one that the function finds outside of itself is read at each call."""
        return self.graph.constant(array)

    def append(self, op: Op, values: Sequence[Value], attrs: dict[str, Any]) -> tuple[Value, ...]:
        """Append an operator."""
        return self.graph.append(op, values, attrs)

    def read_grad(self, tensor: Tensor) -> Any:
        """What `tensor.grad` is by now."""
        if type(tensor._storage.held) is Value:
            return tensor._grad
        grads = self.outermost.grads
        if id(tensor) not in grads:
            if tensor._grad is UNAVAILABLE:
                raise ArgumentError(
                    f"the gradient of a {tensor.type} was not kept by the compiled function that made it",
                    where=caller(),
                    hint="clear it first (zero_grad()), or compile that function with keep_grads=True",
                )
            grads[id(tensor)] = GradEffect(tensor, tensor._grad, tensor._grad, True)
        return grads[id(tensor)].now

    def write_grad(self, tensor: Tensor, grad: Any) -> None:
        """Let `tensor.grad` be another tensor or None from now on."""
        if type(tensor._storage.held) is Value:
            tensor._grad = grad
        elif self.outer is not None:
            raise TraceError("backward() inside of a loop or branch reaches tensors outside", where=caller())
        elif id(tensor) in self.grads:
            self.grads[id(tensor)].now = grad
        else:
            self.grads[id(tensor)] = GradEffect(tensor, tensor._grad, grad, False)


@contextmanager
def recording(trace: Trace) -> Iterator[None]:
    """Operators on Tensors are appended to the trace."""
    before, mode.trace = mode.trace, trace
    try:
        yield
    finally:
        mode.trace = before


def _outermost() -> Trace | None:
    return mode.trace.outermost if isinstance(mode.trace, Trace) else None


def host_scalar(read: Callable[[], float]) -> Any:
    """A number of Python's side that may change from call to call, such as a learning rate: the number
    itself eagerly, and while tracing a Tensor (f64) that is read anew at each call."""
    trace = _outermost()
    if trace is None:
        return read()
    value = trace.graph.input(TensorType(dtypes.f64, ()), "setting")
    trace.host.append((read, value))
    return Tensor._holding(value)


def host_static(read: Callable[[], T]) -> T:
    """A value of Python's side that decides what is recorded, such as whether a module is in training: when
    it is another one at a later call, the function is recorded anew."""
    value = read()
    trace = _outermost()
    if trace is not None:
        trace.statics.append((read, value))
    return value


@dataclass(eq=False)
class Traced:
    """A recorded function.

    Attributes:
        graph: inputs are the arguments' tensors, then the `host` numbers; outputs the results' tensors, then
            gradients to keep, first of outside tensors (`kept`), then of arguments (`argument_grads`).
        storages: what the graph's states are, in order.
        updated: positions of the states that calls change.
        dropped: tensors whose gradient calls make and do not keep; `cleared`: whose gradient they remove.
        grad_states: positions of states that are the gradient of a tensor.
        grad_presence: tensors whose gradient is read, and whether there was one.
        leaves: the outside tensors, and whether their derivatives were asked for.
    """

    graph: Graph
    storages: list[Storage]
    updated: list[int]
    host: list[Callable[[], float]]
    statics: list[tuple[Callable[[], Any], Any]]
    kept: list[Tensor]
    argument_grads: list[int]
    dropped: list[Tensor]
    cleared: list[Tensor]
    grad_states: dict[int, Tensor]
    grad_presence: list[tuple[Tensor, bool]]
    leaves: list[tuple[Tensor, bool]]
    result: Any
    results: list[Tensor | int]
    unfinished: list[bool]

    def rebuild(self, outputs: Sequence[Tensor]) -> Any:
        """The function's result with these outputs in it."""
        return unflatten(self.result, [outputs[r] if isinstance(r, int) else r for r in self.results])


def trace(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    whole: bool = True,
    keep_grads: bool = False,
    arrays: Mapping[int, Storage] | None = None,
) -> Traced:
    """Record a function on arguments like these; their values do not matter, their types and shapes do.

    Args:
        whole: every tensor of the result is an output, also one from outside that is given back itself.
        keep_grads: keep gradients also where the function clears them itself before it makes them.
        arrays: storages of arrays that the function finds outside of itself, by the arrays' id.

    Raises:
        TraceError: what the function does depends on values that are only known when it runs.
    """
    if mode.trace is not None:
        raise TraceError("a function is traced inside of another trace", where=caller())
    name = getattr(function, "__name__", type(function).__name__)
    recorder = Trace(
        Graph(name if name.isidentifier() else "main"), None, state_names(function), arrays or {}
    )
    leaves: list[Any] = []
    tree = flatten((args, dict(kwargs or {})), leaves)
    stand_ins = [
        _stand_in(recorder, leaf, own)
        for leaf, own in zip(leaves, _argument_names(function, args, leaves), strict=True)
    ]
    positional, named = unflatten(tree, stand_ins)
    with recording(recorder):
        results: list[Any] = []
        shape = flatten(function(*positional, **named), results)
        return _finished(recorder, stand_ins, shape, results, whole, keep_grads)


def _stand_in(recorder: Trace, leaf: Any, name: str) -> Tensor:
    type_ = leaf.type if isinstance(leaf, Tensor) else _type_of(as_native(leaf))
    made = Tensor._holding(recorder.graph.input(type_, name))
    made._leaf = isinstance(leaf, Tensor) and leaf.requires_grad
    return made


def _type_of(array: Array) -> TensorType:
    return TensorType(dtypes.from_numpy(array.dtype), array.shape)


def _finished(
    recorder: Trace, stand_ins: list[Tensor], shape: Any, results: list[Any], whole: bool, keep_grads: bool
) -> Traced:
    """Outputs, updates and gradients of a recording."""
    graph = recorder.graph
    outputs: list[Value] = []
    places: list[Tensor | int] = []
    unfinished: list[bool] = []
    for result in results:
        made = result if isinstance(result, Tensor) else Tensor(result)
        if type(made._storage.held) is Value or whole:
            places.append(len(outputs))
            outputs.append(recorder.operand(made))
            unfinished.append(made._leaf or (made._record is not None and not made._record.released))
        else:
            places.append(made)
    effects = [e for e in recorder.grads.values() if e.now is not e.before]
    kept = [e for e in effects if e.now is not None and (e.read or keep_grads)]
    argument_grads = [k for k, x in enumerate(stand_ins) if x._grad is not None]
    outputs += [recorder.read(e.now._storage) for e in kept]
    outputs += [recorder.read(stand_ins[k]._grad._storage) for k in argument_grads]
    graph.set_outputs(outputs)
    states = list(recorder.states.values())
    updated = [k for k, s in enumerate(states) if s.latest is not s.value]
    for k in updated:
        graph.update(states[k].value, states[k].latest)
    of_gradients = {
        id(e.before._storage): e.tensor for e in recorder.grads.values() if isinstance(e.before, Tensor)
    }
    host = [value for _, value in recorder.host]
    graph.inputs = [v for v in graph.inputs if v not in host] + host
    return Traced(
        graph=graph,
        storages=[s.storage for s in states],
        updated=updated,
        host=[read for read, _ in recorder.host],
        statics=recorder.statics,
        kept=[e.tensor for e in kept],
        argument_grads=argument_grads,
        dropped=[e.tensor for e in effects if e.now is not None and not (e.read or keep_grads)],
        cleared=[
            e.tensor for e in recorder.grads.values() if e.now is None and not (e.read and e.before is None)
        ],
        grad_states={
            k: of_gradients[id(s.storage)] for k, s in enumerate(states) if id(s.storage) in of_gradients
        },
        grad_presence=[(e.tensor, e.before is not None) for e in recorder.grads.values() if e.read],
        leaves=list(recorder.leaves.values()),
        result=shape,
        results=places,
        unfinished=unfinished,
    )


def _argument_names(function: Callable[..., Any], args: Sequence[Any], leaves: Sequence[Any]) -> list[str]:
    """Names of inputs: the parameters' where each takes one tensor, else `x`, or `x0`, `x1`, ..."""
    target = getattr(function, "forward", function)
    code = getattr(getattr(target, "__func__", target), "__code__", None)
    if code is not None and len(args) == len(leaves):
        names = [n for n in code.co_varnames[: code.co_argcount] if n != "self"]
        if len(names) >= len(leaves):
            return names[: len(leaves)]
    return ["x"] if len(leaves) == 1 else [f"x{k}" for k in range(len(leaves))]


@dataclass(eq=False)
class Body:
    """The recorded body of a loop or branch: inputs are the given ones, then what it captures."""

    graph: Graph
    captured: list[Tensor]
    results: list[Tensor]
    shape: Any


def trace_body(function: Callable[..., Any], types: Sequence[TensorType], name: str = "body") -> Body:
    """Record the body of a loop or branch inside of the trace that is going on."""
    outer = mode.trace
    assert isinstance(outer, Trace)
    inner = Trace(Graph(name), outer)
    operands = [Tensor._holding(inner.graph.input(t, f"{name}{k}")) for k, t in enumerate(types)]
    with set_grad_enabled(False), recording(inner):
        leaves: list[Any] = []
        shape = flatten(function(*operands), leaves)
        results = [x if isinstance(x, Tensor) else Tensor(x) for x in leaves]
        inner.graph.set_outputs([inner.operand(x) for x in results])
    captured = [tensor for tensor, _, own in inner.captured.values() if own.source == "input"]
    return Body(inner.graph, captured, results, shape)
