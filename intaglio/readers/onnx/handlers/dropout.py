"""Dropout: nothing in inference; random in training, by a generator that the model keeps."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.ops.compositions import random
from intaglio.ops.compositions.basic import convert, dtype_of, full_like, reshape
from intaglio.ops.registry import prim
from intaglio.readers.onnx.handlers.random import draw_state
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError


def _mask_of_ones(call: OnnxCall, x: Operand) -> Any:
    return full_like(x, 1, x.shape, dtypes.bool_) if call.wants(1) else None


@onnx_op("Dropout")
def dropout_7(call: OnnxCall, x: Operand) -> Any:
    return x, _mask_of_ones(call, x)


@onnx_op("Dropout", 12)
def dropout_12(
    call: OnnxCall, x: Operand, ratio: Operand | None = None, training: Operand | None = None
) -> Any:
    """The ratio, and whether it trains at all, may be known only at run time."""
    training = np.asarray(False) if training is None else training
    known = isinstance(training, np.ndarray)
    if isinstance(training, np.ndarray) and not training.any():
        return x, _mask_of_ones(call, x)
    rate = reshape(convert(np.asarray(0.5) if ratio is None else ratio, dtypes.f32), ())
    if isinstance(rate, np.ndarray) and not 0 <= rate < 1:
        raise ArgumentError(f"Dropout: the ratio is {rate}; it must be at least 0 and below 1")
    state = draw_state(call, x.shape, dtypes.f32)
    mask = prim.not_(random.bernoulli(state, x.shape, rate))
    y = prim.where(mask, prim.div(x, convert(1 - rate, dtype_of(x))), 0)
    if known:
        return y, mask
    asked = reshape(training, ())
    return prim.where(asked, y, x), prim.or_(mask, prim.not_(asked))
