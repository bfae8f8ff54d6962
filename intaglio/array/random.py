"""Random tensors. One generator, a seed and a counter in a Tensor: the same draws eager and compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.array.tensor import Tensor, no_grad, tensor
from intaglio.ops.compositions import random as draws
from intaglio.shared import dtypes

_state = tensor(draws.state_of(0))


def manual_seed(seed: int) -> None:
    """Start the generator again: equal seeds give equal draws."""
    with no_grad():
        _state.copy_(tensor(draws.state_of(seed)))


def _advance(count: Any) -> None:
    _state.copy_(draws.advance(_state, count))


def generator() -> np.random.Generator:
    """A NumPy generator for initial weights, seeded by the next draw."""
    with no_grad():
        words = draws.randint(_state, (2,), 0, 2**32).numpy()
        _advance(2)
    return np.random.default_rng([int(w) for w in words])


def _sizes(size: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list)) else size


def rand(*size: Any, dtype: Any = dtypes.f32) -> Tensor:
    """Uniform from 0 up to 1."""
    shape, wanted = _sizes(size), dtypes.parse(dtype)
    with no_grad():
        drawn: Tensor = draws.uniform(_state, shape, dtype=wanted)
        _advance(draws.words(shape, wanted))
    return drawn


def randn(*size: Any, dtype: Any = dtypes.f32) -> Tensor:
    """Standard normal."""
    shape, wanted = _sizes(size), dtypes.parse(dtype)
    with no_grad():
        drawn: Tensor = draws.normal(_state, shape, dtype=wanted)
        _advance(draws.words(shape, wanted))
    return drawn


def randint(low: int, high: int, size: tuple[int, ...]) -> Tensor:
    """Integers from `low` up to, not including, `high` (i64)."""
    with no_grad():
        drawn: Tensor = draws.randint(_state, tuple(size), low, high)
        _advance(draws.words(tuple(size)))
    return drawn


def randperm(count: int) -> Tensor:
    """The numbers 0 .. count - 1 in random order (i64)."""
    with no_grad():
        drawn: Tensor = draws.permutation(_state, count)
        _advance(count)
    return drawn


def bernoulli(p: Tensor) -> Tensor:
    """1 with the probability given per element, else 0, in the type of `p`."""
    with no_grad():
        drawn: Tensor = draws.bernoulli(_state, p.shape, p).to(p.dtype)
        _advance(draws.words(p.shape))
    return drawn
