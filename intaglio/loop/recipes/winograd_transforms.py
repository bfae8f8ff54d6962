"""The matrices of Winograd's minimal filtering."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from intaglio.loop.ir import Alloc, Buffer, Stmt, Store
from intaglio.loop.recipes.anchor import Accuracy
from intaglio.loop.recipes.nests import Names, lanes
from intaglio.ops.expr import Const, Expr, Read
from intaglio.shared.dtypes import DType
from intaglio.shared.index import IndexLike

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Transform:
    """Matrices of F(m x m, 3 x 3): `source` is B', `kernel` is G, `result` is A'."""

    source: Matrix
    kernel: Matrix
    result: Matrix

    @property
    def tile(self) -> int:
        """Results along an axis."""
        return len(self.result)

    @property
    def frequencies(self) -> int:
        """Along an axis."""
        return len(self.source)


F2 = Transform(
    source=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    kernel=((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
    result=((1, 1, 1, 0), (0, 1, -1, -1)),
)
"""Rounds about as the plain sum does: all its factors are powers of two."""

F4 = Transform(
    source=(
        (4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1),
    ),
    kernel=(
        (1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1),
    ),
    result=((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
)  # fmt: skip
"""Loses a decimal digit against the plain sum."""


TRANSFORMS: dict[Accuracy, tuple[Transform, ...]] = {"high": (), "standard": (F2,), "relaxed": (F2, F4)}


def combine(coefficients: Sequence[float], values: Sequence[Expr]) -> Expr:
    """Values times constants, without those that do nothing."""
    total: Expr | None = None
    for factor, value in zip(coefficients, values, strict=True):
        if factor == 0:
            continue
        term = value if abs(factor) == 1 else value * Const(abs(factor), value.dtype)
        if total is None:
            total = term if factor > 0 else -term
        else:
            total = total + term if factor > 0 else total - term
    assert total is not None
    return total


def transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def transform_square(
    names: Names,
    dtype: DType,
    matrix: Matrix,
    width: int,
    read: Callable[[int, int, IndexLike], Expr],
    write: Callable[[int, int, IndexLike, Expr], Stmt],
) -> list[Stmt]:
    """A square of vectors transformed along its columns, then along its rows."""

    def put(p: int, q: int, lane: IndexLike, values: Sequence[Expr]) -> list[Stmt]:
        return [write(p, q, lane, *values)]

    return transform_windows(names, dtype, matrix, width, (1, 1), read, put)


def transform_windows(
    names: Names,
    dtype: DType,
    matrix: Matrix,
    width: int,
    window: tuple[int, ...],
    read: Callable[[int, int, IndexLike], Expr],
    put: Callable[[int, int, IndexLike, Sequence[Expr]], list[Stmt]],
) -> list[Stmt]:
    """The same with what is made handed on window by window."""
    size, made = len(matrix[0]), len(matrix)
    half = Buffer(names.fresh("half"), dtype, (made, size, width), "local", "register")
    high, wide = window

    def down(lane: IndexLike) -> list[Stmt]:
        return [
            Store(half, (p, j, lane), combine(matrix[p], [read(i, j, lane) for i in range(size)]))
            for j in range(size)
            for p in range(made)
        ]

    def result(p: int, q: int, lane: IndexLike) -> Expr:
        return combine(matrix[q], [Read(half, (p, j, lane), dtype) for j in range(size)])

    def along(lane: IndexLike) -> list[Stmt]:
        return [
            s
            for p in range(made // high)
            for q in range(made // wide)
            for s in put(
                p,
                q,
                lane,
                [result(p * high + a, q * wide + b, lane) for a in range(high) for b in range(wide)],
            )
        ]

    return [Alloc(half), *lanes(names["lane"], width, down), *lanes(names["lane"], width, along)]
