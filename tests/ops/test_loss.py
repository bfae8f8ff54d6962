"""Losses against PyTorch: values and derivatives, for every reduction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from against_torch import compare

from intaglio.ops.compositions import loss
from intaglio.shared.errors import ArgumentError, DTypeError, ShapeError

rng = np.random.default_rng(0)
X, Y = rng.standard_normal((4, 3)), rng.standard_normal((4, 3))
P, Q = rng.uniform(0.05, 0.95, (4, 3)), rng.uniform(0.05, 0.95, (4, 3))
REDUCTIONS = ["mean", "sum", "none"]

PAIRS = [
    ("mse_loss", {}, X, Y),
    ("l1_loss", {}, X, Y),
    ("huber_loss", {"delta": 0.7}, X, Y),
    ("smooth_l1_loss", {"beta": 0.5}, X, Y),
    ("smooth_l1_loss", {"beta": 0.0}, X, Y),
    ("binary_cross_entropy", {}, P, Q),
    ("binary_cross_entropy_with_logits", {}, X * 30, Q),
    ("kl_div", {}, X, Q),
    ("kl_div", {"log_target": True}, X, Y),
    ("kl_div", {}, X, Q * (Q > 0.3)),
    ("soft_margin_loss", {}, X * 30, np.sign(Y)),
    ("hinge_embedding_loss", {"margin": 0.8}, X, np.sign(Y)),
    ("poisson_nll_loss", {"full": True}, X, np.abs(Y) * 3),
    ("poisson_nll_loss", {"log_input": False}, P, Q),
]


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("case", range(len(PAIRS)))
def test_pairs(case: int, reduction: str) -> None:
    name, options, x, y = PAIRS[case]
    target = torch.tensor(y)
    compare(
        lambda x: getattr(loss, name)(x, y, reduction=reduction, **options),
        lambda x: getattr(F, name)(x, target, reduction=reduction, **options),
        [x],
    )


def test_weights_of_binary_losses() -> None:
    w, pos = rng.uniform(0.5, 2, (4, 3)), rng.uniform(0.5, 2, 3)
    compare(
        lambda x: loss.binary_cross_entropy(x, Q, w),
        lambda x: F.binary_cross_entropy(x, torch.tensor(Q), torch.tensor(w)),
        [P],
    )
    compare(
        lambda x: loss.binary_cross_entropy_with_logits(x, Q, w, pos_weight=pos),
        lambda x: F.binary_cross_entropy_with_logits(
            x, torch.tensor(Q), torch.tensor(w), pos_weight=torch.tensor(pos)
        ),
        [X],
    )
    edge = np.array([0.0, 1.0])
    compare(
        lambda x: loss.binary_cross_entropy(x, edge),
        lambda x: F.binary_cross_entropy(x, torch.tensor(edge)),
        [edge],
        derivative=False,
    )


def test_kl_div_of_a_batch() -> None:
    compare(
        lambda x: loss.kl_div(x, Q, "batchmean"),
        lambda x: F.kl_div(x, torch.tensor(Q), reduction="batchmean"),
        [X],
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore", [-100, 1])
@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 2), (2, 4, 3, 2), (4,)])
def test_cross_entropy(shape, ignore: int, weighted: bool, smoothing: float, reduction: str) -> None:
    x = rng.standard_normal(shape) * 5
    target = np.array(2) if len(shape) == 1 else rng.integers(0, 4, (shape[0], *shape[2:]))
    if ignore == -100 and target.ndim:
        target.flat[0] = -100
    w = rng.uniform(0.5, 2, 4) if weighted else None
    options = {"ignore_index": ignore, "reduction": reduction, "label_smoothing": smoothing}
    compare(
        lambda x: loss.cross_entropy(x, target, w, **options),
        lambda x: F.cross_entropy(x, torch.tensor(target), None if w is None else torch.tensor(w), **options),
        [x],
    )
    options.pop("label_smoothing")
    compare(
        lambda x: loss.nll_loss(x, target, w, **options),
        lambda x: F.nll_loss(x, torch.tensor(target), None if w is None else torch.tensor(w), **options),
        [x],
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 2), (4,)])
def test_cross_entropy_of_probabilities(shape, smoothing: float, weighted: bool) -> None:
    x, target = rng.standard_normal(shape), rng.uniform(0, 1, shape)
    w = rng.uniform(0.5, 2, 4) if weighted else None
    for reduction in REDUCTIONS:
        options = {"reduction": reduction, "label_smoothing": smoothing}
        weight = None if w is None else torch.tensor(w)
        compare(
            lambda x, t: loss.cross_entropy(x, t, w, **options),
            lambda x, t: F.cross_entropy(x, t, weight, **options),
            [x, target],
        )


def test_cross_entropy_of_infinite_scores() -> None:
    x = np.array([[0.0, -np.inf, 800.0], [1000.0, 0, -np.inf]])
    target = np.array([2, 1])
    compare(lambda x: loss.cross_entropy(x, target), lambda x: F.cross_entropy(x, torch.tensor(target)), [x])


def test_other_losses() -> None:
    t = np.sign(rng.standard_normal(4))
    signs = torch.tensor(t)
    compare(
        lambda a, b: loss.cosine_embedding_loss(a, b, t, 0.1),
        lambda a, b: F.cosine_embedding_loss(a, b, signs, 0.1),
        [X, Y],
    )
    compare(
        lambda a, b: loss.margin_ranking_loss(a, b, t[:, None], 0.3),
        lambda a, b: F.margin_ranking_loss(a, b, signs[:, None], 0.3),
        [X, Y],
    )
    compare(
        lambda a, b, v: loss.gaussian_nll_loss(a, b, v, True),
        lambda a, b, v: F.gaussian_nll_loss(a, b, v, True),
        [X, Y, Q],
    )
    compare(loss.cosine_similarity, F.cosine_similarity, [X, Y])
    compare(lambda a, b: loss.cosine_similarity(a, b, 0), lambda a, b: F.cosine_similarity(a, b, 0), [X, Y])
    compare(loss.pairwise_distance, F.pairwise_distance, [X, Y])
    for swap in (False, True):
        compare(
            lambda a, p, n: loss.triplet_margin_loss(a, p, n, swap=swap),
            lambda a, p, n: F.triplet_margin_loss(a, p, n, swap=swap),
            [X, Y, P],
        )


def test_refusals() -> None:
    with pytest.raises(ShapeError, match=r"mse_loss: input is \[4, 3\] but target is \[4\]"):
        loss.mse_loss(X, X[:, 0])
    with pytest.raises(ShapeError, match=r"cross_entropy: input is \[4, 3\] .* but target is \[3\]"):
        loss.cross_entropy(X, np.array([0, 1, 2]))
    with pytest.raises(DTypeError, match="nll_loss: class indices are f64"):
        loss.nll_loss(X, X[:, 0])
    with pytest.raises(ArgumentError, match="reduction 'median'"):
        loss.mse_loss(X, Y, "median")
