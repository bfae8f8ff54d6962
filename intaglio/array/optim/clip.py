"""Gradient clipping, in place."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from intaglio.array.tensor import Tensor, no_grad
from intaglio.ops.compositions import functions, reduction
from intaglio.ops.dispatch import composition
from intaglio.ops.registry import prim


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0) -> Tensor:
    """Scale all gradients so that their common norm is at most `max_norm`; gives the norm before."""
    gradients = _gradients(parameters)
    with no_grad():
        total: Tensor = _total_norm(gradients, norm_type)
        scale = prim.min(max_norm / (total + 1e-6), 1.0)
        for g in gradients:
            g.copy_(g * scale)
    return total


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit every element of the gradients to between `-clip_value` and `clip_value`."""
    with no_grad():
        for g in _gradients(parameters):
            g.copy_(functions.clamp(g, -clip_value, clip_value))


@composition
def _total_norm(gradients: list[Tensor], norm_type: float) -> Any:
    norms = [reduction.norm(g, norm_type) for g in gradients]
    total = norms[0]
    if math.isinf(norm_type):
        for norm in norms[1:]:
            total = prim.max(total, norm)
        return total
    total = prim.pow(norms[0], norm_type)
    for norm in norms[1:]:
        total = total + prim.pow(norm, norm_type)
    return prim.pow(total, 1 / norm_type)


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p.grad for p in given if p.grad is not None]
