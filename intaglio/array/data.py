"""Data sets and mini-batches: NumPy arrays, gathered by index arrays, in an order fixed by a seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from intaglio.shared.dtypes import bf16
from intaglio.shared.errors import ArgumentError, ShapeError

Array = np.ndarray[Any, Any]


class Dataset(Protocol):
    """Samples by position. One that also has `batch(indices)` gives whole mini-batches at once."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


def as_array(value: Any) -> Array:
    """The NumPy array of a Tensor, a torch tensor or anything `np.asarray` takes; no copy where possible."""
    if hasattr(value, "detach"):
        value = value.detach()
    if str(getattr(value, "dtype", "")) == "torch.bfloat16":
        return np.asarray(value.float().numpy().astype(bf16.numpy))
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


class TensorDataset:
    """Arrays or Tensors with one first axis; sample `k` is the tuple of their rows `k`."""

    def __init__(self, *tensors: Any) -> None:
        self.arrays = tuple(as_array(t) for t in tensors)
        if not self.arrays:
            raise ArgumentError("TensorDataset: no tensors given")
        shapes = [a.shape for a in self.arrays]
        if any(not s for s in shapes) or len({s[0] for s in shapes}) != 1:
            raise ShapeError(
                "TensorDataset: first axes differ in shapes " + ", ".join(str(list(s)) for s in shapes)
            )

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        return tuple(a[index] for a in self.arrays)

    def batch(self, indices: Array | slice) -> tuple[Array, ...]:
        """The rows at `indices` of each array: contiguous copies, or views for a slice."""
        if isinstance(indices, slice):
            return tuple(a[indices] for a in self.arrays)
        return tuple(a.take(indices, axis=0) for a in self.arrays)


class Subset:
    """The samples of a data set at some positions, in that order."""

    def __init__(self, dataset: Dataset, indices: Any) -> None:
        self.dataset = dataset
        self.indices = np.asarray(indices, np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]

    def batch(self, indices: Array | slice) -> tuple[Array, ...]:
        """The samples at `indices` of this subset, as one mini-batch."""
        return _batch(self.dataset, self.indices[indices])


class DataLoader:
    """Mini-batches of a data set, as tuples of NumPy arrays whose first axis is the batch.

    Each pass over the loader is an epoch; with `shuffle` its order depends on `seed` and the number of
    the epoch alone. With `drop_last` a smaller last batch is left out.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
    ) -> None:
        if batch_size < 1:
            raise ArgumentError(f"DataLoader: batch_size is {batch_size}, it must be at least 1")
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    def __iter__(self) -> Iterator[tuple[Array, ...]]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self._batches(epoch)

    def _batches(self, epoch: int) -> Iterator[tuple[Array, ...]]:
        count = len(self.dataset)
        order = np.random.default_rng([self.seed, epoch]).permutation(count) if self.shuffle else None
        for k in range(len(self)):
            rows = slice(k * self.batch_size, min((k + 1) * self.batch_size, count))
            yield _batch(self.dataset, rows if order is None else order[rows])


def _batch(dataset: Any, indices: Array | slice) -> tuple[Array, ...]:
    if hasattr(dataset, "batch"):
        batch: tuple[Array, ...] = dataset.batch(indices)
        return batch
    numbers = range(indices.start, indices.stop) if isinstance(indices, slice) else indices
    samples = [dataset[int(k)] for k in numbers]
    columns = zip(*(s if isinstance(s, tuple) else (s,) for s in samples), strict=True)
    return tuple(np.stack([as_array(x) for x in column]) for column in columns)


def random_split(dataset: Dataset, lengths: Sequence[int | float], seed: int = 0) -> list[Subset]:
    """Disjoint random parts of a data set.

    Args:
        dataset: what to split.
        lengths: number of samples of each part, together `len(dataset)`; or fractions that sum to 1,
            rounded down, where what is left goes one each to the first parts.
        seed: the same seed gives the same parts.

    Raises:
        ArgumentError: the lengths do not add up.
    """
    count = len(dataset)
    if abs(sum(lengths) - 1) < 1e-9 and all(0 <= length <= 1 for length in lengths) and count != 1:
        sizes = [int(count * fraction) for fraction in lengths]
        for k in range(count - sum(sizes)):
            sizes[k % len(sizes)] += 1
    else:
        sizes = [int(length) for length in lengths]
    if sum(sizes) != count or min(sizes, default=0) < 0:
        raise ArgumentError(f"random_split: lengths {list(lengths)} do not add up to the {count} samples")
    order = np.random.default_rng(seed).permutation(count)
    ends = np.cumsum(sizes)
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def accuracy(logits: Any, targets: Any) -> float:
    """Fraction of the rows of `logits` [n, classes] whose largest entry is at `targets` [n]."""
    scores, classes = as_array(logits), as_array(targets)
    if scores.shape[:-1] != classes.shape:
        raise ShapeError(f"accuracy: logits {list(scores.shape)} do not fit targets {list(classes.shape)}")
    return float((scores.argmax(axis=-1) == classes).mean())
