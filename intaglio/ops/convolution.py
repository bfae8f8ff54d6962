"""Convolution over 1, 2 or 3 axes and its two gradients: three operators that are each other's derivatives.

`x` is `[n, channels, *size]`, `w` is `[out channels, channels / groups, *kernel]`; output place `p` reads
place `p * stride + r * dilation - low padding` under kernel place `r`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.ops.contract import contract_arrays
from intaglio.ops.elementwise import apply
from intaglio.ops.expr import Expr, all_of, in_range, where
from intaglio.ops.registry import op
from intaglio.shared.errors import ShapeError
from intaglio.shared.index import IndexLike, interval
from intaglio.shared.types import TensorType

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]
Place = tuple[IndexLike, ...]


def window_extent(
    size: IndexLike, kernel: IndexLike, stride: int, dilation: int, pads: tuple[int, int]
) -> IndexLike:
    """Number of places a window takes along an axis."""
    return (size + pads[0] + pads[1] - dilation * (kernel - 1) - 1) // stride + 1


def check_window(name: str, rank: int, strides: Ints, dilations: Ints, padding: Pads) -> None:
    """Raise ShapeError for attributes that do not describe a window over `rank` axes."""
    if not len(strides) == len(dilations) == len(padding) == rank:
        raise ShapeError(
            f"{name}: {rank} spatial axes but {len(strides)} strides, {len(dilations)} dilations, "
            f"{len(padding)} paddings"
        )
    if any(k < 1 for k in (*strides, *dilations)):
        raise ShapeError(f"{name}: strides {list(strides)} and dilations {list(dilations)} must be positive")


def _pad(x: Any, padding: Pads) -> Any:
    """Zero padding of the spatial axes; negative padding crops."""
    grown = np.pad(x, [(0, 0), (0, 0), *((max(a, 0), max(b, 0)) for a, b in padding)])
    crop = [slice(max(-a, 0), e - max(-b, 0)) for (a, b), e in zip(padding, grown.shape[2:], strict=True)]
    return grown[(slice(None), slice(None), *crop)]


def windows(x: Any, kernel: Ints, strides: Ints, dilations: Ints, padding: Pads) -> Any:
    """A view `[n, c, *places, *kernel]` of the padded array, by strides."""
    x = _pad(x, padding)
    places = [
        (e - d * (k - 1) - 1) // s + 1
        for e, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True)
    ]
    step = x.strides[2:]
    return np.lib.stride_tricks.as_strided(
        x,
        (*x.shape[:2], *places, *kernel),
        (
            *x.strides[:2],
            *(a * b for a, b in zip(step, strides, strict=True)),
            *(a * b for a, b in zip(step, dilations, strict=True)),
        ),
        writeable=False,
    )


_P, _R = "pqs", "uvw"


def _conv(x: Any, w: Any, strides: Ints, dilations: Ints, padding: Pads, groups: int) -> Any:
    rank = x.ndim - 2
    view = windows(x, w.shape[2:], strides, dilations, padding)
    view = view.reshape(x.shape[0], groups, w.shape[1], *view.shape[2:]) if groups > 1 else view[:, None]
    weights = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    p, r = _P[:rank], _R[:rank]
    y = contract_arrays(view, weights, f"ngc{p}{r},goc{r}->ngo{p}")
    return y.reshape(x.shape[0], w.shape[0], *y.shape[3:])


def _conv_dx(g: Any, w: Any, strides: Ints, dilations: Ints, padding: Pads, groups: int, size: Ints) -> Any:
    n, rank = g.shape[0], g.ndim - 2
    low = [max(a, 0) for a, _ in padding]
    grown = [e + max(a, 0) + max(b, 0) for e, (a, b) in zip(size, padding, strict=True)]
    dx = np.zeros((n, groups, w.shape[1], *grown), g.dtype)
    gs = g.reshape(n, groups, g.shape[1] // groups, *g.shape[2:])
    ws = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    for r in np.ndindex(*w.shape[2:]):
        part = contract_arrays(gs, ws[(..., *r)], f"ngo{_P[:rank]},goc->ngc{_P[:rank]}")
        at = []
        for k, (place, s, d) in enumerate(zip(r, strides, dilations, strict=True)):
            start = place * d - min(padding[k][0], 0)
            at.append(slice(start, start + s * (g.shape[2 + k] - 1) + 1, s))
        dx[(slice(None), slice(None), slice(None), *at)] += part
    inside = [slice(a, a + e) for a, e in zip(low, size, strict=True)]
    return dx.reshape(n, groups * w.shape[1], *grown)[(slice(None), slice(None), *inside)]


def _conv_dw(x: Any, g: Any, strides: Ints, dilations: Ints, padding: Pads, groups: int, kernel: Ints) -> Any:
    rank = x.ndim - 2
    view = windows(x, kernel, strides, dilations, padding)
    view = view[(slice(None), slice(None), *(slice(0, e) for e in g.shape[2:]))]
    view = view.reshape(x.shape[0], groups, x.shape[1] // groups, *view.shape[2:])
    gs = g.reshape(g.shape[0], groups, g.shape[1] // groups, *g.shape[2:])
    p, r = _P[:rank], _R[:rank]
    dw = contract_arrays(view, gs, f"ngc{p}{r},ngo{p}->goc{r}")
    return dw.reshape(g.shape[1], *dw.shape[2:])


def _window(strides: Ints, dilations: Ints, padding: Pads, groups: int) -> dict[str, Any]:
    return {"strides": strides, "dilations": dilations, "padding": padding, "groups": groups}


def _conv_gradient(
    g: Any, x: Any, w: Any, y: Any, strides: Ints, dilations: Ints, padding: Pads, groups: int
) -> list[Any]:
    window = _window(strides, dilations, padding, groups)
    return [
        apply("conv_dx", g, w, size=x.shape[2:], **window),
        apply("conv_dw", x, g, kernel=w.shape[2:], **window),
    ]


def _conv_dx_gradient(
    g: Any, up: Any, w: Any, dx: Any, strides: Ints, dilations: Ints, padding: Pads, groups: int, size: Ints
) -> list[Any]:
    window = _window(strides, dilations, padding, groups)
    return [
        _fit(apply("conv", g, w, **window), up.shape),
        apply("conv_dw", g, up, kernel=w.shape[2:], **window),
    ]


def _conv_dw_gradient(
    g: Any, x: Any, up: Any, dw: Any, strides: Ints, dilations: Ints, padding: Pads, groups: int, kernel: Ints
) -> list[Any]:
    window = _window(strides, dilations, padding, groups)
    return [
        apply("conv_dx", up, g, size=x.shape[2:], **window),
        _fit(apply("conv", x, g, **window), up.shape),
    ]


def _fit(y: Any, shape: Place) -> Any:
    """Crop a convolution to the places that exist in `shape`."""
    if tuple(y.shape) == tuple(shape):
        return y
    rank = len(shape)
    return apply("slice", y, start=(0,) * rank, stop=tuple(shape), step=(1,) * rank)


class Convolution:
    """What the three operators share."""

    kind = "reduce"
    combine = "add"
    tolerance = 128
    accepts = "float"


@op
class conv(Convolution):
    """Convolution (cross-correlation) with stride, dilation, padding (low, high) per axis and groups."""

    formula = "y[n,o,*p] += x[n,c,*q] * w[o,c,*r]"
    ref = _conv
    grad = _conv_gradient
    accepts = "number"
    samples = (
        (
            [(2, 3, 5, 6), (4, 3, 3, 2)],
            {"strides": (2, 1), "dilations": (1, 2), "padding": ((1, 0), (0, 2)), "groups": 1},
        ),
        ([(1, 4, 7), (6, 2, 3)], {"strides": (1,), "dilations": (1,), "padding": ((1, 1),), "groups": 2}),
        (
            [(1, 2, 3, 4, 3), (2, 1, 2, 2, 2)],
            {"strides": (1,) * 3, "dilations": (1,) * 3, "padding": ((0, 0), (1, 1), (0, 1)), "groups": 2},
        ),
    )

    @staticmethod
    def infer(
        x: TensorType, w: TensorType, *, strides: Ints, dilations: Ints, padding: Pads, groups: int
    ) -> TensorType:
        rank = x.rank - 2
        if rank not in (1, 2, 3) or w.rank != x.rank:
            raise ShapeError(f"conv: x is {x} and w is {w}; both need 3, 4 or 5 axes")
        check_window("conv", rank, strides, dilations, padding)
        if groups < 1 or x.shape[1] != w.shape[1] * groups or w.shape[0] % groups != 0:
            raise ShapeError(
                f"conv: x has {x.shape[1]} channels but w {list(w.shape)} with {groups} groups wants "
                f"{w.shape[1] * groups}   [y[n,o,*p] += x[n,c,*q] * w[o,c,*r]]"
            )
        places = tuple(
            window_extent(*one)
            for one in zip(x.shape[2:], w.shape[2:], strides, dilations, padding, strict=True)
        )
        if any((interval(e)[1] or 0) < 1 and isinstance(e, int) for e in places):
            raise ShapeError(f"conv: kernel {list(w.shape[2:])} does not fit into {x} with padding {padding}")
        return TensorType(x.dtype, (x.shape[0], w.shape[0], *places))

    @staticmethod
    def extents(x: TensorType, w: TensorType, **_: Any) -> Place:
        return w.shape[1:]

    @staticmethod
    def term(
        i: Place, r: Place, x: Any, w: Any, *, strides: Ints, dilations: Ints, padding: Pads, groups: int
    ) -> Expr:
        n, o, *p = i
        c, *k = r
        per_group = w.type.shape[0] // groups
        channel = c if groups == 1 else o // per_group * w.type.shape[1] + c
        at = [
            a * s + b * d - lo for a, b, s, d, (lo, _) in zip(p, k, strides, dilations, padding, strict=True)
        ]
        inside = all_of([in_range(q, 0, e) for q, e in zip(at, x.type.shape[2:], strict=True)])
        weight: Expr = w[(o, c, *k)]
        return where(inside, x[(n, channel, *at)], 0.0) * weight


@op
class conv_dx(Convolution):
    """Gradient of `conv` with respect to x, a transposed convolution; `size` is x's spatial shape."""

    formula = "dx[n,c,*q] += g[n,o,*p] * w[o,c,*r]"
    ref = _conv_dx
    grad = _conv_dx_gradient
    samples = (
        (
            [(2, 4, 3, 6), (4, 3, 3, 2)],
            {
                "strides": (2, 1),
                "dilations": (1, 2),
                "padding": ((1, 0), (0, 2)),
                "groups": 1,
                "size": (6, 6),
            },
        ),
        (
            [(1, 6, 7), (6, 2, 3)],
            {"strides": (1,), "dilations": (1,), "padding": ((1, 1),), "groups": 2, "size": (7,)},
        ),
    )

    @staticmethod
    def infer(
        g: TensorType,
        w: TensorType,
        *,
        strides: Ints,
        dilations: Ints,
        padding: Pads,
        groups: int,
        size: Ints,
    ) -> TensorType:
        check_window("conv_dx", g.rank - 2, strides, dilations, padding)
        if g.rank != w.rank or g.shape[1] != w.shape[0]:
            raise ShapeError(f"conv_dx: g is {g} but w {list(w.shape)} makes {w.shape[0]} channels")
        if groups < 1 or w.shape[0] % groups != 0:
            raise ShapeError(f"conv_dx: {w.shape[0]} channels of g cannot form {groups} groups")
        if any(isinstance(extent, int) and extent < 0 for extent in size):
            raise ShapeError(f"conv_dx: {g} with {w} and padding {padding} gives the extents {list(size)}")
        return TensorType(g.dtype, (g.shape[0], w.shape[1] * groups, *size))

    @staticmethod
    def extents(g: TensorType, w: TensorType, *, groups: int, **_: Any) -> Place:
        return (w.shape[0] // groups, *w.shape[2:])

    @staticmethod
    def term(
        i: Place,
        r: Place,
        g: Any,
        w: Any,
        *,
        strides: Ints,
        dilations: Ints,
        padding: Pads,
        groups: int,
        size: Ints,
    ) -> Expr:
        n, c, *q = i
        o, *k = r
        inner = w.type.shape[1]
        per_group = w.type.shape[0] // groups
        out = o if groups == 1 else c // max(inner, 1) * per_group + o
        at, conditions = [], []
        for a, b, s, d, (lo, _), e in zip(q, k, strides, dilations, padding, g.type.shape[2:], strict=True):
            moved = a + lo - b * d
            if s > 1:
                conditions.append(in_range(moved % s, 0, 1))
            conditions.append(in_range(moved // s, 0, e))
            at.append(moved // s)
        weight: Expr = w[(out, c if groups == 1 else c % max(inner, 1), *k)]
        return where(all_of(conditions), g[(n, out, *at)] * weight, 0.0)


@op
class conv_dw(Convolution):
    """Gradient of `conv` with respect to w; `kernel` is w's spatial shape."""

    formula = "dw[o,c,*r] += x[n,c,*q] * g[n,o,*p]"
    ref = _conv_dw
    grad = _conv_dw_gradient
    samples = (
        (
            [(2, 3, 5, 6), (2, 4, 2, 6)],
            {
                "strides": (2, 1),
                "dilations": (1, 2),
                "padding": ((1, 0), (0, 2)),
                "groups": 1,
                "kernel": (3, 2),
            },
        ),
        (
            [(1, 4, 7), (1, 6, 7)],
            {"strides": (1,), "dilations": (1,), "padding": ((1, 1),), "groups": 2, "kernel": (3,)},
        ),
    )

    @staticmethod
    def infer(
        x: TensorType,
        g: TensorType,
        *,
        strides: Ints,
        dilations: Ints,
        padding: Pads,
        groups: int,
        kernel: Ints,
    ) -> TensorType:
        check_window("conv_dw", x.rank - 2, strides, dilations, padding)
        if x.rank != g.rank or x.shape[0] != g.shape[0]:
            raise ShapeError(f"conv_dw: x is {x} and g is {g}; they differ in the batch")
        if groups < 1 or x.shape[1] % groups != 0 or g.shape[1] % groups != 0:
            raise ShapeError(f"conv_dw: {x.shape[1]} and {g.shape[1]} channels cannot form {groups} groups")
        return TensorType(x.dtype, (g.shape[1], x.shape[1] // groups, *kernel))

    @staticmethod
    def extents(x: TensorType, g: TensorType, **_: Any) -> Place:
        return (g.shape[0], *g.shape[2:])

    @staticmethod
    def term(
        i: Place,
        r: Place,
        x: Any,
        g: Any,
        *,
        strides: Ints,
        dilations: Ints,
        padding: Pads,
        groups: int,
        kernel: Ints,
    ) -> Expr:
        o, c, *k = i
        n, *p = r
        per_group = g.type.shape[1] // groups
        channel = c if groups == 1 else o // per_group * (x.type.shape[1] // groups) + c
        at = [
            a * s + b * d - lo for a, b, s, d, (lo, _) in zip(p, k, strides, dilations, padding, strict=True)
        ]
        inside = all_of([in_range(q, 0, e) for q, e in zip(at, x.type.shape[2:], strict=True)])
        up: Expr = g[(n, o, *p)]
        return where(inside, x[(n, channel, *at)], 0.0) * up
