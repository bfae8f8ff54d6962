"""Verbs that choose how elements lie in memory: layout for the kernel's own arrays, pack for its operands.

A layout lists parts of axes, the slowest first: `1 // 16` is which block of 16 along axis 1, `1 % 16` the
place in it, and `0` a whole axis. `[0, 1 // 16, 2, 1 % 16]` is channel blocking.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from intaglio.loop.ir import Alloc, Block, Buffer, Stmt, Store, block
from intaglio.loop.recipes.nests import loop as loop_over
from intaglio.loop.schedule.nest import Nest, with_bodies
from intaglio.loop.schedule.records import Record
from intaglio.loop.schedule.regions import Place, redirected
from intaglio.ops.expr import Read
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import IndexLike

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Part:
    """A part of an axis: all of it, which block of `size` (`//`), or the place in the block (`%`)."""

    axis: int
    way: str = ""
    size: int = 1

    def extent(self, shape: Place) -> IndexLike:
        if self.way == "%":
            return self.size
        return (shape[self.axis] + (self.size - 1)) // self.size

    def at(self, index: Place) -> IndexLike:
        return index[self.axis] % self.size if self.way == "%" else index[self.axis] // self.size


def read_layout(record: Record, texts: tuple[str, ...], rank: int) -> list[Part]:
    """The parts of a layout. Refuses one that does not hold every element of an array exactly once."""
    parts = []
    for text in texts:
        found = re.fullmatch(r"(\d+)(?: *(//|%) *(\d+))?", text)
        if found is None or int(found[1]) >= rank:
            raise UnsupportedError(
                f"{record}: {text!r} is no part of an axis", hint="write 1, 1 // 16, 1 % 16"
            )
        parts.append(Part(int(found[1]), found[2] or "", int(found[3] or 1)))
    for axis in range(rank):
        own = [(part.way, part.size) for part in parts if part.axis == axis]
        sizes = {size for _, size in own}
        if own != [("", 1)] and (
            sorted(way for way, _ in own) != ["%", "//"] or len(sizes) != 1 or 0 in sizes
        ):
            raise UnsupportedError(f"{record}: axis {axis} is not there once, nor as d // n and d % n")
    return parts


@dataclass(frozen=True)
class Layout(Record, verb="layout"):
    """Another layout of an array that the kernel has to itself: a local one, or a copy it has made."""

    made: ClassVar[tuple[int, ...]] = (0,)
    array: str
    parts: tuple[str, ...]

    def apply(self, nest: Nest) -> None:
        old = nest.buffer(self.array)
        if nest.is_param(old) and (old not in nest.extra or old.data is not None):
            raise UnsupportedError(
                f"{self}: others use {old!r} too", hint="pack and cache_read make copies of arrays"
            )
        parts = read_layout(self, self.parts, len(old.shape))
        shape = tuple(part.extent(old.shape) for part in parts)
        new = Buffer(old.name, old.dtype, shape, old.role, old.space)
        body = redirected(nest.body, old, lambda index: (new, tuple(p.at(index) for p in parts)))
        nest.body = _declared(body, old, new)
        if nest.is_param(old):
            nest.replace_param(old, new)


def _declared(body: Block, old: Buffer, new: Buffer) -> Block:
    made: list[Stmt] = []
    for statement in body:
        if isinstance(statement, Alloc) and statement.buffer is old:
            statement = Alloc(new)
        made.append(with_bodies(statement, lambda inner: _declared(inner, old, new)))
    return Block(tuple(made))


@dataclass(frozen=True)
class Pack(Record, verb="pack"):
    """An operand in a layout of the kernel's own: packed when compiling where its content is known, else
    copied at the start of the kernel."""

    made: ClassVar[tuple[int, ...]] = (1,)
    array: str
    parts: tuple[str, ...]
    into: tuple[str, ...] = ()

    def apply(self, nest: Nest) -> None:
        nest.fresh(*self.into)
        old = nest.buffer(self.array)
        if not nest.is_param(old) or old in nest.kernel.written:
            raise UnsupportedError(
                f"{self}: {old!r} is no operand", hint="layout is for the kernel's own arrays"
            )
        parts = read_layout(self, self.parts, len(old.shape))
        shape = tuple(part.extent(old.shape) for part in parts)
        data = nest.data.get(old)
        new = Buffer(self.into[0], old.dtype, shape, "scratch" if data is None else "constant")
        body = redirected(nest.body, old, lambda index: (new, tuple(p.at(index) for p in parts)))
        if data is None:
            body = block(*_copy(nest, old, new, parts), body)
        else:
            new.data = packed(data, parts)
        nest.body = body
        nest.add_param(new)


def packed(array: Array, parts: list[Part]) -> Array:
    """An array in a layout; places between the last element of an axis and the end of its block are zero."""
    for part in parts:
        if part.way == "//":
            missing = -array.shape[part.axis] % part.size
            border = [(0, missing if axis == part.axis else 0) for axis in range(array.ndim)]
            array = np.pad(array, border)
    shape: list[int] = []
    order: dict[tuple[int, str], int] = {}
    for axis, extent in enumerate(array.shape):
        size = next((part.size for part in parts if part.axis == axis and part.way), None)
        order[axis, "" if size is None else "//"] = len(shape)
        shape.append(extent // (size or 1))
        if size is not None:
            order[axis, "%"] = len(shape)
            shape.append(size)
    return np.ascontiguousarray(array.reshape(shape).transpose([order[p.axis, p.way] for p in parts]))


def _copy(nest: Nest, old: Buffer, new: Buffer, parts: list[Part]) -> list[Stmt]:
    """Loops that copy an operand into its layout, in the order of the layout where that has no gaps."""
    exact = all(p.way != "//" or not _rest(old.shape[p.axis], p.size) for p in parts)

    def store(index: Place) -> list[Stmt]:
        return [Store(new, tuple(p.at(index) for p in parts), Read(old, index, old.dtype))]

    def along(names: list[str], extents: list[IndexLike], made: Place, whole: bool) -> list[Stmt]:
        if not extents:
            return store(made if whole else _whole(made, parts, len(old.shape)))
        return loop_over(names[0], extents[0], lambda i: along(names[1:], extents[1:], (*made, i), whole))

    extents = [p.extent(old.shape) for p in parts] if exact else list(old.shape)
    names = [nest.unique(f"{new.name}{k}") for k in range(len(extents))]
    return along(names, extents, (), not exact)


def _rest(extent: IndexLike, size: int) -> bool:
    return not isinstance(extent, int) or extent % size != 0


def _whole(index: Place, parts: list[Part], rank: int) -> Place:
    """The place in the array of a place in the layout."""
    whole: list[IndexLike] = [0] * rank
    for part, i in zip(parts, index, strict=True):
        whole[part.axis] = whole[part.axis] + i * (part.size if part.way != "%" else 1)
    return tuple(whole)
