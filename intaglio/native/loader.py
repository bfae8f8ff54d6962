"""From a shared library to something Python can call: through the extension module, or through ctypes.

Both loaders behave alike; the extension costs a fraction of a microsecond per call, ctypes tens of them.

Threads: a program without states may be called by many threads at once; each call has its own scratch
memory, and those that find the worker threads taken run on their own thread alone (the results do not
depend on it). Calls of a program with states wait for each other. After `fork` the child starts its own
worker threads at its first call.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from intaglio.native.call import (
    Array,
    CallSpec,
    Prepared,
    address,
    check_state,
    failed,
    memory_ranges,
    prepare,
    symbol_of,
    trimmed,
)
from intaglio.native.host_memory import aligned, aligned_copies, kept
from intaglio.native.names import sanitise
from intaglio.native.pyext import extension
from intaglio.shared.errors import ToolchainError
from intaglio.shared.types import TensorType

LoaderKind = Literal["extension", "ctypes"]
_NO_BOUND = 2**62


class LoadedProgram:
    """A program in memory: `call(*arrays)` runs it. One output is an array, several are a tuple.

    `states` are the arrays that the program keeps and overwrites; `loader` says how it is called.
    """

    def __init__(
        self, library: Path, spec: CallSpec, *, threads: int, loader: LoaderKind, entry: str
    ) -> None:
        self.spec = spec
        self.loader: LoaderKind = loader
        functions = _Functions(library, spec, entry)
        states, constants = aligned_copies(spec.states), kept(spec.constants)
        make = _extension_caller if loader == "extension" else _CtypesCaller
        self._caller: Any = make(spec, functions, states, constants, threads)
        self.call: Callable[..., Any] = self._trimmed if spec.sizes else self._caller.call

    @property
    def states(self) -> tuple[Array, ...]:
        states: tuple[Array, ...] = self._caller.states
        return states

    def _trimmed(self, *arguments: Any) -> Any:
        """A call of a program that finds sizes: results have them when it is done."""
        return trimmed(self.spec, arguments, self._caller.call(*arguments))

    def bind_state(self, position: int, array: Array) -> None:
        """From now on a state lives in the memory of `array`, whose content becomes the state's.

        Raises ArgumentError, DTypeError or ShapeError when it cannot.
        """
        states = self.states
        check_state(self.spec, position, array, states[position] if position < len(states) else array)
        self._caller.bind_state(position, array)


def load(
    library: Path,
    spec: CallSpec,
    *,
    threads: int = 1,
    loader: LoaderKind | None = None,
    entry: str = "run",
) -> LoadedProgram:
    """Load a shared library built from an emitted program.

    `loader` is the extension module where it can be had, unless given. Raises ToolchainError when the
    file is no library, lacks the entry point, or the loader that was asked for is not available.
    """
    module, reason = extension() if loader != "ctypes" else (None, "")
    if loader == "extension" and module is None:
        raise ToolchainError(f"the extension module cannot be built: {reason}", hint="use loader='ctypes'")
    kind: LoaderKind = "ctypes" if module is None else "extension"
    return LoadedProgram(library, spec, threads=threads, loader=kind, entry=entry)


class _Functions:
    """The entry points of a library: `run`, and the pool's maker and destroyer when it has threads."""

    def __init__(self, library: Path, spec: CallSpec, entry: str) -> None:
        prefix = sanitise(spec.name)
        open_library = ctypes.CDLL if spec.releases_gil else ctypes.PyDLL
        try:
            self.library = open_library(str(library))
            self.run = getattr(self.library, f"{prefix}_{entry}")
        except (OSError, AttributeError) as error:
            raise ToolchainError(
                f"{library} cannot be loaded: {error}", hint="delete the file and compile again"
            ) from error
        self.run.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
        self.run.restype = ctypes.c_int
        self.pool_create = getattr(self.library, f"{prefix}_pool_create", None)
        self.pool_destroy = getattr(self.library, f"{prefix}_pool_destroy", None)
        if self.pool_create is not None and self.pool_destroy is not None:
            self.pool_create.argtypes, self.pool_create.restype = (ctypes.c_int,), ctypes.c_void_p
            self.pool_destroy.argtypes, self.pool_destroy.restype = (ctypes.c_void_p,), None


def _address(function: Any) -> int:
    return 0 if function is None else ctypes.cast(function, ctypes.c_void_p).value or 0


def _extension_caller(
    spec: CallSpec,
    functions: _Functions,
    states: Sequence[Array],
    constants: Sequence[Array],
    threads: int,
) -> Any:
    module, _ = extension()
    assert module is not None
    inputs = [_described(type_, spec) for _, type_ in spec.inputs]
    outputs = [_described(type_, spec) for _, type_ in spec.outputs]

    def prepare_tuples(arguments: tuple[Any, ...], kept: list[Array]) -> tuple[Any, Any, Any]:
        made = prepare(spec, arguments, memory_ranges(kept[: len(states)]))
        return made.inputs, made.outputs, made.symbols

    fast = None not in inputs and None not in outputs
    return module.Caller(
        run=_address(functions.run),
        pool_create=_address(functions.pool_create),
        pool_destroy=_address(functions.pool_destroy),
        inputs=tuple(inputs) if fast else _shapeless(spec.inputs),
        outputs=tuple(outputs) if fast else _shapeless(spec.outputs),
        states=tuple(states),
        constants=tuple(constants),
        symbols=tuple((s.lo, _NO_BOUND if s.hi is None else s.hi) for s in spec.symbols),
        prepare=prepare_tuples,
        new_arena=partial(aligned, max(spec.arena_bytes, 1)),
        fail=partial(failed, spec),
        threads=threads,
        fast_path=fast,
        releases_gil=spec.releases_gil,
    )


def _described(type_: TensorType, spec: CallSpec) -> tuple[Any, tuple[int, ...]] | None:
    """A type as the extension takes it, None when a dimension is neither a number nor just a symbol."""
    dims = []
    for dim in type_.shape:
        symbol = symbol_of(dim)
        if isinstance(dim, int):
            dims.append(dim)
        elif symbol in spec.symbols:
            dims.append(-1 - spec.symbols.index(symbol))
        else:
            return None
    return type_.dtype.numpy, tuple(dims)


def _shapeless(arguments: Sequence[tuple[str, TensorType]]) -> tuple[Any, ...]:
    """Descriptions that carry only how many arguments there are: `prepare` checks them all."""
    return tuple((type_.dtype.numpy, ()) for _, type_ in arguments)


class _CtypesCaller:
    """The same as the extension's Caller, in Python."""

    def __init__(
        self,
        spec: CallSpec,
        functions: _Functions,
        states: Sequence[Array],
        constants: Sequence[Array],
        threads: int,
    ) -> None:
        self._spec = spec
        self._functions = functions
        self._buffers = ctypes.c_void_p * (
            len(spec.inputs) + len(spec.outputs) + len(states) + len(constants) + 1
        )
        self._states = list(states)
        self._constants = list(constants)
        self._threads = threads
        self._idle: list[tuple[Array, int]] = []
        self._find_states()
        self.forget_threads()
        _ctypes_callers.add(self)

    def forget_threads(self) -> None:
        """In a child made by fork: only the calling thread lives there."""
        self._states_lock = threading.Lock()
        self._pool_lock = threading.Lock()
        self._pool: int | None = None
        self._pool_started = False

    @property
    def states(self) -> tuple[Array, ...]:
        return tuple(self._states)

    def bind_state(self, position: int, array: Array) -> None:
        with self._states_lock:
            self._states[position] = array
            self._find_states()

    def _find_states(self) -> None:
        self._written = memory_ranges(self._states)
        self._kept = [address(array) for array in (*self._states, *self._constants)]

    def call(self, *arguments: Any) -> Any:
        made = prepare(self._spec, arguments, self._written)
        if self._states:
            with self._states_lock:
                code = self._run(made)
        else:
            code = self._run(made)
        if code != 0:
            raise failed(self._spec, code)
        return made.outputs[0] if len(made.outputs) == 1 else made.outputs

    def _run(self, made: Prepared) -> int:
        try:
            arena = self._idle.pop()
        except IndexError:
            memory = aligned(max(self._spec.arena_bytes, 1))
            arena = memory, address(memory)
        own = [address(array) for array in (*made.inputs, *made.outputs)]
        buffers = self._buffers(*own, *self._kept, arena[1])
        symbols = (ctypes.c_int64 * max(len(made.symbols), 1))(*made.symbols)
        has_pool = self._pool_lock.acquire(blocking=False)
        try:
            code: int = self._functions.run(buffers, symbols, self._started_pool() if has_pool else None)
        finally:
            if has_pool:
                self._pool_lock.release()
            self._idle.append(arena)
        return code

    def _started_pool(self) -> int | None:
        if not self._pool_started:
            self._pool_started = True
            if self._threads > 1 and self._functions.pool_create is not None:
                self._pool = self._functions.pool_create(self._threads)
        return self._pool

    def __del__(self) -> None:
        if getattr(self, "_pool", None) and self._functions.pool_destroy is not None:
            self._functions.pool_destroy(self._pool)


_ctypes_callers: weakref.WeakSet[_CtypesCaller] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for caller in list(_ctypes_callers):
        caller.forget_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
