"""Normalisation layers, with PyTorch's parameters, buffers and running statistics."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.array import functional as F
from intaglio.array.nn.module import Module, Parameter
from intaglio.array.tensor import no_grad, tensor
from intaglio.ops.compositions.basic import convert
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, ShapeError


def _ones(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    return np.ones(shape, dtypes.parse(dtype).numpy)


class _ChannelNorm(Module):
    """What batch and instance norm share: weight and bias per channel, running mean and variance."""

    ranks: tuple[int, ...]

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        dtype: Any,
        bias: bool,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        ones = _ones((num_features,), dtype)
        self.register_parameter("weight", Parameter(ones) if affine else None)
        self.register_parameter("bias", Parameter(0 * ones) if affine and bias else None)
        self.register_buffer("running_mean", tensor(0 * ones) if track_running_stats else None)
        self.register_buffer("running_var", tensor(ones) if track_running_stats else None)
        count = tensor(np.array(0, np.int64)) if track_running_stats else None
        self.register_buffer("num_batches_tracked", count)

    def _check(self, x: Any) -> None:
        if len(x.shape) not in self.ranks:
            expected = " or ".join(f"{rank}" for rank in self.ranks)
            raise ShapeError(f"{self._get_name()}: the input is {list(x.shape)}, expected {expected} axes")
        if x.shape[1] != self.num_features:
            raise ShapeError(
                f"{self._get_name()}: the input is {list(x.shape)}, expected {self.num_features} channels"
            )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_ChannelNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = "f32",
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype, bias)

    def forward(self, x: Any) -> Any:
        self._check(x)
        if not self.training and self.track_running_stats:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        tracked = self.training and self.track_running_stats
        return F.batch_norm(
            x,
            self.running_mean if tracked else None,
            self.running_var if tracked else None,
            self.weight,
            self.bias,
            True,
            self._momentum() if tracked else 0.0,
            self.eps,
        )

    def _momentum(self) -> Any:
        """Count a batch; how far the running statistics move towards it."""
        with no_grad():
            self.num_batches_tracked.copy_(self.num_batches_tracked + 1)
            if self.momentum is not None:
                return self.momentum
            return 1 / convert(self.num_batches_tracked, self.running_mean.dtype)


class BatchNorm1d(_BatchNorm):
    """Batch norm of [n, c] or [n, c, l] over all axes but the channels."""

    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch norm of [n, c, h, w] over all axes but the channels."""

    ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """Batch norm of [n, c, d, h, w] over all axes but the channels."""

    ranks = (5,)


class _InstanceNorm(_ChannelNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: Any = "f32",
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype, bias)

    def forward(self, x: Any) -> Any:
        self._check(x)
        own = self.training or not self.track_running_stats
        return F.instance_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            own,
            self.momentum or 0.0,
            self.eps,
        )


class InstanceNorm1d(_InstanceNorm):
    """Norm of each channel of each sample of [n, c, l]."""

    ranks = (3,)


class InstanceNorm2d(_InstanceNorm):
    """Norm of each channel of each sample of [n, c, h, w]."""

    ranks = (4,)


class InstanceNorm3d(_InstanceNorm):
    """Norm of each channel of each sample of [n, c, d, h, w]."""

    ranks = (5,)


class LayerNorm(Module):
    """Norm over the last axes, whose extents are `normalized_shape`."""

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = "f32",
    ) -> None:
        super().__init__()
        self.normalized_shape = _shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        ones = _ones(self.normalized_shape, dtype)
        self.register_parameter("weight", Parameter(ones) if elementwise_affine else None)
        self.register_parameter("bias", Parameter(0 * ones) if elementwise_affine and bias else None)

    def forward(self, x: Any) -> Any:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """Division by the root mean square over the last axes; `eps=None` is the type's machine epsilon."""

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: Any = "f32",
    ) -> None:
        super().__init__()
        self.normalized_shape = _shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        ones = _ones(self.normalized_shape, dtype)
        self.register_parameter("weight", Parameter(ones) if elementwise_affine else None)

    def forward(self, x: Any) -> Any:
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """Norm over groups of channels of [n, c, ...]."""

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: Any = "f32",
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if num_channels % num_groups:
            raise ArgumentError(f"GroupNorm: {num_channels} channels do not divide into {num_groups} groups")
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        ones = _ones((num_channels,), dtype)
        self.register_parameter("weight", Parameter(ones) if affine else None)
        self.register_parameter("bias", Parameter(0 * ones) if affine and bias else None)

    def forward(self, x: Any) -> Any:
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


def _shape(shape: int | tuple[int, ...]) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)
