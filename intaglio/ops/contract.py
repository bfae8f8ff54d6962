"""Contraction of two tensors, the general batched matrix product."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.ops import formula
from intaglio.ops.expr import Expr
from intaglio.ops.registry import REGISTRY, op
from intaglio.shared.errors import ShapeError
from intaglio.shared.index import IndexLike
from intaglio.shared.types import TensorType


def dot_formula(spec: str) -> formula.Formula:
    """The formula a spec such as `bmk,bkn->bmn` stands for."""
    inputs, output = spec.split("->")
    a, b = inputs.split(",")
    return formula.parse(f"c[{','.join(output)}] += a[{','.join(a)}] * b[{','.join(b)}]"
                         if output else f"c[*_] += a[{','.join(a)}] * b[{','.join(b)}]")


def _gradient(g: Any, a: Any, b: Any, c: Any, spec: str) -> list[Any]:
    inputs, out = spec.split("->")
    left, right = inputs.split(",")
    dot = REGISTRY["dot"]
    return [dot(g, b, spec=f"{out},{right}->{left}"), dot(a, g, spec=f"{left},{out}->{right}")]


@op
class dot:
    """Contraction by index notation: `spec="bmk,bkn->bmn"` is `c[b,m,n] += a[b,m,k] * b[b,k,n]`.

    Every axis occurs in two or three of the operands and the result, at most once in each.
    """

    kind = "reduce"
    formula = "c[*b,*m,*n] += a[*b,*m,*k] * b[*b,*n,*k]"
    combine = "add"
    ref = lambda a, b, spec: np.einsum(spec, a, b, optimize=True)
    grad = _gradient
    tolerance = 64

    @staticmethod
    def infer(a: TensorType, b: TensorType, *, spec: str) -> TensorType:
        inputs, output = spec.split("->")
        left, right = inputs.split(",")
        single = set(left) ^ set(right)
        if any(len(set(part)) != len(part) for part in (left, right, output)) or not single <= set(output):
            raise ShapeError(f"dot: spec {spec!r} repeats an axis, or drops one that only one operand has")
        extents = formula.bind_extents("dot", dot_formula(spec), [a.shape, b.shape])
        return TensorType(a.dtype, tuple(extents[axis][0] for axis in output))

    @staticmethod
    def extents(a: TensorType, b: TensorType, *, spec: str) -> tuple[IndexLike, ...]:
        places = formula.bind_extents("dot", dot_formula(spec), [a.shape, b.shape])
        return tuple(places[axis][0] for axis in reduced_axes(spec))

    @staticmethod
    def term(i: tuple[IndexLike, ...], r: tuple[IndexLike, ...], a: Any, b: Any, *,
             spec: str) -> Expr:
        inputs, output = spec.split("->")
        left, right = inputs.split(",")
        at = dict(zip(output, i, strict=True)) | dict(zip(reduced_axes(spec), r, strict=True))
        product: Expr = a[tuple(at[x] for x in left)] * b[tuple(at[x] for x in right)]
        return product


def reduced_axes(spec: str) -> str:
    """The contracted axes of a spec, in the order of the first operand."""
    inputs, output = spec.split("->")
    return "".join(axis for axis in inputs.split(",")[0] if axis not in output)
