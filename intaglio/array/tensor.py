"""`Tensor`: eager over NumPy, with PyTorch's names and semantics, and a stand-in while a program is traced.

A Tensor looks at a storage, which holds an array or a value of the graph being recorded. Only `detach()` and
`.data` share a storage: all other results are values of their own, also where PyTorch gives views. Applying
an operator runs its NumPy oracle or appends to the graph; a record is kept when derivatives may be asked for.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from intaglio.array import tape
from intaglio.array.convert import as_native
from intaglio.array.host import Host
from intaglio.array.indexing import get_item, set_item
from intaglio.array.mode import (
    enable_grad,
    is_grad_enabled,
    mode,
    no_grad,
    note_change,
    set_grad_enabled,
)
from intaglio.array.storage import UNAVAILABLE, Array, Storage
from intaglio.graph.ir import Value
from intaglio.ops.compositions import basic
from intaglio.ops.dispatch import evaluate
from intaglio.ops.registry import Op
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import ArgumentError, DTypeError, ShapeError, TraceError
from intaglio.shared.types import TensorType
from intaglio.shared.where import caller


class Tensor(Host):
    """A tensor. `requires_grad` asks for derivatives, which `backward()` adds to `grad`.

    Args:
        data: numbers, nested lists, an array or a Tensor; an array of a supported type is not copied.
        dtype: a DType, its name, or a NumPy dtype; Python floats become f32.
    """

    __slots__ = ("__weakref__", "_grad", "_leaf", "_origin", "_position", "_record", "_storage")

    _storage: Storage
    _grad: Any
    _leaf: bool
    _record: tape.Record | None

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None) -> None:
        array = as_native(data.numpy() if isinstance(data, Tensor) else data, dtype)
        self._hold(_storage_of(array, shared=True))
        if requires_grad:
            self.requires_grad_()

    def _hold(self, storage: Storage) -> None:
        self._storage = storage
        self._record = None
        self._position = 0
        self._leaf = False
        self._grad = None
        self._origin: Tensor | None = None

    @staticmethod
    def _holding(held: Array | Value) -> Tensor:
        """A Tensor that holds an array or a graph value as it is."""
        made = Tensor.__new__(Tensor)
        made._hold(Storage(held))
        return made

    # What it is

    @property
    def type(self) -> TensorType:  # type: ignore[override]
        """Element type and shape."""
        return self._storage.type

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return self._storage.type.dtype

    @property
    def shape(self) -> tuple[Any, ...]:  # type: ignore[override]
        return self._storage.held.shape

    @property
    def is_traced(self) -> bool:  # type: ignore[override]
        """Whether its elements are only known when the program that is being recorded runs."""
        held = self._storage.held
        return held.data is None if type(held) is Value else mode.trace is not None

    def numpy(self) -> Array:
        """The elements as an array, which shares the tensor's memory.

        Raises:
            TraceError: the tensor is traced, so that it has no elements yet.
        """
        held = self._storage.held
        if mode.trace is None and type(held) is not Value:
            return self._storage.expose()
        if type(held) is Value and held.data is not None:
            return held.data
        if mode.trace is None:
            raise tape.leaked(self.type)
        raise TraceError(
            f"the elements of this {self.type} are not known while the function is traced",
            where=caller(),
            hint="decide with where(), cond() or while_loop(), or do this outside of the traced function",
        )

    def __reduce__(self) -> Any:
        return _restored, (type(self), self.numpy(), self._leaf)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if self._record is not None:
            raise ArgumentError(
                "only leaves can be deep-copied", where=caller(), hint="use x.detach().clone()"
            )
        made = object.__new__(type(self))
        made._hold(_storage_of(self.numpy().copy()))
        made._leaf = self._leaf
        memo[id(self)] = made
        return made

    # Operators

    def __intaglio_apply__(self, op: Op, operands: Sequence[Any], attrs: dict[str, Any]) -> Any:
        tensors = [x if isinstance(x, Tensor) else lifted(x) for x in operands]
        held, outputs = (
            _evaluated(op, tensors, attrs) if mode.trace is None else _recorded(op, tensors, attrs)
        )
        if mode.grad and any(x._leaf or x._record is not None for x in tensors) and op.name != "detach":
            record = tape.Record(op, tensors, attrs, held)
            for position, y in enumerate(outputs):
                if y.dtype.is_float:
                    y._record, y._position = record, position
        return outputs if len(outputs) > 1 else outputs[0]

    def __intaglio_lift__(self, value: Any, dtype: DType | None) -> Tensor:
        return lifted(value, dtype)

    # Derivatives

    @property
    def requires_grad(self) -> bool:
        return self._leaf or self._record is not None

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        self.requires_grad_(wanted)

    @property
    def is_leaf(self) -> bool:
        """Whether it was not computed from something that requires gradients."""
        return self._record is None

    def requires_grad_(self, wanted: bool = True) -> Tensor:
        """Ask for derivatives. Raises DTypeError for elements that are not floats."""
        if wanted and not self.dtype.is_float:
            raise DTypeError(f"{self.type} cannot require gradients: only floats have them", where=caller())
        if not wanted and self._record is not None:
            raise ArgumentError(
                "only leaves can stop requiring gradients", hint="use x.detach()", where=caller()
            )
        if self._record is None and self._leaf != wanted:
            self._leaf = bool(wanted)
            note_change()
        return self

    @property
    def grad(self) -> Any:
        """The derivative that `backward()` added up, or None."""
        if mode.trace is not None:
            return mode.trace.read_grad(self)
        if self._grad is UNAVAILABLE:
            raise ArgumentError(
                f"the gradient of this {self.type} was made inside of a compiled function, which clears "
                "gradients itself and does not keep them",
                where=caller(),
                hint="compile it with jit(function, keep_grads=True)",
            )
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None and (not isinstance(value, Tensor) or value.type != self.type):
            shown = value.type if isinstance(value, Tensor) else type(value).__name__
            raise ArgumentError(f"grad of {self.type} cannot be a {shown}", where=caller())
        if mode.trace is not None:
            mode.trace.write_grad(self, value)
        else:
            self._grad = value

    def retain_grad(self) -> None:
        """Let `backward()` set `grad` here too, where the tensor was computed."""
        if self._record is not None:
            self._record.retained = {**(self._record.retained or {}), self._position: weakref.ref(self)}

    def backward(
        self, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False
    ) -> None:
        """Add the derivative of this tensor to `grad` of every leaf it was computed from.

        Args:
            gradient: weight of each element; may be left out for one element.
            retain_graph: keep what is needed to call it again; default `create_graph`.
            create_graph: let the gradients be differentiated again.

        Raises:
            ArgumentError: nothing requires gradients, or the graph was freed by an earlier call.
            ShapeError: the gradient's shape is not the tensor's.
        """
        if not self.requires_grad:
            raise tape.no_derivative(self.type)
        pairs = tape.derivatives(
            [self],
            [seed_of(self, gradient)],
            None,
            create_graph=create_graph,
            retain_graph=create_graph if retain_graph is None else retain_graph,
        )
        with set_grad_enabled(create_graph):
            for tensor, derivative in pairs:
                _accumulate(tensor, derivative, create_graph)

    def detach(self) -> Tensor:
        """The same memory without derivatives: changing one in place changes the other."""
        made = Tensor.__new__(Tensor)
        made._hold(self._storage)
        return made

    def detach_(self) -> Tensor:
        """Cut off from what it was computed from."""
        self._record, self._leaf = None, False
        return self

    @property
    def data(self) -> Tensor:
        """The same memory without derivatives, as `detach()` gives it."""
        return self.detach()

    @data.setter
    def data(self, value: Any) -> None:
        given = value if isinstance(value, Tensor) else Tensor(value)
        if given.type == self.type:
            write(self._storage, given)
        elif mode.trace is None:
            self._storage.replace(given._storage.share())
        else:
            raise TraceError(f"{self.type} becomes {given.type} in a traced function", where=caller())

    # Changes in place

    def _in_place(self, value: Any) -> Tensor:
        """Become a computed value, which is converted and broadcast to this tensor's type."""
        if mode.grad and self._leaf:
            raise ArgumentError(
                f"a leaf {self.type} that requires gradients is changed in place",
                where=caller(),
                hint="change it inside `with no_grad():`",
            )
        given = value if isinstance(value, Tensor) else lifted(value)
        if given.dtype != self.dtype:
            given = basic.convert(given, self.dtype)
        if given.shape != self.shape:
            given = basic.expand(given, self.shape)
        write(self._storage, given)
        if mode.grad:
            self._record, self._position, self._leaf = given._record, given._position, False
            if given._leaf:
                raised = given.clone()
                self._record, self._position = raised._record, raised._position
        return self

    def __getitem__(self, index: Any) -> Any:
        return get_item(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._in_place(set_item(self, index, value))


def _evaluated(
    op: Op, tensors: Sequence[Tensor], attrs: dict[str, Any]
) -> tuple[tuple[Any, ...], tuple[Tensor, ...]]:
    """The results of an operator on arrays. Those that look at an operand's memory are marked as shared."""
    storages = [x._storage for x in tensors]
    arrays: list[Any] = [s.held for s in storages]
    for storage in storages:
        if type(storage.held) is Value:
            raise tape.leaked(storage.type)
    results = evaluate(op, arrays, attrs)
    held = [_apart(array, storages) for array in (results if isinstance(results, tuple) else (results,))]
    outputs = tuple(map(Tensor._holding, held))
    for made in outputs:
        made._storage.shared = any(_may_share(made._storage.held, a) for a in arrays)
    return tuple(held), outputs


def _apart(array: Array, storages: Sequence[Storage]) -> Array:
    """A result; a copy when it looks at memory that was handed out. Operands it looks at are marked."""
    for storage in storages:
        if _may_share(array, storage.held):
            if storage.exposed:
                return array.copy()
            storage.shared = True
    return array


def _may_share(a: Any, b: Any) -> bool:
    base = a.base
    return a is b or (base is not None and (base is b or base is b.base))


def _recorded(
    op: Op, tensors: Sequence[Tensor], attrs: dict[str, Any]
) -> tuple[tuple[Any, ...], tuple[Tensor, ...]]:
    """The results of an operator appended to the program that is being recorded."""
    trace = mode.trace
    assert trace is not None
    values = trace.append(op, [trace.operand(x) for x in tensors], attrs)
    return values, tuple(map(Tensor._holding, values))


def _accumulate(tensor: Tensor, derivative: Tensor, create_graph: bool) -> None:
    held = tensor.grad
    if held is None:
        made = derivative.detach() if not create_graph else derivative
        tensor.grad = made if create_graph else _alone(made)
    elif create_graph:
        tensor.grad = held + derivative
    else:
        write(held._storage, held + derivative)


def _alone(x: Tensor) -> Tensor:
    """A Tensor with a storage of its own."""
    storage = x._storage
    if type(storage.held) is Value:
        return Tensor._holding(storage.held)
    made = Tensor._holding(storage.share())
    made._storage.shared = storage.shared
    return made


def write(storage: Storage, value: Tensor) -> None:
    """Let a storage hold a value of the same type; every tensor that looks at it sees that."""
    if mode.trace is not None:
        mode.trace.write(storage, mode.trace.operand(value))
    elif type(value._storage.held) is Value:
        raise tape.leaked(value.type)
    else:
        storage.write(value._storage)


def seed_of(result: Tensor, gradient: Any) -> Tensor:
    """The weight of a result's elements: ones for a single one, else the given gradient."""
    if gradient is None:
        if result.numel() != 1:
            hint = "reduce it to one number first, as with .sum()"
            raise ShapeError(
                f"backward: {result.type} needs a gradient of its shape", where=caller(), hint=hint
            )
        ones: Tensor = basic.expand(lifted(1, result.dtype), result.shape)
        return ones
    seed = gradient if isinstance(gradient, Tensor) else lifted(gradient, result.dtype)
    if seed.type != result.type:
        raise ShapeError(f"backward: the gradient is {seed.type}, the result {result.type}", where=caller())
    return seed


def _restored(kind: type[Tensor], array: Array, leaf: bool) -> Tensor:
    made = object.__new__(kind)
    made._hold(_storage_of(array))
    made._leaf = leaf
    return made


def _storage_of(array: Array, *, shared: bool = False) -> Storage:
    """A storage for an array. While tracing it is a constant of the program, unless the function found the
    array outside of itself: then it is read at each call."""
    if mode.trace is not None:
        return mode.trace.arrays.get(id(array)) or Storage(mode.trace.constant(array))
    made = Storage(array)
    made.shared = shared
    return made


def lifted(value: Any, dtype: DType | None = None) -> Tensor:
    """A number or array met by an operator as a Tensor; an array keeps its memory."""
    return Tensor(value, dtype=dtype)


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor of a copy of `data`: numbers, nested lists, an array, or a Tensor."""
    if isinstance(data, Tensor):
        made: Tensor = data.detach().clone()
        made = made if dtype is None else made.to(dtype)
    else:
        made = Tensor.__new__(Tensor)
        array = as_native(data, dtype)
        made._hold(_storage_of(array if mode.trace is not None else np.array(array, order="C")))
    return made.requires_grad_(requires_grad)


def from_numpy(array: Array) -> Tensor:
    """A Tensor that shares the memory of an array of a supported type in native byte order."""
    made = Tensor.__new__(Tensor)
    made._hold(_storage_of(as_native(array)))
    made._storage.exposed = True
    return made


__all__ = [
    "UNAVAILABLE", "Array", "Storage", "Tensor", "as_native", "enable_grad", "from_numpy", "is_grad_enabled",
    "lifted", "mode", "no_grad", "note_change", "seed_of", "set_grad_enabled", "tensor", "write",
]  # fmt: skip
