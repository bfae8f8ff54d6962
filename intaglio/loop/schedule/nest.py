"""A kernel while it is scheduled: its nest, the names in it, what is known of its arrays."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from intaglio.loop import places
from intaglio.loop.ir import Alloc, Block, Buffer, Comment, For, If, Kernel, Stmt, While, walk
from intaglio.loop.names import unique_name
from intaglio.shared.errors import UnsupportedError

Array = np.ndarray[Any, Any]
Path = tuple[For, ...]
Rewrite = Callable[[For, Path], Iterable[Stmt]]


@dataclass
class Nest:
    """The state that records change.

    `data` are the contents of arrays that are known when compiling. `extra` are arrays that steps added as
    parameters: constants with data, or scratch. `reassociates` says that a step changed the order of a
    reduction whose order is not part of its meaning: results may differ in rounding.
    """

    kernel: Kernel
    data: Mapping[Buffer, Array] = field(default_factory=dict)
    extra: list[Buffer] = field(default_factory=list)
    reassociates: bool = False
    given: set[str] = field(default_factory=set)

    @property
    def body(self) -> Block:
        return self.kernel.body

    @body.setter
    def body(self, body: Block) -> None:
        self.kernel = self.kernel.with_body(body)

    # Names

    @property
    def names(self) -> set[str]:
        """Every name that loops and arrays have, and those given out for ones that are being made."""
        return names_of(self.body) | {buffer.name for buffer in self.kernel.params} | self.given

    def fresh(self, *names: str) -> None:
        """Refuse names that something else has."""
        taken = [name for name in names if name in self.names]
        if taken or len(set(names)) != len(names):
            raise UnsupportedError(
                f"kernel {self.kernel.name} has the name {', '.join(taken or names)} already",
                hint="choose other names behind the arrow",
            )

    def unique(self, name: str) -> str:
        """A name near to this one that nothing has."""
        self.given.add(made := unique_name(name, self.names))
        return made

    def buffer(self, name: str) -> Buffer:
        """The array of a name, parameter or local. Raises UnsupportedError when there is none."""
        found = {b.name: b for b in [*buffers_in(self.body), *self.kernel.params]}
        if name not in found:
            raise UnsupportedError(
                f"kernel {self.kernel.name} has no array {name}", hint=f"it has {', '.join(sorted(found))}"
            )
        return found[name]

    def is_param(self, buffer: Buffer) -> bool:
        return buffer in self.kernel.params

    # Parameters

    def add_param(self, buffer: Buffer) -> None:
        """A further array of the kernel: a constant with data, or scratch."""
        written = self.kernel.written if buffer.data is not None else (*self.kernel.written, buffer)
        self.kernel = replace(self.kernel, params=(*self.kernel.params, buffer), written=written)
        self.extra.append(buffer)

    def replace_param(self, old: Buffer, new: Buffer | None) -> None:
        """Another array, or none, in the place of a scratch one that the kernel had to itself."""

        def swapped(buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
            return tuple(new if b is old else b for b in buffers if b is not old or new is not None)  # type: ignore[misc]

        self.kernel = replace(
            self.kernel, params=swapped(self.kernel.params), written=swapped(self.kernel.written)
        )
        self.extra = list(swapped(tuple(self.extra)))

    # Loops

    def loops(self, name: str) -> list[tuple[For, Path]]:
        """Every loop of a name (`j[1]`: the second one), with the loops around it."""
        base, number = _reference(name)
        found = [(loop, path) for loop, path in loops_in(self.body) if loop.var.name == base]
        if not found or (number is not None and number >= len(found)):
            names = ", ".join(dict.fromkeys(loop.var.name for loop, _ in loops_in(self.body)))
            raise UnsupportedError(
                f"kernel {self.kernel.name} has no loop {name}", hint=f"its loops are {names or 'none'}"
            )
        return found if number is None else found[number : number + 1]

    def rewrite(self, name: str, function: Rewrite) -> None:
        """Other statements in the place of every loop of a name."""
        self.rewrite_these([loop for loop, _ in self.loops(name)], function)

    def rewrite_these(self, loops: list[For], function: Rewrite) -> None:
        """The same for given loops."""
        chosen = {id(loop) for loop in loops}
        self.body = _rewritten(self.body, (), chosen, function)


def _reference(name: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(\w+)(?:\[(\d+)\])?", name)
    if found is None:
        raise UnsupportedError(f"{name!r} names no loop", hint="write i, or i[1] for the second loop i")
    return found[1], None if found[2] is None else int(found[2])


def _rewritten(body: Block, path: Path, chosen: set[int], function: Rewrite) -> Block:
    made: list[Stmt] = []
    for statement in body:
        if isinstance(statement, For) and id(statement) in chosen:
            made.extend(function(statement, path))
        else:
            inner = (*path, statement) if isinstance(statement, For) else path
            made.append(with_bodies(statement, lambda b, p=inner: _rewritten(b, p, chosen, function)))  # type: ignore[misc]
    return Block(tuple(made))


def with_bodies(statement: Stmt, function: Callable[[Block], Block]) -> Stmt:
    """The statement with its blocks, if it has any, replaced."""
    if isinstance(statement, (For, While)):
        return replace(statement, body=function(statement.body))
    if isinstance(statement, If):
        orelse = None if statement.orelse is None else function(statement.orelse)
        return If(statement.condition, function(statement.then), orelse)
    return statement


def loops_in(body: Block, path: Path = ()) -> Iterator[tuple[For, Path]]:
    """Every loop of a block, outer before inner, with the loops around it."""
    for statement in body:
        if isinstance(statement, For):
            yield statement, path
            yield from loops_in(statement.body, (*path, statement))
        elif isinstance(statement, While):
            yield from loops_in(statement.body, path)
        elif isinstance(statement, If):
            yield from loops_in(statement.then, path)
            yield from loops_in(statement.orelse or Block(), path)


def chain(loop: For) -> list[For]:
    """The loop and the loops that are, one after the other, all there is in it."""
    found = [loop]
    while True:
        inner = [s for s in found[-1].body if not isinstance(s, Comment)]
        if len(inner) != 1 or not isinstance(inner[0], For):
            return found
        found.append(inner[0])


def rebuilt(loops: Iterable[For], body: Block) -> Block:
    """The body inside of the loops, the first one outermost."""
    for loop in reversed(list(loops)):
        body = Block((replace(loop, body=body),))
    return body


def buffers_in(body: Block) -> set[Buffer]:
    """Every array a body touches or declares."""
    return places.buffers_of(body) | {s.buffer for s in walk(body) if isinstance(s, Alloc)}


def names_of(body: Block) -> set[str]:
    """Names of loops and arrays of a body."""
    return {s.var.name for s in walk(body) if isinstance(s, For)} | {b.name for b in buffers_in(body)}


def constant_extent(verb: str, loop: For) -> int:
    """The number of iterations of a loop that runs from 0 by 1 to a constant; refuses any other."""
    if loop.start != 0 or loop.step != 1 or not isinstance(loop.stop, int):
        raise UnsupportedError(
            f"{verb}: the loop over {loop.var} has no constant extent: "
            f"range({loop.start}, {loop.stop}, {loop.step})"
        )
    return loop.stop
