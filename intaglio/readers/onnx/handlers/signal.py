"""Fourier transforms, and the windows and filters that go with them."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from onnx import TensorProto

from intaglio.ops.compositions.basic import axis_of, constant_like, convert, reshape, static
from intaglio.ops.compositions.fourier import dft
from intaglio.ops.compositions.indexing import narrow
from intaglio.ops.registry import prim
from intaglio.readers.onnx.elements import plain_type
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import ShapeError

WINDOWS = {
    "BlackmanWindow": (0.42, -0.5, 0.08),
    "HammingWindow": (25 / 46, -21 / 46),
    "HannWindow": (0.5, -0.5),
}


def _number(call: OnnxCall, operand: Operand | None, what: str) -> int | None:
    return None if operand is None else int(call.static(operand, what).reshape(()))


@onnx_op("DFT", 17)
def dft_17(call: OnnxCall, x: Operand, length: Operand | None = None) -> Any:
    return _dft(call, x, length, call.attr("axis", 1))


@onnx_op("DFT", 20)
def dft_20(call: OnnxCall, x: Operand, length: Operand | None = None, axis: Operand | None = None) -> Any:
    given = _number(call, axis, "the axis")
    return _dft(call, x, length, -2 if given is None else given)


def _dft(call: OnnxCall, x: Operand, length: Operand | None, axis: int) -> Any:
    rank = len(x.shape)
    k = axis_of(axis, rank, "axis")
    if k == rank - 1:
        raise ShapeError(f"DFT: axis {axis} of {list(x.shape)} holds the parts of numbers")
    inverse, onesided = bool(call.attr("inverse", 0)), bool(call.attr("onesided", 0))
    return dft(x, k, _number(call, length, "the length"), inverse, onesided)


@onnx_op("STFT", 17)
def stft(
    call: OnnxCall,
    signal: Operand,
    step: Operand,
    window: Operand | None = None,
    frame_length: Operand | None = None,
) -> Any:
    """Transforms of frames of the signal, each times the window."""
    if len(signal.shape) != 3:
        raise ShapeError(f"STFT: the signal is {list(signal.shape)}; three axes are expected")
    length = _number(call, frame_length, "the frame length")
    if length is None:
        length = static(signal.shape[1] if window is None else window.shape[0], "STFT")
    if window is not None and window.shape != (length,):
        raise ShapeError(f"STFT: the window is {list(window.shape)} for frames of {length}")
    stride = _number(call, step, "the frame step")
    frames = prim.unfold(
        prim.transpose(signal, perm=(0, 2, 1)),
        kernel=(length,),
        strides=(stride,),
        dilations=(1,),
        padding=((0, 0),),
        value=0.0,
    )
    framed = prim.transpose(frames, perm=(0, 2, 3, 1))
    if window is not None:
        framed = framed * reshape(window, (length, 1))
    return dft(framed, 2, onesided=bool(call.attr("onesided", 1)))


def _window(factors: tuple[float, ...], call: OnnxCall, size: Operand) -> Any:
    """A sum of cosines over the size, or over one less where it is symmetric."""
    count = int(call.static(size, "the size").reshape(()))
    if count < 0:
        raise ShapeError(f"{call.node.op_type}: the size is {count}")
    call.afford(count)
    period = count if call.attr("periodic", 1) else max(count - 1, 1)
    angle = np.arange(count) * (2 * np.pi / period)
    total = sum(factor * np.cos(k * angle) for k, factor in enumerate(factors))
    return np.asarray(total).astype(_datatype(call))


def _datatype(call: OnnxCall) -> Any:
    return plain_type(call.attr("output_datatype", TensorProto.FLOAT)).numpy


for _name, _factors in WINDOWS.items():
    onnx_op(_name, 17)(partial(_window, _factors))


@onnx_op("MelWeightMatrix", 17)
def mel_weight_matrix(
    call: OnnxCall, bins: Operand, length: Operand, rate: Operand, low: Operand, high: Operand
) -> Any:
    """Triangles over the places of a spectrum, whose edges are evenly spaced on the mel scale."""
    count, size = (
        int(call.static(v, what).reshape(())) for v, what in ((bins, "the bins"), (length, "the length"))
    )
    if count < 1 or size < 1:
        raise ShapeError(f"MelWeightMatrix: {count} bins of a spectrum of {size} places")
    call.afford(count, size)
    per_second, *limits = (reshape(convert(v, dtypes.f64), ()) for v in (rate, low, high))
    first, last = (prim.log(limit / 700 + 1) * (2595 / math.log(10)) for limit in limits)
    mels = constant_like(first, np.arange(count + 2.0)) * ((last - first) / (count + 2)) + first
    hertz = (prim.exp(mels * (math.log(10) / 2595)) - 1) * 700
    edges = prim.floor(hertz * (size + 1) / per_second)
    left, centre, right = (narrow(edges, 0, k, count) for k in range(3))
    place = constant_like(first, np.arange(size // 2 + 1.0)[:, None])
    alone = prim.where(prim.eq(place, centre), 1.0, place * 0.0)
    rising = prim.where(prim.eq(centre, left), alone, (place - left) / prim.max(centre - left, 1))
    falling = (right - place) / prim.max(right - centre, 1)
    weight = prim.where(prim.and_(prim.le(left, place), prim.le(place, centre)), rising, 0.0)
    weight = prim.where(prim.and_(prim.le(centre, place), prim.lt(place, right)), falling, weight)
    return convert(weight, plain_type(call.attr("output_datatype", TensorProto.FLOAT)))
