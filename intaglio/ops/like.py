"""Tensors made from nothing, of the kind another one is: array, eager tensor or graph value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from intaglio.ops.dispatch import evaluate, type_of
from intaglio.ops.registry import REGISTRY
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.index import IndexLike


def constant_like(x: Any, array: Any) -> Any:
    """A NumPy array as the kind of tensor `x` is."""
    lift = getattr(x, "__intaglio_lift__", None)
    return lift(array, None) if lift is not None else array


def full_like(
    x: Any, number: float, shape: Sequence[IndexLike] | None = None, dtype: DType | None = None
) -> Any:
    """A tensor of one number, by default of x's shape and element type."""
    type_ = type_of(x)
    scalar = constant_like(x, np.asarray(number, (dtype or type_.dtype).numpy))
    shape = type_.shape if shape is None else tuple(shape)
    return REGISTRY["broadcast"](scalar, shape=shape) if shape else scalar


def iota_like(x: Any, shape: Sequence[IndexLike], axis: int, dtype: DType = dtypes.i64) -> Any:
    """The index along an axis as the kind of tensor `x` is."""
    attrs = {"shape": tuple(shape), "axis": axis, "dtype": dtype}
    if hasattr(x, "__intaglio_apply__"):
        return x.__intaglio_apply__(REGISTRY["iota"], [], attrs)
    return evaluate(REGISTRY["iota"], [], attrs)
