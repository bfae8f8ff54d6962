"""Random tensors. One generator, a seed and a counter in a Tensor: the same draws eager and compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from intaglio.array.methods import sizes
from intaglio.array.mode import no_grad
from intaglio.array.tensor import Tensor, lifted, tensor
from intaglio.ops.compositions import random as draws
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import ArgumentError
from intaglio.shared.where import caller

_state = tensor(draws.state_of(0))


def manual_seed(seed: int) -> None:
    """Start the generator again: equal seeds give equal draws."""
    with no_grad():
        _state.copy_(tensor(draws.state_of(seed)))


def get_rng_state() -> Tensor:
    """A copy of the generator's state: u64[2], the seed and the number of words drawn."""
    copy: Tensor = _state.clone()
    return copy


def set_rng_state(state: Tensor) -> None:
    """Go back to a state that `get_rng_state` gave."""
    with no_grad():
        _state.copy_(state)


def drawn(count: Any) -> Tensor:
    """The generator's state for a draw of `count` words; the generator moves on behind them."""
    with no_grad():
        state: Tensor = _state.clone()
        _state.copy_(draws.advance(state, count))
    return state


def _float(dtype: Any) -> DType:
    wanted = dtypes.parse(dtype)
    if not wanted.is_float:
        raise ArgumentError(f"rand and randn make floats, not {wanted}", where=caller(), hint="use randint")
    return wanted


def rand(*size: Any, dtype: Any = dtypes.f32, requires_grad: bool = False) -> Tensor:
    """Uniform draws from 0 up to 1."""
    shape, wanted = sizes(size), _float(dtype)
    made: Tensor = draws.uniform(drawn(draws.words(shape, wanted)), shape, dtype=wanted)
    return made.requires_grad_(requires_grad)


def randn(*size: Any, dtype: Any = dtypes.f32, requires_grad: bool = False) -> Tensor:
    """Draws from the normal distribution of mean 0 and variance 1."""
    shape, wanted = sizes(size), _float(dtype)
    made: Tensor = draws.normal(drawn(draws.words(shape)), shape, dtype=wanted)
    return made.requires_grad_(requires_grad)


def rand_like(x: Tensor) -> Tensor:
    """Uniform draws of the shape and type of a tensor."""
    return rand(*x.shape, dtype=x.dtype)


def randn_like(x: Tensor) -> Tensor:
    """Normal draws of the shape and type of a tensor."""
    return randn(*x.shape, dtype=x.dtype)


def randint(low: int, high: int | Sequence[int], size: Any = None, *, dtype: Any = dtypes.i64) -> Tensor:
    """Integers from `low` up to but without `high`; `randint(high, size)` starts at 0."""
    if size is None:
        low, high, size = 0, low, high
    assert isinstance(high, int)
    shape = (size,) if isinstance(size, int) else tuple(size)
    made: Tensor = draws.randint(drawn(draws.words(shape)), shape, low, high, dtypes.parse(dtype))
    return made


def randperm(count: int) -> Tensor:
    """The integers below `count` in random order (i64)."""
    made: Tensor = draws.permutation(drawn(count), count)
    return made


def bernoulli(p: Tensor) -> Tensor:
    """1 with the probability that each element says, else 0, in the type of `p`."""
    made: Tensor = draws.bernoulli(drawn(draws.words(p.shape)), p.shape, p.detach()).to(p.dtype)
    return made


def categorical(logits: Any) -> Tensor:
    """One index per row of the last dimension, with probabilities softmax(logits)."""
    x = logits if isinstance(logits, Tensor) else lifted(logits)
    made: Tensor = draws.categorical(drawn(draws.words(x.shape)), x.detach())
    return made


def generator() -> np.random.Generator:
    """A NumPy generator for initial weights, seeded by the next draw."""
    seed = draws.randint(drawn(2), (2,), 0, 2**32).numpy()
    return np.random.default_rng([int(word) for word in seed])
