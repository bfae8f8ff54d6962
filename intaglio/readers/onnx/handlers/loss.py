"""Losses over classes."""

from __future__ import annotations

from typing import Any

from intaglio.ops.compositions.activation import log_softmax
from intaglio.ops.compositions.loss import nll_loss
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op

NONE_IGNORED = -(2**31)


def _loss(call: OnnxCall, logarithms: Any, target: Operand, weight: Operand | None) -> Any:
    ignored = call.attr("ignore_index", NONE_IGNORED)
    return nll_loss(logarithms, target, weight, ignored, call.attr("reduction", "mean"))


@onnx_op("NegativeLogLikelihoodLoss", 12)
def negative_log_likelihood_loss(
    call: OnnxCall, logarithms: Operand, target: Operand, weight: Operand | None = None
) -> Any:
    return _loss(call, logarithms, target, weight)


@onnx_op("SoftmaxCrossEntropyLoss", 12)
def softmax_cross_entropy_loss(
    call: OnnxCall, scores: Operand, labels: Operand, weight: Operand | None = None
) -> Any:
    logarithms = log_softmax(scores, 1)
    return _loss(call, logarithms, labels, weight), logarithms
