"""Slicing, gathering, scattering and ordering against PyTorch and NumPy: values and derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from against_torch import compare

from intaglio.ops import prim
from intaglio.ops.compositions import indexing as ix
from intaglio.shared.errors import ArgumentError, ShapeError

rng = np.random.default_rng(0)
X = rng.standard_normal((4, 5, 6))


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize(
    "part", [(1, 3, 1), (None, None, 2), (-2, None, 1), (None, None, -1), (3, 0, -2), (9, 2, 1)]
)
def test_slice(dim: int, part: tuple) -> None:
    at = tuple(slice(*part) if k == dim % 3 else slice(None) for k in range(3))
    np.testing.assert_array_equal(ix.slice_axis(X, dim, *part), X[at])
    if part[2] > 0:
        compare(lambda x: ix.slice_axis(x, dim, *part), lambda x: x[at], [X])


CASES = [
    (lambda x: ix.narrow(x, 1, 2, 2), lambda x: torch.narrow(x, 1, 2, 2)),
    (lambda x: ix.select(x, 1, -2), lambda x: x.select(1, -2)),
    (lambda x: ix.flip(x, (0, -1)), lambda x: x.flip((0, -1))),
    (lambda x: ix.roll(x, 2, 1), lambda x: x.roll(2, 1)),
    (lambda x: ix.roll(x, (-1, 8), (0, 2)), lambda x: x.roll((-1, 8), (0, 2))),
    (lambda x: ix.roll(x, 7), lambda x: x.roll(7)),
    (lambda x: ix.concat([x, x * 2], 1), lambda x: torch.cat([x, x * 2], 1)),
    (lambda x: ix.stack([x, x * 2], -1), lambda x: torch.stack([x, x * 2], -1)),
    (lambda x: ix.split(x, 2, 1), lambda x: torch.split(x, 2, 1)),
    (lambda x: ix.split(x, [1, 4], 1), lambda x: torch.split(x, [1, 4], 1)),
    (lambda x: ix.chunk(x, 4, 2), lambda x: torch.chunk(x, 4, 2)),
    (lambda x: ix.unbind(x, 0), lambda x: torch.unbind(x, 0)),
    (lambda x: ix.tile(x, (2, 1, 3)), lambda x: x.repeat(2, 1, 3)),
    (lambda x: ix.tile(x, (2, 1, 1, 1)), lambda x: x.repeat(2, 1, 1, 1)),
    (lambda x: ix.repeat_interleave(x, 3, 1), lambda x: torch.repeat_interleave(x, 3, 1)),
    (lambda x: ix.tril(x), torch.tril),
    (lambda x: ix.tril(x, -1), lambda x: torch.tril(x, -1)),
    (lambda x: ix.triu(x, 2), lambda x: torch.triu(x, 2)),
    (lambda x: ix.triu(x, -1), lambda x: torch.triu(x, -1)),
    (lambda x: ix.diagonal(x), lambda x: torch.diagonal(x, dim1=-2, dim2=-1)),
    (lambda x: ix.sort(x, 1), lambda x: tuple(torch.sort(x, 1))),
    (lambda x: ix.sort(x, 0, True), lambda x: tuple(torch.sort(x, 0, True))),
    (lambda x: ix.argsort(x, -1), lambda x: torch.argsort(x, -1)),
    (lambda x: ix.topk(x, 2), lambda x: tuple(torch.topk(x, 2))),
    (lambda x: ix.topk(x, 3, 0, False), lambda x: tuple(torch.topk(x, 3, 0, False))),
    (lambda x: ix.masked_fill(x, prim.lt(0, x), 2.5), lambda x: x.masked_fill(x > 0, 2.5)),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_movement(case: int) -> None:
    ours, theirs = CASES[case]
    compare(ours, theirs, [X], derivative="argsort" not in ours.__code__.co_names)


def test_triangles_keep_the_element_type() -> None:
    for ours, theirs in ((ix.tril, torch.tril), (ix.triu, torch.triu)):
        assert np.array_equal(ours(X > 0), theirs(torch.tensor(X > 0)).numpy())
        assert ours(X > 0).dtype == bool


def test_index_tensors() -> None:
    rows = np.array([3, 0, 0])
    compare(lambda x: ix.index_select(x, 1, rows), lambda x: x.index_select(1, torch.tensor(rows)), [X])
    table, words = rng.standard_normal((7, 3)), np.array([[1, 6], [6, 0]])
    compare(
        lambda w: ix.embedding(words, w),
        lambda w: torch.nn.functional.embedding(torch.tensor(words), w),
        [table],
    )
    at = rng.integers(0, 4, (3, 5, 2))
    compare(lambda x: ix.gather(x, 0, at), lambda x: x.gather(0, torch.tensor(at)), [X])
    order = rng.integers(0, 5, (4, 2, 1))
    compare(
        lambda x: ix.take_along_dim(x, order, 1),
        lambda x: torch.take_along_dim(x, torch.tensor(order), 1),
        [X],
    )
    for classes in (4, 7):
        compare(lambda i: ix.one_hot(i, classes), lambda i: torch.nn.functional.one_hot(i, classes),
                [np.array([[0, 3], [2, 1]])], derivative=False)  # fmt: skip


@pytest.mark.parametrize("mode", ["set", "add"])
def test_scatter(mode: str) -> None:
    at = np.stack([rng.permutation(4)[:3] for _ in range(10)], 1).reshape(3, 5, 2)
    source = rng.standard_normal((3, 5, 2))
    t = torch.tensor(at)
    theirs = (lambda x, s: x.scatter(0, t, s)) if mode == "set" else (lambda x, s: x.scatter_add(0, t, s))
    compare(lambda x, s: ix.scatter(x, 0, at, s, mode), theirs, [X, source])
    compare(lambda x: ix.scatter(x, 0, at, 2.5), lambda x: x.scatter(0, t, 2.5), [X])


def test_scatter_by_slices() -> None:
    rows, source = np.array([3, 0, 3]), rng.standard_normal((4, 3, 6))
    t = torch.tensor(rows)
    compare(
        lambda x, s: ix.index_add(x, 1, rows, s, 2.0), lambda x, s: x.index_add(1, t, s, alpha=2), [X, source]
    )
    distinct, d = np.array([3, 0, 1]), torch.tensor([3, 0, 1])
    compare(lambda x, s: ix.index_copy(x, 1, distinct, s), lambda x, s: x.index_copy(1, d, s), [X, source])
    repeated = np.array([[0, 1], [1, 1]])
    for mode, name in (("max", "amax"), ("min", "amin"), ("mul", "prod")):
        ours = ix.scatter(X[0], 0, repeated, X[1], mode)
        theirs = torch.tensor(X[0]).scatter_reduce(0, torch.tensor(repeated), torch.tensor(X[1]), name)
        np.testing.assert_allclose(ours, theirs.numpy())


@pytest.mark.parametrize("where", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)])
def test_items(where: tuple[int, ...]) -> None:
    picks = [np.array([[2, -1, 0]]), np.array([[0], [3]]), np.array(1)]
    indices = [picks[k] if k in where else None for k in range(3)]
    at = tuple(slice(None) if i is None else torch.tensor(i) for i in indices)
    compare(lambda x: ix.get_items(x, indices), lambda x: x[at], [X])
    value = rng.standard_normal(X[tuple(slice(None) if i is None else i for i in indices)].shape)

    def theirs(x, v):
        y = x.clone()
        y[at] = v
        return y

    compare(lambda x, v: ix.set_items(x, indices, v), theirs, [X, value])


def test_a_scatter_runs_in_order() -> None:
    y = ix.scatter(np.zeros(3), 0, np.array([1, 1, -3, 1]), np.array([1.0, 2, 3, 4]))
    np.testing.assert_array_equal(y, [3, 4, 0])


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="index 4 is out of range for an axis of 4"):
        ix.index_select(X, 0, np.array([4]))
    with pytest.raises(ArgumentError, match="index -5 is out of range"):
        ix.embedding(np.array([-5]), X)
    with pytest.raises(ShapeError, match="select"):
        ix.select(X, 0, 4)
    with pytest.raises(ArgumentError, match="split"):
        ix.split(X, [1, 2], 1)
    with pytest.raises(ArgumentError, match="topk: k is 9"):
        ix.topk(X, 9)
    with pytest.raises(ShapeError, match="concat"):
        ix.concat([X, X[:, :, :2]], 0)
    with pytest.raises(ShapeError, match="number of dimensions"):
        ix.gather(X, 0, np.array([1]))
    with pytest.raises(ShapeError, match="dim 3 is out of range"):
        ix.narrow(X, 3, 0, 1)
