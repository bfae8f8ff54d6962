"""What a convolution or its image gradient computes, and what all its nests share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from intaglio.loop.ir import Alloc, Buffer, Stmt
from intaglio.loop.recipes.anchor import Anchor, Nest, Place
from intaglio.loop.recipes.images import TAPS, Image, Window
from intaglio.loop.recipes.nests import Names, between, over_images, parallel
from intaglio.ops.expr import Expr
from intaglio.shared.index import IndexLike, upper
from intaglio.shared.target import Target

IMAGE_BYTES = 96 << 10  # a larger padded image lives in scratch memory, not on the stack
SPATIAL = "pqs"
POOLING_CYCLES = 5.0  # of a vector of results that are stored and then pooled
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Geometry:
    """A convolution of either direction, per group: `outs` channels from `ins` channels.

    `data` are constant weights as `[group, out, in, *taps]`.
    """

    groups: int
    outs: int
    ins: int
    windows: tuple[Window, ...]
    weight: Callable[[IndexLike, IndexLike, IndexLike, Place], Expr]
    data: Array | None = None

    @staticmethod
    def of(anchor: Anchor) -> Geometry:
        forward = anchor.op == "conv"
        attrs, groups = anchor.attrs, anchor.attrs["groups"]
        source, w = anchor.operands
        shape = w.type.shape
        kernel = shape[2:]
        windows, axes = (
            [],
            zip(
                source.type.shape[2:],
                anchor.result.shape[2:],
                kernel,
                attrs["strides"],
                attrs["dilations"],
                attrs["padding"],
                strict=True,
            ),
        )
        for size, out, k, stride, dilation, (low, _) in axes:
            if forward:
                windows.append(Window(size, out, k, stride, dilation, low))
            else:
                windows.append(Window(size, out, k, 1, dilation, (k - 1) * dilation - low, stride))
        outer, inner = shape[0] // groups, shape[1]

        def weight(g: IndexLike, o: IndexLike, c: IndexLike, taps: Place) -> Expr:
            if forward:
                return w[(g * outer + o, c, *taps)]
            return w[(g * outer + c, o, *(k - 1 - r for k, r in zip(kernel, taps, strict=True)))]

        assert isinstance(outer, int)
        assert isinstance(inner, int)
        outs, ins = (outer, inner) if forward else (inner, outer)
        data = w.data
        if data is not None:
            data = data.reshape(groups, outer, inner, *data.shape[2:])
            if not forward:
                data = np.flip(data.swapaxes(1, 2), tuple(range(3, data.ndim)))
        return Geometry(groups, outs, ins, tuple(windows), weight, data)

    @property
    def taps(self) -> int:
        return prod(w.kernel for w in self.windows)


@dataclass
class ImageTiles:
    """One way to run a convolution over padded copies of images."""

    anchor: Anchor
    geometry: Geometry
    target: Target
    lanes: int
    rank: int = 0

    def __post_init__(self) -> None:
        g = self.geometry
        self.image = Image(g.ins, g.windows, self.lanes)
        self.names = Names(self.anchor.names)
        self.outer_work = g.groups * (upper(self.anchor.result.shape[0]) or 64)

    @property
    @abstractmethod
    def name(self) -> str:
        """The form and the register tile, in short."""

    @property
    @abstractmethod
    def cycles(self) -> float:
        """Estimated cycles of one group of one image."""

    @property
    def pooled_apart(self) -> float:
        """Estimated cycles of a kernel that pools the result, where that is to be."""
        if self.anchor.pooling is None:
            return 0.0
        return self.geometry.outs * prod(w.out for w in self.geometry.windows) / self.lanes * POOLING_CYCLES

    @property
    @abstractmethod
    def notes(self) -> tuple[str, ...]:
        """How the tiles were made."""

    @abstractmethod
    def convolve(self, image: Buffer, prefix: Place, n: IndexLike, group: IndexLike) -> list[Stmt]:
        """One group of an image, from `image[prefix]` to the epilogue."""

    def prepare(self) -> tuple[list[Stmt], tuple[Buffer, ...]]:
        """What comes before all images, and the scratch buffers it fills."""
        return [], ()

    @property
    def loops(self) -> tuple[str, ...]:
        """Loops besides those over images and groups whose iterations are independent."""
        return ()

    def nest(self) -> Nest:
        """The loops over images around padding and tiles; a single image is padded by loops of its own."""
        g, size, batch = self.geometry, self.image.size, self.anchor.result.shape[0]
        work = self.outer_work * g.outs * g.ins * g.taps * self.image.length * 2
        local = size * self.anchor.dtype.size <= IMAGE_BYTES and (batch != 1 or g.groups > 1)
        shape = (size,) if local else (batch, g.groups, size)
        image = Buffer(
            self.names.fresh("image"),
            self.anchor.dtype,
            shape,
            "local" if local else "scratch",
            "stack" if local else "heap",
        )
        before, scratch = self.prepare()
        if local:
            body = over_images(
                self.names,
                batch,
                g.groups,
                lambda n, k: [Alloc(image), *self.fill(image, (), n, k), *self.convolve(image, (), n, k)],
            )
        else:
            scratch = (*scratch, image)
            body = [
                *over_images(self.names, batch, g.groups, lambda n, k: self.fill(image, (n, k), n, k)),
                *over_images(self.names, batch, g.groups, lambda n, k: self.convolve(image, (n, k), n, k)),
            ]
        independent = {self.names[name] for name in ("n", "g", *self.loops)}
        note = f"pad images into {'a local copy' if local else 'scratch'}"
        return Nest(parallel([*before, *body], work, independent), (note, *self.notes), scratch)

    def fill(self, image: Buffer, prefix: Place, n: IndexLike, group: IndexLike) -> list[Stmt]:
        """The padded copy of one image's channels of a group."""
        source, ins = self.anchor.operands[0], self.geometry.ins
        return list(
            self.image.copy(image, prefix, self.names, lambda c, place: source[(n, group * ins + c, *place)])
        )

    def over_taps(
        self, body: Callable[[Place], list[Stmt]], outer: Place = (), taps: Place = ()
    ) -> list[Stmt]:
        """Serial loops over taps; written out along strided axes, where the plane changes with the tap.

        Along the axes of `outer`, the places of the result that are fixed, taps on zeros are left out.
        """
        axis = len(taps)
        if axis == len(self.geometry.windows):
            return body(taps)
        window = self.geometry.windows[axis]
        if window.stride > 1:
            return [s for r in range(window.kernel) for s in self.over_taps(body, outer, (*taps, r))]
        start, stop = window.inside(outer[axis]) if axis < len(outer) else (0, window.kernel)
        return between(
            self.names[TAPS[axis]],
            start,
            stop,
            window.kernel,
            lambda r: self.over_taps(body, outer, (*taps, r)),
        )
