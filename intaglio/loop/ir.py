"""The loop level: a program is a list of kernels, loop nests over buffers, and a driver that calls them.

Values are the scalar expressions of `ops.expr`; a `Read`'s source is a `Buffer`. Indices and extents
are `shared.index` expressions. There are ten statements:

    For, Store, Reduce, Alloc, If, While, Call, Let, Prefetch, Comment

`Reduce` says whether its order is part of its meaning: an ordered one keeps the sequence of the loops
around it, any other may be reassociated and contracted to FMA. Nothing else of "fast math" is implied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, Union

import numpy as np

from intaglio.ops.expr import Expr
from intaglio.shared.dtypes import DType
from intaglio.shared.index import Index, IndexLike, Var, product, var_index

Role = Literal["input", "output", "state", "constant", "scratch", "local"]
Space = Literal["heap", "stack", "register"]
LoopKind = Literal["serial", "parallel", "vector", "unroll"]
Combine = Literal["add", "mul", "max", "min", "and", "or"]


@dataclass(eq=False, slots=True)
class Buffer:
    """A row-major array. `role` is what it is to the program, `space` where a local one lives.

    `data` is the content of a constant or the initial content of a state; `offset` is the place of a
    scratch buffer in the arena, in bytes, once memory has been planned. `alias` names the buffer whose
    memory this one shares from the start (a view with another shape, an in-place result).
    """

    name: str
    dtype: DType
    shape: tuple[IndexLike, ...]
    role: Role = "local"
    space: Space = "heap"
    data: np.ndarray[Any, Any] | None = None
    offset: int | None = None
    alias: Buffer | None = None

    def __repr__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"

    @property
    def size(self) -> IndexLike:
        """Number of elements."""
        return product(self.shape)


@dataclass(frozen=True, slots=True)
class Store:
    """`buffer[index] = value`"""

    buffer: Buffer
    index: tuple[IndexLike, ...]
    value: Expr


@dataclass(frozen=True, slots=True)
class Reduce:
    """`buffer[index] = combine(buffer[index], value)`; `ordered` when the sequence is part of the meaning."""

    buffer: Buffer
    index: tuple[IndexLike, ...]
    combine: Combine
    value: Expr
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class For:
    """`for var in range(start, stop)`; `vector` runs its iterations as lanes, `unroll` writes them out.

    The iterations of a `parallel` loop are independent; those of a `vector` loop too, or they reduce.
    `step` is positive.
    """

    var: Var
    stop: IndexLike
    body: Block
    kind: LoopKind = "serial"
    start: IndexLike = 0
    step: int = 1

    @property
    def index(self) -> Index:
        return var_index(self.var)

    @property
    def extent(self) -> IndexLike:
        """Number of iterations."""
        return (self.stop - self.start + (self.step - 1)) // self.step


@dataclass(frozen=True, slots=True)
class Alloc:
    """A local buffer, live until the end of the block it stands in."""

    buffer: Buffer


@dataclass(frozen=True, slots=True)
class If:
    condition: Expr
    then: Block
    orelse: Block | None = None


@dataclass(frozen=True, slots=True)
class While:
    """Runs `body` while `condition` holds; the condition reads buffers that the body writes."""

    condition: Expr
    body: Block


@dataclass(frozen=True, slots=True)
class Slice:
    """A buffer from element `offset` (row-major) on: what a driver hands to a kernel."""

    buffer: Buffer
    offset: IndexLike = 0


@dataclass(frozen=True, slots=True)
class Call:
    """Run a kernel on buffers; only the driver of a program calls."""

    kernel: Kernel
    args: tuple[Slice, ...]


@dataclass(frozen=True, slots=True)
class Let:
    """From here on to the end of the block, `var` is a size found at run time, kept inside of its bounds.

    Only the driver of a program finds sizes.
    """

    var: Var
    value: Expr


@dataclass(frozen=True, slots=True)
class Prefetch:
    """Ask for the cache line of `buffer[index]` ahead of its use; results do not change."""

    buffer: Buffer
    index: tuple[IndexLike, ...]


@dataclass(frozen=True, slots=True)
class Comment:
    text: str


Stmt: TypeAlias = Union[Store, Reduce, For, Alloc, If, While, Call, Let, Prefetch, Comment]


@dataclass(frozen=True, slots=True)
class Block:
    """Statements in order."""

    statements: tuple[Stmt, ...] = ()

    def __iter__(self) -> Iterator[Stmt]:
        return iter(self.statements)

    def __len__(self) -> int:
        return len(self.statements)


@dataclass(eq=False)
class Kernel:
    """One loop nest function. `params` are the buffers it gets, `written` those of them it writes.

    `doc` is printed above it: formula, shapes, source line. `flops` and `bytes` are per call, in the
    worst case of symbolic extents. `schedule` says in the field's words how the nest was made.
    """

    name: str
    params: tuple[Buffer, ...]
    written: tuple[Buffer, ...]
    body: Block
    doc: tuple[str, ...] = ()
    flops: int = 0
    bytes: int = 0
    schedule: tuple[str, ...] = ()

    def with_body(self, body: Block, *notes: str) -> Kernel:
        """The same kernel with another nest; `notes` are added to its schedule."""
        return replace(self, body=body, schedule=(*self.schedule, *notes))


@dataclass(eq=False)
class Program:
    """Kernels and the driver that runs them.

    `phases` are the driver's parts in order: one (`forward`) for inference, `forward`, `backward` and
    `update` for a training step. `symbols` are the dimensions known only at run time; they are passed
    as 64-bit integers behind the buffers. `sizes` are the dimensions that the driver finds; those in the
    shape of an output are given to the caller in an output of their own, behind all others.
    `arena_bytes` is known once memory has been planned.
    """

    name: str
    inputs: list[Buffer] = field(default_factory=list)
    outputs: list[Buffer] = field(default_factory=list)
    states: list[Buffer] = field(default_factory=list)
    constants: list[Buffer] = field(default_factory=list)
    scratch: list[Buffer] = field(default_factory=list)
    symbols: list[Var] = field(default_factory=list)
    kernels: list[Kernel] = field(default_factory=list)
    phases: dict[str, Block] = field(default_factory=dict)
    arena_bytes: int | None = None
    sizes: dict[Var, Buffer | None] = field(default_factory=dict)

    @property
    def buffers(self) -> list[Buffer]:
        """Every buffer, in the order of the call: inputs, outputs, states, constants, scratch."""
        return [*self.inputs, *self.outputs, *self.states, *self.constants, *self.scratch]

    @property
    def dimensions(self) -> list[Var]:
        """Every dimension that kernels may use: those that a call passes, and those that the driver finds."""
        return [*self.symbols, *self.sizes]


def block(*statements: Stmt | Block) -> Block:
    """A block of statements; blocks among them are spliced in."""
    flat: list[Stmt] = []
    for statement in statements:
        flat.extend(statement if isinstance(statement, Block) else (statement,))
    return Block(tuple(flat))


def nest(loops: list[tuple[Var, IndexLike]], body: Block, kinds: dict[Var, LoopKind] | None = None) -> Block:
    """Loops around a body, the first one outermost; extent-1 loops too (substitute them away before)."""
    for var, extent in reversed(loops):
        body = block(For(var, extent, body, (kinds or {}).get(var, "serial")))
    return body


def walk(body: Block) -> Iterator[Stmt]:
    """Every statement of a block, outer before inner."""
    for statement in body:
        yield statement
        if isinstance(statement, (For, While)):
            yield from walk(statement.body)
        elif isinstance(statement, If):
            yield from walk(statement.then)
            if statement.orelse is not None:
                yield from walk(statement.orelse)
