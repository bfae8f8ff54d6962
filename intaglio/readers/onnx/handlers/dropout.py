"""Dropout: nothing in inference; random in training, by a generator that the model keeps."""

from __future__ import annotations

from typing import Any

from intaglio.ops.compositions import random
from intaglio.ops.compositions.basic import full_like
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
    if training is None or not bool(call.static(training, "the training mode").reshape(())):
        return x, _mask_of_ones(call, x)
    rate = 0.5 if ratio is None else float(call.static(ratio, "the ratio").reshape(()))
    if not 0 <= rate < 1:
        raise ArgumentError(f"Dropout: the ratio is {rate}; it must be at least 0 and below 1")
    if rate == 0:
        return x, _mask_of_ones(call, x)
    mask = random.bernoulli(draw_state(call, x.shape, dtypes.f32), x.shape, 1 - rate)
    return prim.where(mask, prim.mul(x, 1 / (1 - rate)), 0), mask
