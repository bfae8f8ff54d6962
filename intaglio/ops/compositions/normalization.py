"""Normalization over batches, layers, groups and instances, with PyTorch's conventions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from intaglio.ops.compositions.basic import dtype_of, rank_of, reshape, shape_of
from intaglio.ops.compositions.functions import clamp, rsqrt
from intaglio.ops.compositions.reduction import mean, norm, number_of, var_mean
from intaglio.ops.dispatch import composition
from intaglio.ops.reduce import keepdims
from intaglio.ops.registry import prim
from intaglio.shared.errors import ShapeError
from intaglio.shared.index import IndexLike


def _affine(y: Any, weight: Any, bias: Any) -> Any:
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _standardized(x: Any, axes: tuple[int, ...], eps: float) -> Any:
    """x minus its mean over `axes`, divided by its standard deviation."""
    spread, average = var_mean(x, axes, correction=0)
    return (x - keepdims(average, x, axes)) * keepdims(rsqrt(spread + eps), x, axes)


def _trailing_axes(name: str, x: Any, normalized_shape: int | Sequence[IndexLike]) -> tuple[int, ...]:
    """The axes of `normalized_shape`. Raises ShapeError unless x ends in it."""
    wanted = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    shape = shape_of(x)
    if not wanted or shape[len(shape) - len(wanted) :] != wanted:
        raise ShapeError(f"{name}: x is {list(shape)}, which does not end in {list(wanted)}")
    return tuple(range(len(shape) - len(wanted), len(shape)))


@composition
def layer_norm(
    x: Any,
    normalized_shape: int | Sequence[IndexLike],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Any:
    """Zero mean and unit variance over the last dimensions, then times weight, plus bias."""
    return _affine(_standardized(x, _trailing_axes("layer_norm", x, normalized_shape), eps), weight, bias)


@composition
def rms_norm(
    x: Any, normalized_shape: int | Sequence[IndexLike], weight: Any = None, eps: float | None = None
) -> Any:
    """x divided by the root of its mean square over the last dimensions, then times weight."""
    axes = _trailing_axes("rms_norm", x, normalized_shape)
    eps = dtype_of(x).epsilon if eps is None else eps
    return _affine(x * keepdims(rsqrt(mean(x * x, axes) + eps), x, axes), weight, None)


def _channels(values: Any, x: Any) -> Any:
    """One value per channel, shaped to meet axis 1 of x."""
    return None if values is None else reshape(values, (-1, *(1 for _ in range(rank_of(x) - 2))))


@composition
def batch_norm(
    x: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """Batch normalization with given statistics, one per channel (axis 1)."""
    scale = rsqrt(running_var + eps)
    scale = scale if weight is None else scale * weight
    return _affine((x - _channels(running_mean, x)) * _channels(scale, x), None, _channels(bias, x))


@composition
def batch_norm_training(
    x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> tuple[Any, Any, Any]:
    """Batch normalization with the batch's own statistics.

    Returns:
        The result, and per channel the mean and the unbiased variance for running statistics.
    """
    axes = tuple(k for k in range(rank_of(x)) if k != 1)
    count = number_of(x, axes)
    if isinstance(count, int) and count < 2:
        raise ShapeError(f"batch_norm: x is {list(shape_of(x))}: one value per channel has no variance")
    spread, average = var_mean(x, axes, correction=0)
    scale = rsqrt(spread + eps)
    scale = scale if weight is None else scale * weight
    y = _affine((x - keepdims(average, x, axes)) * keepdims(scale, x, axes), None, _channels(bias, x))
    unbiased = spread * (count / (count - 1)) if isinstance(count, int) else var_mean(x, axes)[0]
    return y, average, unbiased


@composition
def group_norm(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Zero mean and unit variance over groups of channels (axis 1), then per channel times
    weight, plus bias."""
    shape = shape_of(x)
    if len(shape) < 2 or (isinstance(shape[1], int) and shape[1] % num_groups):
        raise ShapeError(f"group_norm: {num_groups} groups do not divide the channels of {list(shape)}")
    grouped = reshape(x, (shape[0], num_groups, shape[1] // num_groups, *shape[2:]))
    y = reshape(_standardized(grouped, tuple(range(2, len(shape) + 1)), eps), shape)
    return _affine(y, _channels(weight, x), _channels(bias, x))


@composition
def instance_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Zero mean and unit variance over every channel of every sample, then times weight, plus bias."""
    y = _standardized(x, tuple(range(2, rank_of(x))), eps)
    return _affine(y, _channels(weight, x), _channels(bias, x))


@composition
def local_response_norm(
    x: Any,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    more_behind: bool = False,
) -> Any:
    """x divided by (k + alpha * mean of squares over `size` neighbouring channels) to the power beta.

    Of an even number of neighbours one more lies before the channel, or behind it with `more_behind`."""
    shape = shape_of(x)
    fewer, more = (size - 1) // 2, size // 2
    squares = reshape(x * x, (shape[0], 1, shape[1], -1))
    window = prim.unfold(
        squares,
        kernel=(size, 1),
        strides=(1, 1),
        dilations=(1, 1),
        padding=((fewer, more) if more_behind else (more, fewer), (0, 0)),
        value=0.0,
    )
    total = reshape(prim.sum(window, axes=(4, 5)), shape)
    return x / prim.pow(total * (alpha / size) + k, beta)


@composition
def normalize(x: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Any:
    """x divided by its p-norm along `dim`, which counts as at least eps."""
    return x / clamp(norm(x, p, dim, keepdim=True), min=eps)
