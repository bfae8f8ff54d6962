"""Convolutions and transposed convolutions, with PyTorch's parameters and initialisation."""

from __future__ import annotations

import math
from typing import Any

from intaglio.array import functional as F
from intaglio.array.nn import init
from intaglio.array.nn.module import Module, Parameter
from intaglio.ops.compositions.convolution import Size, padding_pairs, per_axis
from intaglio.shared.errors import ArgumentError


class _Conv(Module):
    rank: int
    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: Any = "f32",
    ) -> None:
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise ArgumentError(
                f"{self._get_name()}: {in_channels} input and {out_channels} output channels "
                f"do not divide into {groups} groups"
            )
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise ArgumentError(
                f"{self._get_name()}: padding_mode {padding_mode!r} is unknown",
                hint="use zeros, reflect, replicate or circular",
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = per_axis(kernel_size, self.rank, "kernel_size")
        self.stride = per_axis(stride, self.rank, "stride")
        self.padding = padding if isinstance(padding, str) else per_axis(padding, self.rank, "padding")
        self.dilation = per_axis(dilation, self.rank, "dilation")
        self.groups = groups
        self.padding_mode = padding_mode
        ends = (
            (in_channels, out_channels // groups)
            if self.transposed
            else (out_channels, in_channels // groups)
        )
        fan_in = ends[1] * math.prod(self.kernel_size)
        bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
        self.weight = Parameter(init.uniform((*ends, *self.kernel_size), bound, dtype))
        self.register_parameter(
            "bias", Parameter(init.uniform((out_channels,), bound, dtype)) if bias else None
        )

    def forward(self, x: Any) -> Any:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            pairs = padding_pairs(padding, self.rank, self.kernel_size, self.dilation, self.stride)
            x = F.pad(x, [extent for pair in reversed(pairs) for extent in pair], self.padding_mode)
            padding = 0
        convolve = (F.conv1d, F.conv2d, F.conv3d)[self.rank - 1]
        return convolve(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        none = (0,) * self.rank
        parts = [
            f"{self.in_channels}, {self.out_channels}",
            f"kernel_size={self.kernel_size}",
            f"stride={self.stride}",
        ]
        if self.padding != none:
            parts.append(f"padding={self.padding}")
        if self.dilation != (1,) * self.rank:
            parts.append(f"dilation={self.dilation}")
        if self.transposed and self.output_padding != none:
            parts.append(f"output_padding={self.output_padding}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


class Conv1d(_Conv):
    """Convolution of [n, in_channels, l]; weight is [out_channels, in_channels / groups, k]."""

    rank = 1


class Conv2d(_Conv):
    """Convolution of [n, in_channels, h, w]; weight is [out_channels, in_channels / groups, kh, kw]."""

    rank = 2


class Conv3d(_Conv):
    """Convolution of [n, in_channels, d, h, w]; weight is [out_channels, in_channels / groups, *kernel]."""

    rank = 3


class _ConvTranspose(_Conv):
    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        dtype: Any = "f32",
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, dtype=dtype
        )
        self.output_padding = per_axis(output_padding, self.rank, "output_padding")

    def forward(self, x: Any) -> Any:
        convolve = (F.conv_transpose1d, F.conv_transpose2d)[self.rank - 1]
        return convolve(
            x,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution of [n, in_channels, l]; weight is [in_channels, out_channels / groups, k]."""

    rank = 1


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution of [n, c, h, w]; weight is [c, out_channels / groups, *k]."""

    rank = 2
