"""Convolution with PyTorch's arguments: strides, paddings and dilations are numbers or one per axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from intaglio.ops.compositions.basic import reshape, shape_of, static, unsqueeze
from intaglio.ops.dispatch import composition
from intaglio.ops.registry import prim
from intaglio.shared.errors import ArgumentError, ShapeError

Size = int | Sequence[int]
Padding = int | str | Sequence[int] | Sequence[tuple[int, int]]


def per_axis(value: Size, rank: int, what: str) -> tuple[int, ...]:
    """One number for each spatial axis. Raises ArgumentError for a wrong count."""
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) == 1:
        values = values * rank
    if len(values) != rank:
        raise ArgumentError(f"{what} {list(values)} has {len(values)} numbers for {rank} spatial dimensions")
    return values


def padding_pairs(
    padding: Padding, rank: int, kernel: Sequence[int], dilations: Sequence[int], strides: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Low and high padding for each axis; `same` and `valid` are known names."""
    if padding == "valid":
        return ((0, 0),) * rank
    if padding == "same":
        if any(s != 1 for s in strides):
            raise ArgumentError(f"padding 'same' needs strides of 1, got {list(strides)}")
        totals = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    if isinstance(padding, str):
        raise ArgumentError(f"padding {padding!r} is not 'same', 'valid' or numbers")
    if not isinstance(padding, int) and len(padding) and not isinstance(padding[0], int):
        return tuple((int(low), int(high)) for low, high in padding)  # type: ignore[misc]
    return tuple((p, p) for p in per_axis(padding, rank, "padding"))  # type: ignore[arg-type]


@composition
def conv(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Any:
    """Convolution over 1, 2 or 3 axes (those of the kernel): x `[n, c, *size]`, or `[c, *size]` for one,
    weight `[out, c / groups, *kernel]`. Padding may differ per side: `((low, high), ...)`."""
    rank = len(shape_of(weight)) - 2
    if len(shape_of(x)) == rank + 1:
        y = conv(unsqueeze(x, 0), weight, bias, stride, padding, dilation, groups)
        return reshape(y, shape_of(y)[1:])
    strides, dilations = per_axis(stride, rank, "stride"), per_axis(dilation, rank, "dilation")
    kernel = [static(k, "conv") for k in shape_of(weight)[2:]]
    pairs = padding_pairs(padding, rank, kernel, dilations, strides)
    y = prim.conv(x, weight, strides=strides, dilations=dilations, padding=pairs, groups=groups)
    return y if bias is None else y + reshape(bias, (-1, *(1,) * rank))


def conv1d(x: Any, weight: Any, bias: Any = None, stride: Size = 1, padding: Padding = 0, dilation: Size = 1,
           groups: int = 1) -> Any:  # fmt: skip
    """`conv` over one axis."""
    return _checked(1, x, weight, bias, stride, padding, dilation, groups)


def conv2d(x: Any, weight: Any, bias: Any = None, stride: Size = 1, padding: Padding = 0, dilation: Size = 1,
           groups: int = 1) -> Any:  # fmt: skip
    """`conv` over two axes."""
    return _checked(2, x, weight, bias, stride, padding, dilation, groups)


def conv3d(x: Any, weight: Any, bias: Any = None, stride: Size = 1, padding: Padding = 0, dilation: Size = 1,
           groups: int = 1) -> Any:  # fmt: skip
    """`conv` over three axes."""
    return _checked(3, x, weight, bias, stride, padding, dilation, groups)


def _checked(rank: int, x: Any, weight: Any, *rest: Any) -> Any:
    own, other = shape_of(weight), shape_of(x)
    if len(own) != rank + 2 or len(other) not in (rank + 1, rank + 2):
        raise ShapeError(
            f"conv{rank}d: x is {list(other)} and weight is {list(own)}; "
            f"{rank + 1} or {rank + 2} and {rank + 2} dimensions are expected"
        )
    return conv(x, weight, *rest)


@composition
def conv_transpose(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Any:
    """Transposed convolution, the derivative of `conv` by its input: x `[n, c, *size]`, weight
    `[c, out / groups, *kernel]`."""
    rank = len(shape_of(weight)) - 2
    if len(shape_of(x)) == rank + 1:
        y = conv_transpose(unsqueeze(x, 0), weight, bias, stride, padding, output_padding, groups, dilation)
        return reshape(y, shape_of(y)[1:])
    strides, dilations = per_axis(stride, rank, "stride"), per_axis(dilation, rank, "dilation")
    pads, extra = per_axis(padding, rank, "padding"), per_axis(output_padding, rank, "output_padding")
    kernel, spatial = shape_of(weight)[2:], shape_of(x)[2:]
    if any(e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        raise ArgumentError(f"conv_transpose: output_padding {list(extra)} must be below stride or dilation")
    size = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + 1 + e
        for n, s, p, d, k, e in zip(spatial, strides, pads, dilations, kernel, extra, strict=True)
    )
    pairs = tuple((p, p - e) for p, e in zip(pads, extra, strict=True))
    y = prim.conv_dx(x, weight, strides=strides, dilations=dilations, padding=pairs, groups=groups, size=size)
    return y if bias is None else y + reshape(bias, (-1, *(1,) * rank))
