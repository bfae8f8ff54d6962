"""Linear models (`ai.onnx.ml`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.ops.compositions.basic import reshape, shape_of, static
from intaglio.ops.compositions.linear import matmul
from intaglio.ops.registry import prim
from intaglio.readers.onnx.classical import (
    as_float,
    complemented,
    labelled,
    labels_of,
    ml_op,
    transform_of,
    transformed,
)
from intaglio.readers.onnx.registry import OnnxCall, Operand
from intaglio.shared.errors import ShapeError


def scores_of(call: OnnxCall, x: Operand) -> Any:
    """Products of every row with every row of coefficients, plus the intercepts."""
    x = as_float(x)
    x = reshape(x, (1, -1)) if len(shape_of(x)) == 1 else x
    coefficients = np.asarray(call.required("coefficients"), np.float32)
    features = static(shape_of(x)[1], call.node.op_type)
    if coefficients.size % features:
        raise ShapeError(f"{call.node.op_type}: {coefficients.size} coefficients for {features} features")
    scores = matmul(x, coefficients.reshape(-1, features).T.copy())
    intercepts = call.attr("intercepts")
    return scores + np.asarray(intercepts, np.float32) if intercepts else scores


@ml_op("LinearRegressor")
def linear_regressor(call: OnnxCall, x: Operand) -> Any:
    return transformed(scores_of(call, x), transform_of(call))


@ml_op("LinearClassifier")
def linear_classifier(call: OnnxCall, x: Operand) -> Any:
    """With a single row of coefficients for two classes the score is that of the second."""
    scores, labels, transform = scores_of(call, x), labels_of(call), transform_of(call)
    count = static(shape_of(scores)[1], "LinearClassifier")
    if count > 1:
        return labelled(prim.argmax(scores, axes=(1,)), labels), transformed(scores, transform)
    positive = prim.lt(0, reshape(scores, (-1,)))
    names = labels if len(labels) == 2 else np.array([0, 1])
    label = prim.where(positive, names[1], names[0])
    return label, complemented(scores, transform) if len(labels) == 2 else transformed(scores, transform)
