"""Making tensors, and functions on tensors under PyTorch's names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from intaglio.array.tensor import Tensor, tensor
from intaglio.ops.compositions import functions, indexing, linear, reduction
from intaglio.ops.registry import prim
from intaglio.shared import dtypes


def _sizes(size: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list)) else size


def full(size: Sequence[int], fill_value: float, dtype: Any = None) -> Tensor:
    """A tensor of one number; its type is that of the number unless given."""
    return tensor(np.full(tuple(size), np.asarray(tensor(fill_value, dtype).numpy())), dtype)


def zeros(*size: Any, dtype: Any = dtypes.f32) -> Tensor:
    return tensor(np.zeros(_sizes(size), dtypes.parse(dtype).numpy))


def ones(*size: Any, dtype: Any = dtypes.f32) -> Tensor:
    return tensor(np.ones(_sizes(size), dtypes.parse(dtype).numpy))


def zeros_like(x: Tensor) -> Tensor:
    return tensor(np.zeros(x.shape, x.dtype.numpy))


def ones_like(x: Tensor) -> Tensor:
    return tensor(np.ones(x.shape, x.dtype.numpy))


def arange(start: float, end: float | None = None, step: float = 1, dtype: Any = None) -> Tensor:
    """Numbers from `start` (default 0) up to, not including, `end`."""
    first, last = (0, start) if end is None else (start, end)
    array = np.arange(first, last, step)
    return tensor(array.astype(np.float32) if array.dtype == np.float64 else array, dtype)


def linspace(start: float, end: float, steps: int) -> Tensor:
    return tensor(np.linspace(start, end, steps, dtype=np.float32))


def eye(n: int, m: int | None = None) -> Tensor:
    return tensor(np.eye(n, m, dtype=np.float32))


def _lifted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Arrays and numbers among the first arguments become Tensors when none of them is one."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return function(*(tensor(a) if isinstance(a, np.ndarray) else a for a in args), **kwargs)

    return wrapped


def _lifted_sequence(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(tensors: Sequence[Any], dim: int = 0) -> Any:
        return function([x if isinstance(x, Tensor) else tensor(x) for x in tensors], dim)

    return wrapped


concat = cat = concatenate = _lifted_sequence(indexing.concat)
stack = _lifted_sequence(indexing.stack)
where = _lifted(prim.where)
einsum = _lifted(linear.einsum)
matmul = _lifted(linear.matmul)
maximum = _lifted(prim.max)
minimum = _lifted(prim.min)
exp = _lifted(prim.exp)
log = _lifted(prim.log)
sqrt = _lifted(prim.sqrt)
sin = _lifted(prim.sin)
cos = _lifted(prim.cos)
tanh = _lifted(prim.tanh)
sigmoid = _lifted(prim.sigmoid)
clamp = _lifted(functions.clamp)
logsumexp = _lifted(reduction.logsumexp)
