"""Initial values: arrays for new parameters, and PyTorch's in-place initialisers."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from intaglio.array.random import generator
from intaglio.array.tensor import Tensor, no_grad, tensor
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, ShapeError

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]


def uniform(shape: Shape, bound: float, dtype: Any = "f32") -> Array:
    """Draws from the interval between `-bound` and `bound`."""
    values: Array = generator().uniform(-bound, bound, shape)
    return values.astype(dtypes.parse(dtype).numpy)


def normal(shape: Shape, std: float, dtype: Any = "f32") -> Array:
    """Draws from the normal distribution of mean 0."""
    values: Array = std * generator().standard_normal(shape)
    return values.astype(dtypes.parse(dtype).numpy)


def _fill(x: Tensor, values: Array) -> Tensor:
    with no_grad():
        x.copy_(tensor(values.astype(x.dtype.numpy)))
    return x


def uniform_(x: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Fill with draws from the interval [a, b)."""
    return _fill(x, generator().uniform(a, b, _shape(x)))


def normal_(x: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Fill with draws from a normal distribution."""
    return _fill(x, mean + std * generator().standard_normal(_shape(x)))


def constant_(x: Tensor, value: float) -> Tensor:
    """Fill with one value."""
    return _fill(x, np.full(_shape(x), value))


def zeros_(x: Tensor) -> Tensor:
    """Fill with zeros."""
    return constant_(x, 0.0)


def ones_(x: Tensor) -> Tensor:
    """Fill with ones."""
    return constant_(x, 1.0)


def xavier_uniform_(x: Tensor, gain: float = 1.0) -> Tensor:
    """Glorot and Bengio: uniform with variance `2 gain^2 / (fan_in + fan_out)`."""
    bound = gain * math.sqrt(6 / sum(fans(_shape(x))))
    return uniform_(x, -bound, bound)


def xavier_normal_(x: Tensor, gain: float = 1.0) -> Tensor:
    """Glorot and Bengio: normal with variance `2 gain^2 / (fan_in + fan_out)`."""
    return normal_(x, 0.0, gain * math.sqrt(2 / sum(fans(_shape(x)))))


Mode = Literal["fan_in", "fan_out"]


def kaiming_uniform_(
    x: Tensor, a: float = 0.0, mode: Mode = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """He et al.: uniform with variance `gain^2 / fan`; `a` is the slope of a leaky ReLU."""
    bound = math.sqrt(3) * _kaiming_std(x, a, mode, nonlinearity)
    return uniform_(x, -bound, bound)


def kaiming_normal_(
    x: Tensor, a: float = 0.0, mode: Mode = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """He et al.: normal with variance `gain^2 / fan`; `a` is the slope of a leaky ReLU."""
    return normal_(x, 0.0, _kaiming_std(x, a, mode, nonlinearity))


def orthogonal_(x: Tensor, gain: float = 1.0) -> Tensor:
    """Saxe et al.: a random (semi-)orthogonal matrix; axes after the first count as one."""
    shape = _shape(x)
    if len(shape) < 2:
        raise ShapeError(f"orthogonal_: {list(shape)} has fewer than 2 axes")
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(generator().standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))
    return _fill(x, gain * (q if rows >= columns else q.T).reshape(shape))


def _kaiming_std(x: Tensor, a: float, mode: Mode, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"kaiming: mode {mode!r} is neither fan_in nor fan_out")
    return calculate_gain(nonlinearity, a) / math.sqrt(fans(_shape(x))[mode == "fan_out"])


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """By how much weights must be larger to keep the variance through a nonlinearity."""
    slope = 0.01 if param is None else param
    gains = dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d", "sigmoid"), 1.0)
    gains |= {"tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75, "leaky_relu": math.sqrt(2 / (1 + slope**2))}
    if nonlinearity not in gains:
        raise ArgumentError(
            f"calculate_gain: nonlinearity {nonlinearity!r} is unknown", hint=f"use {', '.join(gains)}"
        )
    return gains[nonlinearity]


def fans(shape: Shape) -> tuple[int, int]:
    """Inputs and outputs of one unit of a weight [out, in, ...]. Raises ShapeError below 2 axes."""
    if len(shape) < 2:
        raise ShapeError(
            f"the fans of a weight of shape {list(shape)} are not defined: it has fewer than 2 axes"
        )
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def _shape(x: Tensor) -> Shape:
    return tuple(int(extent) for extent in x.shape)
