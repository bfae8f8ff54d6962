"""Reductions over axes. `axes` is a tuple of distinct axes, counted from 0, in increasing order."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.ops.dispatch import type_of
from intaglio.ops.expr import Expr
from intaglio.ops.registry import REGISTRY, op
from intaglio.shared.errors import ShapeError
from intaglio.shared.index import IndexLike
from intaglio.shared.types import TensorType


def kept_axes(rank: int, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The axes that a reduction over `axes` leaves, in order."""
    return tuple(k for k in range(rank) if k not in axes)


def keepdims(reduced: Any, like: Any, axes: tuple[int, ...]) -> Any:
    """A reduced tensor with its axes put back as extent 1 and broadcast to the shape before."""
    shape = type_of(like).shape
    kept = tuple(1 if k in axes else extent for k, extent in enumerate(shape))
    return REGISTRY["broadcast"](REGISTRY["reshape"](reduced, shape=kept), shape=shape)


class Reduction:
    """What all reductions share: the result has the axes that are not reduced."""

    kind = "reduce"

    @staticmethod
    def infer(x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
        if any(not 0 <= k < x.rank for k in axes) or list(axes) != sorted(set(axes)):
            raise ShapeError(f"reduction over axes {list(axes)} of {x}: axes must be distinct, "
                             f"increasing and below {x.rank}")
        return TensorType(x.dtype, tuple(x.shape[k] for k in kept_axes(x.rank, axes)))

    @staticmethod
    def extents(x: TensorType, *, axes: tuple[int, ...]) -> tuple[IndexLike, ...]:
        return tuple(x.shape[k] for k in axes)

    @staticmethod
    def term(i: tuple[IndexLike, ...], r: tuple[IndexLike, ...], x: Any, *,
             axes: tuple[int, ...]) -> Expr:
        places = dict(zip(axes, r, strict=True)) | dict(zip(kept_axes(x.type.rank, axes), i, strict=True))
        return x[tuple(places[k] for k in range(x.type.rank))]


@op
class sum_(Reduction):
    """Sum over axes."""

    formula = "y[*i] += x[*i,*r]"
    combine = "add"
    ref = lambda x, axes: np.sum(x, axis=axes, dtype=x.dtype)
    grad = lambda g, x, y, axes: [keepdims(g, x, axes)]
    tolerance = 16
