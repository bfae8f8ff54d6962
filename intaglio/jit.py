"""`jit`: a Python function becomes a compiled program at its first call, one per signature.

What the program depends on besides its arguments is guarded: Tensors are read from their memory at each
call; plain Python values that the function can see (closure, globals, attributes of its modules) are
remembered, and a change leads to a new recording, never to a stale answer.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import update_wrapper
from typing import TYPE_CHECKING, Any

import numpy as np

from intaglio.array.tensor import Tensor, derivatives, enable_grad, mode
from intaglio.array.trace import Traced, flatten, trace
from intaglio.shared.errors import ArgumentError
from intaglio.shared.where import caller

if TYPE_CHECKING:
    from intaglio.compiled import Compiled

PLAIN = (int, float, str, bool, bytes, type(None))
MAX_DEPTH = 4


class _Program:
    """A recorded and compiled function with the tensors it works on."""

    def __init__(self, traced: Traced, compiled: Compiled) -> None:
        self.traced = traced
        self.compiled = compiled
        self.bound: list[Any] = [None] * len(traced.states)
        self.host = [np.zeros(()) for _ in traced.host]

    def holds(self) -> bool:
        """Whether everything that decided what was recorded is still the same."""
        return all(read() == value for read, value in self.traced.guards)

    def __call__(self, arrays: list[Any]) -> Any:
        for position, x in enumerate(self.traced.states):
            array = x._array
            if array is not self.bound[position]:
                self.compiled.bind_state(position, array)  # type: ignore[arg-type]
                self.bound[position] = array
        for place, read in zip(self.host, self.traced.host, strict=True):
            place[...] = read()
        outputs = self.compiled.loaded.call(*arrays, *self.host)
        many = outputs if isinstance(outputs, tuple) else (outputs,)
        return self.traced.rebuild([Tensor._of(y) for y in many])


class Jitted:
    """A function that runs compiled. `compile(*args)` gives the program for arguments like these."""

    def __init__(self, function: Callable[..., Any], settings: dict[str, Any]) -> None:
        update_wrapper(self, function)
        self.function = function
        self.settings = settings
        self.programs: dict[Any, _Program] = {}
        self.seen = Seen(function)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if mode.trace is not None:
            return self.function(*args, **kwargs)
        leaves: list[Any] = []
        tree = None if not kwargs and _all_arrays(args, leaves) else flatten((args, kwargs), leaves)
        arrays = [x._array if isinstance(x, Tensor) else x for x in leaves]
        try:
            key = (*((a.shape, a.dtype) for a in arrays), _hashable(tree))
            program = self.programs.get(key)
        except (AttributeError, TypeError):
            raise ArgumentError(
                f"{self.function.__name__}: arguments must be tensors, arrays or plain values", where=caller()
            ) from None
        if program is not None and not program.holds():
            program = None
            del self.programs[key]
        if program is None or not self.seen.unchanged():
            if not self.seen.same():
                self.programs.clear()
            program = self.programs[key] = self.programs.get(key) or self._build(args, kwargs)
        return program(arrays)

    def _build(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Program:
        from intaglio.compile import compile_graph  # half of the package: only who compiles waits for it

        traced = trace(self.function, args, kwargs)
        return _Program(traced, compile_graph(traced.graph, **self.settings))

    def compile(self, *args: Any, **settings: Any) -> Compiled:
        """A program of its own for arguments like these, for export; its states start from the tensors'
        present content. `settings` are those of `compile_graph`."""
        from intaglio.compile import compile_graph

        return compile_graph(trace(self.function, args).graph, **{**self.settings, **settings})


def jit(function: Callable[..., Any] | None = None, **settings: Any) -> Any:
    """Compile a function over Tensors; also a decorator, with settings of `compile_graph` or without.

    Tensors that the function touches besides its arguments - parameters, optimiser state, running
    statistics, the random counter - become state of the program, changed in place. Plain Python values
    among the arguments select a program of their own.
    """
    if function is None:
        return lambda f: Jitted(f, settings)
    return Jitted(function, settings)


def _hashable(tree: Any) -> Any:
    if isinstance(tree, dict):
        return tuple((k, _hashable(v)) for k, v in tree.items())
    if isinstance(tree, (list, tuple)):
        return (type(tree), *map(_hashable, tree))
    return tree


def _all_arrays(args: tuple[Any, ...], leaves: list[Any]) -> bool:
    """The usual call: tensors and arrays only; they are put into `leaves`."""
    if all(isinstance(x, (Tensor, np.ndarray)) for x in args):
        leaves.extend(args)
        return True
    return False


class Seen:
    """The plain Python values and the identities of tensors that a function can see.

    The usual question, whether all is as it was, is answered by identities alone: those of closure cells and
    globals, and the count of changes of module attributes.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.cells: list[tuple[Any, Any]] = []
        self.globals: list[tuple[dict[str, Any], str, Any]] = []
        self.mutable = False
        self.changes = -1
        self.remembered: tuple[Any, ...] = ()

    def unchanged(self) -> bool:
        """Whether nothing can have changed, cheaply."""
        if self.mutable or self.changes != mode.changes:
            return False
        return all(cell.cell_contents is value for cell, value in self.cells) and all(
            space.get(name) is value for space, name, value in self.globals
        )

    def same(self) -> bool:
        """Whether everything is as it was when last asked; remembers how it is now."""
        self.cells, self.globals, self.mutable, self.changes = [], [], False, mode.changes
        now = self.snapshot()
        before, self.remembered = self.remembered, now
        return before == now

    def snapshot(self) -> tuple[Any, ...]:
        found: list[Any] = []
        self._value(self.function, found, set(), 0)
        return tuple(found)

    def _value(self, value: Any, found: list[Any], visited: set[int], depth: int) -> None:
        if isinstance(value, PLAIN):
            found.append(value)
        elif isinstance(value, Tensor):
            found.append(id(value))
        elif isinstance(value, np.ndarray):
            self.mutable = True
            found.append((id(value), value.tobytes()))
        elif id(value) in visited or depth > MAX_DEPTH:
            return
        elif hasattr(value, "_parameters") and hasattr(value, "modules"):
            visited.add(id(value))
            self._module(value, found)
        elif isinstance(value, (list, tuple)):
            self.mutable = self.mutable or isinstance(value, list)
            visited.add(id(value))
            for item in value:
                self._value(item, found, visited, depth + 1)
        elif isinstance(value, dict):
            self.mutable = True
            visited.add(id(value))
            for item in value.values():
                self._value(item, found, visited, depth + 1)
        elif isinstance(value, types.MethodType):
            self._value(value.__self__, found, visited, depth)
            self._value(value.__func__, found, visited, depth)
        elif isinstance(value, types.FunctionType) and not value.__module__.startswith("intaglio."):
            visited.add(id(value))
            self._function(value, found, visited, depth)

    def _module(self, module: Any, found: list[Any]) -> None:
        for part in module.modules():
            found.extend(v for v in vars(part).values() if isinstance(v, (*PLAIN, tuple)))
            found.extend(id(p) for p in part._parameters.values())
            found.extend(id(b) for b in part._buffers.values())

    def _function(
        self, function: types.FunctionType, found: list[Any], visited: set[int], depth: int
    ) -> None:
        found.append(id(function.__code__))
        for cell in function.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:  # a name that is not assigned yet
                continue
            self.cells.append((cell, value))
            self._value(value, found, visited, depth + 1)
        for name in function.__code__.co_names:
            if name in function.__globals__:
                value = function.__globals__[name]
                self.globals.append((function.__globals__, name, value))
                self._value(value, found, visited, depth + 1)


def grad(function: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function that gives the derivative of `function` (to one number) by some of its arguments."""
    both = value_and_grad(function, argnums)
    return lambda *args, **kwargs: both(*args, **kwargs)[1]


def value_and_grad(function: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function that gives the value of `function` and its derivative by some of its arguments, each a
    tensor or nested tuples, lists and dicts of them. Derivatives can be differentiated again."""
    positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def both(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        from intaglio.array.trace import unflatten

        changed = list(args)
        wanted, trees = [], []
        for position in positions:
            leaves: list[Any] = []
            tree = flatten(args[position], leaves)
            own = [_differentiable(x) for x in leaves]
            changed[position] = unflatten(tree, own)
            wanted.append(own)
            trees.append(tree)
        with enable_grad():
            value = function(*changed, **kwargs)
            if not isinstance(value, Tensor) or value.numel() != 1:
                raise ArgumentError("grad: the function must give one number", where=caller())
            _, found = derivatives(value, None, [x for own in wanted for x in own], create_graph=True)
        results = [
            unflatten(tree, [found.get(id(x), x * 0) for x in own])
            for tree, own in zip(trees, wanted, strict=True)
        ]
        return value, results[0] if isinstance(argnums, int) else tuple(results)

    return both


def _differentiable(x: Any) -> Tensor:
    """A tensor that derivatives can be asked of, connected to where it came from."""
    x = x if isinstance(x, Tensor) else Tensor(x)
    if x.requires_grad:
        return x
    alias = x.detach()
    alias._leaf = True
    return alias
