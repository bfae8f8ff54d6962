"""One group of operators becomes one kernel.

Inside a kernel a value is one of four things: a parameter (an array of the program), a local (a scalar
or a row kept while the row is worked on), an expression substituted into its reader, or the
accumulator of a reduction. Row groups run in segments: loops over the rest of a row, split only where
a reduction must be complete before its result is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from intaglio.graph.ir import Node, Value
from intaglio.loop import access
from intaglio.loop.access import Order, Place, ordered
from intaglio.loop.groups import Fusion, Group
from intaglio.loop.ir import Alloc, Block, Buffer, For, LoopKind, Slice, Space, Stmt, Store, block
from intaglio.loop.names import unique_name
from intaglio.ops.expr import Apply, Const, Expr, IndexValue, Read, cast, where
from intaglio.ops.movement import flat_index
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.index import Index, IndexLike, product, upper, variable

LOCAL_BYTES = 16 << 10
CHEAP = 2
UNROLLED = 16
AXES = "ijklmnpq"

Bound = Callable[[Place], Expr]


def combine_identity(combine: str, dtype: DType) -> Const:
    """The value a reduction starts from."""
    if combine in ("add", "or"):
        return Const(False if dtype == dtypes.bool_ else 0.0 if dtype.is_float else 0, dtype)
    if combine in ("mul", "and"):
        return Const(True if dtype == dtypes.bool_ else 1.0 if dtype.is_float else 1, dtype)
    low = combine in ("max", "argmax")
    if dtype.is_float:
        return Const(float("-inf") if low else float("inf"), dtype)
    if dtype == dtypes.bool_:
        return Const(not low, dtype)
    bits = 8 * dtype.size
    lo, hi = (0, 2**bits - 1) if dtype.kind == "uint" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return Const(lo if low else hi, dtype)


def axis_variable(number: int, extent: IndexLike) -> IndexLike:
    """The loop variable of an axis; an axis of extent 1 needs none."""
    name = AXES[number] if number < len(AXES) else f"i{number}"
    return 0 if extent == 1 else variable(name, extent)


def loops_over(variables: Place, shape: Place, body: Block, kind: LoopKind = "serial") -> Block:
    """Loops of a kind, the first axis outermost; axes of extent 1 get none."""
    for index, extent in reversed(list(zip(variables, shape, strict=True))):
        if isinstance(index, Index):
            body = block(For(index.terms[0][0], extent, body, kind))  # type: ignore[arg-type]
    return body


def small_loops(shape: Place) -> LoopKind:
    """`unroll` for loops of a few iterations in all, such as a pooling window: the loop around them can then
    become vectors."""
    size = product(shape)
    return "unroll" if isinstance(size, int) and size <= UNROLLED else "serial"


@dataclass
class GroupLowering:
    """What the lowering of one group knows; `place_of` gives the array of a stored value, `kept` the part of
    a scratch array that holds a value between the members of a chain."""

    group: Group
    fusion: Fusion
    place_of: Callable[[Value], Slice]
    stored: set[Value]
    params: dict[tuple[int, str, Place], tuple[Buffer, Slice]] = field(default_factory=dict)
    written: list[Buffer] = field(default_factory=list)
    bound: dict[Value, Bound] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    touched: list[tuple[Value, Place]] = field(default_factory=list)
    flat: bool = False
    layouts: Mapping[Value, Order] = field(default_factory=dict)
    kept: dict[Value, Callable[[Place], tuple[Buffer, Place]]] = field(default_factory=dict)

    @property
    def members(self) -> set[Node]:
        return set(self.group.nodes)

    def unique(self, wanted: str) -> str:
        return unique_name(wanted, self.names)

    def param(self, value: Value, shape: Place) -> Buffer:
        """The kernel's parameter for a stored value, seen under a shape."""
        at = self.place_of(value)
        shape = (product(value.shape),) if self.flat and value.shape else shape
        key = (id(at.buffer), str(at.offset), shape)
        if key not in self.params:
            name = self.unique(value.name)
            self.params[key] = (Buffer(name, value.dtype, shape, "local"), at)
        return self.params[key][0]

    def slice_of(self, param: Buffer) -> Slice | None:
        """What the driver hands to the kernel for a parameter."""
        return next((place for buffer, place in self.params.values() if buffer is param), None)

    def at(self, value: Value, index: Place) -> tuple[Buffer, Place]:
        """The array of a stored value and where the element at `index` lies in it."""
        if value in self.kept:
            return self.kept[value](index)
        order = None if self.flat else self.layouts.get(value)
        if order is None:
            return self.param(value, value.shape), index
        return self.param(value, ordered(value.shape, order)), ordered(index, order)

    def output(self, value: Value) -> Buffer:
        buffer, _ = self.at(value, value.shape)
        if buffer not in self.written and value not in self.kept:
            self.written.append(buffer)
        return buffer

    def resolve(self, value: Value, index: Place) -> Expr:
        """One element of a value, as this kernel sees it."""
        constant = access.uniform(value, self.fusion.free.__contains__)
        if constant is not None:
            return constant
        number = access.number_at(value, index)
        if number is not None:
            return number
        if value in self.bound:
            self.touched.append((value, index))
            return self.bound[value](index)
        node = value.node
        if node is not None and node in self.members:
            return access.element(node, index, self.resolve)
        if node is not None and node in self.fusion.free:
            root = self.stored_root(value)
            if root is None or self.flat or root in self.layouts:
                return access.element(node, index, self.resolve)
            return self.read(self.param(root, value.shape), index)
        return self.read(*self.at(value, index))

    def stored_root(self, value: Value) -> Value | None:
        """The stored array that a chain of free reshapes only renames, if it is that."""
        while value.node is not None and value.node in self.fusion.free and value.node.op.name == "reshape":
            value = value.node.inputs[0]
        inside = value in self.bound or (
            value.node is not None and (value.node in self.fusion.free or value.node in self.members)
        )
        return None if inside or access.scalar_constant(value) is not None else value

    @staticmethod
    def read(buffer: Buffer, index: Place) -> Expr:
        return cast(Read(buffer, index, buffer.dtype), buffer.dtype.arithmetic)

    def local(self, value: Value, shape: Place) -> Buffer:
        space: Space = "register" if not shape else "stack"
        reduces = value.node is not None and value.node.op.kind == "reduce"
        name = "acc" if reduces and value in self.stored else value.name
        return Buffer(self.unique(name), value.dtype.arithmetic, shape, "local", space)

    def store(self, value: Value, index: Place, expression: Expr) -> Store:
        self.output(value)
        buffer, place = self.at(value, index)
        return Store(buffer, place, cast(expression, buffer.dtype))

    def uses(self, value: Value) -> int:
        return sum(reader in self.members for reader in self.fusion.readers.get(value, ()))

    def chain_cost(self, node: Node) -> int:
        """Cost of computing one element when everything that is not bound is substituted."""
        total, seen = 0, [node]
        while seen and total <= 4 * CHEAP:
            current = seen.pop()
            total += access.cost(current)
            seen += [
                v.node
                for v in current.inputs
                if v.node is not None
                and v not in self.bound
                and (v.node in self.members or v.node in self.fusion.free)
            ]
        return total

    def keeps(self, node: Node) -> bool:
        """Whether a member's value is kept, not substituted: it is stored, dear and read twice, or a dear
        scalar of a row that would be computed again for every element of the row."""
        value = node.outputs[0]
        if value in self.stored:
            return True
        group = self.group
        scalar = (
            group.kind == "row" and group.has_reduction and all(e == 1 for e in value.shape[group.rows :])
        )
        uses = max(2, self.uses(value)) if scalar else self.uses(value)
        return uses > 1 and self.chain_cost(node) > (0 if scalar else CHEAP)

    def epilogue(self, members: list[Node], index: Place) -> list[Stmt]:
        """Compute the kept members at one index into scalars, then store what must be stored."""
        statements: list[Stmt] = []
        stores: list[Stmt] = []
        kept = [node for node in members if self.keeps(node)]
        for node in kept:
            value = node.outputs[0]
            if node.op.name == "concat" and value.shape != self.group.shape:
                stores += self.side_by_side(node, index)
                continue
            expression = self.resolve(value, index)
            if self.uses(value) or len(kept) > 1:
                scalar = self.local(value, ())
                statements += [Alloc(scalar), Store(scalar, (), expression)]
                expression = Read(scalar, (), scalar.dtype)
                self.bound[value] = lambda _, e=expression: e  # type: ignore[misc]
            if value in self.stored:
                stores.append(self.store(value, index, expression))
        for node in kept:
            self.bound.pop(node.outputs[0], None)
        return statements + stores

    def side_by_side(self, node: Node, index: Place) -> list[Stmt]:
        """Store an element of each part of a concatenation whose parts the group goes over."""
        axis, start = node.attrs["axis"], 0
        stores: list[Stmt] = []
        for part in node.inputs:
            place = (*index[:axis], index[axis] + start, *index[axis + 1 :])
            stores.append(self.store(node.outputs[0], place, self.resolve(part, index)))
            start = start + part.shape[axis]
        return stores


@dataclass
class Segment:
    """Loops over the same rest of a row: `emit(index)` gives the statements of each stage."""

    shape: Place
    before: list[Stmt] = field(default_factory=list)
    stages: list[Callable[[Place], list[Stmt]]] = field(default_factory=list)
    after: list[Stmt] = field(default_factory=list)
    reductions: set[Value] = field(default_factory=set)
    vectors: set[Value] = field(default_factory=set)


def argument_update(
    node: Node, best: Buffer, place: Buffer, value: Expr, reduced: Place, shape: Place
) -> list[Stmt]:
    """Keep the better of two elements and its index: the first wins, and NaN wins over numbers.

    Without a branch, so that loops around it become vectors.
    """
    candidate = Buffer("candidate", best.dtype, (), "local", "register")
    wins = Buffer("wins", dtypes.bool_, (), "local", "register")
    new, held, won = (Read(b, (), b.dtype) for b in (candidate, best, wins))
    left, right = (held, new) if node.op.combine == "argmax" else (new, held)
    better: Expr = Apply("lt", (left, right), dtypes.bool_)
    if value.dtype.is_float:
        is_nan = Apply("ne", (new, new), dtypes.bool_)
        was_number = Apply("eq", (held, held), dtypes.bool_)
        better = Apply("or", (better, Apply("and", (is_nan, was_number), dtypes.bool_)), dtypes.bool_)
    at = IndexValue(flat_index(reduced, shape))
    return [
        Alloc(candidate),
        Store(candidate, (), value),
        Alloc(wins),
        Store(wins, (), better),
        Store(place, (), where(won, at, Read(place, (), place.dtype))),
        Store(best, (), where(won, new, held)),
    ]


def total_work(group: Group) -> int | None:
    """Additions one run of a group costs, in the worst case of symbolic extents."""
    total = 0
    for node in group.nodes:
        size = upper(product(node.outputs[0].shape))
        inner = upper(product(access.extents(node))) if node.op.kind == "reduce" else 1
        if size is None or inner is None:
            return None
        total += size * inner * max(1, access.cost(node) if node.op.kind != "reduce" else 2)
    return total
