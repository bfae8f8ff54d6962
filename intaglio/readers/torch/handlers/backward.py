"""Derivatives that PyTorch has operators for: our own derivative of the operator they belong to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from intaglio.graph.grad import gradient
from intaglio.ops.compositions import indexing, pooling, reduction, resize
from intaglio.ops.compositions.basic import dtype_of, extent, rank_of, reshape, shape_of
from intaglio.ops.registry import prim
from intaglio.readers.torch.handlers.network import batched, grid_sampler, sizes, spatial
from intaglio.readers.torch.registry import FxCall, aten
from intaglio.shared.index import IndexLike


def derivative(call: FxCall, forward: Callable[[Any], Any], x: Any, g: Any) -> Any:
    """The derivative of `forward` at x, weighed with g."""
    return gradient(call.graph, forward(x), [x], g)[0]


def _linear(call: FxCall, forward: Callable[[Any], Any], shape: Sequence[IndexLike], g: Any) -> Any:
    """The derivative of a linear function: it does not depend on where it is taken."""
    return derivative(call, forward, call.full(shape, 0, dtype_of(g)), g)


@aten("max_pool2d_with_indices_backward", "max_pool3d_with_indices_backward")
def max_pool_backward(call: FxCall, g: Any, x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any,
                      ceil_mode: bool, indices: Any) -> Any:  # fmt: skip
    """Each element of g is added where its largest element was."""
    rank = spatial(call.node.target._opname)  # type: ignore[union-attr]
    shape, lead = shape_of(x), rank_of(x) - rank
    flat = reshape(call.full(shape, 0, dtype_of(x)), (*shape[:lead], extent(shape[lead:])))
    merged = (*shape[:lead], extent(shape_of(g)[lead:]))
    return reshape(indexing.scatter_add(flat, lead, reshape(indices, merged), reshape(g, merged)), shape)


@aten("adaptive_max_pool2d_backward", "adaptive_max_pool3d_backward")
def adaptive_max_pool_backward(call: FxCall, g: Any, x: Any, indices: Any) -> Any:
    return max_pool_backward(call, g, x, None, None, None, None, False, indices)


@aten("avg_pool2d_backward", "avg_pool3d_backward")
def avg_pool_backward(call: FxCall, g: Any, x: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool,
                      count_include_pad: bool, divisor: int | None) -> Any:  # fmt: skip
    rank = spatial(call.node.target._opname)  # type: ignore[union-attr]

    def forward(value: Any) -> Any:
        return pooling.avg_pool(rank, value, sizes(kernel), sizes(stride) or None, sizes(padding), ceil_mode,
                                count_include_pad, divisor)  # fmt: skip

    return _linear(call, forward, shape_of(x), g)


@aten("_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward")
def adaptive_avg_pool_backward(call: FxCall, g: Any, x: Any) -> Any:
    rank = spatial(call.node.target._opname)  # type: ignore[union-attr]
    size = shape_of(g)[-rank:]
    return _linear(call, lambda value: batched(pooling.adaptive_avg_pool, rank, value, size), shape_of(x), g)


def _resize_backward(mode: str, has_corners: bool) -> Callable[..., Any]:
    def handler(call: FxCall, g: Any, output_size: Any, input_size: Any, *rest: Any) -> Any:
        corners = bool(rest[0]) if has_corners else None
        return _linear(
            call, lambda x: resize.interpolate(x, tuple(output_size), None, mode, corners), input_size, g
        )

    return handler


for _axes, _mode in ((1, "linear"), (2, "bilinear"), (3, "trilinear")):
    aten(f"upsample_nearest{_axes}d_backward")(_resize_backward("nearest", False))
    aten(f"_upsample_nearest_exact{_axes}d_backward")(_resize_backward("nearest-exact", False))
    aten(f"upsample_{_mode}{_axes}d_backward")(_resize_backward(_mode, True))
aten("upsample_bicubic2d_backward")(_resize_backward("bicubic", True))


def _pad_backward(mode: str) -> Callable[..., Any]:
    def handler(call: FxCall, g: Any, x: Any, padding: Sequence[int]) -> Any:
        return _linear(call, lambda value: resize.pad(value, padding, mode), shape_of(x), g)

    return handler


for _axes in (1, 2, 3):
    aten(f"reflection_pad{_axes}d_backward")(_pad_backward("reflect"))
    aten(f"replication_pad{_axes}d_backward")(_pad_backward("replicate"))


@aten("_prelu_kernel_backward")
def prelu_backward(call: FxCall, g: Any, x: Any, weight: Any) -> Any:
    positive = prim.lt(0, x)
    return prim.where(positive, g, g * weight), prim.where(positive, 0, g * x)


@aten("rrelu_with_noise_backward")
def rrelu_backward(call: FxCall, g: Any, x: Any, noise: Any, lower: float, upper: float, train: bool,
                   is_result: bool = False) -> Any:  # fmt: skip
    return g * noise if train else prim.where(prim.lt(0, x), g, g * ((lower + upper) / 2))


@aten("log_sigmoid_backward")
def log_sigmoid_backward(call: FxCall, g: Any, x: Any, buffer: Any) -> Any:
    return g * prim.sigmoid(-x)


@aten("grid_sampler_2d_backward", "grid_sampler_3d_backward")
def grid_sampler_backward(call: FxCall, g: Any, x: Any, grid: Any, mode: int, padding: int, corners: bool,
                          mask: Sequence[bool]) -> Any:  # fmt: skip
    return tuple(gradient(call.graph, grid_sampler(call, x, grid, mode, padding, corners), [x, grid], g))


@aten("_weight_norm_interface_backward")
def weight_norm_backward(call: FxCall, g: Any, v: Any, size: Any, norms: Any, dim: int) -> Any:
    """The derivatives of `v * size / |v|` by v and size; norms are over all dimensions but one."""
    axes = tuple(k for k in range(rank_of(v)) if k != dim % rank_of(v))
    length = reduction.norm(v, 2, axes, True)
    return tuple(gradient(call.graph, v * (size / length), [v, size], g))


def _fractional_backward(call: FxCall, g: Any, x: Any, kernel: Any, size: Any, indices: Any) -> Any:
    return max_pool_backward(call, g, x, None, None, None, None, False, indices)


aten("fractional_max_pool2d_backward", "fractional_max_pool3d_backward")(_fractional_backward)


def _antialiased_backward(mode: str) -> Callable[..., Any]:
    def handler(call: FxCall, g: Any, output_size: Any, input_size: Any, corners: bool, *scales: Any) -> Any:
        given = scales or (None,) * len(output_size)
        return _linear(
            call, lambda x: resize.antialiased(x, tuple(output_size), given, mode, corners), input_size, g
        )

    return handler


for _mode in ("bilinear", "bicubic"):
    aten(f"_upsample_{_mode}2d_aa_backward")(_antialiased_backward(_mode))
