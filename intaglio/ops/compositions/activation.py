"""Activation functions, with PyTorch's names, edges and derivatives at the edges.

Where one side of a `where` could overflow, its argument is made harmless first: 0 times infinity in the
derivative would be NaN.
"""

from __future__ import annotations

import math
from typing import Any

from intaglio.ops.compositions.basic import axis_of, rank_of, reshape, shape_of
from intaglio.ops.dispatch import composition
from intaglio.ops.reduce import keepdims
from intaglio.ops.registry import prim
from intaglio.shared.errors import ShapeError

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@composition
def relu(x: Any) -> Any:
    """max(x, 0), with derivative 0 at 0."""
    return prim.where(prim.le(x, 0), 0, x)


@composition
def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    """x where positive, `negative_slope * x` elsewhere."""
    return prim.where(prim.lt(0, x), x, x * negative_slope)


@composition
def prelu(x: Any, weight: Any) -> Any:
    """x where positive, `weight * x` elsewhere; one weight, or one for each channel (axis 1)."""
    if rank_of(weight) == 1 and shape_of(weight)[0] != 1 and rank_of(x) > 1:
        weight = reshape(weight, (-1, *(1 for _ in range(rank_of(x) - 2))))
    return prim.where(prim.lt(0, x), x, prim.mul(weight, x))


@composition
def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """x between two bounds, with derivative 0 at the bounds."""
    return prim.where(prim.le(x, min_val), min_val, prim.where(prim.le(max_val, x), max_val, x))


@composition
def relu6(x: Any) -> Any:
    """x between 0 and 6."""
    return hardtanh(x, 0.0, 6.0)


@composition
def hardsigmoid(x: Any) -> Any:
    """x / 6 + 1/2 between 0 and 1."""
    inner = x * (1 / 6) + 0.5
    return prim.where(prim.le(x, -3), 0, prim.where(prim.le(3, x), 1, inner))


@composition
def hardswish(x: Any) -> Any:
    """x * hardsigmoid(x)."""
    return prim.where(prim.le(x, -3), 0, prim.where(prim.le(3, x), x, x * (x + 3) * (1 / 6)))


@composition
def elu(x: Any, alpha: float = 1.0) -> Any:
    """x where positive, alpha * (exp(x) - 1) elsewhere."""
    positive = prim.lt(0, x)
    return prim.where(positive, x, prim.expm1(prim.where(positive, 0, x)) * alpha)


@composition
def celu(x: Any, alpha: float = 1.0) -> Any:
    """x where positive, alpha * (exp(x / alpha) - 1) elsewhere."""
    positive = prim.lt(0, x)
    return prim.where(positive, x, prim.expm1(prim.where(positive, 0, x) * (1 / alpha)) * alpha)


@composition
def selu(x: Any) -> Any:
    """elu scaled so that variances stay near 1."""
    return elu(x, SELU_ALPHA) * SELU_SCALE


@composition
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return prim.sigmoid(x)


@composition
def log_sigmoid(x: Any) -> Any:
    """log(sigmoid(x)), without underflow."""
    return prim.min(x, 0) - prim.log1p(prim.exp(-prim.abs(x)))


@composition
def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x exceeds the threshold."""
    scaled = x if beta == 1 else x * beta
    smooth = prim.max(scaled, 0) + prim.log1p(prim.exp(-prim.abs(scaled)))
    return prim.where(prim.lt(threshold, scaled), x, smooth if beta == 1 else smooth * (1 / beta))


@composition
def silu(x: Any) -> Any:
    """x * sigmoid(x)."""
    return x * prim.sigmoid(x)


@composition
def mish(x: Any) -> Any:
    """x * tanh(softplus(x))."""
    return x * prim.tanh(softplus(x))


@composition
def gelu(x: Any, approximate: str = "none") -> Any:
    """x times the normal distribution's probability below x; `tanh` approximates it."""
    if approximate == "tanh":
        inner = (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)
        return x * 0.5 * (prim.tanh(inner) + 1)
    return x * 0.5 * (prim.erf(x * math.sqrt(0.5)) + 1)


@composition
def softsign(x: Any) -> Any:
    """x / (1 + |x|)."""
    return x / (prim.abs(x) + 1)


@composition
def tanhshrink(x: Any) -> Any:
    """x - tanh(x)."""
    return x - prim.tanh(x)


@composition
def hardshrink(x: Any, lambd: float = 0.5) -> Any:
    """x where its absolute value exceeds `lambd`, else 0."""
    inside = prim.and_(prim.le(-lambd, x), prim.le(x, lambd))
    return prim.where(inside, 0, x)


@composition
def softshrink(x: Any, lambd: float = 0.5) -> Any:
    """x moved towards 0 by `lambd`, 0 where it is nearer."""
    return prim.where(prim.lt(lambd, x), x - lambd, prim.where(prim.lt(x, -lambd), x + lambd, x * 0))


@composition
def threshold(x: Any, threshold: float, value: float) -> Any:
    """x where it exceeds the threshold, else `value`."""
    return prim.where(prim.le(x, threshold), value, x)


@composition
def glu(x: Any, dim: int = -1) -> Any:
    """The first half along `dim` times the sigmoid of the second."""
    axis, shape = axis_of(dim, rank_of(x)), shape_of(x)
    size = shape[axis]
    if not isinstance(size, int) or size % 2:
        raise ShapeError(f"glu: dimension {axis} of {list(shape)} cannot be halved")
    step = (1,) * len(shape)
    zeros = (0,) * len(shape)
    middle = (*shape[:axis], size // 2, *shape[axis + 1 :])
    second = tuple(size // 2 if k == axis else 0 for k in range(len(shape)))
    a = prim.slice(x, start=zeros, stop=middle, step=step)
    b = prim.slice(x, start=second, stop=shape, step=step)
    return a * prim.sigmoid(b)


@composition
def softmax(x: Any, dim: int = -1) -> Any:
    """exp(x) divided by its sum along `dim`."""
    exponentials = prim.exp(_shifted(x, dim))
    return exponentials * _along(prim.div(1.0, _total(exponentials, dim)), x, dim)


@composition
def softmin(x: Any, dim: int = -1) -> Any:
    """softmax(-x)."""
    return softmax(-x, dim)


@composition
def log_softmax(x: Any, dim: int = -1) -> Any:
    """log(softmax(x)), without underflow."""
    shifted = _shifted(x, dim)
    return shifted - _along(prim.log(_total(prim.exp(shifted), dim)), x, dim)


def _shifted(x: Any, dim: int) -> Any:
    """x minus its maximum along `dim`, which changes neither softmax nor its derivative."""
    if 0 in shape_of(x):
        return x
    axes = _axes(x, dim)
    return x - prim.detach(keepdims(prim.reduce_max(x, axes=axes), x, axes))


def _total(x: Any, dim: int) -> Any:
    return prim.sum(x, axes=_axes(x, dim))


def _along(reduced: Any, x: Any, dim: int) -> Any:
    return keepdims(reduced, x, _axes(x, dim))


def _axes(x: Any, dim: int) -> tuple[int, ...]:
    return (axis_of(dim, rank_of(x)),) if rank_of(x) else ()
