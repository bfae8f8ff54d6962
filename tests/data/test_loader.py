"""Mini-batches, splits and accuracy."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio.data import DataLoader, Subset, TensorDataset, accuracy, random_split
from intaglio.shared.errors import ArgumentError, ShapeError


@pytest.fixture
def dataset():
    return TensorDataset(np.arange(20.0, dtype=np.float32).reshape(10, 2), np.arange(10))


@pytest.mark.parametrize(
    ("batch_size", "drop_last", "sizes"),
    [(3, False, [3, 3, 3, 1]), (3, True, [3, 3, 3]), (10, True, [10]), (11, True, [])],
)
def test_sizes(dataset, batch_size, drop_last, sizes):
    loader = DataLoader(dataset, batch_size, drop_last=drop_last)
    assert [len(y) for _, y in loader] == sizes
    assert len(loader) == len(sizes)


def test_in_order_without_shuffling(dataset):
    loader = DataLoader(dataset, 4)
    assert np.concatenate([y for _, y in loader]).tolist() == list(range(10))
    x, _ = next(iter(loader))
    assert np.shares_memory(x, dataset.arrays[0])


def test_the_seed_fixes_the_order(dataset):
    def orders(seed):
        loader = DataLoader(dataset, 3, shuffle=True, seed=seed)
        return [np.concatenate([y for _, y in loader]).tolist() for _ in range(3)]

    assert orders(5) == orders(5)
    assert orders(5) != orders(6)
    first, second, _ = orders(5)
    assert first != second
    assert sorted(first) == sorted(second) == list(range(10))


def test_samples_stay_together_and_contiguous(dataset):
    for x, y in DataLoader(dataset, 4, shuffle=True):
        np.testing.assert_array_equal(x[:, 0], 2 * y)
        assert x.flags.c_contiguous


def test_any_dataset_is_collated():
    class Squares:
        def __len__(self):
            return 5

        def __getitem__(self, k):
            return np.full(2, k), k * k

    x, y = next(iter(DataLoader(Squares(), 4)))
    assert x.shape == (4, 2)
    assert y.tolist() == [0, 1, 4, 9]
    part = Subset(Squares(), [4, 2])
    ((_, y),) = DataLoader(part, 2)
    assert y.tolist() == [16, 4]
    assert part[0][1] == 16


@pytest.mark.parametrize(
    ("lengths", "sizes"), [([7, 3], [7, 3]), ([0.75, 0.25], [8, 2]), ([1.0], [10]), ([10, 0], [10, 0])]
)
def test_random_split(dataset, lengths, sizes):
    parts = random_split(dataset, lengths, seed=1)
    assert [len(p) for p in parts] == sizes
    assert sorted(int(p[k][1]) for p in parts for k in range(len(p))) == list(range(10))
    again = random_split(dataset, lengths, seed=1)
    assert all((a.indices == b.indices).all() for a, b in zip(parts, again, strict=True))
    x, y = next(iter(DataLoader(parts[0], 100)))
    np.testing.assert_array_equal(x[:, 0], 2 * y)


def test_accuracy():
    logits = np.array([[1, 2, 0], [3, 1, 2], [0, 0, 1], [0, 5, 1]], np.float32)
    assert accuracy(logits, np.array([1, 0, 1, 1])) == 0.75


def test_errors(dataset):
    with pytest.raises(ArgumentError, match="batch_size is 0"):
        DataLoader(dataset, 0)
    with pytest.raises(ShapeError, match=r"\[3\], \[4\]"):
        TensorDataset(np.zeros(3), np.zeros(4))
    with pytest.raises(ArgumentError, match="no tensors"):
        TensorDataset()
    with pytest.raises(ArgumentError, match="do not add up to the 10"):
        random_split(dataset, [4, 4])
    with pytest.raises(ShapeError, match="do not fit"):
        accuracy(np.zeros((3, 2)), np.zeros(4))
