"""Operators of neural networks: products, convolution, pooling, normalization, attention, resizing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from intaglio.graph.grad import gradient
from intaglio.ops.compositions import (
    convolution,
    indexing,
    linear,
    loss,
    normalization,
    pooling,
    resize,
    sampling,
)
from intaglio.ops.compositions.basic import dtype_of, rank_of, reshape, shape_of, transpose
from intaglio.ops.compositions.fractional import fractional_max_pool as fractional_max_pool_of
from intaglio.ops.compositions.functions import rsqrt
from intaglio.ops.compositions.reduction import var_mean
from intaglio.ops.registry import prim
from intaglio.readers.torch.checks import check_index
from intaglio.readers.torch.registry import FxCall, aten, direct
from intaglio.shared.errors import UnsupportedError

REDUCTIONS = ("none", "mean", "sum")

direct(
    {
        "mm": linear.matmul,
        "bmm": linear.matmul,
        "mv": linear.matmul,
        "dot": linear.matmul,
        "matmul": linear.matmul,
        "linear": linear.linear,
        "outer": linear.outer,
        "einsum": lambda equation, operands, path=None: linear.einsum(equation, *operands),
        "mse_loss": lambda x, y, reduction=1: loss.mse_loss(x, y, REDUCTIONS[reduction]),
        "smooth_l1_loss": lambda x, y, reduction=1, beta=1.0: loss.smooth_l1_loss(
            x, y, REDUCTIONS[reduction], beta
        ),
        "huber_loss": lambda x, y, reduction=1, delta=1.0: loss.huber_loss(
            x, y, REDUCTIONS[reduction], delta
        ),
        "col2im": lambda x, size, kernel, dilation, padding, stride: resize.fold(
            x, size, kernel, dilation, padding, stride
        ),
        "im2col": lambda x, kernel, dilation, padding, stride: resize.unfold(
            x, kernel, dilation, padding, stride
        ),
    }
)


@aten("addmm", "addmv", "baddbmm")
def addmm(call: FxCall, x: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    product = linear.matmul(a, b)
    product = product if alpha == 1 else product * alpha
    return product if beta == 0 else product + (x if beta == 1 else x * beta)


@aten("convolution", "conv1d", "conv2d", "conv3d")
def conv(call: FxCall, x: Any, weight: Any, bias: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
         transposed: Any = False, output_padding: Any = 0, groups: int = 1) -> Any:  # fmt: skip
    if call.node.target._opname != "convolution":  # type: ignore[union-attr]
        groups, transposed = transposed if not isinstance(transposed, bool) else 1, False
    if not transposed:
        return convolution.conv(x, weight, bias, sizes(stride), sizes(padding), sizes(dilation), groups)
    return convolution.conv_transpose(
        x, weight, bias, sizes(stride), sizes(padding), sizes(output_padding), groups, sizes(dilation)
    )


def sizes(value: Any) -> Any:
    """One number for all axes, or a tuple."""
    if isinstance(value, list):
        return value[0] if len(value) == 1 else tuple(value)
    return value


@aten("convolution_backward")
def convolution_backward(
    call: FxCall,
    g: Any,
    x: Any,
    weight: Any,
    bias_sizes: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    mask: Sequence[bool],
) -> Any:
    """The derivatives by image, weight and bias that the mask asks for."""
    axes = tuple(k for k in range(rank_of(g)) if k != 1)
    by_bias = prim.sum(g, axes=axes) if mask[2] else None
    if transposed:
        y = convolution.conv_transpose(
            x, weight, None, sizes(stride), sizes(padding), sizes(output_padding), groups, sizes(dilation)
        )
        return (*gradient(call.graph, y, [x, weight], g), by_bias)
    rank = rank_of(weight) - 2
    wide = [tuple(v * rank if len(v) == 1 else v) for v in (list(stride), list(padding), list(dilation))]
    attrs: dict[str, Any] = {
        "strides": wide[0],
        "dilations": wide[2],
        "padding": tuple((p, p) for p in wide[1]),
        "groups": groups,
    }
    by_image = prim.conv_dx(g, weight, size=shape_of(x)[2:], **attrs) if mask[0] else None
    by_weight = prim.conv_dw(x, g, kernel=shape_of(weight)[2:], **attrs) if mask[1] else None
    return by_image, by_weight, by_bias


@aten("max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices",
      "max_pool1d_with_indices")  # fmt: skip
def max_pool(call: FxCall, x: Any, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
             ceil_mode: bool = False) -> Any:  # fmt: skip
    name = call.node.target._opname  # type: ignore[union-attr]
    rank, indices = spatial(name), name.endswith("_indices")
    return pooling.max_pool(
        rank, x, sizes(kernel), sizes(stride) or None, sizes(padding), sizes(dilation), ceil_mode, indices
    )


@aten("avg_pool1d", "avg_pool2d", "avg_pool3d")
def avg_pool(call: FxCall, x: Any, kernel: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False,
             count_include_pad: bool = True, divisor: int | None = None) -> Any:  # fmt: skip
    rank = spatial(call.node.target._opname)  # type: ignore[union-attr]
    strides = sizes(stride) or None
    return pooling.avg_pool(
        rank, x, sizes(kernel), strides, sizes(padding), ceil_mode, count_include_pad, divisor
    )


@aten("fractional_max_pool2d", "fractional_max_pool3d")
def fractional_max_pool(call: FxCall, x: Any, kernel: Any, size: Any, samples: Any) -> Any:
    """Windows whose starts are drawn: `samples` has a number below 1 for every image, channel and axis."""
    rank = spatial(call.node.target._opname)  # type: ignore[union-attr]
    if rank_of(x) == rank + 1:
        wide = fractional_max_pool(call, reshape(x, (1, *shape_of(x))), kernel, size, samples)
        return tuple(reshape(part, shape_of(part)[1:]) for part in wide)
    return fractional_max_pool_of(x, tuple(kernel), tuple(size), samples)


def spatial(name: str) -> int:
    return next(int(c) for c in name if c.isdigit())


def batched(function: Any, rank: int, x: Any, *args: Any) -> Any:
    """The function on a batch of one when x has no batch."""
    if rank_of(x) == rank + 2:
        return function(rank, x, *args)
    found = function(rank, reshape(x, (1, *shape_of(x))), *args)
    parts = [reshape(y, shape_of(y)[1:]) for y in (found if isinstance(found, tuple) else (found,))]
    return tuple(parts) if isinstance(found, tuple) else parts[0]


@aten("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
      "adaptive_avg_pool3d")  # fmt: skip
def adaptive_avg_pool(call: FxCall, x: Any, size: Any) -> Any:
    rank = spatial(call.node.target._opname)  # type: ignore[union-attr]
    return batched(pooling.adaptive_avg_pool, rank, x, size)


@aten("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def adaptive_max_pool(call: FxCall, x: Any, size: Any) -> Any:
    rank = spatial(call.node.target._opname)  # type: ignore[union-attr]
    return batched(pooling.adaptive_max_pool, rank, x, size, True)


@aten("layer_norm", "native_layer_norm")
def layer_norm(call: FxCall, x: Any, shape: Sequence[int], weight: Any = None, bias: Any = None,
               eps: float = 1e-5, *rest: Any) -> Any:  # fmt: skip
    axes = tuple(range(rank_of(x) - len(shape), rank_of(x)))
    y = normalization.layer_norm(x, tuple(shape), weight, bias, eps)
    if call.node.target._opname == "layer_norm":  # type: ignore[union-attr]
        return y
    mean, rstd = _statistics(x, axes, eps)
    return y, mean, rstd


def _statistics(x: Any, axes: tuple[int, ...], eps: float) -> tuple[Any, Any]:
    spread, mean = var_mean(x, axes, correction=0, keepdim=True)
    return mean, rsqrt(spread + eps)


@aten("group_norm", "native_group_norm")
def group_norm(call: FxCall, x: Any, *args: Any) -> Any:
    if call.node.target._opname == "group_norm":  # type: ignore[union-attr]
        groups, weight, bias, eps = (*args, None, None, 1e-5)[:4] if len(args) < 4 else args[:4]
        return normalization.group_norm(x, groups, weight, bias, eps)
    weight, bias, n, _, _, groups, eps = args
    if 0 in shape_of(x):
        return x, call.full((n, groups), 0), call.full((n, groups), math.nan)
    y = normalization.group_norm(x, groups, weight, bias, eps)
    mean, rstd = _statistics(reshape(x, (n, groups, -1)), (2,), eps)
    return y, reshape(mean, (n, groups)), reshape(rstd, (n, groups))


@aten("rms_norm", "_fused_rms_norm")
def rms_norm(call: FxCall, x: Any, shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Any:
    eps = dtype_of(x).epsilon if eps is None else eps
    y = normalization.rms_norm(x, tuple(shape), weight, eps)
    if call.node.target._opname == "rms_norm":  # type: ignore[union-attr]
        return y
    raise UnsupportedError("the statistics of rms_norm")


@aten("batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")
def batch_norm(call: FxCall, x: Any, weight: Any, bias: Any, mean: Any, var: Any, *rest: Any) -> Any:
    name = call.node.target._opname  # type: ignore[union-attr]
    if name == "_native_batch_norm_legit_no_training":
        y = normalization.batch_norm(x, mean, var, weight, bias, rest[1])
        return prim.cast(y, dtype=call.dtype) if dtype_of(y) != call.dtype else y, None, None
    if rest[0]:
        raise UnsupportedError(
            "batch_norm in training mode here", hint="call module.eval(), or compile_training"
        )
    return normalization.batch_norm(x, mean, var, weight, bias, rest[2])


@aten("_native_batch_norm_legit_functional", "_native_batch_norm_legit", "native_batch_norm")
def batch_norm_training(call: FxCall, x: Any, weight: Any, bias: Any, *rest: Any) -> Any:
    """Results, the batch's mean and inverse deviation and, functional, the new running statistics."""
    mean, var, training, momentum, eps = rest if len(rest) == 5 else (None, None, *rest)
    if not training:
        empty = call.full((0,), 0, dtype_of(x))
        y = normalization.batch_norm(x, mean, var, weight, bias, eps)
        return (y, empty, empty, mean, var)
    y, average, unbiased = normalization.batch_norm_training(x, weight, bias, eps)
    y = prim.cast(y, dtype=call.dtype) if dtype_of(y) != call.dtype else y
    axes = tuple(k for k in range(rank_of(x)) if k != 1)
    kept, rstd = _statistics(x, axes, eps)
    saved = (y, reshape(kept, (-1,)), reshape(rstd, (-1,)))
    if "functional" not in str(call.node.target):
        return saved
    new_mean = mean * (1 - momentum) + average * momentum
    new_var = var * (1 - momentum) + unbiased * momentum
    return (*saved, new_mean, new_var)


def _resize(mode: str, corners_at: int | None) -> Any:
    def handler(call: FxCall, x: Any, size: Any, *rest: Any) -> Any:
        """`size` or `scale_factors`; the flat overload repeats the scales one by one."""
        align = bool(rest[corners_at]) if corners_at is not None and rest else False
        scales = [s for s in (rest[-1] if rest and isinstance(rest[-1], list) else rest) or ()
                  if isinstance(s, float)]  # fmt: skip
        axes = rank_of(x) - 2
        aligned = align if corners_at is not None else None
        if size is not None and not scales:
            return resize.interpolate(x, tuple(size), None, mode, aligned)
        if size is None:
            return resize.interpolate(x, None, tuple(scales[:axes]), mode, aligned)
        raise UnsupportedError("size and scales at once", hint="give only one of them")

    return handler


for _axes, _linear in ((1, "linear"), (2, "bilinear"), (3, "trilinear")):
    aten(f"upsample_nearest{_axes}d")(_resize("nearest", None))
    aten(f"_upsample_nearest_exact{_axes}d")(_resize("nearest-exact", None))
    aten(f"upsample_{_linear}{_axes}d")(_resize(_linear, 0))
aten("upsample_bicubic2d")(_resize("bicubic", 0))


def _antialiased(mode: str) -> Any:
    def handler(call: FxCall, x: Any, size: Any, corners: bool, *rest: Any) -> Any:
        """The overload `vec` has one list of scales where the other has a number for each axis."""
        scales = tuple(rest[0] or ()) if rest and isinstance(rest[0], list) else rest
        found = call.importer.known_shape(call.node.meta["val"])[2:]
        given = scales if len(scales) == len(found) else (None,) * len(found)
        return resize.antialiased(x, list(found), given, mode, corners)

    return handler


for _linear in ("bilinear", "bicubic"):
    aten(f"_upsample_{_linear}2d_aa")(_antialiased(_linear))


@aten("nll_loss_forward", "nll_loss2d_forward", "nll_loss")
def nll_loss(call: FxCall, x: Any, target: Any, weight: Any = None, reduction: int = 1,
             ignore_index: int = -100) -> Any:  # fmt: skip
    classes = shape_of(x)[0 if rank_of(x) == 1 else 1]
    check_index(call, target, classes, lowest=0, ignored=ignore_index)
    y = loss.nll_loss(x, target, weight, ignore_index=ignore_index, reduction=REDUCTIONS[reduction])
    if call.node.target._opname == "nll_loss":  # type: ignore[union-attr]
        return y
    kept = prim.cast(prim.ne(target, ignore_index), dtype=dtype_of(x))
    if weight is not None:
        known = prim.where(prim.eq(target, ignore_index), 0, target)
        kept = kept * indexing.embedding(known, weight)
    axes = tuple(range(rank_of(kept)))
    return y, prim.sum(kept, axes=axes) if reduction else call.full((), 0, dtype_of(x))


@aten("cross_entropy_loss")
def cross_entropy(call: FxCall, x: Any, target: Any, weight: Any = None, reduction: int = 1,
                  ignore_index: int = -100, label_smoothing: float = 0.0) -> Any:  # fmt: skip
    if not dtype_of(target).is_float:
        check_index(call, target, shape_of(x)[0 if rank_of(x) == 1 else 1], lowest=0, ignored=ignore_index)
    return loss.cross_entropy(
        x,
        target,
        weight,
        ignore_index=ignore_index,
        reduction=REDUCTIONS[reduction],
        label_smoothing=label_smoothing,
    )


@aten("native_channel_shuffle", "channel_shuffle")
def channel_shuffle(call: FxCall, x: Any, groups: int) -> Any:
    n, c, *rest = shape_of(x)
    split = reshape(x, (n, groups, c // groups, *rest))
    return reshape(transpose(split, [0, 2, 1, *range(3, 3 + len(rest))]), (n, c, *rest))


@aten("grid_sampler_2d", "grid_sampler_3d", "grid_sampler")
def grid_sampler(call: FxCall, x: Any, grid: Any, mode: int, padding: int, align_corners: bool) -> Any:
    modes, paddings = ("linear", "nearest", "cubic"), ("zeros", "border", "reflection")
    return sampling.grid_sample(x, grid, modes[mode], paddings[padding], align_corners)
