"""Support vector machines (`ai.onnx.ml`)."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from intaglio.ops.compositions.basic import convert, dtype_of, full_like, iota_like, reshape, shape_of
from intaglio.ops.compositions.functions import clamp
from intaglio.ops.compositions.indexing import select, stack
from intaglio.ops.compositions.linear import matmul
from intaglio.ops.dispatch import composition
from intaglio.ops.registry import prim
from intaglio.readers.onnx.classical import (
    as_float,
    labelled,
    labels_of,
    ml_op,
    opposed,
    transform_of,
    transformed,
)
from intaglio.readers.onnx.handlers.recurrent import scan
from intaglio.readers.onnx.registry import Array, OnnxCall, Operand
from intaglio.shared.errors import ArgumentError, UnsupportedError

MOST_CLASSES = 64  # every two of them are compared
ROUNDS = 100  # steps of the coupling of probabilities, at most


@composition
def kernel(call: OnnxCall, x: Any, vectors: Array, name: str) -> Any:
    """The kernel of every row of x with every vector."""
    gamma, offset, degree = (call.attr("kernel_params") or [0.0, 0.0, 0.0])[:3]
    if name == "RBF":
        difference = reshape(x, (shape_of(x)[0], 1, -1)) - vectors
        return prim.exp(prim.sum(difference * difference, axes=(2,)) * -gamma)
    products = matmul(x, vectors.T.copy())
    if name == "LINEAR":
        return products
    if name == "POLY":
        return prim.pow(products * gamma + offset, float(int(degree)))
    if name == "SIGMOID":
        return prim.tanh(products * gamma + offset)
    raise ArgumentError(f"{call.node.op_type}: kernel_type {name!r} is unknown")


def floats(call: OnnxCall, name: str) -> Array:
    return np.asarray(call.attr(name) or [], np.float32)


@ml_op("SVMRegressor")
def svm_regressor(call: OnnxCall, x: Operand) -> Any:
    x, coefficients, count = as_float(x), floats(call, "coefficients"), call.attr("n_supports", 0)
    if count:
        vectors = floats(call, "support_vectors").reshape(count, -1)
        kernels = kernel(call, x, vectors, call.attr("kernel_type", "LINEAR"))
    else:
        kernels = x
    total = matmul(kernels, coefficients.reshape(-1, 1)) + floats(call, "rho")[0]
    if call.attr("one_class", 0):
        return prim.where(prim.lt(0, total), 1.0, full_like(total, -1.0))
    return transformed(total, transform_of(call))


@ml_op("SVMClassifier")
def svm_classifier(call: OnnxCall, x: Operand) -> Any:
    labels, transform, x = labels_of(call), transform_of(call), as_float(x)
    coefficients, rho = floats(call, "coefficients"), floats(call, "rho")
    sizes = list(call.attr("vectors_per_class") or [])
    if not sum(sizes):
        scores = matmul(x, coefficients.reshape(len(labels), -1).T.copy()) + rho[0]
        return labelled(prim.argmax(scores, axes=(1,)), labels), transformed(scores, transform)
    if len(sizes) > MOST_CLASSES:
        raise UnsupportedError(f"SVMClassifier of {len(sizes)} classes; at most {MOST_CLASSES} are supported")
    vectors = floats(call, "support_vectors").reshape(sum(sizes), -1)
    kernels = kernel(call, x, vectors, call.attr("kernel_type", "LINEAR"))
    pairs = list(itertools.combinations(range(len(sizes)), 2))
    scores = matmul(kernels, _pair_coefficients(coefficients.reshape(-1, sum(sizes)), sizes, pairs)) + rho
    place = prim.argmax(_votes(scores, pairs, len(sizes)), axes=(1,))
    if call.attr("prob_a"):
        scores = coupled(call, _pair_probabilities(call, scores), pairs, len(sizes))
    elif len(pairs) == 1:
        if transform not in ("NONE", "LOGISTIC"):
            raise UnsupportedError(
                f"SVMClassifier: post_transform {transform} of two classes is not supported"
            )
        return labelled(place, labels), opposed(scores, transform)
    return labelled(place, labels), transformed(scores, transform)


def _pair_coefficients(coefficients: Array, sizes: list[int], pairs: list[tuple[int, int]]) -> Array:
    """For each pair of classes the weight of every support vector."""
    starts = np.cumsum([0, *sizes])
    table = np.zeros((sum(sizes), len(pairs)), np.float32)
    for k, (i, j) in enumerate(pairs):
        first, second = (slice(starts[c], starts[c + 1]) for c in (i, j))
        table[first, k] += coefficients[j - 1, first]
        table[second, k] += coefficients[i, second]
    return table


def _votes(scores: Any, pairs: list[tuple[int, int]], classes: int) -> Any:
    """How many pairs each class wins."""
    first, second = np.zeros((len(pairs), classes), np.float32), np.zeros((len(pairs), classes), np.float32)
    for k, (i, j) in enumerate(pairs):
        first[k, i] = second[k, j] = 1
    won = convert(prim.lt(0, scores), dtype_of(scores))
    return matmul(won, first) + matmul(1 - won, second)


def _pair_probabilities(call: OnnxCall, scores: Any) -> Any:
    """The probability that the first class of each pair is right."""
    inner = scores * floats(call, "prob_a") + floats(call, "prob_b")
    return clamp(1 - prim.sigmoid(inner), 1e-7, 1 - 1e-7)


@composition
def coupled(call: OnnxCall, probabilities: Any, pairs: list[tuple[int, int]], classes: int) -> Any:
    """Probabilities of classes from those of pairs, by the iteration of Wu, Lin and Weng (2004).

    A sample whose error is small enough keeps what it has."""
    count = shape_of(probabilities)[0]
    half: list[list[Any]] = [[None] * classes for _ in range(classes)]
    for k, (i, j) in enumerate(pairs):
        half[i][j] = select(probabilities, 1, k)
        half[j][i] = 1 - half[i][j]
    rows = []
    for t in range(classes):
        others = [half[j][t] * half[j][t] for j in range(classes) if j != t]
        own = others[0]
        for other in others[1:]:
            own = own + other
        rows.append(stack([own if j == t else -(half[j][t] * half[t][j]) for j in range(classes)], 1))
    matrix = stack(rows, 1)
    start = full_like(probabilities, 1 / classes, (count, classes))

    def step(carry: list[Any], _: list[Any], held: list[Any]) -> tuple[list[Any], list[Any]]:
        before, q = carry[0], held[0]
        p, product = before, prim.dot(q, before, spec="nij,nj->ni")
        total = prim.sum(p * product, axes=(1,))
        error = prim.reduce_max(prim.abs(product - reshape(total, (-1, 1))), axes=(1,))
        running = reshape(prim.le(0.005 / classes, error), (-1, 1))
        here = iota_like(q, (1, classes), 1)
        for t in range(classes):
            row, at = select(q, 1, t), select(product, 1, t)
            own = select(row, 1, t)
            change = (total - at) / own
            scale = 1 + change
            total = (total + change * (change * own + 2 * at)) / (scale * scale)
            column, across = reshape(change, (-1, 1)), reshape(scale, (-1, 1))
            p = (p + prim.where(prim.eq(here, t), column, 0)) / across
            product = (product + column * row) / across
        return [prim.where(running, p, before)], []

    return scan(call, step, [start], [], [matrix], ROUNDS)[0][0]
