"""`jit`: a Python function becomes a compiled program at its first call, one per signature.

What a program depends on besides its arguments is either read at each call (Tensors and arrays that the
function touches, host scalars) or guarded (plain Python values that it can see, settings of modules): when
that changes the function is recorded anew, so that an answer is never stale.
"""

from __future__ import annotations

import threading
import types
from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from intaglio.array import tape
from intaglio.array.guards import PLAIN, Guards
from intaglio.array.mode import changes, mode
from intaglio.array.storage import Array, Owner, Storage
from intaglio.array.tensor import UNAVAILABLE, Tensor, as_native
from intaglio.array.trace import Traced, trace
from intaglio.array.tree import Leaf, flatten, hashable
from intaglio.graph.eval import evaluate
from intaglio.graph.ir import Graph, Value
from intaglio.shared.errors import ArgumentError, TraceError
from intaglio.shared.settings import debug
from intaglio.shared.types import TensorType
from intaglio.shared.where import caller

if TYPE_CHECKING:
    from intaglio.compiled import Compiled

Backend = Literal["native", "interpret"]
MAX_VARIANTS = 16


class _Interpreted:
    """A graph run by NumPy, with the interface of a loaded program."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.states = [np.array(value.data) for value in graph.states]

    def bind_state(self, position: int, array: Array) -> None:
        self.states[position] = array

    def call(self, *arrays: Array) -> Any:
        outputs, states = evaluate(self.graph, [np.array(a) for a in arrays], [s.copy() for s in self.states])
        for held, new in zip(self.states, states, strict=True):
            held[...] = new
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


class _Program:
    """A recorded and compiled function, with the tensors it works on and the guards it rests on."""

    def __init__(self, traced: Traced, guards: Guards, loaded: Any, arguments: Sequence[Any]) -> None:
        self.traced = traced
        self.guards = guards
        self.call: Callable[..., Any] = loaded.call
        self.loaded = loaded
        self.arguments = [_described(a) for a in arguments]
        self.seen = changes.count
        self.reads, self.writes = Owner(), Owner()
        self.bound: list[Array] = []
        self.mirrored: list[tuple[Storage, Array, bool]] = []
        self.host = [(np.zeros((), np.float64), read) for read in traced.host]
        self.plain_result = isinstance(traced.result, Leaf) and isinstance(traced.results[0], int)
        self.counted = len(traced.unfinished)
        for position in range(len(traced.storages)):
            self.bound.append(self._bind(position))
        self.call = self.loaded.call

    def _bind(self, position: int) -> Array:
        """Let a state live in the memory of its storage."""
        storage = self.traced.storages[position]
        written = position in self.traced.updated
        held = storage.held
        assert isinstance(held, np.ndarray)
        usable = held.flags.c_contiguous and held.flags.aligned and held.flags.writeable
        if storage.exposed and not usable:
            memory = _aligned_copy(held)
            self.mirrored.append((storage, memory, written))
        elif storage.exposed:
            memory = held
        else:
            memory = storage.held = _aligned_copy(held)
            storage.exposed, storage.shared = True, False
        owner = self.writes if written else self.reads
        if owner not in storage.owners:
            storage.owners += (owner,)
        self.loaded.bind_state(position, memory)
        assert isinstance(storage.held, np.ndarray)
        return storage.held

    def is_current(self) -> bool:
        """Whether everything the program rests on is as it was when it was recorded."""
        if changes.count != self.seen:
            if any(x._leaf is not was for x, was in self.traced.leaves) or self.guards.changed(settled=True):
                return False
            self.seen = changes.count
        for read, value in self.traced.statics:
            if read() != value:
                return False
        for tensor, present in self.traced.grad_presence:
            if (tensor._grad is not None) is not present:
                return False
        if self.guards.places and self.guards.changed() is not None:
            return False
        return not (self.reads.stale or self.writes.stale or self.traced.grad_states) or self._rebind()

    def _rebind(self) -> bool:
        """Follow storages that moved; False when one has another type now."""
        for position, tensor in self.traced.grad_states.items():
            if tensor._grad is UNAVAILABLE:
                return False
            self.traced.storages[position] = tensor._grad._storage
        for position, storage in enumerate(self.traced.storages):
            if storage.type != self.traced.graph.states[position].type:
                return False
            if storage.held is not self.bound[position]:
                self.mirrored = [m for m in self.mirrored if m[0] is not storage]
                self.bound[position] = self._bind(position)
        self.reads.stale = self.writes.stale = False
        return True

    def fits(self, args: tuple[Any, ...]) -> bool:
        """Whether the arguments are like the recorded ones."""
        if len(args) != len(self.arguments):
            return False
        for given, (shape, dtype, value) in zip(args, self.arguments, strict=True):
            if dtype is None:
                if given is not value and (type(given) is not type(value) or given != value):
                    return False
                continue
            held = given if type(given) is np.ndarray else _held(given)
            if held is None or held.shape != shape or (held.dtype is not dtype and held.dtype != dtype):
                return False
        return True

    def run(self, leaves: Sequence[Any]) -> Any:
        """Call it with the tensors and arrays among the arguments."""
        arrays = [x if type(x) is np.ndarray else _held(x) for x in leaves]
        for cell, read in self.host:
            cell[()] = read()
            arrays.append(cell)
        for storage, memory, _ in self.mirrored:
            memory[...] = storage.held
        outputs = self.call(*arrays)
        self.writes.calls += 1
        for storage, memory, written in self.mirrored:
            if written:
                np.copyto(storage.held, memory)  # type: ignore[arg-type]
        made = [Tensor._holding(a) for a in (outputs if type(outputs) is tuple else (outputs,))]
        traced = self.traced
        if mode.grad:
            for y, unfinished in zip(made, traced.unfinished, strict=False):
                if unfinished and y.dtype.is_float:
                    y._record = tape.OPAQUE
        if len(made) > self.counted:
            self._set_gradients(made[self.counted :], leaves)
        for tensor in traced.dropped:
            tensor._grad = UNAVAILABLE
        for tensor in traced.cleared:
            tensor._grad = None
        return made[0] if self.plain_result else traced.rebuild(made)

    def _set_gradients(self, gradients: list[Tensor], leaves: Sequence[Any]) -> None:
        kept = self.traced.kept
        for tensor, gradient in zip(kept, gradients, strict=False):
            tensor._grad = gradient
        for position, gradient in zip(self.traced.argument_grads, gradients[len(kept) :], strict=True):
            argument = leaves[position]
            if isinstance(argument, Tensor):
                argument.grad = gradient if argument.grad is None else argument.grad + gradient


def _aligned_copy(array: Array) -> Array:
    """A copy in row-major order that starts on a cache line."""
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy: Array = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _held(value: Any) -> Any:
    return value._storage.held if isinstance(value, Tensor) else None


def _described(argument: Any) -> tuple[Any, Any, Any]:
    """Shape and NumPy type of a tensor or array; else no type, and the value."""
    held = argument if type(argument) is np.ndarray else _held(argument)
    return (None, None, argument) if held is None else (held.shape, held.dtype, None)


class Jitted:
    """A function that runs compiled. `compile(*args)` gives the program for arguments like these."""

    __name__: str

    def __init__(
        self, function: Callable[..., Any], backend: Backend, keep_grads: bool, settings: dict[str, Any]
    ) -> None:
        if backend not in ("native", "interpret"):
            raise ArgumentError(f"jit: backend {backend!r} is neither 'native' nor 'interpret'")
        update_wrapper(self, function)
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self.function = function
        self.backend = backend
        self.keep_grads = keep_grads
        self.settings = settings
        self.programs: dict[Any, list[_Program]] = {}
        self.recordings = 0
        self._last: _Program | None = None
        self._lock = threading.RLock()

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if mode.trace is not None:
            return self.function(*args, **kwargs)
        last = self._last
        if last is not None and not kwargs and last.fits(args) and last.is_current():
            return last.run([a for a in args if isinstance(a, (np.ndarray, Tensor))])
        return self._find(args, kwargs)

    def _find(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the program for a signature; record and compile it when there is none that is current."""
        leaves: list[Any] = []
        tree = flatten((args, kwargs), leaves)
        for k, x in enumerate(leaves):
            if not isinstance(x, Tensor):
                leaves[k] = as_native(x)
            elif type(x._storage.held) is Value:
                raise tape.leaked(x.type)
        key = tuple(map(_signature, leaves)), hashable(tree)
        with self._lock:
            variants = self.programs.setdefault(key, [])
            program = next((p for p in variants if p.is_current()), None)
            if program is None:
                program = self._record(args, kwargs)
                variants.insert(0, program)
                del variants[MAX_VARIANTS:]
        flat = not kwargs and all(isinstance(a, (Tensor, np.ndarray, *PLAIN)) for a in args)
        self._last = program if flat else None
        return program.run(leaves)

    def _record(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Program:
        self.recordings += 1
        traced, guards = self._traced(args, kwargs, whole=False)
        debug(1, f"jit: {self.__name__} recorded, {len(traced.graph.nodes)} operators ({self.recordings})")
        if self.backend == "interpret":
            loaded: Any = _Interpreted(traced.graph)
        else:
            from intaglio.compile import compile_graph  # half of the package: who compiles waits for it

            loaded = compile_graph(traced.graph, **self.settings).loaded
        return _Program(traced, guards, loaded, args)

    def _traced(self, args: tuple[Any, ...], kwargs: dict[str, Any], whole: bool) -> tuple[Traced, Guards]:
        guards = Guards(self.function, (*args, *kwargs.values()))
        traced = trace(
            self.function,
            args,
            kwargs,
            whole=whole,
            keep_grads=self.keep_grads,
            arrays=guards.arrays,
        )
        changed = guards.changed() or guards.changed(settled=True)
        if changed is not None:
            raise TraceError(
                f"{self.__name__} changes {changed} while it is traced: the compiled program would not do so",
                where=caller(),
                hint="keep what changes from call to call in a Tensor and change it in place",
            )
        return traced, guards

    def graph(self, *args: Any, **kwargs: Any) -> Graph:
        """The graph for arguments like these, before any pass."""
        return self._traced(args, kwargs, whole=True)[0].graph

    def compile(self, *args: Any, **settings: Any) -> Compiled:
        """A program of its own for arguments like these, for export.

        The tensors that the function touches are its state, which starts from their present content.
        `settings` are those of `compile_graph`.
        """
        from intaglio.compile import compile_graph

        return compile_graph(self.graph(*args), **{**self.settings, **settings})


def _signature(leaf: Any) -> tuple[TensorType | tuple[Any, ...], bool]:
    if isinstance(leaf, Tensor):
        return leaf.type, leaf.requires_grad
    return (leaf.shape, leaf.dtype.str), False


def jit(
    function: Callable[..., Any] | None = None,
    *,
    backend: Backend = "native",
    keep_grads: bool = False,
    **settings: Any,
) -> Any:
    """Compile a function over Tensors; a decorator, with or without settings.

    The function is recorded once per shapes and types of its tensors and arrays and values of its other
    arguments. Tensors that it touches besides - parameters, optimiser state, running statistics, the random
    counter - are read and changed in place. Gradients that it leaves in `grad` stay there, except where it
    clears them itself before it makes them, as a whole training step does: reading those is an error.

    Args:
        backend: `native`, or `interpret` to run the recorded graph by NumPy.
        keep_grads: keep those gradients too.
        settings: of `compile_graph`, such as `threads`.

    Raises:
        TraceError: at a call, when what the function does depends on values only known when it runs.
    """
    if function is None:
        return lambda f: Jitted(f, backend, keep_grads, settings)
    return Jitted(function, backend, keep_grads, settings)
