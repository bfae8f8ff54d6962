"""Contraction of two tensors, the general batched matrix product."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from intaglio.ops import formula
from intaglio.ops.dispatch import type_of
from intaglio.ops.expr import Expr
from intaglio.ops.registry import op, prim
from intaglio.shared.errors import ShapeError
from intaglio.shared.index import IndexLike
from intaglio.shared.types import TensorType

_SPEC = re.compile("[a-zA-Z]+,[a-zA-Z]+->[a-zA-Z]*")


def dot_formula(spec: str) -> formula.Formula:
    """The formula a spec such as `bmk,bkn->bmn` stands for."""
    inputs, output = spec.split("->")
    a, b = inputs.split(",")
    return formula.parse(
        f"c[{','.join(output)}] += a[{','.join(a)}] * b[{','.join(b)}]"
        if output
        else f"c[_] += a[{','.join(a)}] * b[{','.join(b)}]"
    )


def contract(a: Any, left: str, b: Any, right: str, output: str) -> Any:
    """The product of two tensors with named axes, summed over those that the result does not have.

    Without any, it is an elementwise product of tensors laid out as the result is.
    """
    if set(left + right) - set(output):
        return prim.dot(a, b, spec=f"{left},{right}->{output}")
    return prim.mul(_laid_out(a, left, output), _laid_out(b, right, output))


def _laid_out(x: Any, axes: str, output: str) -> Any:
    """Axes in the order of the result, with extent 1 where there is none."""
    order = tuple(axes.index(axis) for axis in output if axis in axes)
    extents = dict(zip(axes, type_of(x).shape, strict=True))
    moved = x if order == tuple(range(len(axes))) else prim.transpose(x, perm=order)
    shape = tuple(extents.get(axis, 1) for axis in output)
    return moved if len(shape) == len(axes) else prim.reshape(moved, shape=shape)


def _gradient(g: Any, a: Any, b: Any, c: Any, spec: str) -> list[Any]:
    inputs, out = spec.split("->")
    left, right = inputs.split(",")
    return [lambda: contract(g, out, b, right, left), lambda: contract(a, left, g, out, right)]


def contract_arrays(a: Any, b: Any, spec: str) -> Any:
    """NumPy's batched matrix product after moving axes; `np.einsum` leaves BLAS for some of these."""
    inputs, out = spec.split("->")
    left, right = inputs.split(",")
    batch = [x for x in left if x in right and x in out]
    inner = [x for x in left if x in right and x not in out]
    rows = [x for x in left if x not in right]
    columns = [x for x in right if x not in left]
    size = dict(zip(left + right, (*a.shape, *b.shape), strict=True))

    def extents(names: list[str]) -> list[int]:
        return [size[x] for x in names]

    def count(names: list[str]) -> int:
        return math.prod(extents(names))

    a = np.transpose(a, [left.index(x) for x in batch + rows + inner])
    b = np.transpose(b, [right.index(x) for x in batch + inner + columns])
    product = np.matmul(
        a.reshape(*extents(batch), count(rows), count(inner)),
        b.reshape(*extents(batch), count(inner), count(columns)),
    )
    made = batch + rows + columns
    return np.transpose(product.reshape(extents(made)), [made.index(x) for x in out])


@op
class dot:
    """Contraction by index notation: `spec="bmk,bkn->bmn"` is `c[b,m,n] += a[b,m,k] * b[b,k,n]`.

    Every axis occurs in two or three of the operands and the result, at most once in each.
    """

    kind = "reduce"
    formula = "c[*b,*m,*n] += a[*b,*m,*k] * b[*b,*n,*k]"
    combine = "add"
    ref = lambda a, b, spec: contract_arrays(a, b, spec)
    grad = _gradient
    tolerance = 64
    samples = (
        ([(4, 5), (5, 3)], {"spec": "mk,kn->mn"}),
        ([(2, 4, 5), (2, 3, 5)], {"spec": "bmk,bnk->bmn"}),
        ([(7,), (7,)], {"spec": "i,i->"}),
        ([(3,), (4,)], {"spec": "i,j->ij"}),
        ([(2, 3, 4), (3, 2)], {"spec": "abc,ba->c"}),
    )

    @staticmethod
    def infer(a: TensorType, b: TensorType, *, spec: str) -> TensorType:
        if not _SPEC.fullmatch(spec):
            raise ShapeError(f"dot: spec {spec!r} is not two lists of letters and a result, as mk,kn->mn is")
        inputs, output = spec.split("->")
        left, right = inputs.split(",")
        single = set(left) ^ set(right)
        if not set(output) <= set(left + right):
            raise ShapeError(f"dot: spec {spec!r} has an axis in the result that no operand has")
        if any(len(set(part)) != len(part) for part in (left, right, output)) or not single <= set(output):
            raise ShapeError(f"dot: spec {spec!r} repeats an axis, or drops one that only one operand has")
        extents = formula.bind_extents("dot", dot_formula(spec), [a.shape, b.shape])
        return TensorType(a.dtype, tuple(extents[axis][0] for axis in output))

    @staticmethod
    def extents(a: TensorType, b: TensorType, *, spec: str) -> tuple[IndexLike, ...]:
        places = formula.bind_extents("dot", dot_formula(spec), [a.shape, b.shape])
        return tuple(places[axis][0] for axis in reduced_axes(spec))

    @staticmethod
    def term(i: tuple[IndexLike, ...], r: tuple[IndexLike, ...], a: Any, b: Any, *, spec: str) -> Expr:
        inputs, output = spec.split("->")
        left, right = inputs.split(",")
        at = dict(zip(output, i, strict=True)) | dict(zip(reduced_axes(spec), r, strict=True))
        product: Expr = a[tuple(at[x] for x in left)] * b[tuple(at[x] for x in right)]
        return product


def reduced_axes(spec: str) -> str:
    """The contracted axes of a spec, in the order of the first operand."""
    inputs, output = spec.split("->")
    return "".join(axis for axis in inputs.split(",")[0] if axis not in output)
