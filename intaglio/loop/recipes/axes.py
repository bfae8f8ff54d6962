"""Axes of a contraction: their roles, how far each array moves along them, and merging.

Axes of the spec fall into four classes: `batch` (in both operands and the result), `left` and `right`
(in one operand and the result) and `reduced` (in both operands only). Neighbouring axes of a class
become one loop where every array crosses them in one stride.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from string import ascii_uppercase
from typing import Any

import numpy as np

from intaglio.loop import places
from intaglio.loop.ir import Alloc, Block, Buffer, Reduce, Stmt, Store, walk
from intaglio.loop.lower_group import combine_identity
from intaglio.loop.recipes.anchor import Anchor, Operand
from intaglio.loop.recipes.nests import Names, variable_of
from intaglio.ops.expr import Apply, Const, Expr, IndexValue, Read, cast
from intaglio.shared.dtypes import bool_
from intaglio.shared.index import Div, Index, IndexLike, Mod, Var, upper, variable

Env = dict[str, IndexLike]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Dim:
    """One loop over one or several merged axes, the slowest first; no parts stand for no loop at all."""

    extent: IndexLike
    parts: tuple[tuple[str, IndexLike], ...]

    @property
    def names(self) -> str:
        return "".join(axis for axis, _ in self.parts)

    @property
    def fixed(self) -> int:
        """The extent of a loop that has no symbol."""
        assert isinstance(self.extent, int)
        return self.extent

    def join(self, env: Env) -> IndexLike:
        """The loop variable that `bind` split."""
        index: IndexLike = 0
        for axis, extent in self.parts:
            index = index * extent + env[axis]
        return index

    def bind(self, index: IndexLike) -> Env:
        """The values of the merged axes at one value of the loop variable."""
        env: Env = {}
        for axis, extent in reversed(self.parts[1:]):
            env[axis] = index % extent
            index = index // extent
        if self.parts:
            env[self.parts[0][0]] = index
        return env


ALONE = Dim(1, ())
"""No loop."""


def count(dims: Sequence[Dim]) -> int:
    """Iterations of loops; a symbol without bound counts as 64."""
    return prod(upper(d.extent) or 64 for d in dims)


def by_dims(data: Array, axes: str, dims: Sequence[Dim]) -> Array:
    """An array with an axis for each of the dims, from one with an axis for each letter."""
    order = [axis for d in dims for axis, _ in d.parts]
    alone = tuple(k for k, axis in enumerate(axes) if axis not in order)
    kept = [axis for axis in axes if axis in order]
    array = data.squeeze(alone).transpose([kept.index(axis) for axis in order])
    return array.reshape([d.fixed for d in dims])


@dataclass(frozen=True)
class Roles:
    """The loops of a contraction by what they run over."""

    batch: list[Dim]
    rows: list[Dim]
    columns: list[Dim]
    reduced: list[Dim]

    @property
    def all(self) -> list[Dim]:
        return [*self.batch, *self.rows, *self.columns, *self.reduced]


@dataclass(frozen=True)
class Strides:
    """Elements that each read of an operand, and each access behind the reduction, moves per step."""

    left: tuple[int | None, ...]
    right: tuple[int | None, ...]
    stores: tuple[int | None, ...]
    reads: tuple[int | None, ...]

    @property
    def all(self) -> tuple[int | None, ...]:
        return self.left + self.right + self.stores + self.reads


@dataclass(frozen=True)
class Factor:
    """One factor of the terms: the axes it depends on and its value at theirs."""

    axes: str
    at: Callable[[Env], Expr]
    data: Array | None = None
    """The values of a constant factor, one array axis per axis."""

    @staticmethod
    def operand(operand: Operand, axes: str) -> Factor:
        return Factor(axes, lambda env: operand[tuple(env[a] for a in axes)], operand.data)

    def split(self, axis: str, size: int, inner: str, whole: Callable[[Env], Env]) -> Factor:
        """The same factor with an axis in two, the new one right behind it."""
        if axis not in self.axes:
            return self
        place = self.axes.index(axis)
        data = self.data
        if data is not None:
            shape = (*data.shape[:place], data.shape[place] // size, size, *data.shape[place + 1 :])
            data = data.reshape(shape)
        axes = self.axes[: place + 1] + inner + self.axes[place + 1 :]
        return Factor(axes, lambda env: self.at(whole(env)), data)


NOTHING = Factor("", lambda env: Const(1, bool_))


@dataclass
class Contraction:
    """A reduction with its axes sorted out: terms are products of two factors, or only the right one.

    `place` gives the result's index at values of the axes.
    """

    anchor: Anchor
    left: Factor
    right: Factor
    out_axes: str
    extents: Mapping[str, IndexLike]
    place: Callable[[Env], tuple[IndexLike, ...]]
    names: Names = field(default_factory=lambda: Names(()))

    @staticmethod
    def of_dot(anchor: Anchor, regular: bool = True) -> Contraction:
        """A `dot` by the axes of its spec, which stay whole unless `regular`."""
        inputs, out = anchor.attrs["spec"].split("->")
        axes = inputs.split(",")
        left, right = (Factor.operand(x, own) for x, own in zip(anchor.operands, axes, strict=True))
        extents: dict[str, IndexLike] = {}
        for operand, own in zip(anchor.operands, axes, strict=True):
            extents |= dict(zip(own, operand.type.shape, strict=True))
        return Contraction.made(anchor, left, right, out, extents, regular)

    @staticmethod
    def of_reduction(anchor: Anchor) -> Contraction:
        """A reduction of one operand; axes of the result are `a`, `b`, ..., the reduced ones `r`, `s`, ..."""
        shape, reduced = anchor.result.shape, anchor.reduced
        kept = "abcdefgh"[: len(shape)]
        inner = "rstuvwxy"[: len(reduced)]

        def term(env: Env) -> Expr:
            return anchor.term(tuple(env[a] for a in kept), tuple(env[a] for a in inner))

        extents = dict(zip(kept + inner, (*shape, *reduced), strict=True))
        return Contraction.made(anchor, NOTHING, Factor(kept + inner, term), kept, extents)

    @staticmethod
    def made(
        anchor: Anchor,
        left: Factor,
        right: Factor,
        out_axes: str,
        extents: Mapping[str, IndexLike],
        regular: bool = True,
    ) -> Contraction:
        """Products of two factors, summed over the axes that the result does not have."""
        made = Contraction(
            anchor, left, right, out_axes, extents, lambda env: tuple(env[a] for a in out_axes)
        )
        made.names = Names(anchor.names)
        return made.regular() if regular else made

    def regular(self) -> Contraction:
        """The same contraction with axes split where an array divides them, as a view of heads does, so that
        every array moves by a stride along each."""
        for axis in self.extents:
            size = self._divisor(axis)
            inner = next((a for a in ascii_uppercase if a not in self.extents), None)
            if size is not None and inner is not None:
                return self._split(axis, size, inner).regular()
        return self

    def _divisor(self, axis: str) -> int | None:
        """The smallest number that an index divides an irregular axis by and that divides its extent."""
        extent, index = self.extents[axis], self.variables[axis]
        if isinstance(index, int) or not isinstance(extent, int) or None not in self.strides(axis).all:
            return None
        left, right, stores, reads = self._probe
        found = [n for r in (*left, *right, *reads) for i in r.index for n in divisors(i, variable_of(index))]
        found += [n for _, place in stores for i in place for n in divisors(i, variable_of(index))]
        return min((n for n in found if 1 < n < extent and extent % n == 0), default=None)

    def _split(self, axis: str, size: int, inner: str) -> Contraction:
        def whole(env: Env) -> Env:
            """Values of the axes as they were; behind the reduction those summed over have none."""
            return env | {axis: env[axis] * size + env[inner]} if axis in env and inner in env else env

        extent = self.extents[axis]
        extents: dict[str, IndexLike] = {}
        for a, e in self.extents.items():
            extents |= {a: extent // size, inner: size} if a == axis else {a: e}
        return replace(
            self,
            left=self.left.split(axis, size, inner, whole),
            right=self.right.split(axis, size, inner, whole),
            out_axes=self.out_axes + (inner if axis in self.out_axes else ""),
            extents=extents,
            place=lambda env: self.place(whole(env)),
        )

    def swap(self) -> Contraction:
        """The same contraction with the factors in the other order."""
        return replace(self, left=self.right, right=self.left)

    @cached_property
    def variables(self) -> dict[str, IndexLike]:
        """One probing variable per axis; axes of extent 1 are 0."""
        return {a: 0 if e == 1 else variable(f"axis_{a}", e) for a, e in self.extents.items()}

    @cached_property
    def repeats(self) -> int:
        """Runs of the kernel that see the same right operand."""
        return self.anchor.runs_with(self.right.at(self.variables))

    @property
    def fixed(self) -> Env:
        """The values of the axes that have no loop."""
        return {a: 0 for a, e in self.extents.items() if e == 1}

    @cached_property
    def _probe(self) -> tuple[list[Read], list[Read], list[tuple[Buffer, tuple[IndexLike, ...]]], list[Read]]:
        """Reads of both operands, stores and reads behind the reduction, at the probing variables."""
        env = self.variables
        acc = Buffer("", self.anchor.dtype, (), "local", "register")
        after = self.finish(env, Read(acc, (), acc.dtype))
        local = {acc} | {s.buffer for s in after if isinstance(s, Alloc)}
        stores = [
            (s.buffer, s.index)
            for s in walk(Block(tuple(after)))
            if isinstance(s, (Store, Reduce)) and s.buffer not in local
        ]
        reads = [
            r for s in walk(Block(tuple(after))) for r in places.statement_reads(s) if r.source not in local
        ]
        return (
            list(places.reads(self.left.at(env))),
            list(places.reads(self.right.at(env))),
            stores,
            reads,
        )

    def term(self, env: Env, right: Expr | None = None, left: Expr | None = None) -> Expr:
        """One term, in the type of the accumulator; `right` and `left` stand for factors kept elsewhere."""
        dtype = self.anchor.dtype
        right = cast(self.right.at(env), dtype) if right is None else right
        if self.left is NOTHING:
            return right
        return (cast(self.left.at(env), dtype) if left is None else left) * right

    def finish(self, env: Env, value: Expr) -> list[Stmt]:
        """Statements that store a reduced element."""
        return self.anchor.finish(self.place(env), value)

    def clear(self, buffer: Buffer, index: tuple[IndexLike, ...]) -> Store:
        """Set an accumulator to the start of the reduction."""
        return Store(buffer, index, combine_identity(self.anchor.combine, buffer.dtype))

    def accumulate(self, buffer: Buffer, index: tuple[IndexLike, ...], value: Expr) -> Reduce:
        return Reduce(buffer, index, self.anchor.combine, value)

    @property
    def is_plain(self) -> bool:
        """Whether terms are made of elements alone, at places that are inside for every iteration."""
        return not _has_index(self.term(self.variables))

    def strides(self, axis: str) -> Strides:
        """Strides along one axis."""
        index = self.variables[axis]
        if isinstance(index, int):
            return Strides((0,), (0,), (0,), (0,))
        var = variable_of(index)
        left, right, stores, reads = self._probe
        return Strides(
            tuple(_stride(r, var) for r in left),
            tuple(_stride(r, var) for r in right),
            tuple(places.stride(b, i, var) for b, i in stores),
            tuple(_stride(r, var) for r in reads),
        )

    def axes(self, where: Callable[[bool, bool, bool], bool]) -> list[str]:
        """Axes longer than 1 by membership in left, right and result."""
        return [
            a
            for a, e in self.extents.items()
            if e != 1 and where(a in self.left.axes, a in self.right.axes, a in self.out_axes)
        ]

    @cached_property
    def roles(self) -> Roles:
        """The loops over the axes of both operands and the result, of the left or the right operand and the
        result, and of the operands only."""
        return Roles(
            self.dims(self.axes(lambda left, right, out: left and right and out)),
            self.dims(self.axes(lambda left, right, out: left and out and not right)),
            self.dims(self.axes(lambda left, right, out: right and out and not left)),
            self.dims(self.axes(lambda left, right, out: not out)),
        )

    @cached_property
    def is_regular(self) -> bool:
        """Whether every array moves by a stride along each loop, if only one made of symbols."""
        return all(self._is_even(dim.parts[-1][0]) for dim in self.roles.all)

    def _is_even(self, axis: str) -> bool:
        index = self.variables[axis]
        if isinstance(index, int) or None not in self.strides(axis).all:
            return True
        left, right, stores, reads = self._probe
        places_ = [(r.source, r.index) for r in (*left, *right, *reads)] + stores
        return all(
            isinstance(source, Buffer) and places.is_even(places.flat(source, at), variable_of(index))
            for source, at in places_
        )

    def dims(self, axes: Sequence[str]) -> list[Dim]:
        """Loops over axes, far strides first, merged where every array crosses two in one stride."""
        order = sorted(axes, key=lambda a: [-(s or 0) for s in self._order_key(a)])
        dims: list[Dim] = []
        for axis in order:
            part = (axis, self.extents[axis])
            if dims and self._mergeable(dims[-1].parts[-1][0], axis):
                last = dims.pop()
                dims.append(Dim(last.extent * self.extents[axis], (*last.parts, part)))
            else:
                dims.append(Dim(self.extents[axis], (part,)))
        return dims

    def _order_key(self, axis: str) -> tuple[int | None, ...]:
        strides = self.strides(axis)
        return strides.stores[:1] + strides.right[:1] + strides.left[:1]

    def _mergeable(self, outer: str, inner: str) -> bool:
        extent = self.extents[inner]
        pairs = zip(self.strides(outer).all, self.strides(inner).all, strict=True)
        return (
            isinstance(extent, int)
            and isinstance(self.extents[outer], int)
            and all(a is not None and b is not None and a == b * extent for a, b in pairs)
        )

    def dim_strides(self, dim: Dim) -> Strides:
        """Strides along a merged loop: those of its fastest axis."""
        return self.strides(dim.parts[-1][0])


def divisors(index: IndexLike, var: Var) -> Iterator[int]:
    """What an index divides a variable by, in steps of the variable."""
    if not isinstance(index, Index):
        return
    for atom, _ in index.terms:
        if isinstance(atom, (Div, Mod)):
            yield from divisors(atom.num, var)
            step = atom.num.coefficient(var)
            if step and isinstance(atom.den, int) and atom.den % step == 0:
                yield atom.den // step


def _has_index(value: Expr) -> bool:
    """Whether a value depends on where it is computed, as the guards of padding do."""
    if isinstance(value, Apply):
        return any(map(_has_index, value.args))
    return isinstance(value, IndexValue)


def _stride(read: Read, var: Var) -> int | None:
    return places.stride(read.source, read.index, var) if isinstance(read.source, Buffer) else None
