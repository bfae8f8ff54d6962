"""Operands of integer contractions as groups of narrow integers along the reduction: rows and panels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from intaglio.loop.ir import Alloc, Buffer, Reduce, Stmt, Store
from intaglio.loop.recipes.axes import Array, Dim, Env, by_dims
from intaglio.loop.recipes.columns import ColumnTiles
from intaglio.loop.recipes.narrow import Form, Narrow
from intaglio.loop.recipes.nests import loop
from intaglio.loop.recipes.tiles import Panels
from intaglio.ops.expr import Const, Expr, Read, cast
from intaglio.shared import dtypes
from intaglio.shared.index import IndexLike

ZERO = Const(0, dtypes.i32)


@dataclass(frozen=True)
class Factors:
    """Both factors, how they are grouped, and whether the left one is read from where it lies.

    Its rows then have whole groups, of which those behind the reduction meet zeros.
    """

    form: Form
    left: Narrow
    right: Narrow
    in_place: bool


@dataclass
class IntegerPanels(ColumnTiles):
    """Columns as groups of narrow integers: panels are [panel][reduction][group][column][of a group]."""

    factors: Factors = field(kw_only=True)
    rows: Buffer | None = None
    row_sums: Buffer | None = None
    ones: Buffer | None = None
    sums: list[tuple[Panels, Buffer]] = field(default_factory=list)

    @property
    def name(self) -> str:
        form = self.factors.form
        return f"{form.left} by {form.right} {super().name}"

    @property
    def group(self) -> int:
        return self.factors.form.group

    @property
    def depth(self) -> Dim:
        """The axis of the reduction that is grouped."""
        return self.reduced[-1]

    @property
    def groups(self) -> int:
        return -(-self.depth.fixed // self.group)

    @property
    def scratch(self) -> tuple[Buffer, ...]:
        own = (self.rows, self.row_sums, self.ones, *(buffer for _, buffer in self.sums))
        return (*super().scratch, *(buffer for buffer in own if buffer is not None))

    # Rows: [batch and further rows][row][reduction][places of whole groups]

    @property
    def row_dims(self) -> list[Dim]:
        axes = self.factors.left.axes
        return [d for d in (*self.outer, self.row) if d.parts and d.names[0] in axes]

    def copy_rows(self) -> list[Stmt]:
        """Copy the left operand into rows of whole groups."""
        left, depth, names = self.factors.left, self.depth.fixed, self.names
        further = [d.extent for d in (*self.row_dims, *self.reduced[:-1])]
        whole = self.groups * self.group
        rows = Buffer(names.fresh("rows"), left.dtype, (*further, whole), "scratch", "heap")
        self.rows = rows
        if left.data is not None:
            rows.role, rows.data = "constant", self.row_data(left.data)
            return []

        def row(env: Env) -> list[Stmt]:
            place = (*self.index(self.row_dims, env), *self.index(self.reduced[:-1], env))
            clear = loop(
                names["k0"],
                whole - depth,
                lambda k: [Store(rows, (*place, k + depth), Const(0, left.dtype))],
            )
            copy = self.over_parts(self.depth, env, lambda full, k: [Store(rows, (*place, k), left.at(full))])
            return [*copy, *clear]

        return self.over([*self.row_dims, *self.reduced[:-1]], self.contraction.fixed, row)

    def row_data(self, data: Array) -> Array:
        """The content of constant rows."""
        dims = [*self.row_dims, *self.reduced]
        array = by_dims(data, self.factors.left.axes, dims)
        gap = [(0, 0)] * (array.ndim - 1) + [(0, self.groups * self.group - array.shape[-1])]
        return np.ascontiguousarray(np.pad(array, gap), self.factors.left.dtype.numpy)

    def over_parts(
        self, dim: Dim, env: Env, body: Callable[[Env, IndexLike], list[Stmt]], at: IndexLike = 0, k: int = 0
    ) -> list[Stmt]:
        """A loop for each of the axes that were merged; `body` gets the place in all of them."""
        if k == len(dim.parts):
            return body(env, at)
        axis, extent = dim.parts[k]
        return loop(
            self.names.axis(axis),
            extent,
            lambda index: self.over_parts(dim, env | {axis: index}, body, at * extent + index, k + 1),
        )

    def index(self, dims: list[Dim], env: Env) -> tuple[IndexLike, ...]:
        return tuple(d.join(env) for d in dims)

    def factor(self, env: Env, k: IndexLike) -> Expr:
        """The left factor at a place of the grouped axis."""
        if self.rows is None:
            return self.factors.left.at(env | self.depth.bind(k))
        place = (*self.index(self.row_dims, env), *self.index(self.reduced[:-1], env), k)
        return Read(self.rows, place, self.rows.dtype)

    def add_rows(self) -> list[Stmt]:
        """The sums of the left operand's rows."""
        names, left = self.names, self.factors.left
        sums = Buffer(
            names.fresh("row_sums"), dtypes.i32, tuple(d.extent for d in self.row_dims), "scratch", "heap"
        )
        total = Buffer(names.fresh("total"), dtypes.i32, (), "local", "register")
        self.row_sums = sums
        if left.data is not None:
            whole = tuple(range(len(self.row_dims), len(self.row_dims) + len(self.reduced)))
            sums.role, sums.data = "constant", self.row_data(left.data).sum(whole, np.int32)
            return []

        def row(env: Env) -> list[Stmt]:
            def add(full: Env) -> list[Stmt]:
                return self.over_parts(
                    self.depth,
                    full,
                    lambda inner, _: [Reduce(total, (), "add", cast(left.at(inner), dtypes.i32))],
                )

            return [
                Alloc(total),
                Store(total, (), ZERO),
                *self.over(self.reduced[:-1], env, add),
                Store(sums, self.index(self.row_dims, env), Read(total, (), total.dtype)),
            ]

        return self.over(self.row_dims, self.contraction.fixed, row)

    # Panels

    def pack_buffer(self, group: Panels) -> Buffer:
        right = self.factors.right
        dims = [d.extent for d in self.pack_outer] + [group.count] + [d.extent for d in self.reduced[:-1]]
        shape = (*dims, self.groups, group.width, self.group)
        buffer = Buffer(self.names.fresh("panel"), right.dtype, shape, "scratch")
        if right.data is not None:
            buffer.role, buffer.data = "constant", self.packed_data(group, buffer)
        return buffer

    def packed_data(self, group: Panels, buffer: Buffer) -> Array:
        """The content of a constant operand's panels."""
        right = self.factors.right
        assert right.data is not None
        array = by_dims(right.data, right.axes, [*self.pack_outer, *self.reduced, self.column])
        array = array[..., group.start : group.start + group.count * group.width]
        outer = len(self.pack_outer)
        gap = [(0, 0)] * array.ndim
        gap[-2] = (0, self.groups * self.group - array.shape[-2])
        split = np.pad(array, gap).reshape(
            *array.shape[:-2], self.groups, self.group, group.count, group.width
        )
        moved = np.moveaxis(np.moveaxis(split, -2, outer), -2, -1)
        return np.ascontiguousarray(moved, buffer.dtype.numpy)

    def pack(self, group: Panels, buffer: Buffer) -> list[Stmt]:
        """Copy the right operand into the panels of one group, zeros behind the reduction."""
        names, right, depth = self.names, self.factors.right, self.depth.fixed

        def panel(env: Env, number: IndexLike) -> list[Stmt]:
            start = (*self.index(self.pack_outer, env), number, *self.index(self.reduced[:-1], env))

            def store(full: Env, k: IndexLike) -> list[Stmt]:
                return loop(
                    names["j1"],
                    group.width,
                    lambda place: [
                        Store(
                            buffer,
                            (*start, k // self.group, place, k % self.group),
                            right.at(full | self.at(group, number, place)),
                        )
                    ],
                )

            clear = loop(
                names["k0"],
                self.groups * self.group - depth,
                lambda k: loop(
                    names["j1"],
                    group.width,
                    lambda place: [
                        Store(
                            buffer,
                            (*start, self.groups - 1, place, k + depth % self.group),
                            Const(0, buffer.dtype),
                        )
                    ],
                ),
            )
            return [*self.over_parts(self.depth, env, store), *clear]

        return self.over(
            self.pack_outer,
            self.contraction.fixed,
            lambda env: loop(
                names["j0"],
                group.count,
                lambda number: self.over(self.reduced[:-1], env, lambda full: panel(full, number)),
            ),
        )
