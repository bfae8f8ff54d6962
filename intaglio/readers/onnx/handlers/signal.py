"""Fourier transforms, and the windows and filters that go with them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from onnx import TensorProto

from intaglio.ops.compositions.basic import axis_of, reshape, static
from intaglio.ops.compositions.fourier import dft
from intaglio.ops.registry import prim
from intaglio.readers.onnx.elements import plain_type
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
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
    count, size, per_second = (
        int(call.static(v, what).reshape(()))
        for v, what in ((bins, "the number of bins"), (length, "the length"), (rate, "the sample rate"))
    )
    first, last = (
        2595 * np.log10(1 + float(call.static(v, "a frequency").reshape(())) / 700) for v in (low, high)
    )
    if count < 0 or size < 1 or per_second < 1 or not np.isfinite([first, last]).all():
        raise ShapeError(
            f"MelWeightMatrix: {count} bins from mel {first} to {last}, {size} places at {per_second}"
        )
    call.afford(count, size)
    mels = np.arange(count + 2) * ((last - first) / (count + 2)) + first
    edges = np.floor((size + 1) * (700 * (10 ** (mels / 2595) - 1)) / per_second).astype(np.int64)
    place = np.arange(size // 2 + 1)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = np.where(centre == left, place == centre, (place - left) / np.maximum(centre - left, 1))
    falling = (right - place) / np.maximum(right - centre, 1)
    matrix = np.where((left <= place) & (place <= centre), rising, 0.0)
    matrix = np.where((centre <= place) & (place < right), falling, matrix)
    return matrix.astype(_datatype(call))
