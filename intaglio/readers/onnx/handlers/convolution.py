"""Convolutions, their transposes, and columns back to images."""

from __future__ import annotations

from typing import Any

from intaglio.ops.compositions import convolution, sampling
from intaglio.ops.compositions.basic import reshape, shape_of, static
from intaglio.ops.registry import prim
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared.errors import ArgumentError, ShapeError
from intaglio.shared.index import IndexLike, product

Pairs = tuple[tuple[int, int], ...]
AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


def per_axis(call: OnnxCall, name: str, rank: int, default: int = 1) -> tuple[int, ...]:
    """An attribute with one number for each spatial axis. Raises ShapeError for another count."""
    values = tuple(int(v) for v in call.attr(name, None) or [default] * rank)
    if len(values) != rank:
        raise ShapeError(f"{call.node.op_type}: {name} {list(values)} for {rank} spatial axes")
    return values


def shared(total: int, upper: bool) -> tuple[int, int]:
    """Padding split between both ends; the odd one goes to the end if `upper`."""
    small, large = total // 2, total - total // 2
    return (small, large) if upper else (large, small)


def given_pads(call: OnnxCall, rank: int) -> Pairs:
    """The attribute `pads`, low and high for each axis."""
    pads = [int(p) for p in call.attr("pads", None) or [0] * (2 * rank)]
    if len(pads) != 2 * rank:
        raise ShapeError(f"{call.node.op_type}: {len(pads)} pads for {rank} spatial axes")
    return tuple(zip(pads[:rank], pads[rank:], strict=True))


def auto_pad(call: OnnxCall) -> str:
    mode = str(call.attr("auto_pad", "NOTSET")) or "NOTSET"
    if mode not in AUTO_PADS:
        raise ArgumentError(f"{call.node.op_type}: auto_pad {mode!r} is not one of {', '.join(AUTO_PADS)}")
    return mode


def window_pads(
    call: OnnxCall,
    size: tuple[IndexLike, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> Pairs:
    """Padding of a window by `pads` or `auto_pad`: with SAME it has as many places as whole strides fit."""
    mode = auto_pad(call)
    if mode == "NOTSET":
        return given_pads(call, len(kernel))
    if mode == "VALID":
        return ((0, 0),) * len(kernel)
    pairs = []
    for extent, k, s, d in zip(size, kernel, strides, dilations, strict=True):
        reach = d * (k - 1) + 1
        if s == 1:
            total = reach - 1
        else:
            n = static(extent, f"{call.node.op_type} with auto_pad {mode}")
            total = max((-(-n // s) - 1) * s + reach - n, 0)
        pairs.append(shared(total, mode == "SAME_UPPER"))
    return tuple(pairs)


def kernel_of(call: OnnxCall, weight: Operand) -> tuple[int, ...]:
    """The spatial extents of the weight, which `kernel_shape` may repeat."""
    kernel = tuple(static(e, f"{call.node.op_type}: the kernel") for e in weight.shape[2:])
    wanted = call.attr("kernel_shape")
    if wanted is not None and tuple(wanted) != kernel:
        raise ShapeError(f"{call.node.op_type}: kernel_shape {list(wanted)} but the weight is {weight.shape}")
    return kernel


def add_channels(y: Any, bias: Operand | None) -> Any:
    """y plus one number per channel."""
    return y if bias is None else y + reshape(bias, (-1, *(1,) * (len(shape_of(y)) - 2)))


@onnx_op("Conv")
def conv(call: OnnxCall, x: Operand, weight: Operand, bias: Operand | None = None) -> Any:
    kernel = kernel_of(call, weight)
    rank = len(kernel)
    if len(x.shape) != rank + 2:
        raise ShapeError(f"Conv: x is {list(x.shape)} and the weight {list(weight.shape)}")
    strides, dilations = per_axis(call, "strides", rank), per_axis(call, "dilations", rank)
    padding = window_pads(call, x.shape[2:], kernel, strides, dilations)
    return convolution.conv(x, weight, bias, strides, padding, dilations, call.attr("group", 1))


@onnx_op("ConvTranspose")
def conv_transpose(call: OnnxCall, x: Operand, weight: Operand, bias: Operand | None = None) -> Any:
    kernel = kernel_of(call, weight)
    rank = len(kernel)
    strides, dilations = per_axis(call, "strides", rank), per_axis(call, "dilations", rank)
    extra = per_axis(call, "output_padding", rank, default=0)
    whole = [
        (n - 1) * s + d * (k - 1) + 1
        for n, s, d, k in zip(x.shape[2:], strides, dilations, kernel, strict=True)
    ]
    pads, size = _transposed_frame(call, x, whole, extra, strides)
    padding = tuple((low, w - low - n) for (low, _), w, n in zip(pads, whole, size, strict=True))
    y = prim.conv_dx(
        x,
        weight,
        strides=strides,
        dilations=dilations,
        padding=padding,
        groups=call.attr("group", 1),
        size=tuple(size),
    )
    return add_channels(y, bias)


def _transposed_frame(
    call: OnnxCall, x: Operand, whole: list[Any], extra: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[Pairs, list[Any]]:
    """What is cut off a transposed convolution's result of extents `whole`, and what remains."""
    rank, mode = len(whole), auto_pad(call)
    size = call.attr("output_shape")
    if size is None and mode in ("NOTSET", "VALID"):
        pads = given_pads(call, rank) if mode == "NOTSET" else ((0, 0),) * rank
        return pads, [w + e - low - high for w, e, (low, high) in zip(whole, extra, pads, strict=True)]
    if size is None:
        size = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    size = list(size)[-rank:]
    totals = [static(w + e - n, "ConvTranspose") for w, e, n in zip(whole, extra, size, strict=True)]
    return tuple(shared(total, mode == "SAME_UPPER") for total in totals), size


@onnx_op("DeformConv")
def deform_conv(
    call: OnnxCall,
    x: Operand,
    weight: Operand,
    offset: Operand,
    bias: Operand | None = None,
    mask: Operand | None = None,
) -> Any:
    rank = len(kernel_of(call, weight))
    y = sampling.deform_conv(
        x,
        weight,
        offset,
        mask,
        per_axis(call, "strides", rank),
        given_pads(call, rank),
        per_axis(call, "dilations", rank),
        call.attr("group", 1),
        call.attr("offset_group", 1),
    )
    return add_channels(y, bias)


@onnx_op("Col2Im")
def col2im(call: OnnxCall, x: Operand, image_shape: Operand, block_shape: Operand) -> Any:
    size, kernel = call.ints(image_shape, "the image's shape"), call.ints(block_shape, "the block's shape")
    rank = len(size)
    strides, dilations = per_axis(call, "strides", rank), per_axis(call, "dilations", rank)
    padding = given_pads(call, rank)
    places = [
        (n + low + high - d * (k - 1) - 1) // s + 1
        for n, (low, high), d, k, s in zip(size, padding, dilations, kernel, strides, strict=True)
    ]
    batch, rows, columns = x.shape
    count = product(kernel)
    if columns != product(tuple(places)) or rows % count:
        raise ShapeError(f"Col2Im: {list(x.shape)} are no columns of blocks {list(kernel)} in {list(size)}")
    windows = reshape(x, (batch, rows // count, *kernel, *places))
    order = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    return prim.fold(
        prim.transpose(windows, perm=order), strides=strides, dilations=dilations, padding=padding, size=size
    )
