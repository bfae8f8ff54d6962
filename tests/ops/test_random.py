"""Random draws: known answers of the generator, exactness, and distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from intaglio.compile import compile_graph
from intaglio.graph.ir import Graph
from intaglio.ops import REGISTRY
from intaglio.ops.compositions import random
from intaglio.ops.random import threefry
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError
from intaglio.shared.types import TensorType

COUNT = 1 << 17
STATE = random.state_of(2024)


def _rotate(x, distance: int):
    return (x << np.uint32(distance)) | (x >> np.uint32(32 - distance))


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers(counter, key, expected) -> None:
    """The vectors of Random123's kat_vectors for threefry2x32 with 20 rounds."""
    words = [np.array([w], np.uint32) for w in (*key, *counter)]
    with np.errstate(over="ignore"):
        found = threefry(*words, _rotate)
    assert tuple(int(w[0]) for w in found) == expected


def test_a_draw_is_a_part_of_a_longer_one() -> None:
    bits = REGISTRY["random_bits"](STATE, shape=(10,))
    later = random.advance(STATE, 4)
    np.testing.assert_array_equal(REGISTRY["random_bits"](later, shape=(2, 3)).reshape(-1), bits[4:])
    assert random.words((2, 3)) == 6
    assert random.words((2, 3), dtypes.f64) == 12


def test_the_counter_has_64_bits() -> None:
    state = np.array([5, 2**32 - 1], np.uint64)
    bits = REGISTRY["random_bits"](state, shape=(2,))
    assert bits[1] == REGISTRY["random_bits"](np.array([5, 2**32], np.uint64), shape=(1,))[0]
    assert bits[1] != REGISTRY["random_bits"](np.array([5, 0], np.uint64), shape=(1,))[0]


@pytest.mark.parametrize("dtype", [dtypes.f32, dtypes.f64, dtypes.f16, dtypes.bf16])
def test_uniform(dtype) -> None:
    x = random.uniform(STATE, (COUNT,), dtype=dtype).astype(np.float64)
    assert x.min() >= 0
    assert x.max() <= 1
    if dtype.size >= 4:
        assert x.max() < 1
    assert abs(x.mean() - 0.5) < 5 * math.sqrt(1 / 12 / COUNT)
    assert abs(x.var() - 1 / 12) < 0.002
    bins = np.histogram(x, 16, (0, 1))[0]
    assert ((bins - COUNT / 16) ** 2 / (COUNT / 16)).sum() < 45
    shifted = random.uniform(STATE, (COUNT,), -3, 5, dtype).astype(np.float64)
    np.testing.assert_allclose(shifted, x * 8 - 3, atol=16 * 2.0 ** -{2: 7, 4: 24, 8: 50}[dtype.size])


@pytest.mark.parametrize("dtype", [dtypes.f32, dtypes.f64])
def test_normal(dtype) -> None:
    x = random.normal(STATE, (COUNT,), dtype=dtype)
    assert x.dtype == dtype.numpy
    moments = [np.mean(x.astype(np.float64) ** k) for k in (1, 2, 3, 4)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.06)
    for z in (-2, -1, 0, 0.5, 1.5, 3):
        below = 0.5 * (1 + math.erf(z / math.sqrt(2)))
        assert abs((x < z).mean() - below) < 5 * math.sqrt(below * (1 - below) / COUNT)
    np.testing.assert_allclose(random.normal(STATE, (COUNT,), 2, 3, dtype), x * 3 + 2, rtol=1e-6, atol=1e-6)


def test_the_normal_distribution_is_exact_to_2e_5() -> None:
    """Its quantiles, computed from the table, against those of the distribution."""
    from statistics import NormalDist

    starts, steps = (t.astype(np.float64) for t in random._normal_table())
    for octave in range(32):
        for piece in (0, 13, 31, 63):
            middle = 2.0 ** (octave - 33) * (1 + (piece + 0.5) / 64)
            k = octave * 64 + piece
            found = (starts[k] + steps[k] / 2) * 2.0**-random.SCALE
            assert abs(found + NormalDist().inv_cdf(middle)) < 2e-5


def test_integers_and_truth_values() -> None:
    x = random.randint(STATE, (COUNT,), -3, 4)
    values, counts = np.unique(x, return_counts=True)
    np.testing.assert_array_equal(values, np.arange(-3, 4))
    assert ((counts - COUNT / 7) ** 2 / (COUNT / 7)).sum() < 30
    assert random.randint(STATE, (3,), 0, 2**32).dtype == np.int64
    with pytest.raises(ArgumentError, match="randint"):
        random.randint(STATE, (3,), 4, 4)
    assert abs(random.bernoulli(STATE, (COUNT,), 0.3).mean() - 0.3) < 0.007
    assert not random.bernoulli(STATE, (COUNT,), 0.0).any()
    assert random.bernoulli(STATE, (COUNT,), 1.0).all()
    order = random.permutation(STATE, 1000)
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    assert not np.array_equal(order, np.arange(1000))


def test_dropout_and_categories() -> None:
    y = random.dropout(np.ones(COUNT, np.float32), STATE, 0.2)
    assert set(np.unique(y)) == {0, np.float32(1.25)}
    assert abs((y == 0).mean() - 0.2) < 0.006
    assert not random.dropout(np.ones(9, np.float32), STATE, 1.0).any()
    logits = np.log(np.tile(np.array([0.1, 0.2, 0.7], np.float32), (COUNT // 4, 1)))
    counts = np.bincount(random.categorical(STATE, logits), minlength=3) / (COUNT // 4)
    np.testing.assert_allclose(counts, [0.1, 0.2, 0.7], atol=0.015)


@pytest.mark.parametrize("vector_bytes", [0, 32])
def test_compiled_draws_are_the_same_bits(vector_bytes: int) -> None:
    """Everything but `categorical`, whose logarithms are those of the C library."""
    draws = {
        "uniform": lambda s: random.uniform(s, (37,), -1.5, 2.25),
        "uniform64": lambda s: random.uniform(s, (37,), dtype=dtypes.f64),
        "normal": lambda s: random.normal(s, (5, 7), 0.3, 1.7),
        "normal64": lambda s: random.normal(s, (37,), dtype=dtypes.f64),
        "normal16": lambda s: random.normal(s, (37,), dtype=dtypes.bf16),
        "randint": lambda s: random.randint(s, (37,), -5, 1000),
        "bernoulli": lambda s: random.bernoulli(s, (37,), 0.25),
        "permutation": lambda s: random.permutation(s, 37),
    }
    graph = Graph("draws")
    state = graph.input(TensorType(dtypes.u64, (2,)), "state")
    graph.set_outputs([draw(state) for draw in draws.values()], list(draws))
    opt = "fast-compile" if vector_bytes == 0 else "default"
    target = "generic" if vector_bytes == 0 else "native"
    compiled = compile_graph(graph, threads=1, opt=opt, target=target)
    seeds = np.array([0x123456789ABCDEF, 2**32 - 11], np.uint64)
    for (name, draw), got in zip(draws.items(), compiled.run_arrays([seeds]), strict=True):
        assert got.tobytes() == np.ascontiguousarray(draw(seeds)).tobytes(), name
