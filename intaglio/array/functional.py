"""Functions on tensors with PyTorch's names and arguments; arrays among the arguments become Tensors.

What they compute is said in `ops.compositions`. Here they meet Tensors, and those that change running
statistics or draw random numbers find them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import numpy as np

from intaglio.array.random import rand
from intaglio.array.tensor import Tensor, no_grad, tensor
from intaglio.ops.compositions import (
    activation,
    attention,
    basic,
    convolution,
    indexing,
    loss,
    normalization,
    pooling,
    recurrent,
    reduction,
    resize,
)  # fmt: skip
from intaglio.ops.compositions import linear as products
from intaglio.ops.registry import prim
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, IntaglioError
from intaglio.shared.where import caller


def lift(value: Any) -> Any:
    """A Tensor of a NumPy array; anything else as it is."""
    return tensor(value) if isinstance(value, np.ndarray) else value


def _on_tensors(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*map(lift, args), **{name: lift(value) for name, value in kwargs.items()})
        except IntaglioError as error:
            error.where = error.where or caller()
            raise

    return wrapped


def _over_axes(function: Callable[..., Any], rank: int) -> Callable[..., Any]:
    """A pooling function for one number of spatial axes."""

    def pool(x: Any, *args: Any, **kwargs: Any) -> Any:
        return function(rank, lift(x), *args, **kwargs)

    pool.__doc__ = function.__doc__
    pool.__name__ = f"{function.__name__}{rank}d"
    return pool


# Products and convolutions

linear = _on_tensors(products.linear)
bilinear = _on_tensors(products.bilinear)
matmul = _on_tensors(products.matmul)
conv1d = _on_tensors(convolution.conv1d)
conv2d = _on_tensors(convolution.conv2d)
conv3d = _on_tensors(convolution.conv3d)
conv_transpose1d = _on_tensors(convolution.conv_transpose)
conv_transpose2d = _on_tensors(convolution.conv_transpose)
one_hot = _on_tensors(indexing.one_hot)


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """`dropout(softmax(query @ key^T * scale + mask)) @ value`; drawn anew at every call."""
    q, k, v = lift(query), lift(key), lift(value)
    mask = None if attn_mask is None else lift(attn_mask)
    drop = partial(dropout, p=dropout_p) if dropout_p else None
    return attention.scaled_dot_product_attention(q, k, v, mask, is_causal, scale, enable_gqa, drop)


def embedding(index: Any, weight: Any, padding_idx: int | None = None) -> Any:
    """Rows of `weight` by index; the row `padding_idx` gets no gradient."""
    index, weight = lift(index), lift(weight)
    rows = indexing.embedding(index, weight)
    if padding_idx is None:
        return rows
    count = basic.shape_of(weight)[0]
    padding = prim.eq(index, padding_idx + count if padding_idx < 0 else padding_idx)
    return prim.where(basic.unsqueeze(padding, -1), prim.detach(rows), rows)


# Activations

relu = _on_tensors(activation.relu)
relu6 = _on_tensors(activation.relu6)
leaky_relu = _on_tensors(activation.leaky_relu)
prelu = _on_tensors(activation.prelu)
elu = _on_tensors(activation.elu)
celu = _on_tensors(activation.celu)
selu = _on_tensors(activation.selu)
gelu = _on_tensors(activation.gelu)
silu = _on_tensors(activation.silu)
mish = _on_tensors(activation.mish)
sigmoid = _on_tensors(activation.sigmoid)
logsigmoid = _on_tensors(activation.log_sigmoid)
tanh = _on_tensors(prim.tanh)
tanhshrink = _on_tensors(activation.tanhshrink)
hardtanh = _on_tensors(activation.hardtanh)
hardsigmoid = _on_tensors(activation.hardsigmoid)
hardswish = _on_tensors(activation.hardswish)
hardshrink = _on_tensors(activation.hardshrink)
softshrink = _on_tensors(activation.softshrink)
softplus = _on_tensors(activation.softplus)
softsign = _on_tensors(activation.softsign)
threshold = _on_tensors(activation.threshold)
glu = _on_tensors(activation.glu)


def softmax(x: Any, dim: int | None = None) -> Any:
    """Exponentials along `dim`, scaled to sum to 1."""
    return activation.softmax(lift(x), _implicit(x, dim))


def softmin(x: Any, dim: int | None = None) -> Any:
    """Softmax of the negated elements."""
    return activation.softmin(lift(x), _implicit(x, dim))


def log_softmax(x: Any, dim: int | None = None) -> Any:
    """Logarithm of the softmax, without overflow."""
    return activation.log_softmax(lift(x), _implicit(x, dim))


def _implicit(x: Any, dim: int | None) -> int:
    """PyTorch's choice when `dim` is not given: 0 for 0, 1 or 3 axes, else 1."""
    return dim if dim is not None else 0 if len(x.shape) in (0, 1, 3) else 1


# Normalisation

layer_norm = _on_tensors(normalization.layer_norm)
rms_norm = _on_tensors(normalization.rms_norm)
group_norm = _on_tensors(normalization.group_norm)
local_response_norm = _on_tensors(normalization.local_response_norm)
normalize = _on_tensors(normalization.normalize)


def batch_norm(
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Normalise every channel (axis 1).

    In training by the batch's own mean and variance, and the running ones, when given, move towards
    them in place; else by the running ones.
    """
    x = lift(x)
    if not training:
        return normalization.batch_norm(x, running_mean, running_var, weight, bias, eps)
    normalised, mean, variance = normalization.batch_norm_training(x, weight, bias, eps)
    if running_mean is not None:
        track(running_mean, mean, momentum)
        track(running_var, variance, momentum)
    return normalised


def instance_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Normalise every channel of every sample by its own mean and variance, or by running ones.

    Running statistics that are given move towards the means over the batch, in place.
    """
    x = lift(x)
    if not use_input_stats:
        return normalization.batch_norm(x, running_mean, running_var, weight, bias, eps)
    if running_mean is not None:
        axes = tuple(range(2, len(x.shape)))
        variance, mean = reduction.var_mean(x, axes)
        track(running_mean, reduction.mean(mean, 0), momentum)
        track(running_var, reduction.mean(variance, 0), momentum)
    return normalization.instance_norm(x, weight, bias, eps)


def track(running: Tensor, value: Any, momentum: Any) -> None:
    """Move a running statistic towards a value, in place and without gradient."""
    with no_grad():
        running.copy_((1 - momentum) * running + momentum * value.detach())


# Random numbers


def dropout(x: Any, p: float = 0.5, training: bool = True) -> Any:
    """Zero each element with probability `p` and scale the others by `1 / (1 - p)`."""
    return _dropped(lift(x), x.shape, p, training)


def dropout1d(x: Any, p: float = 0.5, training: bool = True) -> Any:
    """Zero whole channels of [n, c, l] or [c, l] with probability `p`."""
    return _dropped(lift(x), (*x.shape[:-1], 1), p, training)


def dropout2d(x: Any, p: float = 0.5, training: bool = True) -> Any:
    """Zero whole channels of [n, c, h, w] or [c, h, w] with probability `p`."""
    return _dropped(lift(x), (*x.shape[:-2], 1, 1), p, training)


def _dropped(x: Any, shape: tuple[Any, ...], p: float, training: bool) -> Any:
    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout: p is {p}, a probability is between 0 and 1", where=caller())
    if not training or p == 0:
        return x
    if p == 1:
        return prim.where(prim.lt(x, x), x, 0.0)
    return prim.where(prim.le(p, rand(shape)), x * (1 / (1 - p)), 0.0)


# Windows, padding, resizing

max_pool1d = _over_axes(pooling.max_pool, 1)
max_pool2d = _over_axes(pooling.max_pool, 2)
max_pool3d = _over_axes(pooling.max_pool, 3)
avg_pool1d = _over_axes(pooling.avg_pool, 1)
avg_pool2d = _over_axes(pooling.avg_pool, 2)
avg_pool3d = _over_axes(pooling.avg_pool, 3)
adaptive_avg_pool1d = _over_axes(pooling.adaptive_avg_pool, 1)
adaptive_avg_pool2d = _over_axes(pooling.adaptive_avg_pool, 2)
adaptive_max_pool1d = _over_axes(pooling.adaptive_max_pool, 1)
adaptive_max_pool2d = _over_axes(pooling.adaptive_max_pool, 2)
pad = _on_tensors(resize.pad)
interpolate = _on_tensors(resize.interpolate)
pixel_shuffle = _on_tensors(resize.pixel_shuffle)
pixel_unshuffle = _on_tensors(resize.pixel_unshuffle)
unfold = _on_tensors(resize.unfold)
fold = _on_tensors(resize.fold)

# Recurrent cells behind the input's product with its weights

rnn_gates = _on_tensors(recurrent.rnn_gates)
lstm_gates = _on_tensors(recurrent.lstm_gates)
gru_gates = _on_tensors(recurrent.gru_gates)

# Losses


def _with_classes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Class indices are checked where they are known, eagerly, and may be of any integer type."""

    @wraps(function)
    def checked(
        input: Any, target: Any, weight: Any = None, ignore_index: int = -100, *rest: Any, **options: Any
    ) -> Any:
        if target.dtype.is_integer:
            target = basic.convert(target, dtypes.i64)
            classes = input.shape[1] if len(input.shape) > 1 else input.shape[0]
            if not target.is_traced:
                known = target.numpy()
                wrong = known[((known < 0) | (known >= classes)) & (known != ignore_index)]
                if wrong.size:
                    raise ArgumentError(f"{function.__name__}: target {wrong[0]} is no class of {classes}")
        return function(input, target, weight, ignore_index, *rest, **options)

    return checked


mse_loss = _on_tensors(loss.mse_loss)
l1_loss = _on_tensors(loss.l1_loss)
smooth_l1_loss = _on_tensors(loss.smooth_l1_loss)
huber_loss = _on_tensors(loss.huber_loss)
cross_entropy = _on_tensors(_with_classes(loss.cross_entropy))
nll_loss = _on_tensors(_with_classes(loss.nll_loss))
binary_cross_entropy = _on_tensors(loss.binary_cross_entropy)
binary_cross_entropy_with_logits = _on_tensors(loss.binary_cross_entropy_with_logits)
kl_div = _on_tensors(loss.kl_div)
soft_margin_loss = _on_tensors(loss.soft_margin_loss)
hinge_embedding_loss = _on_tensors(loss.hinge_embedding_loss)
margin_ranking_loss = _on_tensors(loss.margin_ranking_loss)
cosine_embedding_loss = _on_tensors(loss.cosine_embedding_loss)
triplet_margin_loss = _on_tensors(loss.triplet_margin_loss)
gaussian_nll_loss = _on_tensors(loss.gaussian_nll_loss)
poisson_nll_loss = _on_tensors(loss.poisson_nll_loss)
cosine_similarity = _on_tensors(loss.cosine_similarity)
pairwise_distance = _on_tensors(loss.pairwise_distance)

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "batch_norm", "bilinear", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "celu", "conv1d", "conv2d", "conv3d", "conv_transpose1d",
    "conv_transpose2d", "cosine_embedding_loss", "cosine_similarity", "cross_entropy", "dropout",
    "dropout1d", "dropout2d", "elu", "embedding", "fold", "gaussian_nll_loss", "gelu", "glu",
    "group_norm", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "hinge_embedding_loss",
    "huber_loss", "instance_norm", "interpolate", "kl_div", "l1_loss", "layer_norm", "leaky_relu",
    "lift", "linear", "local_response_norm", "log_softmax", "logsigmoid", "margin_ranking_loss",
    "matmul", "max_pool1d", "max_pool2d", "max_pool3d", "mish", "mse_loss", "nll_loss", "normalize",
    "one_hot", "pad", "pairwise_distance", "pixel_shuffle", "pixel_unshuffle", "poisson_nll_loss",
    "prelu", "relu", "relu6", "rms_norm", "scaled_dot_product_attention", "selu", "sigmoid", "silu",
    "smooth_l1_loss", "soft_margin_loss", "softmax", "softmin", "softplus", "softshrink", "softsign",
    "tanh", "tanhshrink", "threshold", "triplet_margin_loss", "unfold",
]  # fmt: skip
