"""Activation functions: elementwise ones with their attributes, and those along an axis."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from intaglio.ops.compositions import activation as functions
from intaglio.ops.compositions.basic import axis_of, convert, dtype_of, flatten, iota_like, reshape, shape_of
from intaglio.ops.reduce import keepdims
from intaglio.ops.registry import prim
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op

SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def hard_sigmoid(x: Operand, alpha: float, beta: float) -> Any:
    """`alpha * x + beta` between 0 and 1."""
    return prim.max(prim.min(prim.mul(x, alpha) + beta, 1), 0)


def thresholded_relu(x: Operand, alpha: float) -> Any:
    """x where it exceeds alpha, else 0."""
    return prim.where(prim.lt(alpha, x), x, 0)


def swish(x: Operand, alpha: float) -> Any:
    """x * sigmoid(alpha * x)."""
    return x * prim.sigmoid(x if alpha == 1 else prim.mul(x, alpha))


def softplus(x: Operand) -> Any:
    """log(1 + exp(x))."""
    return functions.softplus(x, threshold=math.inf)


def mish(x: Operand) -> Any:
    """x * tanh(softplus(x))."""
    return x * prim.tanh(softplus(x))


def selu(x: Operand, alpha: float, gamma: float) -> Any:
    """`elu` times gamma."""
    return prim.mul(functions.elu(x, alpha), gamma)


def hard_swish(x: Operand) -> Any:
    """x * hard_sigmoid(x) with slope 1 / 6."""
    return x * hard_sigmoid(x, 1 / 6, 0.5)


def shrink(x: Operand, bias: float, lambd: float) -> Any:
    """x moved towards 0 by bias where its absolute value exceeds lambd, else 0."""
    below = prim.where(prim.lt(x, -lambd), prim.add(x, bias), 0)
    return convert(prim.where(prim.lt(lambd, x), prim.sub(x, bias), below), dtype_of(x))


ELEMENTWISE: dict[str, tuple[Callable[..., Any], dict[str, float]]] = {
    "Celu": (functions.celu, {"alpha": 1.0}),
    "Elu": (functions.elu, {"alpha": 1.0}),
    "HardSigmoid": (hard_sigmoid, {"alpha": 0.2, "beta": 0.5}),
    "HardSwish": (hard_swish, {}),
    "LeakyRelu": (functions.leaky_relu, {"alpha": 0.01}),
    "Mish": (mish, {}),
    "Relu": (functions.relu, {}),
    "Selu": (selu, {"alpha": SELU_ALPHA, "gamma": SELU_GAMMA}),
    "Shrink": (shrink, {"bias": 0.0, "lambd": 0.5}),
    "Sigmoid": (functions.sigmoid, {}),
    "Softplus": (softplus, {}),
    "Softsign": (functions.softsign, {}),
    "Swish": (swish, {"alpha": 1.0}),
    "ThresholdedRelu": (thresholded_relu, {"alpha": 1.0}),
}


def _elementwise(function: Callable[..., Any], defaults: dict[str, float], call: OnnxCall, x: Operand) -> Any:
    return function(x, *(call.attr(name, default) for name, default in defaults.items()))


for _name, (_function, _defaults) in ELEMENTWISE.items():
    onnx_op(_name)(partial(_elementwise, _function, _defaults))


@onnx_op("Gelu")
def gelu(call: OnnxCall, x: Operand) -> Any:
    return functions.gelu(x, call.attr("approximate", "none"))


@onnx_op("PRelu")
def prelu(_: OnnxCall, x: Operand, slope: Operand) -> Any:
    return prim.where(prim.lt(x, 0), prim.mul(slope, x), x)


@onnx_op("SwiGLU")
def swiglu(call: OnnxCall, gate: Operand, x: Operand) -> Any:
    return swish(gate, call.attr("alpha", 1.0)) * x


def hardmax(x: Any, dim: int = -1) -> Any:
    """1 at the first of the largest elements along `dim`, 0 elsewhere."""
    axis = axis_of(dim, len(x.shape))
    best = keepdims(prim.argmax(x, axes=(axis,)), x, (axis,))
    return convert(prim.eq(best, iota_like(x, shape_of(x), axis)), dtype_of(x))


ALONG_AXIS: dict[str, Callable[..., Any]] = {
    "Hardmax": hardmax,
    "LogSoftmax": functions.log_softmax,
    "Softmax": functions.softmax,
}


def _along_axis(function: Callable[..., Any], call: OnnxCall, x: Operand) -> Any:
    return function(x, call.attr("axis", -1))


def _along_trailing_axes(function: Callable[..., Any], call: OnnxCall, x: Operand) -> Any:
    """Before operator set 13 all axes from `axis` on count as one."""
    rank = len(x.shape)
    given = call.attr("axis", 1)
    axis = rank if given == rank else axis_of(given, rank, "axis")
    if axis == rank - 1:
        return function(x, -1)
    rows = flatten(x, axis) if axis < rank else reshape(x, (*x.shape, 1))
    return reshape(function(rows, -1), x.shape)


for _name, _function in ALONG_AXIS.items():
    onnx_op(_name)(partial(_along_trailing_axes, _function))
    onnx_op(_name, 13)(partial(_along_axis, _function))
