"""Windows over spatial axes as views: `unfold` lays out what each window sees, `fold` adds it back.

Pooling is a reduction over an unfolded tensor; since a view lives inside its reader, nothing is laid out
in memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.ops.convolution import Ints, Pads, Place, check_window, window_extent, windows
from intaglio.ops.elementwise import apply
from intaglio.ops.expr import Const, Expr, all_of, in_range, where
from intaglio.ops.registry import op
from intaglio.shared.errors import ShapeError
from intaglio.shared.types import TensorType


def _unfold(x: Any, kernel: Ints, strides: Ints, dilations: Ints, padding: Pads, value: float) -> Any:
    filled = np.asarray(value).astype(x.dtype)
    grow = [(0, 0), (0, 0), *padding]
    grown = np.pad(x, grow, constant_values=filled)
    return windows(grown, kernel, strides, dilations, ((0, 0),) * len(kernel))


def _fold(u: Any, strides: Ints, dilations: Ints, padding: Pads, size: Ints) -> Any:
    rank = len(size)
    places, kernel = u.shape[2 : 2 + rank], u.shape[2 + rank :]
    grown = np.zeros((*u.shape[:2], *(e + a + b for e, (a, b) in zip(size, padding, strict=True))), u.dtype)
    for r in np.ndindex(*kernel):
        at = [
            slice(k * d, k * d + s * (p - 1) + 1, s)
            for k, d, s, p in zip(r, dilations, strides, places, strict=True)
        ]
        grown[(slice(None), slice(None), *at)] += u[(..., *r)]
    inside = [slice(a, a + e) for e, (a, _) in zip(size, padding, strict=True)]
    return grown[(slice(None), slice(None), *inside)]


@op
class unfold:
    """`y[n,c,*p,*r]` is x at `p * stride + r * dilation - low padding`, or `value` outside."""

    kind = "view"
    formula = "y[n,c,*p,*r] = x[n,c,*q]"
    ref = _unfold
    grad = lambda g, x, y, kernel, strides, dilations, padding, value: [
        apply("fold", g, strides=strides, dilations=dilations, padding=padding, size=x.shape[2:])
    ]
    samples = (
        (
            [(2, 2, 5, 4)],
            {
                "kernel": (2, 3),
                "strides": (2, 1),
                "dilations": (1, 1),
                "padding": ((0, 1), (1, 1)),
                "value": 0.0,
            },
        ),
        (
            [(1, 2, 7)],
            {"kernel": (3,), "strides": (2,), "dilations": (2,), "padding": ((1, 0),), "value": 9.0},
        ),
    )

    @staticmethod
    def infer(
        x: TensorType, *, kernel: Ints, strides: Ints, dilations: Ints, padding: Pads, value: float
    ) -> TensorType:
        check_window("unfold", x.rank - 2, strides, dilations, padding)
        places = tuple(
            window_extent(*one) for one in zip(x.shape[2:], kernel, strides, dilations, padding, strict=True)
        )
        if any(isinstance(e, int) and e < 1 for e in places):
            raise ShapeError(f"unfold: window {list(kernel)} does not fit into {x} with padding {padding}")
        return TensorType(x.dtype, (*x.shape[:2], *places, *kernel))

    @staticmethod
    def element(
        i: Place, x: Any, *, kernel: Ints, strides: Ints, dilations: Ints, padding: Pads, value: float
    ) -> Expr:
        rank = len(kernel)
        n, c, p, r = i[0], i[1], i[2 : 2 + rank], i[2 + rank :]
        at = [
            a * s + b * d - lo for a, b, s, d, (lo, _) in zip(p, r, strides, dilations, padding, strict=True)
        ]
        inside = all_of([in_range(q, 0, e) for q, e in zip(at, x.type.shape[2:], strict=True)])
        arithmetic = x.type.dtype.arithmetic
        outside = Const(float(value) if arithmetic.is_float else int(value), arithmetic)
        return where(inside, x[(n, c, *at)], outside)


@op
class fold:
    """The adjoint of `unfold`: every element of every window added back to its place; `size` is the spatial
    shape of the result."""

    kind = "reduce"
    combine = "add"
    formula = "y[n,c,*q] += u[n,c,*p,*r]"
    ref = _fold
    grad = lambda g, u, y, strides, dilations, padding, size: [
        apply(
            "unfold",
            g,
            kernel=u.shape[2 + len(size) :],
            strides=strides,
            dilations=dilations,
            padding=padding,
            value=0.0,
        )
    ]
    tolerance = 16
    samples = (
        (
            [(2, 2, 3, 4, 2, 3)],
            {"strides": (2, 1), "dilations": (1, 1), "padding": ((0, 1), (1, 1)), "size": (5, 4)},
        ),
        ([(1, 2, 2, 3)], {"strides": (2,), "dilations": (2,), "padding": ((1, 0),), "size": (7,)}),
    )

    @staticmethod
    def infer(u: TensorType, *, strides: Ints, dilations: Ints, padding: Pads, size: Ints) -> TensorType:
        check_window("fold", len(size), strides, dilations, padding)
        if u.rank != 2 + 2 * len(size):
            raise ShapeError(f"fold: {u} has not one place and one window axis per axis of size {list(size)}")
        return TensorType(u.dtype, (*u.shape[:2], *size))

    @staticmethod
    def extents(u: TensorType, *, strides: Ints, size: Ints, **_: Any) -> Place:
        """Windows that meet a place: when they do not overlap, one; else one per window element."""
        return u.shape[2 + len(size) :]

    @staticmethod
    def term(
        i: Place, r: Place, u: Any, *, strides: Ints, dilations: Ints, padding: Pads, size: Ints
    ) -> Expr:
        n, c, *q = i
        rank = len(size)
        at, conditions = [], []
        places = u.type.shape[2 : 2 + rank]
        for a, b, s, d, (lo, _), e in zip(q, r, strides, dilations, padding, places, strict=True):
            moved = a + lo - b * d
            if s > 1:
                conditions.append(in_range(moved % s, 0, 1))
            conditions.append(in_range(moved // s, 0, e))
            at.append(moved // s)
        return where(all_of(conditions), u[(n, c, *at, *r)], 0.0)
