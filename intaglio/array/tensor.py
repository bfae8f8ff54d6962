"""`Tensor`: eager over NumPy, with PyTorch's names and semantics, and a stand-in while a program is traced.

A Tensor holds an array, or, made while tracing, a value of the graph being recorded. Applying an operator
runs its NumPy oracle or appends to the graph, and, when a derivative may be wanted, keeps a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from intaglio.array.methods import Methods
from intaglio.array.mode import (
    Array,
    Recorder,
    enable_grad,
    is_grad_enabled,
    mode,
    no_grad,
    note_change,
    set_grad_enabled,
)
from intaglio.array.tape import Record, accumulate, derivatives
from intaglio.graph.ir import Value
from intaglio.ops.dispatch import evaluate
from intaglio.ops.registry import Op
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import ArgumentError, DTypeError, ShapeError, TraceError
from intaglio.shared.regions import phase
from intaglio.shared.types import TensorType
from intaglio.shared.where import caller

__all__ = [
    "Array",
    "Tensor",
    "as_native",
    "derivatives",
    "enable_grad",
    "from_numpy",
    "is_grad_enabled",
    "mode",
    "no_grad",
    "note_change",
    "tensor",
]


class Tensor(Methods):
    """A tensor. `requires_grad` asks for derivatives, which `backward()` adds to `grad`."""

    __slots__ = (
        "__weakref__",
        "_alias",
        "_array",
        "_leaf",
        "_record",
        "_trace",
        "_value",
        "_version",
        "grad",
    )

    _array: Array | None
    grad: Any

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None) -> None:
        array = data.numpy() if isinstance(data, Tensor) else as_native(data, dtype)
        self._set(array, None, None)
        self.requires_grad_(requires_grad)

    def _set(self, array: Array | None, value: Value | None, trace: Recorder | None) -> None:
        self._array = array
        self._value = value
        self._trace = trace
        self._leaf = False
        self._record: Record | None = None
        self._version = 0
        self._alias: Tensor | None = None
        self.grad = None

    @staticmethod
    def _of(array: Array) -> Tensor:
        made = Tensor.__new__(Tensor)
        made._set(array, None, None)
        return made

    @staticmethod
    def _traced(value: Value, trace: Recorder) -> Tensor:
        made = Tensor.__new__(Tensor)
        made._set(None, value, trace)
        return made

    # What it is

    @property
    def type(self) -> TensorType:
        if self._value is not None:
            return self._value.type
        assert self._array is not None
        return TensorType(dtypes.from_numpy(self._array.dtype), self._array.shape)

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def shape(self) -> tuple[Any, ...]:  # type: ignore[override]
        return self._array.shape if self._array is not None else self.type.shape

    @property
    def is_traced(self) -> bool:
        return self._value is not None

    def numpy(self) -> Array:
        """The array itself, not a copy. Raises TraceError while a program is traced."""
        if self._array is None:
            raise TraceError(
                f"the value of {self.type} is not known while the program is traced",
                where=caller(),
                hint="use where(), cond() or while_loop() to decide on values, or move this out "
                "of the compiled function",
            )
        return self._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        array = self.numpy()
        return np.array(array, dtype=dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        return self.numpy().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self.numpy().__dlpack_device__()
        return device

    def item(self) -> Any:
        """The only element as a Python number."""
        array = self.numpy()
        if array.size != 1:
            raise ArgumentError(f"item: {self.type} has {array.size} elements, expected one", where=caller())
        return array.reshape(()).astype(self.dtype.arithmetic.numpy).item()

    def tolist(self) -> Any:
        return self.numpy().tolist()

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if not self.dtype.is_integer:
            raise DTypeError(f"{self.type} cannot be an index", where=caller())
        return int(self.item())

    def __len__(self) -> int:
        if not self.shape:
            raise ShapeError("a tensor without axes has no length", where=caller())
        return int(self.shape[0])

    def __iter__(self) -> Any:
        return iter(self.unbind(0))

    def __repr__(self) -> str:
        if self._array is None:
            return f"tensor(<traced {self.type}>)"
        shown = np.array2string(
            self._array.astype(self.dtype.arithmetic.numpy, copy=False),
            separator=", ",
            precision=4,
            threshold=100,
            prefix="tensor(",
        )
        extra = "" if self.dtype in (dtypes.f32, dtypes.i64, dtypes.bool_) else f", dtype={self.dtype}"
        return f"tensor({shown}{extra}{', requires_grad=True' if self.requires_grad else ''})"

    # Operators

    def __intaglio_apply__(self, op: Op, operands: Sequence[Any], attrs: dict[str, Any]) -> Any:
        tensors = tuple(x if isinstance(x, Tensor) else tensor(x) for x in operands)
        trace = mode.trace
        if trace is not None:
            outputs = trace.apply(op, tensors, attrs)
        else:
            results = evaluate(op, [x.numpy() for x in tensors], attrs)
            many = results if isinstance(results, tuple) else (results,)
            outputs = tuple(Tensor._of(as_own(r, tensors)) for r in many)
        if mode.grad and op.name != "detach" and any(x.requires_grad for x in tensors):
            record = Record(op, tensors, attrs, outputs)
            for y in outputs:
                if y.dtype.is_float:
                    y._record = record
        return outputs if len(outputs) > 1 else outputs[0]

    def __intaglio_lift__(self, value: Any, dtype: DType | None) -> Tensor:
        array = as_native(value, dtype)
        return mode.trace.lift(array) if mode.trace is not None else Tensor._of(array)

    # Derivatives

    @property
    def requires_grad(self) -> bool:
        return self._leaf or self._record is not None

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        self.requires_grad_(wanted)

    @property
    def is_leaf(self) -> bool:
        return self._record is None

    def requires_grad_(self, wanted: bool = True) -> Tensor:
        """Ask for derivatives. Raises DTypeError for elements that are not floats."""
        if wanted and not self.dtype.is_float:
            raise DTypeError(f"{self.type} cannot require gradients; only floats can", where=caller())
        if not wanted and self._record is not None:
            raise ArgumentError(
                "only leaves can stop requiring gradients", hint="use x.detach()", where=caller()
            )
        self._leaf = bool(wanted)
        return self

    def backward(self, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Add the derivative of this tensor to `grad` of every leaf it was computed from.

        Args:
            gradient: weight of each element; may be left out for one element.
        """
        if gradient is None and self.numel() != 1:
            raise ShapeError(
                f"backward: {self.type} needs a gradient of its shape",
                where=caller(),
                hint="reduce it to one number first, as with .sum()",
            )
        if not self.requires_grad:
            raise ArgumentError(
                "backward: nothing here requires gradients",
                where=caller(),
                hint="set requires_grad=True on what to differentiate by",
            )
        leaves, gradients = derivatives(self, gradient, None, create_graph)
        with set_grad_enabled(create_graph), phase("backward"):
            for leaf in leaves:
                if id(leaf) in gradients:
                    accumulate(leaf, gradients[id(leaf)])

    # Changes in place

    @property
    def data(self) -> Tensor:
        """The same memory without derivatives; changing one changes the other."""
        made = Tensor._of(self._array) if self._array is not None else self.detach()
        made._alias = self
        return made

    @data.setter
    def data(self, value: Any) -> None:
        self._check_writable()
        with no_grad():
            self._assign(value if isinstance(value, Tensor) else tensor(value))

    def _check_writable(self) -> None:
        if isinstance(self._alias, Tensor) and self._alias is self:
            raise ArgumentError(
                "this tensor is a part of another one; changing it would not change that one",
                where=caller(),
                hint="assign through the whole: x[index] = value",
            )

    def _assign(self, value: Tensor) -> None:
        """Take over a value of the same type."""
        if self._alias is not None and self._alias is not self:
            self._alias._assign(value)
            return
        if value.type != self.type:
            raise ShapeError(
                f"a tensor of type {self.type} cannot become {value.type} in place", where=caller()
            )
        if mode.trace is not None:
            mode.trace.assign(self, value)
        else:
            assert self._array is not None
            np.copyto(self._array, value.numpy())
        self._version += 1
        self._record = value._record if mode.grad else self._record

    def _in_place(self, value: Any) -> Tensor:
        """Become a computed value; it is broadcast and converted to this tensor's type."""
        self._check_writable()
        if mode.grad and self._leaf:
            raise ArgumentError(
                "a leaf that requires gradients cannot be changed in place",
                where=caller(),
                hint="change it inside `with no_grad():`",
            )
        value = value if isinstance(value, Tensor) else tensor(value)
        if value.dtype != self.dtype:
            value = value.to(self.dtype)
        if value.shape != self.shape:
            value = value.expand(self.shape)
        self._assign(value)
        return self

    def copy_(self, other: Any) -> Tensor:
        return self._in_place(other)

    def fill_(self, number: float) -> Tensor:
        return self._in_place(tensor(np.asarray(number, self.dtype.numpy)))

    def zero_(self) -> Tensor:
        return self.fill_(0)

    def add_(self, other: Any, alpha: float = 1) -> Tensor:
        return self._in_place(self + (other if alpha == 1 else other * alpha))

    def sub_(self, other: Any, alpha: float = 1) -> Tensor:
        return self._in_place(self - (other if alpha == 1 else other * alpha))

    def mul_(self, other: Any) -> Tensor:
        return self._in_place(self * other)

    def div_(self, other: Any) -> Tensor:
        return self._in_place(self / other)

    def clamp_(self, min: Any = None, max: Any = None) -> Tensor:
        return self._in_place(self.clamp(min, max))

    __iadd__ = add_
    __isub__ = sub_
    __imul__ = mul_
    __itruediv__ = div_

    def __getitem__(self, index: Any) -> Any:
        from intaglio.array.indexing import get

        part = get(self, index)
        part._alias = part
        return part

    def __setitem__(self, index: Any, value: Any) -> None:
        from intaglio.array.indexing import put

        self._in_place(put(self, index, value))


def as_native(data: Any, dtype: Any = None) -> Array:
    """An array of a supported type in native byte order, row-major; Python floats become f32.

    Raises:
        DTypeError: elements that are no numbers, or of a type that is not supported.
    """
    python = not isinstance(data, (np.ndarray, np.generic))
    if isinstance(data, (list, tuple)):
        data = [x.numpy() if isinstance(x, Tensor) else x for x in data]
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ShapeError(f"tensor: the nested lists are not rectangular: {error}", where=caller()) from None
    if dtype is not None:
        wanted = dtypes.parse(dtype).numpy
    elif python and array.dtype == np.float64:
        wanted = np.dtype(np.float32)
    else:
        wanted = dtypes.from_numpy(array.dtype).numpy
    return np.array(array, dtype=wanted, order="C", copy=None)


def as_own(result: Array, operands: Sequence[Tensor]) -> Array:
    """A result in memory of its own: views that NumPy gave become copies, in row-major order."""
    if (
        not result.flags.c_contiguous
        or result.base is not None
        or not result.flags.writeable
        or any(result is x._array for x in operands)
    ):
        return np.array(result, order="C")
    return result


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor of a copy of `data`: numbers, nested lists, an array, or a Tensor."""
    source = data.numpy() if isinstance(data, Tensor) else data
    made = Tensor._of(np.array(as_native(source, dtype), order="C"))
    return made.requires_grad_(requires_grad)


def from_numpy(array: Array) -> Tensor:
    """A Tensor that shares the memory of an array, when it is row-major and in native byte order."""
    return Tensor._of(as_native(array))
