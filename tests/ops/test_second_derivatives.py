"""Derivatives of derivatives: every rule is made of operators that have derivatives themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import Case, cases
from ops_tape import Step, Traced, flat, gradients

from intaglio.ops import prim
from intaglio.ops.compositions import activation, attention, indexing, linear, loss, normalization, pooling
from intaglio.ops.vjp import pull_back

rng = np.random.default_rng(3)


def first(function: Callable[..., Any], places: list[int]) -> Callable[..., Any]:
    """The function that gives the gradients of a weighting of the results by some operands."""

    def differentiated(*operands: Traced) -> list[Any]:
        tape: list[Step] = operands[0].tape
        begin = len(tape)
        results = [y for y in flat(function(*operands)) if y.dtype.is_float]
        weights = np.random.default_rng(1)
        seeds = {y: Traced(weights.standard_normal(y.shape), tape) for y in results}
        for x in operands:
            seeds.pop(x, None)
        found = pull_back(tape[begin:], seeds, [operands[k] for k in places])
        return [found[operands[k]] for k in places if operands[k] in found]

    return differentiated


def check(function: Callable[..., Any], arrays: list[Any]) -> None:
    """The gradient of a weighting of the gradients against differences of the gradients."""
    places = [k for k, a in enumerate(arrays) if np.asarray(a).dtype == np.float64 and np.size(a)]
    derivative = first(function, places)
    tape: list[Step] = []
    values = [x.array for x in derivative(*(Traced(a, tape) for a in arrays))]
    if not values:
        return
    seeds = [rng.standard_normal(v.shape) for v in values]
    second = gradients(derivative, arrays, seeds)
    direction = {k: rng.standard_normal(np.shape(arrays[k])) for k in places}

    def weighted(step: float) -> float:
        moved = [a + step * direction[k] if k in direction else a for k, a in enumerate(arrays)]
        tape: list[Step] = []
        results = derivative(*(Traced(a, tape) for a in moved))
        return sum(float(np.sum(r.array * s)) for r, s in zip(results, seeds, strict=True))

    slope = (weighted(1e-5) - weighted(-1e-5)) / 2e-5
    got = sum(float(np.sum(second[k] * d)) for k, d in direction.items())
    assert got == pytest.approx(slope, rel=1e-4, abs=1e-5)


def twice_differentiable() -> list[Case]:
    found = []
    for case in cases(("f8",)):
        if case.op.grad is None or case.op.name == "detach":
            continue
        arrays = [np.asarray(a, np.float64) if np.asarray(a).dtype == np.float32 else a for a in case.arrays]
        types = [Traced(a, []).type for a in arrays]
        if arrays and all(t.dtype.is_float for t in case.op.infer(types, case.attrs)[:1]):
            found.append(Case(case.op, tuple(arrays), case.attrs, case.label.rpartition("-")[0]))
    return found


@pytest.mark.parametrize("case", twice_differentiable(), ids=lambda c: c.label)
def test_primitive(case: Case) -> None:
    if case.op.name == "where":
        return check(lambda c, a, b: prim.where(c, a * a, b * b), list(case.arrays))
    check(lambda *operands: case.op(*operands, **case.attrs), list(case.arrays))


X = rng.standard_normal((3, 4))
IMAGE = rng.standard_normal((2, 2, 5, 4))


@pytest.mark.parametrize(
    "function",
    [
        activation.softmax,
        activation.log_softmax,
        activation.gelu,
        activation.silu,
        activation.mish,
        activation.softplus,
        lambda x: normalization.layer_norm(x, 4),
        lambda x: normalization.batch_norm_training(x)[0],
        lambda x: loss.cross_entropy(x, np.array([1, 0, 3])),
        lambda x: loss.binary_cross_entropy_with_logits(x, np.full((3, 4), 0.3)),
        lambda x: linear.einsum("ij,kj->ik", x, x * x),
        lambda x: indexing.topk(x * x * x, 2)[0],
        lambda x: indexing.flip(x * x, 1) * indexing.slice_axis(x, 0, None, None, -1),
        lambda x: indexing.gather(x * x, 1, np.array([[0, 0], [3, 1], [2, 2]])),
        lambda x: attention.scaled_dot_product_attention(x, x * 2, x * x),
    ],
    ids=range(15),
)
def test_composition(function: Callable[..., Any]) -> None:
    check(function, [X])


def test_pooling_and_convolution() -> None:
    check(lambda x: pooling.avg_pool(2, x * x, 3, 2, 1), [IMAGE])
    check(lambda x: pooling.max_pool(2, x * x * x, 2), [IMAGE])
    check(lambda x, w: prim.conv(x, w, strides=(2, 1), dilations=(1, 1), padding=((1, 1), (0, 1)), groups=1),
          [IMAGE, rng.standard_normal((3, 2, 2, 3))])  # fmt: skip
