"""Pooling, padding and resizing as modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from intaglio.array import functional as F
from intaglio.array.nn.module import Module
from intaglio.ops.compositions.convolution import Size, per_axis


class _MaxPool(Module):
    pool: Callable[..., Any]

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode

    def forward(self, x: Any) -> Any:
        return type(self).pool(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """Largest value of each window of [n, c, l]."""

    pool = F.max_pool1d


class MaxPool2d(_MaxPool):
    """Largest value of each window of [n, c, h, w]."""

    pool = F.max_pool2d


class MaxPool3d(_MaxPool):
    """Largest value of each window of [n, c, d, h, w]."""

    pool = F.max_pool3d


class _AvgPool(Module):
    pool: Callable[..., Any]

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, x: Any) -> Any:
        return type(self).pool(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPool):
    """Mean of each window of [n, c, l]."""

    pool = F.avg_pool1d


class AvgPool2d(_AvgPool):
    """Mean of each window of [n, c, h, w]."""

    pool = F.avg_pool2d


class AvgPool3d(_AvgPool):
    """Mean of each window of [n, c, d, h, w]."""

    pool = F.avg_pool3d


class _AdaptivePool(Module):
    pool: Callable[..., Any]

    def __init__(self, output_size: int | tuple[int | None, ...]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Any) -> Any:
        return type(self).pool(x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptivePool):
    """Means of windows that divide [n, c, l] into `output_size` parts."""

    pool = F.adaptive_avg_pool1d


class AdaptiveAvgPool2d(_AdaptivePool):
    """Means of windows that divide [n, c, h, w] into `output_size` parts; None keeps an extent."""

    pool = F.adaptive_avg_pool2d


class AdaptiveMaxPool1d(_AdaptivePool):
    """Largest values of windows that divide [n, c, l] into `output_size` parts."""

    pool = F.adaptive_max_pool1d


class AdaptiveMaxPool2d(_AdaptivePool):
    """Largest values of windows that divide [n, c, h, w] into `output_size` parts; None keeps an extent."""

    pool = F.adaptive_max_pool2d


class _Pad(Module):
    rank: int
    mode: str
    value: float = 0.0

    def __init__(self, padding: Size) -> None:
        super().__init__()
        self.padding = per_axis(padding, 2 * self.rank, "padding")

    def forward(self, x: Any) -> Any:
        return F.pad(x, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"{self.padding}"


def _padding(name: str, rank: int, mode: str) -> Any:
    doc = f"`functional.pad` of the last {rank} axes with mode {mode!r}; counts start from the last axis."
    return type(name, (_Pad,), {"rank": rank, "mode": mode, "__doc__": doc, "__module__": __name__})


ZeroPad1d, ZeroPad2d, ZeroPad3d = (_padding(f"ZeroPad{k}d", k, "constant") for k in (1, 2, 3))
ReflectionPad1d, ReflectionPad2d = (_padding(f"ReflectionPad{k}d", k, "reflect") for k in (1, 2))
ReplicationPad1d, ReplicationPad2d = (_padding(f"ReplicationPad{k}d", k, "replicate") for k in (1, 2))
CircularPad1d, CircularPad2d = (_padding(f"CircularPad{k}d", k, "circular") for k in (1, 2))


class _ConstantPad(_Pad):
    mode = "constant"

    def __init__(self, padding: Size, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """Pad the last axis with a constant."""

    rank = 1


class ConstantPad2d(_ConstantPad):
    """Pad the last two axes with a constant."""

    rank = 2


class Upsample(Module):
    """Resize the spatial axes, as `functional.interpolate` does."""

    def __init__(
        self,
        size: Size | None = None,
        scale_factor: float | tuple[float, ...] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        self.scale_factor = scale_factor
        self.mode = mode
        self.align_corners = align_corners

    def forward(self, x: Any) -> Any:
        return F.interpolate(x, self.size, self.scale_factor, self.mode, self.align_corners)

    def extra_repr(self) -> str:
        if self.size is not None:
            return f"size={self.size}, mode={self.mode!r}"
        return f"scale_factor={self.scale_factor}, mode={self.mode!r}"


class PixelShuffle(Module):
    """[n, c r r, h, w] as [n, c, h r, w r]."""

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, x: Any) -> Any:
        return F.pixel_shuffle(x, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """[n, c, h r, w r] as [n, c r r, h, w]."""

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, x: Any) -> Any:
        return F.pixel_unshuffle(x, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"
