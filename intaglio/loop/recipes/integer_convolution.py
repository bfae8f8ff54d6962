"""Convolutions of bytes: contractions of channels and taps, exact in 32 bits.

Images are copied with their channels last where that is not how they lie already, between zero points where
windows leave them; the taps and channels of a place are then rows of the left operand. Depthwise
convolutions have too few terms for groups of them; their sums are exact in f32, so they are convolutions of
floats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from intaglio.loop import places
from intaglio.loop.codes import code_of
from intaglio.loop.ir import Block, Buffer, Stmt, Store
from intaglio.loop.recipes.anchor import Anchor, Nest, Operand, Place
from intaglio.loop.recipes.axes import Contraction, Env, Factor
from intaglio.loop.recipes.convolution import lower_convolution
from intaglio.loop.recipes.geometry import SPATIAL, Geometry
from intaglio.loop.recipes.images import TAPS, Window
from intaglio.loop.recipes.integers import best_integer_plan
from intaglio.loop.recipes.narrow import shifted
from intaglio.loop.recipes.nests import Names, loop, parallel, variable_of
from intaglio.ops.expr import Const, Expr, Read, cast
from intaglio.shared import dtypes
from intaglio.shared.index import IndexLike, upper, variable
from intaglio.shared.target import Target
from intaglio.shared.types import TensorType

Range = tuple[IndexLike, IndexLike]
EXACT = 1 << 24  # integers up to this are exact in f32
LARGEST = 255 * 255  # the greatest product of two bytes less zero points
GROUP = 4  # channels of a copied image are a multiple of this
COPY_WORK = 2  # operations to copy a byte
FEW = 4  # channels of a group that make no contraction


def lower_integer_convolution(anchor: Anchor, target: Target) -> Nest | None:
    """A fast nest for `conv` of bytes; None for others."""
    source, weights = anchor.operands
    shapes = (anchor.result.shape[1:], source.type.shape[1:], weights.type.shape)
    if anchor.dtype != dtypes.i32 or not all(isinstance(e, int) for shape in shapes for e in shape):
        return None
    code = code_of(source[tuple(variable(f"i{k}", e) for k, e in enumerate(source.type.shape))])
    if code is None or places.variables(code[1]):
        return None
    geometry = Geometry.of(anchor)
    if geometry.groups > 1 and min(geometry.ins, geometry.outs) < FEW:
        exact = geometry.ins * geometry.taps * LARGEST < EXACT and _is_byte(weights)
        return lower_convolution(_in_floats(anchor), target) if exact else None
    return _contraction(anchor, geometry, target)


def _is_byte(weights: Operand) -> bool:
    if weights.data is not None:
        return weights.data.size > 0 and int(np.abs(weights.data).max()) <= 255
    code = code_of(weights[tuple(0 for _ in weights.type.shape)])
    return code is not None and isinstance(code[1], Const) and abs(int(code[1].value)) <= 255


def _contraction(anchor: Anchor, geometry: Geometry, target: Target) -> Nest | None:
    """Rows of places, columns of output channels."""
    source, windows = anchor.operands[0], geometry.windows
    axes, taps = SPATIAL[: len(windows)], TAPS[: len(windows)]
    names = Names(anchor.names)
    image = None if _lies_right(source, windows, geometry.ins) else _image(source, windows, names)
    anchor = replace(anchor, taken=anchor.taken | names.taken)
    zero = code_of(source[(0,) * len(source.type.shape)])
    assert zero is not None
    offset = shifted(zero[1], -zero[0].dtype.least)

    def channel(env: Env) -> IndexLike:
        return env["g"] * geometry.ins + env["c"]

    def read(env: Env) -> Expr:
        steps = zip(axes, taps, windows, strict=True)
        place = tuple(env[p] * w.stride + env[u] * w.dilation for p, u, w in steps)
        if image is None:
            return source[(env["n"], channel(env), *place)]
        value = cast(Read(image, (env["n"], *place, channel(env)), image.dtype), dtypes.i32)
        return value if offset == Const(0, dtypes.i32) else value - offset

    def weight(env: Env) -> Expr:
        return geometry.weight(env["g"], env["o"], env["c"], tuple(env[u] for u in taps))

    batch, _, *extents = anchor.result.shape
    data, ins = geometry.data, geometry.ins
    if image is not None and data is not None and geometry.groups == 1:
        ins = -(-ins // GROUP) * GROUP  # channels of the copy that are none meet weights of 0
        data = np.pad(data, [(0, (ins - geometry.ins) * (k == 2)) for k in range(data.ndim)])
    sizes = {"n": batch, "g": geometry.groups, "o": geometry.outs, "c": ins}
    sizes |= dict(zip(axes, extents, strict=True))
    sizes |= {u: w.kernel for u, w in zip(taps, windows, strict=True)}
    contraction = Contraction(
        anchor,
        Factor("ngc" + axes + taps, read),
        Factor("goc" + taps, weight, data),
        "ngo" + axes,
        sizes,
        lambda env: (env["n"], env["g"] * geometry.outs + env["o"], *(env[a] for a in axes)),
    )
    contraction.names = Names(anchor.names)
    whole = image is not None and (geometry.groups == 1 or geometry.ins % GROUP == 0)
    nest = best_integer_plan(contraction.regular(), target, whole)
    if nest is None or image is None:
        return nest
    filled = _filled(image, source, windows, names)
    size = upper(image.size)
    before = parallel(filled, None if size is None else COPY_WORK * size, {names["y0"], names["y1"]})
    notes = ("copy images with channels last", *nest.notes)
    return Nest(Block((*before, *nest.body)), notes, (*nest.scratch, image))


def _lies_right(source: Operand, windows: tuple[Window, ...], ins: int) -> bool:
    """Whether images can be read where they are: unsigned, whole groups of channels side by side."""
    index = variable("channel", source.type.shape[1])
    code = code_of(source[(0, 0 if isinstance(index, int) else index, *(0 for _ in windows))])
    assert code is not None
    value = code[0]
    if any(w.low or w.last >= w.size for w in windows) or ins % GROUP or value.dtype != dtypes.u8:
        return False
    return isinstance(value, Read) and places.strides(value, variable_of(index)) == [1]


def _image(source: Operand, windows: tuple[Window, ...], names: Names) -> Buffer:
    """A copy of the images: unsigned bytes, channels last, as far as taps read."""
    batch, channels = source.type.shape[:2]
    assert isinstance(channels, int)
    shape = (batch, *(w.last + 1 for w in windows), -(-channels // GROUP) * GROUP)
    return Buffer(names.fresh("image"), dtypes.u8, shape, "scratch", "heap")


def _filled(image: Buffer, source: Operand, windows: tuple[Window, ...], names: Names) -> list[Stmt]:
    """Statements that fill a copy: codes of the source, zero points around them."""
    batch, channels = source.type.shape[:2]
    starts = [max(0, w.low) for w in windows]
    froms = [max(0, -w.low) for w in windows]
    counts = [min(w.size - f, w.last + 1 - t) for w, t, f in zip(windows, starts, froms, strict=True)]

    def code(place: Place) -> tuple[Expr, Expr]:
        found = code_of(source[place])
        assert found is not None
        return found

    def unsigned(value: Expr) -> Expr:
        least = value.dtype.least
        return cast(cast(value, dtypes.i32) - least, dtypes.u8) if least else value

    first, zero = code((0,) * len(source.type.shape))
    start = shifted(zero, -first.dtype.least)
    margin = Const(int(start.value) & 255, dtypes.u8) if isinstance(start, Const) else cast(start, dtypes.u8)

    def over(ranges: Sequence[Range], body: Callable[[Place], Stmt], at: Place = ()) -> list[Stmt]:
        if len(at) == len(ranges):
            return [body(at)]
        start, stop = ranges[len(at)]
        return loop(names[f"y{len(at)}"], stop - start, lambda k: over(ranges, body, (*at, k + start)))

    def copy(at: Place) -> Stmt:
        place = tuple(k - t + f for k, t, f in zip(at[1:-1], starts, froms, strict=True))
        return Store(image, at, unsigned(code((at[0], at[-1], *place))[0]))

    rows = ((t, t + count) for t, count in zip(starts, counts, strict=True))
    inside: list[Range] = [(0, batch), *rows, (0, channels)]
    whole: list[Range] = [(0, extent) for extent in image.shape]
    margins = [
        [*inside[:k], part, *whole[k + 1 :]]
        for k in range(1, len(whole))
        for part in ((0, inside[k][0]), (inside[k][1], image.shape[k]))
    ]
    clear = [s for ranges in margins for s in over(ranges, lambda at: Store(image, at, margin))]
    return [*clear, *over(inside, copy)]


@dataclass(frozen=True)
class _Floats:
    """An operand of integers as floats."""

    operand: Operand

    @property
    def type(self) -> TensorType:
        return TensorType(dtypes.f32, self.operand.type.shape)

    @property
    def data(self) -> np.ndarray[Any, Any] | None:
        data = self.operand.data
        return None if data is None else data.astype(np.float32)

    def __getitem__(self, index: Any) -> Expr:
        return cast(self.operand[index], dtypes.f32)


def _in_floats(anchor: Anchor) -> Anchor:
    """The same sums in f32, which holds each of them exactly."""

    def finish(index: Place, value: Expr) -> list[Stmt]:
        return anchor.finish(index, cast(value, dtypes.i32))

    return replace(
        anchor,
        operands=tuple(map(_Floats, anchor.operands)),
        result=TensorType(dtypes.f32, anchor.result.shape),
        finish=finish,
        accuracy="high",
    )
