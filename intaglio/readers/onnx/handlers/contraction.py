"""Einstein sums and determinants."""

from __future__ import annotations

from typing import Any

from intaglio.ops.compositions import linear
from intaglio.ops.compositions.basic import full_like, iota_like, reshape, static
from intaglio.ops.compositions.indexing import select
from intaglio.ops.registry import prim
from intaglio.readers.onnx.handlers.recurrent import scan
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared.errors import ShapeError
from intaglio.shared.index import product


@onnx_op("Einsum", 12)
def einsum(call: OnnxCall, *operands: Operand) -> Any:
    return linear.einsum(call.required("equation"), *operands)


@onnx_op("Det", 11)
def det(call: OnnxCall, x: Operand) -> Any:
    """By formula up to 3 rows; else by elimination, the largest element of a column as pivot."""
    shape = x.shape
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ShapeError(f"Det: {list(shape)} holds no square matrices")
    n, batch = static(shape[-1], "Det"), tuple(shape[:-2])
    matrices = reshape(x, (product(batch), n, n))
    found = _by_formula(matrices, n) if n <= 3 else _by_elimination(call, matrices, n)
    return reshape(found, batch)


def _by_formula(x: Any, n: int) -> Any:
    if n == 0:
        return full_like(x, 1, x.shape[:1])
    a = [[select(select(x, 1, row), 1, column) for column in range(n)] for row in range(n)]
    if n == 1:
        return a[0][0]
    if n == 2:
        return a[0][0] * a[1][1] - a[0][1] * a[1][0]
    minors = [a[1][(k + 1) % 3] * a[2][(k + 2) % 3] - a[1][(k + 2) % 3] * a[2][(k + 1) % 3] for k in range(3)]
    return a[0][0] * minors[0] + a[0][1] * minors[1] + a[0][2] * minors[2]


def _by_elimination(call: OnnxCall, x: Any, n: int) -> Any:
    """One step for each column: the product of pivots, with the sign of the rows' exchanges."""
    count = x.shape[0]

    def step(carry: list[Any], row: list[Any], _: list[Any]) -> tuple[list[Any], list[Any]]:
        matrix, total = carry
        k, index = row[0], iota_like(matrix, (1, n), 1)
        rows, columns = reshape(index, (1, n, 1)), reshape(index, (1, 1, n))
        size = prim.where(prim.lt(index, k), -1, prim.abs(_picked(matrix, columns, k, 2)))
        best = reshape(prim.argmax(size, axes=(1,)), (count, 1, 1))
        top, chosen = (reshape(_picked(matrix, rows, at, 1), (count, 1, n)) for at in (k, best))
        matrix = prim.where(prim.eq(rows, k), chosen, prim.where(prim.eq(rows, best), top, matrix))
        pivot = _picked(chosen, columns, k, 2)
        factor = _picked(matrix, columns, k, 2) / prim.where(prim.eq(pivot, 0), 1, pivot)
        below = reshape(prim.where(prim.lt(k, index), factor, 0), (count, n, 1))
        kept = prim.eq(reshape(best, (count, 1)), k)
        return [matrix - below * chosen, total * reshape(prim.where(kept, pivot, -pivot), (count,))], []

    return scan(call, step, [x, full_like(x, 1, (count,))], [iota_like(x, (n,), 0)], [], n)[0][1]


def _picked(x: Any, index: Any, place: Any, axis: int) -> Any:
    """The elements of x at a place along an axis, whose indices are given."""
    return prim.sum(prim.where(prim.eq(index, place), x, 0), axes=(axis,))
