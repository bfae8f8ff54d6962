"""Comparison of a composition with PyTorch: values, and derivatives of a random weighting of the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ops_tape import flat, gradients


def compare(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    arrays: Sequence[Any],
    *,
    tolerance: float = 1e-9,
    derivative: bool = True,
) -> None:
    """Both functions on the same arrays (f64 for derivatives); operands of integers are constants."""
    tensors = [torch.tensor(a) for a in arrays]
    for t in tensors:
        t.requires_grad_(derivative and t.is_floating_point())
    expected = flat(theirs(*tensors))
    actual = flat(ours(*arrays))
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert tuple(np.shape(a)) == tuple(e.shape)
        assert str(np.asarray(a).dtype) == str(e.dtype).removeprefix("torch.")
        np.testing.assert_allclose(a, e.detach().numpy(), rtol=tolerance, atol=tolerance)
    if not derivative:
        return
    rng = np.random.default_rng(7)
    floats = [e for e in expected if e.is_floating_point()]
    seeds = [rng.standard_normal(e.shape) for e in floats]
    sum((e * torch.tensor(s)).sum() for e, s in zip(floats, seeds, strict=True)).backward()
    found = gradients(ours, arrays, seeds)
    for t, g in zip(tensors, found, strict=True):
        if t.is_floating_point():
            wanted = np.zeros(t.shape) if t.grad is None else t.grad.numpy()
            np.testing.assert_allclose(g, wanted, rtol=10 * tolerance, atol=10 * tolerance)
