"""Random bits by counter: Threefry-2x32 with 20 rounds.

J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. A draw depends only on the
seed and a counter, so that eager and compiled draws agree bit for bit and in any order of evaluation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.ops import expr
from intaglio.ops.expr import Expr, IndexValue
from intaglio.ops.movement import flat_index
from intaglio.ops.registry import op
from intaglio.shared import dtypes
from intaglio.shared.errors import DTypeError
from intaglio.shared.index import IndexLike
from intaglio.shared.types import TensorType

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
ROUNDS = 20


def threefry(key0: Any, key1: Any, x0: Any, x1: Any, rotate: Any) -> tuple[Any, Any]:
    """The two words of a block; works on whatever adds and xors as 32-bit words."""
    keys = (key0, key1, key0 ^ key1 ^ PARITY)
    x0, x1 = x0 + keys[0], x1 + keys[1]
    for block in range(ROUNDS // 4):
        for distance in ROTATIONS[block % 2]:
            x0 = x0 + x1
            x1 = rotate(x1, distance) ^ x0
        x0 = x0 + keys[(block + 1) % 3]
        x1 = x1 + keys[(block + 2) % 3] + (block + 1)
    return x0, x1


def _rotate_array(x: Any, distance: int) -> Any:
    return (x << np.uint32(distance)) | (x >> np.uint32(32 - distance))


def _words(value: Any) -> tuple[Any, Any]:
    """The low and the high 32 bits of 64."""
    value = np.asarray(value, np.uint64)
    return (value & np.uint64(0xFFFFFFFF)).astype(np.uint32), (value >> np.uint64(32)).astype(np.uint32)


def _first_word(seed: Any, position: Any) -> Any:
    """The block's first word, as u64, for arrays of seeds and positions."""
    with np.errstate(over="ignore"):
        x0, _ = threefry(*_words(seed), *_words(position), _rotate_array)
    return x0.astype(np.uint64)


# A function of its own: the rounds written as one expression would be a tree of 2^20 leaves.
expr.FUNCTIONS["threefry"] = expr.Function("threefry", _first_word)


def _bits(state: Any, shape: tuple[int, ...]) -> Any:
    seed, counter = (np.uint64(v) for v in state)
    count = int(np.prod(shape, dtype=np.int64))
    position = counter + np.arange(count, dtype=np.uint64)
    return _first_word(seed, position).astype(np.uint32).reshape(shape)


@op
class random_bits:
    """32 random bits per element. `state` is u64[2]: the seed and the counter of the first element; the
    caller adds the number of elements to the counter for the next draw."""

    kind = "view"
    formula = "y[*i] = threefry(state[*s])"
    ref = _bits
    accepts = "int"
    samples = (([np.array([7, 2**40 + 3], np.uint64)], {"shape": (3, 4)}),)

    @staticmethod
    def infer(state: TensorType, *, shape: tuple[IndexLike, ...]) -> TensorType:
        if state.dtype != dtypes.u64 or state.shape != (2,):
            raise DTypeError(f"random_bits: the state is {state}, expected u64[2]")
        return TensorType(dtypes.u32, tuple(shape))

    @staticmethod
    def element(i: tuple[IndexLike, ...], state: Any, *, shape: tuple[IndexLike, ...]) -> Expr:
        place = expr.cast(IndexValue(flat_index(i, shape)), dtypes.u64)
        position = expr.apply("add", state[(1,)], place)
        return expr.cast(expr.apply("threefry", state[(0,)], position), dtypes.u32)
