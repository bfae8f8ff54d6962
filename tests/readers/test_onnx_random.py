"""Random operators: right distributions, new draws at every call, the same draws from the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio.compile import compile_graph
from intaglio.readers.onnx import load
from intaglio.shared.errors import DTypeError
from tests.readers.onnx_batch import case, merged

SIZE = 20_000
CHANCE = np.full(SIZE, 0.3, np.float32)
LOGITS = np.log(np.array([[0.2, 0.5, 0.3]], np.float32))
CASES = [
    case("RandomUniform", shape=[SIZE], low=-1.0, high=3.0, seed=1.0),
    case("RandomUniformLike", CHANCE, dtype=11, seed=2.0),
    case("RandomNormal", shape=[100, SIZE // 100], mean=2.0, scale=0.5, seed=3.0),
    case("RandomNormalLike", CHANCE, dtype=10),
    case("Bernoulli", CHANCE, dtype=7, seed=4.0),
    case("Multinomial", LOGITS, sample_size=SIZE, seed=5.0),
]


def test_draws():
    model, feeds = merged(CASES)
    program = compile_graph(load(model), threads=1, opt="fast-compile")
    uniform, unit, normal, half, chosen, place = first = program.run_arrays(list(feeds.values()))
    second = program.run_arrays(list(feeds.values()))
    for before, after in zip(first, second, strict=True):
        assert (before != after).any()
    assert (uniform.min(), uniform.max()) == pytest.approx((-1, 3), abs=0.01)
    assert uniform.mean() == pytest.approx(1, abs=0.05)
    assert (unit.dtype, unit.mean()) == (np.float64, pytest.approx(0.5, abs=0.02))
    assert (normal.mean(), normal.std()) == pytest.approx((2, 0.5), abs=0.02)
    assert (half.dtype, half.astype(np.float32).std()) == (np.float16, pytest.approx(1, abs=0.03))
    assert (chosen.dtype, chosen.mean()) == (np.int64, pytest.approx(0.3, abs=0.02))
    assert place.dtype == np.int32
    np.testing.assert_allclose(np.bincount(place[0]) / SIZE, [0.2, 0.5, 0.3], atol=0.02)
    again = compile_graph(load(model), threads=1, opt="fast-compile").run_arrays(list(feeds.values()))
    for ours, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(ours, same)


def test_whole_numbers_are_not_drawn():
    with pytest.raises(DTypeError, match="i32"):
        load(merged([case("RandomNormal", shape=[3], dtype=6)])[0])
