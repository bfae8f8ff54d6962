"""What Python and NumPy make of a Tensor: numbers, lists, truth, iteration, text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from intaglio.array.methods import Methods
from intaglio.array.storage import Array
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import ArgumentError, DTypeError, ShapeError
from intaglio.shared.types import TensorType
from intaglio.shared.where import caller


class Host(Methods):
    """Conversions to values of Python's side; all go through `numpy()`, which a traced tensor refuses."""

    __slots__ = ()

    type: TensorType
    dtype: DType
    is_traced: bool
    requires_grad: bool

    def numpy(self) -> Array:
        """The elements as an array."""
        raise NotImplementedError

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return function(*_arrays(args), **_arrays(kwargs))

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
        """The elements as nested lists of Python numbers."""
        return self.numpy().astype(self.dtype.arithmetic.numpy).tolist()

    def __bool__(self) -> bool:
        if self.numpy().size != 1:
            raise ArgumentError(
                f"the truth of {self.type} is ambiguous", where=caller(), hint="use .any() or .all()"
            )
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
            raise ShapeError("a tensor without dimensions has no length", where=caller())
        return int(self.shape[0])

    def __iter__(self) -> Iterator[Any]:
        if not self.shape:
            raise ShapeError("a tensor without dimensions cannot be iterated over", where=caller())
        return iter(self.unbind(0))

    def __contains__(self, item: Any) -> bool:
        return bool((self == item).any())

    def __repr__(self) -> str:
        extra = f", requires_grad={self.requires_grad}" if self.requires_grad else ""
        if self.is_traced:
            return f"tensor(<traced {self.type}>{extra})"
        array = self.numpy()
        shown = np.array2string(
            array.astype(self.dtype.arithmetic.numpy, copy=False),
            separator=", ",
            precision=4,
            threshold=100,
            prefix="tensor(",
        )
        if self.dtype not in (dtypes.f32, dtypes.i64, dtypes.bool_):
            extra = f", dtype={self.dtype}{extra}"
        return f"tensor({shown}{extra})"


def _arrays(tree: Any) -> Any:
    """Tensors in nested arguments as arrays."""
    if isinstance(tree, Host):
        return tree.numpy()
    if isinstance(tree, (tuple, list)):
        return type(tree)(map(_arrays, tree))
    return {key: _arrays(value) for key, value in tree.items()} if isinstance(tree, dict) else tree
