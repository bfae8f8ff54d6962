"""Pooling against PyTorch: values, indices and derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch.nn.functional as F
from against_torch import compare

from intaglio.ops.compositions import pooling as pool
from intaglio.shared.errors import ArgumentError, ShapeError, UnsupportedError
from intaglio.shared.index import variable

rng = np.random.default_rng(0)
SHAPES = {1: (2, 3, 11), 2: (2, 3, 7, 6), 3: (1, 2, 5, 6, 4)}
SETTINGS = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 2, "stride": 3},
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    {"kernel_size": 2, "stride": 2, "padding": 1, "ceil_mode": True},
]


@pytest.mark.parametrize("settings", [*SETTINGS, {"kernel_size": 2, "stride": 1, "dilation": 2}])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_max_pool(rank: int, settings: dict) -> None:
    theirs = getattr(F, f"max_pool{rank}d")
    rounded = np.round(rng.standard_normal(SHAPES[rank]) * 2) / 2
    for x in (rng.standard_normal(SHAPES[rank]), rounded, rng.standard_normal(SHAPES[rank][1:])):
        compare(lambda x: pool.max_pool(rank, x, **settings), lambda x: theirs(x, **settings), [x])
        options = {**settings, "return_indices": True}
        compare(
            lambda x: pool.max_pool(rank, x, **options), lambda x: theirs(x, **options), [x], derivative=False
        )


def test_max_pool_keeps_nan_and_takes_integers() -> None:
    x = rng.standard_normal((1, 1, 4, 4))
    x[0, 0, 1, 1] = np.nan
    compare(lambda x: pool.max_pool(2, x, 2), lambda x: F.max_pool2d(x, 2), [x], derivative=False)
    y = pool.max_pool(1, np.array([[[-5, -7, -9, -3, -4]]]), 3, 2, 1)
    np.testing.assert_array_equal(y, [[[-5, -3, -3]]])


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_avg_pool(rank: int, settings: dict, include: bool) -> None:
    theirs = getattr(F, f"avg_pool{rank}d")
    options = {**settings, "count_include_pad": include}
    for x in (rng.standard_normal(SHAPES[rank]), rng.standard_normal(SHAPES[rank][1:])):
        compare(lambda x: pool.avg_pool(rank, x, **options), lambda x: theirs(x, **options), [x])


def test_avg_pool_with_its_own_divisor() -> None:
    compare(
        lambda x: pool.avg_pool(2, x, 2, divisor_override=3),
        lambda x: F.avg_pool2d(x, 2, divisor_override=3),
        [rng.standard_normal(SHAPES[2])],
    )


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_lp_pool(p: float) -> None:
    x = rng.uniform(0.1, 1, SHAPES[2])
    compare(lambda x: pool.lp_pool(2, x, p, (3, 2), 2), lambda x: F.lp_pool2d(x, p, (3, 2), 2), [x])
    compare(lambda x: pool.lp_pool(1, x, p, 3), lambda x: F.lp_pool1d(x, p, 3), [x[0]])


@pytest.mark.parametrize("target", [1, 3, 4, 9])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_adaptive_pool(rank: int, target: int) -> None:
    x = rng.standard_normal(SHAPES[rank])
    avg, top = getattr(F, f"adaptive_avg_pool{rank}d"), getattr(F, f"adaptive_max_pool{rank}d")
    compare(lambda x: pool.adaptive_avg_pool(rank, x, target), lambda x: avg(x, target), [x])
    compare(lambda x: pool.adaptive_max_pool(rank, x, target), lambda x: top(x, target), [x])
    compare(
        lambda x: pool.adaptive_max_pool(rank, x, target, True),
        lambda x: top(x, target, True),
        [x],
        derivative=False,
    )
    compare(lambda x: pool.adaptive_avg_pool(rank, x, target), lambda x: avg(x, target), [x[0]])


def test_adaptive_pool_keeps_an_axis() -> None:
    x = rng.standard_normal(SHAPES[2])
    compare(
        lambda x: pool.adaptive_avg_pool(2, x, (None, 2)), lambda x: F.adaptive_avg_pool2d(x, (None, 2)), [x]
    )


def test_max_unpool() -> None:
    x = rng.standard_normal((2, 3, 6, 4))

    def ours(x):
        y, at = pool.max_pool(2, x, 2, return_indices=True)
        return pool.max_unpool(2, y * 2, at, (6, 4))

    def theirs(x):
        y, at = F.max_pool2d(x, 2, return_indices=True)
        return F.max_unpool2d(y * 2, at, 2)

    compare(ours, theirs, [x])


def test_refusals() -> None:
    x = np.ones((1, 2, 4, 4))
    with pytest.raises(ShapeError, match="max_pool: a window of"):
        pool.max_pool(2, x, 5)
    with pytest.raises(ArgumentError, match=r"max_pool: padding \(2, 2\) exceeds half of the kernel 3"):
        pool.max_pool(2, x, 3, padding=2)
    with pytest.raises(ShapeError, match="avg_pool: x is"):
        pool.avg_pool(2, np.ones((4, 4)), 2)
    with pytest.raises(ArgumentError, match="divisor_override"):
        pool.avg_pool(2, x, 2, divisor_override=0)
    with pytest.raises(UnsupportedError, match="known only at run time"):
        pool.static(variable("n", 3), "pool")
