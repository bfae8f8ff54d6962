"""Views: operators whose result only says where an element comes from. They cost nothing once fused."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.ops.dispatch import broadcast_shapes, type_of
from intaglio.ops.expr import Expr
from intaglio.ops.registry import REGISTRY, constant, op
from intaglio.shared.errors import ShapeError
from intaglio.shared.index import IndexLike, product
from intaglio.shared.types import TensorType

Shape = tuple[IndexLike, ...]


def _unbroadcast(g: Any, x: Any, y: Any, shape: Shape) -> list[Any]:
    """Sum over the axes that broadcasting made or stretched."""
    before, spare = type_of(x).shape, len(shape) - type_of(x).rank
    stretched = tuple(
        k for k, extent in enumerate(shape) if k < spare or (before[k - spare] == 1 and extent != 1)
    )
    summed = REGISTRY["sum"](g, axes=stretched) if stretched else g
    return [summed if type_of(summed).shape == before else REGISTRY["reshape"](summed, shape=before)]


@op
class broadcast:
    """Repeat along new leading axes and along axes of extent 1, by NumPy's rule."""

    kind = "view"
    formula = "y[*r,*i] = x[*i]"
    ref = lambda x, shape: np.broadcast_to(x, shape)
    grad = _unbroadcast
    accepts = "any"
    samples = (([(3, 1)], {"shape": (2, 3, 4)}), ([()], {"shape": (2,)}))

    @staticmethod
    def infer(x: TensorType, *, shape: Shape) -> TensorType:
        if x.rank > len(shape) or broadcast_shapes("broadcast", [x.shape, shape]) != shape:
            raise ShapeError(f"broadcast: {x} cannot become shape {list(shape)}")
        return TensorType(x.dtype, shape)

    @staticmethod
    def element(i: Shape, x: Any, *, shape: Shape) -> Expr:
        own = i[len(shape) - x.type.rank :]
        read: Expr = x[tuple(0 if extent == 1 else k for k, extent in zip(own, x.type.shape, strict=True))]
        return read


def split_index(flat: IndexLike, shape: Shape) -> Shape:
    """The index into `shape` of the element at row-major position `flat`."""
    index: list[IndexLike] = []
    for extent in reversed(shape[1:]):
        some = 1 if extent == 0 else extent  # an empty tensor has no elements to be wrong about
        index.append(flat % some)
        flat = flat // some
    return (flat, *reversed(index)) if shape else ()


def flat_index(index: Shape, shape: Shape) -> IndexLike:
    """Row-major position of an index."""
    flat: IndexLike = 0
    for k, extent in zip(index, shape, strict=True):
        flat = flat * extent + k
    return flat


def matching_axes(before: Shape, after: Shape) -> list[tuple[slice, slice]]:
    """Runs of axes of two shapes of one size that hold the same elements; as many and as short as possible.

    With symbols the places within a run are quotients that do not simplify, so that axes which only pass
    through had better stand alone."""
    if 0 in before:
        return [(slice(0, len(before)), slice(0, len(after)))]
    runs, start, first = [], 0, 0
    ahead: list[IndexLike] = [product(after[:m]) for m in range(len(after) + 1)]
    for k in range(1, len(before) + 1):
        size = product(before[:k])
        end = next((m for m in range(first, len(after) + 1) if ahead[m] == size), None)
        if k == len(before):
            end = len(after)
        if end is not None:
            runs.append((slice(start, k), slice(first, end)))
            start, first = k, end
    return runs


@op
class reshape:
    """The same elements in row-major order under another shape."""

    kind = "view"
    formula = "y[*j] = x[*i]"
    ref = lambda x, shape: np.reshape(x, shape)
    grad = lambda g, x, y, shape: [REGISTRY["reshape"](g, shape=type_of(x).shape)]
    accepts = "any"
    samples = (([(2, 6)], {"shape": (3, 4)}), ([(4,)], {"shape": (1, 2, 2)}), ([(1, 1)], {"shape": ()}))

    @staticmethod
    def infer(x: TensorType, *, shape: Shape) -> TensorType:
        if product(shape) != x.size:
            raise ShapeError(
                f"reshape: {x} has {x.size} elements but shape {list(shape)} has {product(shape)}"
            )
        return TensorType(x.dtype, shape)

    @staticmethod
    def element(i: Shape, x: Any, *, shape: Shape) -> Expr:
        at: list[IndexLike] = []
        for own, other in matching_axes(x.type.shape, shape):
            at += split_index(flat_index(i[other], shape[other]), x.type.shape[own])
        read: Expr = x[tuple(at)]
        return read


@op
class transpose:
    """Axes in another order: axis `k` of the result is axis `perm[k]` of the operand."""

    kind = "view"
    formula = "y[*i] = x[*j]"
    ref = lambda x, perm: np.transpose(x, perm)
    grad = lambda g, x, y, perm: [REGISTRY["transpose"](g, perm=tuple(int(k) for k in np.argsort(perm)))]
    accepts = "any"
    samples = (([(2, 3, 4)], {"perm": (2, 0, 1)}),)

    @staticmethod
    def infer(x: TensorType, *, perm: tuple[int, ...]) -> TensorType:
        if sorted(perm) != list(range(x.rank)):
            raise ShapeError(f"transpose: perm {list(perm)} does not order the {x.rank} axes of {x}")
        return TensorType(x.dtype, tuple(x.shape[k] for k in perm))

    @staticmethod
    def element(i: Shape, x: Any, *, perm: tuple[int, ...]) -> Expr:
        read: Expr = x[tuple(i[perm.index(k)] for k in range(x.type.rank))]
        return read


@op
class detach:
    """The element itself, as a constant to derivatives."""

    kind = "view"
    formula = "y[*i] = x[*i]"
    ref = lambda x: x
    grad = constant
    accepts = "any"
