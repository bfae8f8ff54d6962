"""What the operators of `ai.onnx.ml` share: transforms of scores, and labels of classes."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from intaglio.ops.compositions.activation import softmax
from intaglio.ops.compositions.basic import convert, dtype_of, rank_of
from intaglio.ops.compositions.indexing import concat
from intaglio.ops.dispatch import composition
from intaglio.ops.reduce import keepdims
from intaglio.ops.registry import prim
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, UnsupportedError

ml_op = partial(onnx_op, domain="ai.onnx.ml")
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
PROBIT_A = 0.147  # the constant of Winitzki's approximation of the inverse error function


def transform_of(call: OnnxCall) -> str:
    """The attribute `post_transform`, by name (by number in `TreeEnsemble`)."""
    given = call.attr("post_transform", "NONE")
    name = TRANSFORMS[given] if isinstance(given, int) and 0 <= given < len(TRANSFORMS) else given
    if name not in TRANSFORMS:
        raise ArgumentError(f"{call.node.op_type}: post_transform {given!r} is unknown")
    return str(name)


@composition
def probit(x: Any) -> Any:
    """The inverse of the normal distribution, by an approximation of the inverse error function."""
    z = 2 * x - 1
    logarithm = prim.log((1 - z) * (1 + z))
    v = 2 / (math.pi * PROBIT_A) + logarithm * 0.5
    inverse = prim.sqrt(prim.sqrt(v * v - logarithm * (1 / PROBIT_A)) - v)
    return prim.where(prim.lt(z, 0), -inverse, inverse) * math.sqrt(2)


@composition
def softmax_zero(x: Any) -> Any:
    """The softmax in which a score of 0 stays 0."""
    last = (rank_of(x) - 1,)
    top = keepdims(prim.reduce_max(x, axes=last), x, last)
    grown = prim.where(prim.lt(1e-7, prim.abs(x)), prim.exp(x - top), x * prim.exp(-top))
    return grown / keepdims(prim.sum(grown, axes=last), x, last)


def transformed(scores: Any, name: str) -> Any:
    """Scores after the transform of that name, along the last axis."""
    if name == "SOFTMAX":
        return softmax(scores, -1)
    if name == "SOFTMAX_ZERO":
        return softmax_zero(scores)
    if name == "LOGISTIC":
        return prim.sigmoid(scores)
    return probit(scores) if name == "PROBIT" else scores


def opposed(score: Any, name: str) -> Any:
    """One score for each sample, `[n, 1]`, as those of two classes that differ in sign.

    As in ONNX Runtime only LOGISTIC transforms them."""
    _refuse_probit(name)
    both = concat([-score, score], 1)
    return prim.sigmoid(both) if name == "LOGISTIC" else both


def complemented(score: Any, name: str) -> Any:
    """One score for each sample, `[n, 1]`, as those of two classes that add up to 1.

    As in ONNX Runtime only LOGISTIC transforms it."""
    _refuse_probit(name)
    score = prim.sigmoid(score) if name == "LOGISTIC" else score
    return concat([1 - score, score], 1)


def _refuse_probit(name: str) -> None:
    if name == "PROBIT":
        raise UnsupportedError("post_transform PROBIT of a single score for two classes is not supported")


def numbers_in(call: OnnxCall, name: str) -> Any:
    """An attribute with numbers: the list of that name, or the tensor `..._as_tensor`; None when absent."""
    tensor = call.attr(f"{name}_as_tensor")
    if tensor is not None:
        return tensor.reshape(-1)
    given = call.attr(name)
    return None if not given else np.asarray(given, np.float32)


def labels_of(call: OnnxCall, *names: str) -> Any:
    """The labels of classes, i64. Raises UnsupportedError when they are text."""
    for name in names or ("classlabels_int64s", "classlabels_ints"):
        given = call.attr(name)
        if given:
            return np.asarray(given, np.int64)
    if call.attr("classlabels_strings"):
        raise UnsupportedError(
            f"{call.node.op_type}: labels of text are not supported",
            hint="train with numbers as labels, and name the classes outside of the model",
        )
    raise ArgumentError(f"{call.node.op_type}: labels of classes are missing")


def labelled(place: Any, labels: Any) -> Any:
    """The labels of classes given by their places."""
    if np.array_equal(labels, np.arange(len(labels))):
        return convert(place, dtypes.i64)
    return prim.gather(labels, place, axes=(0,))


def as_float(x: Operand) -> Any:
    """Numbers in f32; f64 stays."""
    return x if dtype_of(x) == dtypes.f64 else convert(x, dtypes.f32)
