"""Loss functions with PyTorch's names, arguments and reductions (`mean`, `sum` or `none`)."""

from __future__ import annotations

import math
from typing import Any

from intaglio.ops.compositions.activation import log_softmax
from intaglio.ops.compositions.basic import (
    axis_of,
    convert,
    dtype_of,
    iota_like,
    rank_of,
    shape_of,
    static,
    unsqueeze,
)
from intaglio.ops.compositions.functions import clamp, logical_and
from intaglio.ops.compositions.reduction import mean as mean_of
from intaglio.ops.compositions.reduction import norm
from intaglio.ops.dispatch import composition
from intaglio.ops.registry import prim
from intaglio.shared.errors import ArgumentError, DTypeError, ShapeError


def _reduced(loss: Any, reduction: str) -> Any:
    if reduction == "mean":
        return mean_of(loss)
    if reduction == "sum":
        return prim.sum(loss, axes=tuple(range(rank_of(loss))))
    if reduction != "none":
        raise ArgumentError(f"reduction {reduction!r} is not 'mean', 'sum' or 'none'")
    return loss


def _square(x: Any) -> Any:
    return x * x


def _checked(name: str, x: Any, y: Any) -> None:
    """Losses do not broadcast: it is nearly always a mistake."""
    if shape_of(x) != shape_of(y):
        raise ShapeError(
            f"{name}: input is {list(shape_of(x))} but target is {list(shape_of(y))}",
            hint="reshape one of them",
        )


@composition
def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Squared difference."""
    _checked("mse_loss", input, target)
    return _reduced(_square(input - target), reduction)


@composition
def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Absolute difference."""
    _checked("l1_loss", input, target)
    return _reduced(prim.abs(input - target), reduction)


@composition
def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Any:
    """Half the squared difference where it is below delta, else linear in it."""
    _checked("huber_loss", input, target)
    distance = prim.abs(input - target)
    far = (distance - 0.5 * delta) * delta
    return _reduced(prim.where(prim.lt(distance, delta), _square(distance) * 0.5, far), reduction)


@composition
def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Any:
    """Huber loss divided by beta; the absolute difference for beta 0."""
    _checked("smooth_l1_loss", input, target)
    distance = prim.abs(input - target)
    if beta == 0:
        return _reduced(distance, reduction)
    near = _square(distance) * (0.5 / beta)
    return _reduced(prim.where(prim.lt(distance, beta), near, distance - 0.5 * beta), reduction)


@composition
def binary_cross_entropy(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Any:
    """Cross-entropy of probabilities; logarithms count as at least -100."""
    _checked("binary_cross_entropy", input, target)
    yes, no = clamp(prim.log(input), min=-100), clamp(prim.log1p(-input), min=-100)
    loss = (target - 1) * no - target * yes
    return _reduced(loss if weight is None else loss * weight, reduction)


@composition
def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Any:
    """Cross-entropy of sigmoid(input), without overflow; `pos_weight` weighs positive targets."""
    _checked("binary_cross_entropy_with_logits", input, target)
    softplus = prim.log1p(prim.exp(-prim.abs(input))) + prim.max(-input, 0)
    factor = 1 if pos_weight is None else (pos_weight - 1) * target + 1
    loss = (1 - target) * input + softplus * factor
    return _reduced(loss if weight is None else loss * weight, reduction)


def _class_axis(x: Any) -> int:
    return 0 if rank_of(x) == 1 else 1


def _picked(target: Any, x: Any, axis: int) -> Any:
    """Whether a place along the class axis is the target's."""
    return prim.eq(unsqueeze(target, axis), iota_like(target, shape_of(x), axis, dtype_of(target)))


@composition
def nll_loss(
    input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
) -> Any:
    """The negative of the logarithm of the probability that `input` [n, classes, ...] gives the target.

    Args:
        target: class indices [n, ...].
        weight: a factor for each class; the mean is weighed by it.
        ignore_index: targets of this value do not count. Others that are no class make the loss NaN.
    """
    return _class_loss("nll_loss", input, target, weight, ignore_index, reduction, 0.0)


@composition
def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Cross-entropy of softmax(input) along the classes (axis 1, or 0 of a vector).

    Args:
        input: scores [n, classes, ...] or [classes].
        target: class indices [n, ...], or probabilities of input's shape.
        weight: a factor for each class.
        ignore_index: class indices of this value do not count. Other indices that are no class make the
            loss NaN.
        label_smoothing: this part of the target is spread evenly over all classes.
    """
    logarithms = log_softmax(input, _class_axis(input))
    if shape_of(target) == shape_of(input) and dtype_of(target).is_float:
        return _soft_loss(logarithms, target, weight, reduction, label_smoothing)
    return _class_loss("cross_entropy", logarithms, target, weight, ignore_index, reduction, label_smoothing)


def _soft_loss(logarithms: Any, target: Any, weight: Any, reduction: str, smoothing: float) -> Any:
    axis = _class_axis(logarithms)
    classes = static(shape_of(logarithms)[axis], "cross_entropy")
    if smoothing:
        target = target * (1 - smoothing) + smoothing / classes
    terms = logarithms * target
    terms = terms if weight is None else terms * _class_weight(weight, logarithms)
    loss = -prim.sum(terms, axes=(axis,))
    return _reduced(loss, reduction)


def _class_weight(weight: Any, x: Any) -> Any:
    axis = _class_axis(x)
    shape = tuple(e if k == axis else 1 for k, e in enumerate(shape_of(x)))
    return weight if rank_of(x) == 1 else prim.reshape(weight, shape=shape)


def _class_loss(
    name: str,
    logarithms: Any,
    target: Any,
    weight: Any,
    ignore_index: int,
    reduction: str,
    smoothing: float,
) -> Any:
    axis = _class_axis(logarithms)
    _check_classes(name, logarithms, target, axis)
    counts = prim.ne(target, ignore_index)
    picked = _picked(target, logarithms, axis)
    weighed = None if weight is None else _class_weight(weight, logarithms)
    terms = logarithms if weighed is None else logarithms * weighed
    loss = -prim.sum(prim.where(picked, terms, 0), axes=(axis,))
    known = logical_and(prim.le(0, target), prim.lt(target, shape_of(logarithms)[axis]))
    loss = prim.where(counts, prim.where(known, loss, math.nan), 0)
    if smoothing:
        classes = static(shape_of(logarithms)[axis], name)
        even = -prim.sum(terms, axes=(axis,)) * (1 / classes)
        loss = loss * (1 - smoothing) + prim.where(counts, even, 0) * smoothing
    if reduction != "mean":
        return _reduced(loss, reduction)
    total = prim.sum(loss, axes=tuple(range(rank_of(loss))))
    if weighed is None:
        number = prim.sum(convert(counts, dtype_of(loss)), axes=tuple(range(rank_of(loss))))
    else:
        number = _total_weight(counts, picked, weighed, axis)
    return total / number


def _total_weight(counts: Any, picked: Any, weighed: Any, axis: int) -> Any:
    own = prim.sum(prim.where(picked, weighed, 0), axes=(axis,))
    return prim.sum(prim.where(counts, own, 0), axes=tuple(range(rank_of(own))))


def _check_classes(name: str, x: Any, target: Any, axis: int) -> None:
    shape = shape_of(x)
    if rank_of(x) == 0 or shape_of(target) != shape[:axis] + shape[axis + 1 :]:
        raise ShapeError(
            f"{name}: input is {list(shape)} (classes on axis {axis}) but target is {list(shape_of(target))}",
            hint="class indices have input's shape without the classes",
        )
    if not dtype_of(target).is_integer:
        raise DTypeError(f"{name}: class indices are {dtype_of(target)}", hint="use an integer type")


@composition
def kl_div(input: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Any:
    """Kullback-Leibler divergence of the target from exp(input); `batchmean` divides by the first extent."""
    _checked("kl_div", input, target)
    if log_target:
        loss = prim.exp(target) * (target - input)
    else:
        positive = prim.lt(0, target)
        own = target * prim.log(prim.where(positive, target, 1))
        loss = prim.where(positive, own, 0) - target * input
    if reduction == "batchmean":
        return _reduced(loss, "sum") / static(shape_of(input)[0], "kl_div")
    return _reduced(loss, reduction)


@composition
def soft_margin_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """log(1 + exp(-target * input)) for targets -1 and 1."""
    _checked("soft_margin_loss", input, target)
    inner = -target * input
    return _reduced(prim.max(inner, 0) + prim.log1p(prim.exp(-prim.abs(inner))), reduction)


@composition
def hinge_embedding_loss(input: Any, target: Any, margin: float = 1.0, reduction: str = "mean") -> Any:
    """The input where the target is 1, what it lacks to the margin where it is -1."""
    short = _positive_part(margin - input)
    loss = prim.where(prim.ne(target, 1), short, 0) + prim.where(prim.ne(target, -1), input, 0)
    return _reduced(loss, reduction)


def _positive_part(x: Any) -> Any:
    """x above 0, with derivative 1 at 0 as `clamp` has it."""
    return prim.where(prim.lt(x, 0), 0, x)


@composition
def margin_ranking_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> Any:
    """What input1 lacks (target 1) or exceeds (target -1) to rank against input2 by the margin."""
    return _reduced(_positive_part(-target * (input1 - input2) + margin), reduction)


@composition
def gaussian_nll_loss(
    input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Any:
    """Negative log-likelihood of the target under normal distributions; variances count as at least eps."""
    floor = clamp(prim.detach(var), min=eps) - prim.detach(var) + var
    loss = (prim.log(floor) + _square(input - target) / floor) * 0.5
    return _reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


@composition
def poisson_nll_loss(
    input: Any, target: Any, log_input: bool = True, full: bool = False, eps: float = 1e-8,
    reduction: str = "mean",
) -> Any:  # fmt: skip
    """Negative log-likelihood of the target under Poisson distributions of rate exp(input), or input;
    `full` adds Stirling's approximation of the constant for targets above 1."""
    loss = prim.exp(input) - target * input if log_input else input - target * prim.log(input + eps)
    if full:
        large = prim.lt(1, target)
        safe = prim.where(large, target, 1)
        stirling = safe * prim.log(safe) - safe + prim.log(safe * (2 * math.pi)) * 0.5
        loss = loss + prim.where(large, stirling, 0)
    return _reduced(loss, reduction)


@composition
def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """The cosine of the angle between vectors along `dim`; their lengths count as at least eps."""
    axis = axis_of(dim, max(rank_of(x1), rank_of(x2)))
    a, b = (x / clamp(norm(x, 2, axis, keepdim=True), min=eps) for x in (x1, x2))
    product = a * b
    return prim.sum(product, axes=(axis,))


@composition
def cosine_embedding_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> Any:
    """1 - cosine where the target is 1, the cosine above the margin where it is -1."""
    axis = rank_of(input1) - 1
    products = prim.sum(input1 * input2, axes=(axis,))
    lengths = (prim.sum(_square(input1), axes=(axis,)) + 1e-12) * (
        prim.sum(_square(input2), axes=(axis,)) + 1e-12
    )
    cosine = products / prim.sqrt(lengths)
    return _reduced(prim.where(prim.eq(target, 1), 1 - cosine, _positive_part(cosine - margin)), reduction)


@composition
def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    """The p-norm of x1 - x2 + eps along the last dimension."""
    return norm(x1 - x2 + eps, p, -1, keepdim)


@composition
def triplet_margin_loss(
    anchor: Any, positive: Any, negative: Any, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6,
    swap: bool = False, reduction: str = "mean",
) -> Any:  # fmt: skip
    """How much nearer, short of the margin, the positive is to the anchor than the negative."""
    near = pairwise_distance(anchor, positive, p, eps)
    far = pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = prim.min(far, pairwise_distance(positive, negative, p, eps))
    return _reduced(_positive_part(near - far + margin), reduction)
