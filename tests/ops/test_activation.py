"""Activations, elementwise functions and reductions against PyTorch: values and derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from against_torch import compare
from ops_tape import gradients

from intaglio.ops import REGISTRY
from intaglio.ops.compositions import activation as act
from intaglio.ops.compositions import functions as fn
from intaglio.ops.compositions import reduction as red

EDGES = np.array([-100.0, -6, -3, -1, -0.5, 0.0, 0.5, 1, 3, 6, 20.5, 100])
CASES = [
    (act.relu, F.relu),
    (lambda x: act.leaky_relu(x, 0.2), lambda x: F.leaky_relu(x, 0.2)),
    (act.relu6, F.relu6),
    (lambda x: act.hardtanh(x, -0.5, 3), lambda x: F.hardtanh(x, -0.5, 3)),
    (act.hardsigmoid, F.hardsigmoid),
    (act.hardswish, F.hardswish),
    (lambda x: act.elu(x, 1.5), lambda x: F.elu(x, 1.5)),
    (lambda x: act.celu(x, 1.5), lambda x: F.celu(x, 1.5)),
    (act.selu, F.selu),
    (act.sigmoid, torch.sigmoid),
    (act.log_sigmoid, F.logsigmoid),
    (act.softplus, F.softplus),
    (lambda x: act.softplus(x, 2.0, 5.0), lambda x: F.softplus(x, 2.0, 5.0)),
    (act.silu, F.silu),
    (act.mish, F.mish),
    (act.gelu, F.gelu),
    (lambda x: act.gelu(x, "tanh"), lambda x: F.gelu(x, approximate="tanh")),
    (act.softsign, F.softsign),
    (act.tanhshrink, F.tanhshrink),
    (act.hardshrink, F.hardshrink),
    (act.softshrink, F.softshrink),
    (lambda x: act.threshold(x, 0.5, -2.0), lambda x: F.threshold(x, 0.5, -2.0)),
    (lambda x: fn.clamp(x, -0.5, 3), lambda x: torch.clamp(x, -0.5, 3)),
    (lambda x: fn.clamp(x, max=1), lambda x: torch.clamp(x, max=1)),
    (fn.square, torch.square),
    (fn.erfc, lambda x: 1 - torch.erf(x)),
    (lambda x: fn.rsqrt(x * x + 1), lambda x: torch.rsqrt(x * x + 1)),
    (lambda x: fn.log2(x * x + 1), lambda x: torch.log2(x * x + 1)),
    (lambda x: fn.log10(x * x + 1), lambda x: torch.log10(x * x + 1)),
    (fn.nan_to_num, torch.nan_to_num),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_activation(case: int) -> None:
    ours, theirs = CASES[case]
    compare(ours, theirs, [EDGES])
    compare(ours, theirs, [np.random.default_rng(case).uniform(-4, 4, (3, 5))])
    compare(ours, theirs, [np.zeros((0, 3))])


@pytest.mark.parametrize("ours", [act.relu, act.silu, act.gelu, act.softplus, act.elu, act.sigmoid])
def test_activation_keeps_nan_and_single_precision(ours) -> None:
    assert np.isnan(ours(np.array([np.nan], np.float32)))[0]
    assert ours(np.ones(3, np.float32)).dtype == np.float32
    found = gradients(ours, [np.array([-1e4, -200.0, 200.0, 1e4], np.float32)], [np.ones(4, np.float32)])[0]
    assert np.isfinite(found).all()


def test_prelu_per_channel() -> None:
    rng = np.random.default_rng(0)
    compare(act.prelu, F.prelu, [rng.standard_normal((2, 3, 4)), rng.standard_normal(3)])
    compare(act.prelu, F.prelu, [rng.standard_normal((2, 3)), rng.standard_normal(1)])


def test_two_operands() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
    compare(fn.logaddexp, torch.logaddexp, [a, b])
    compare(fn.hypot, torch.hypot, [a, b])
    compare(lambda a, b: fn.lerp(a, b, 0.3), lambda a, b: torch.lerp(a, b, 0.3), [a, b])
    inf = np.array([np.inf, -np.inf, 1.0])
    compare(fn.logaddexp, torch.logaddexp, [inf, np.array([1.0, -np.inf, np.inf])], derivative=False)


def test_logic_and_classes() -> None:
    x = np.array([0.0, 1, np.nan, np.inf, -np.inf])
    for ours, theirs in [
        (fn.isnan, torch.isnan), (fn.isinf, torch.isinf), (fn.isfinite, torch.isfinite),
        (fn.logical_not, torch.logical_not),
        (lambda x: fn.gt(x, 0), lambda x: x > 0), (lambda x: fn.ge(x, 0), lambda x: x >= 0),
        (lambda x: fn.logical_and(x, x), lambda x: torch.logical_and(x, x)),
        (lambda x: fn.logical_or(x, x), lambda x: torch.logical_or(x, x)),
        (lambda x: fn.logical_xor(x, x), lambda x: torch.logical_xor(x, x)),
    ]:  # fmt: skip
        compare(ours, theirs, [x], derivative=False)
    assert not fn.isnan(np.arange(3)).any()
    assert not fn.isinf(np.arange(3)).any()
    assert fn.isfinite(np.arange(3)).all()


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4), (1, 1), (4,)])
@pytest.mark.parametrize("dim", [-1, 0])
def test_softmax(shape: tuple[int, ...], dim: int) -> None:
    x = np.random.default_rng(1).standard_normal(shape) * 10
    x.flat[0] = 700
    compare(lambda x: act.softmax(x, dim), lambda x: F.softmax(x, dim), [x])
    compare(lambda x: act.softmin(x, dim), lambda x: F.softmin(x, dim), [x])
    compare(lambda x: act.log_softmax(x, dim), lambda x: F.log_softmax(x, dim), [x])
    compare(lambda x: red.logsumexp(x, dim), lambda x: torch.logsumexp(x, dim), [x])
    compare(lambda x: red.logsumexp(x, dim, True), lambda x: torch.logsumexp(x, dim, True), [x])


def test_softmax_of_infinities() -> None:
    x = np.array([[0.0, -np.inf, 1], [-np.inf, 2, -np.inf]])
    compare(act.softmax, lambda x: F.softmax(x, -1), [x])
    compare(lambda x: red.logsumexp(x, 1), lambda x: torch.logsumexp(x, 1), [x], derivative=False)
    compare(lambda x: red.logsumexp(x, 1), lambda x: torch.logsumexp(x, 1), [np.full((1, 2), -np.inf)],
            derivative=False)  # fmt: skip


def test_glu() -> None:
    compare(
        lambda x: act.glu(x, 1), lambda x: F.glu(x, 1), [np.random.default_rng(0).standard_normal((2, 6, 3))]
    )


REDUCTIONS = [
    (lambda x, d, k: red.sum(x, d, k), lambda x, d, k: torch.sum(x, d, k)),
    (lambda x, d, k: red.mean(x, d, k), lambda x, d, k: torch.mean(x, d, k)),
    (lambda x, d, k: red.var(x, d, keepdim=k), lambda x, d, k: torch.var(x, d, keepdim=k)),
    (lambda x, d, k: red.std(x, d, 0, k), lambda x, d, k: torch.std(x, d, correction=0, keepdim=k)),
    (lambda x, d, k: red.amax(x, d, k), lambda x, d, k: torch.amax(x, d, k)),
    (lambda x, d, k: red.amin(x, d, k), lambda x, d, k: torch.amin(x, d, k)),
    (lambda x, d, k: red.norm(x, 2, d, k), lambda x, d, k: torch.linalg.vector_norm(x, 2, d, k)),
    (lambda x, d, k: red.norm(x, 1, d, k), lambda x, d, k: torch.linalg.vector_norm(x, 1, d, k)),
    (lambda x, d, k: red.norm(x, 3, d, k), lambda x, d, k: torch.linalg.vector_norm(x, 3, d, k)),
    (lambda x, d, k: red.norm(x, 0, d, k), lambda x, d, k: torch.linalg.vector_norm(x, 0, d, k)),
    (
        lambda x, d, k: red.norm(x, math.inf, d, k),
        lambda x, d, k: torch.linalg.vector_norm(x, math.inf, d, k),
    ),
]


@pytest.mark.parametrize("case", range(len(REDUCTIONS)))
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [0, -1, (0, 2)])
def test_reduction(case: int, keepdim: bool, dim: object) -> None:
    ours, theirs = REDUCTIONS[case]
    x = np.random.default_rng(case).standard_normal((3, 4, 2))
    compare(lambda x: ours(x, dim, keepdim), lambda x: theirs(x, dim, keepdim), [x])


def test_extremes_share_ties_or_take_the_first() -> None:
    x = np.array([[1.0, 3, 3], [2, 2, 2]])
    compare(lambda x: red.amax(x, 1), lambda x: torch.amax(x, 1), [x])
    compare(lambda x: red.max(x, 1), lambda x: tuple(torch.max(x, 1)), [x])
    compare(lambda x: red.min(x, 0, True), lambda x: tuple(torch.min(x, 0, True)), [x])
    nan = np.array([[1.0, np.nan, 3], [2, 2, 2]])
    compare(lambda x: red.max(x, 1), lambda x: tuple(torch.max(x, 1)), [nan], derivative=False)


def test_products_and_running_sums() -> None:
    x = np.array([[1.0, 0, 3], [2, -2, 0], [0, 0, 1]])
    compare(lambda x: red.prod(x, 1), lambda x: torch.prod(x, 1), [x])
    compare(lambda x: red.cumsum(x, 0), lambda x: torch.cumsum(x, 0), [x])
    compare(lambda x: red.cumprod(x, 1), lambda x: torch.cumprod(x, 1), [np.abs(x) + 1])


def test_reductions_of_integers_and_truth_values() -> None:
    x = np.array([[1, 0, 3], [2, 2, 2]], np.int32)
    for name in ("sum", "prod", "all", "any", "argmax", "argmin"):
        ours, theirs = getattr(red, name), getattr(torch, name)
        compare(ours, theirs, [x], derivative=False)
        compare(lambda x, f=ours: f(x, 1), lambda x, f=theirs: f(x, 1), [x], derivative=False)
        compare(
            lambda x, f=ours: f(x, 1, True), lambda x, f=theirs: f(x, 1, keepdim=True), [x], derivative=False
        )
    compare(red.sum, torch.sum, [x > 1], derivative=False)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("zeros", [(), (2,), (1, 3), (0, 1, 4)])
def test_running_product_with_zeros(exclusive: bool, reverse: bool, zeros: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).uniform(0.5, 2, 5)
    x[list(zeros)] = 0

    def theirs(x):
        x = x.flip(0) if reverse else x
        products = [torch.prod(x[: k if exclusive else k + 1]) for k in range(5)]
        return torch.stack(products[::-1] if reverse else products)

    compare(lambda x: REGISTRY["cumprod"](x, axis=0, exclusive=exclusive, reverse=reverse), theirs, [x])
