"""Axes of a contraction: their roles, how far each array moves along them, and merging.

Axes of the spec fall into four classes: `batch` (in both operands and the result), `left` and `right`
(in one operand and the result) and `reduced` (in both operands only). Neighbouring axes of a class
become one loop where every array crosses them in one stride.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from intaglio.loop import places
from intaglio.loop.ir import Alloc, Block, Buffer, Reduce, Stmt, Store, walk
from intaglio.loop.recipes.anchor import Anchor, Operand
from intaglio.ops.expr import Expr, Read, cast
from intaglio.shared.index import Index, IndexLike, Var, variable

Env = dict[str, IndexLike]


@dataclass(frozen=True)
class Dim:
    """One loop over one or several merged axes, the slowest first; no parts stand for no loop at all."""

    extent: IndexLike
    parts: tuple[tuple[str, IndexLike], ...]

    @property
    def names(self) -> str:
        return "".join(axis for axis, _ in self.parts)

    def bind(self, index: IndexLike) -> Env:
        """The values of the merged axes at one value of the loop variable."""
        env: Env = {}
        for axis, extent in reversed(self.parts[1:]):
            env[axis] = index % extent
            index = index // extent
        if self.parts:
            env[self.parts[0][0]] = index
        return env


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


@dataclass
class Contraction:
    """A `dot` anchor with its axes sorted out. `swapped` when left and right changed roles."""

    anchor: Anchor
    left: Operand
    right: Operand
    left_axes: str
    right_axes: str
    out_axes: str
    extents: Mapping[str, IndexLike]
    taken: set[str] = field(default_factory=set)

    @staticmethod
    def of(anchor: Anchor) -> Contraction:
        inputs, out = anchor.attrs["spec"].split("->")
        left_axes, right_axes = inputs.split(",")
        left, right = anchor.operands
        extents = dict(zip(left_axes, left.type.shape, strict=True))
        extents |= dict(zip(right_axes, right.type.shape, strict=True))
        made = Contraction(anchor, left, right, left_axes, right_axes, out, extents, set(anchor.taken))
        made.taken |= {b.name for b in made.buffers}
        return made

    def swap(self) -> Contraction:
        """The same contraction with the operands in the other order."""
        made = Contraction(
            self.anchor,
            self.right,
            self.left,
            self.right_axes,
            self.left_axes,
            self.out_axes,
            self.extents,
            self.taken,
        )
        made.__dict__["_probe"] = (self._probe[1], self._probe[0], self._probe[2], self._probe[3])
        return made

    def fresh(self, name: str) -> str:
        """A name for a local buffer or loop variable that nothing else has."""
        wanted, k = name, 0
        while name in self.taken:
            k += 1
            name = f"{wanted}_{k}"
        self.taken.add(name)
        return name

    @cached_property
    def variables(self) -> dict[str, IndexLike]:
        """One probing variable per axis; axes of extent 1 are 0."""
        return {a: 0 if e == 1 else variable(f"axis_{a}", e) for a, e in self.extents.items()}

    @property
    def fixed(self) -> Env:
        """The values of the axes that have no loop."""
        return {a: 0 for a, e in self.extents.items() if e == 1}

    @cached_property
    def _probe(self) -> tuple[list[Read], list[Read], list[tuple[Buffer, tuple[IndexLike, ...]]], list[Read]]:
        """Reads of both operands, stores and reads behind the reduction, at the probing variables."""
        env = self.variables
        acc = Buffer("", self.anchor.dtype, (), "local", "register")
        after = self.anchor.finish(self.at(self.out_axes, env), Read(acc, (), acc.dtype))
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
            list(places.reads(self.left[self.at(self.left_axes, env)])),
            list(places.reads(self.right[self.at(self.right_axes, env)])),
            stores,
            reads,
        )

    @property
    def buffers(self) -> set[Buffer]:
        left, right, stores, reads = self._probe
        return {r.source for r in (*left, *right, *reads) if isinstance(r.source, Buffer)} | {
            b for b, _ in stores
        }

    @staticmethod
    def at(axes: str, env: Mapping[str, IndexLike]) -> tuple[IndexLike, ...]:
        return tuple(env[a] for a in axes)

    def term(self, env: Mapping[str, IndexLike]) -> Expr:
        """One product, in the type of the accumulator."""
        dtype = self.anchor.dtype
        return cast(self.left_at(env), dtype) * cast(self.right_at(env), dtype)

    def left_at(self, env: Mapping[str, IndexLike]) -> Expr:
        return self.left[self.at(self.left_axes, env)]

    def right_at(self, env: Mapping[str, IndexLike]) -> Expr:
        return self.right[self.at(self.right_axes, env)]

    def finish(self, env: Mapping[str, IndexLike], value: Expr) -> list[Stmt]:
        return self.anchor.finish(self.at(self.out_axes, env), value)

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
            if e != 1 and where(a in self.left_axes, a in self.right_axes, a in self.out_axes)
        ]

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


def _stride(read: Read, var: Var) -> int | None:
    return places.stride(read.source, read.index, var) if isinstance(read.source, Buffer) else None


def variable_of(index: IndexLike) -> Var:
    """The variable an index consists of."""
    assert isinstance(index, Index)
    var = index.terms[0][0]
    assert isinstance(var, Var)
    return var
