"""Making tensors, and functions on tensors under PyTorch's names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from intaglio.array.methods import Methods, sizes
from intaglio.array.tensor import Tensor, lifted, tensor
from intaglio.ops.compositions import activation, basic, functions, indexing, linear, reduction
from intaglio.ops.registry import prim
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import ArgumentError
from intaglio.shared.where import caller


def full(size: Sequence[int], fill_value: float, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of one number; its type is that of the number unless given."""
    scalar = lifted(fill_value, None if dtype is None else dtypes.parse(dtype))
    shape = (size,) if isinstance(size, int) else tuple(size)
    made: Tensor = basic.expand(scalar, shape) if shape else scalar.clone()
    return made.requires_grad_(requires_grad)


def zeros(*size: Any, dtype: Any = dtypes.f32, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros."""
    return full(sizes(size), 0, dtype=dtype, requires_grad=requires_grad)


def ones(*size: Any, dtype: Any = dtypes.f32, requires_grad: bool = False) -> Tensor:
    """A tensor of ones."""
    return full(sizes(size), 1, dtype=dtype, requires_grad=requires_grad)


def empty(*size: Any, dtype: Any = dtypes.f32, requires_grad: bool = False) -> Tensor:
    """A tensor to be filled; it holds zeros until then."""
    return zeros(*size, dtype=dtype, requires_grad=requires_grad)


def _like(x: Any, dtype: Any) -> DType:
    return basic.dtype_of(x) if dtype is None else dtypes.parse(dtype)


def zeros_like(x: Any, *, dtype: Any = None) -> Tensor:
    """Zeros of the shape and type of x."""
    return full(x.shape, 0, dtype=_like(x, dtype))


def ones_like(x: Any, *, dtype: Any = None) -> Tensor:
    """Ones of the shape and type of x."""
    return full(x.shape, 1, dtype=_like(x, dtype))


def full_like(x: Any, fill_value: float, *, dtype: Any = None) -> Tensor:
    """A tensor of one number, of the shape and type of x."""
    return full(x.shape, fill_value, dtype=_like(x, dtype))


empty_like = zeros_like


def arange(
    start: float, end: float | None = None, step: float = 1, *, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """Numbers from `start` (0 when only one number is given) up to but without `end`."""
    first, last = (0, start) if end is None else (start, end)
    if step == 0 or (last - first) / step < 0:
        raise ArgumentError(f"arange: no steps of {step} lead from {first} to {last}", where=caller())
    return tensor(np.arange(first, last, step).tolist(), dtype or _width(first, last, step)).requires_grad_(
        requires_grad
    )


def _width(*numbers: float) -> DType:
    return dtypes.i64 if all(isinstance(x, int) for x in numbers) else dtypes.f32


def linspace(start: float, end: float, steps: int, *, dtype: Any = dtypes.f32) -> Tensor:
    """`steps` numbers from `start` to `end`, evenly spaced, both included."""
    return tensor(np.linspace(start, end, steps), dtype)


def eye(n: int, m: int | None = None, *, dtype: Any = dtypes.f32) -> Tensor:
    """Ones on the diagonal, zeros elsewhere."""
    return tensor(np.eye(n, m), dtype)


def tri(n: int, m: int | None = None, *, dtype: Any = dtypes.f32) -> Tensor:
    """Ones on the diagonal and below, zeros elsewhere."""
    return tensor(np.tri(n, m), dtype)


def _on_tensors(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with arrays and lists of numbers among its arguments made Tensors."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return function(*map(_lifted, args), **kwargs)

    return wrapped


def _lifted(value: Any) -> Any:
    return lifted(value) if isinstance(value, (np.ndarray, np.generic)) else value


def _numeric(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same where a plain number alone is also a tensor."""

    def wrapped(x: Any, *args: Any, **kwargs: Any) -> Any:
        lifted_x = x if isinstance(x, Tensor) else lifted(x)
        return function(lifted_x, *map(_lifted, args), **kwargs)

    wrapped.__doc__ = getattr(function, "doc", function.__doc__)
    wrapped.__name__ = getattr(function, "name", None) or function.__name__
    return wrapped


def _of_sequence(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(tensors: Sequence[Any], dim: int = 0) -> Any:
        return function([x if isinstance(x, Tensor) else lifted(x) for x in tensors], dim)

    return wrapped


cat = _of_sequence(indexing.concat)
stack = _of_sequence(indexing.stack)
einsum = _on_tensors(linear.einsum)
matmul = _numeric(linear.matmul)
maximum, minimum, pow = _numeric(prim.max), _numeric(prim.min), _numeric(Methods.pow)
exp, log, sqrt, abs = map(_numeric, (prim.exp, prim.log, prim.sqrt, prim.abs))
sin, cos, tanh = map(_numeric, (prim.sin, prim.cos, prim.tanh))
sigmoid, relu = map(_numeric, (activation.sigmoid, activation.relu))
clamp, softmax = _numeric(functions.clamp), _numeric(activation.softmax)
sum, mean = _numeric(reduction.sum), _numeric(reduction.mean)
logsumexp = _numeric(reduction.logsumexp)


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """x where the condition holds, else y."""
    test = condition if isinstance(condition, Tensor) else lifted(condition)
    made: Tensor = prim.where(test, _lifted(x), _lifted(y))
    return made


def allclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether two tensors are equal to within `atol + rtol * |b|`."""
    return bool(np.allclose(np.asarray(a), np.asarray(b), rtol, atol, equal_nan))
