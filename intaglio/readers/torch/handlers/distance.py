"""Distances between rows, and their derivatives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from intaglio.ops.compositions import functions, indexing
from intaglio.ops.compositions.basic import dtype_of, reshape, shape_of, static, unsqueeze
from intaglio.ops.compositions.reduction import norm
from intaglio.ops.compositions.reduction import sum as total
from intaglio.ops.registry import prim
from intaglio.readers.torch.registry import FxCall, aten


@aten("_cdist_forward")
def cdist(call: FxCall, a: Any, b: Any, p: float, compute_mode: int | None = None) -> Any:
    """Distances between all rows of a and all rows of b."""
    return norm(unsqueeze(a, -2) - unsqueeze(b, -3), p, -1)


@aten("_cdist_backward")
def cdist_backward(call: FxCall, g: Any, a: Any, b: Any, p: float, distance: Any) -> Any:
    """The derivative by a."""
    difference = unsqueeze(a, -2) - unsqueeze(b, -3)
    if 0 in (*shape_of(a), *shape_of(b)):
        return call.full(call.importer.known_shape(call.node.meta["val"]), 0)
    return total(_norm_gradient(unsqueeze(g, -1), difference, p, unsqueeze(distance, -1)), -2)


def _norm_gradient(g: Any, x: Any, p: float, y: Any) -> Any:
    """The derivative of y, the p-norm of x; 0 where the norm is 0, as PyTorch has it."""
    if p == 0:
        return g * x * 0
    if p == 1:
        return g * prim.sign(x)
    if p == math.inf:
        return prim.where(prim.eq(prim.abs(x), y), g * prim.sign(x), 0)
    is_zero = prim.eq(y, 0)
    safe = prim.where(is_zero, 1, y)
    if p == 2:
        return prim.where(is_zero, 0, g * x / safe)
    if p < 1:
        is_zero = functions.logical_or(is_zero, prim.eq(x, 0))
    size = prim.pow(prim.where(is_zero, 1, prim.abs(x)), p - 1)
    return prim.where(is_zero, 0, g * prim.sign(x) * size / prim.pow(safe, p - 1))


def _pairs(call: FxCall, x: Any) -> tuple[Any, Any]:
    """The numbers of the rows of all pairs, the first before the second."""
    rows = np.triu_indices(static(shape_of(x)[0], "pdist"), 1)
    first, second = (call.graph.constant(r.astype(np.int64)) for r in rows)
    return first, second


@aten("_pdist_forward")
def pdist(call: FxCall, x: Any, p: float = 2) -> Any:
    """Distances between all pairs of rows."""
    if 0 in call.node.meta["val"].shape:
        return call.full((0,), 0)
    first, second = (indexing.index_select(x, 0, rows) for rows in _pairs(call, x))
    return norm(first - second, p, -1)


@aten("_pdist_backward")
def pdist_backward(call: FxCall, g: Any, x: Any, p: float, distance: Any) -> Any:
    """The derivative of every pair goes to both of its rows."""
    zero = call.full(shape_of(x), 0, dtype_of(x))
    if 0 in shape_of(distance):
        return zero
    first, second = _pairs(call, x)
    difference = indexing.index_select(x, 0, first) - indexing.index_select(x, 0, second)
    column = (shape_of(distance)[0], 1)
    part = _norm_gradient(reshape(g, column), difference, p, reshape(distance, column))
    return indexing.index_add(indexing.index_add(zero, 0, first, part), 0, second, -part)
