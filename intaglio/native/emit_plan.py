"""What gets a variable of its own when an expression is printed.

Expressions are graphs whose parts may be shared many times over; printed as a tree they could be
exponentially long. Parts that occur twice, and parts of expressions too large to read, become local
variables. A value is declared where all its uses are evaluated: an element that only one branch of a
`where` may load is not loaded outside of it. A branch that needs variables makes its `where` an `if`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from intaglio.loop.ir import Buffer
from intaglio.loop.places import dynamics
from intaglio.ops.expr import Apply, Const, Expr, IndexValue, Read
from intaglio.shared.index import IndexLike, interval

LARGEST, DEEPEST = 24, 8
"""Operations in one printed expression, and how deep they nest."""


@dataclass(eq=False, slots=True)
class Branch:
    """One side of a `where`; None stands for what is always evaluated."""

    outer: Branch | None
    where: int
    side: int
    depth: int


@dataclass(slots=True)
class Node:
    """A distinct part of an expression."""

    value: Expr
    children: tuple[int, ...]
    uses: int = 0
    size: int = 1
    depth: int = 0
    safe: bool = True
    kept: bool = False
    branch: Branch | None = None
    reached: bool = False


@dataclass
class Plan:
    """Parts in an order in which each stands behind those it is made of; `root` is the whole."""

    nodes: list[Node] = field(default_factory=list)
    number: dict[int, int] = field(default_factory=dict)
    split: set[int] = field(default_factory=set)
    root: int = 0

    def of(self, value: Expr) -> int:
        """The number of a part."""
        return self.number[id(value)]


def plan(root: Expr, largest: int = LARGEST) -> Plan:
    """Decide what is declared, and where. `largest` bounds the operations of one printed expression."""
    made = Plan()
    _number(root, made)
    made.root = made.of(root)
    _measure(made, largest)
    _place(made)
    _split_branches(made)
    return made


def _number(root: Expr, made: Plan) -> None:
    """Give equal parts one number, without recursion: expressions may be deep."""
    known: dict[object, int] = {}
    stack: list[tuple[Expr, bool]] = [(root, False)]
    while stack:
        value, ready = stack.pop()
        if id(value) in made.number:
            continue
        parts = list(_parts(value))
        if not ready:
            stack.append((value, True))
            stack.extend((part, False) for part in reversed(parts) if id(part) not in made.number)
            continue
        children = tuple(made.number[id(part)] for part in parts)
        key: object = (value.fn, children, value.dtype) if isinstance(value, Apply) else value
        if isinstance(value, Const):
            key = (repr(value.value), value.dtype)
        if key not in known:
            known[key] = len(made.nodes)
            made.nodes.append(Node(value, children))
        made.number[id(value)] = known[key]


def _parts(value: Expr) -> Iterator[Expr]:
    if isinstance(value, Apply):
        yield from value.args
    elif isinstance(value, (Read, IndexValue)):
        for index in value.index if isinstance(value, Read) else (value.index,):
            for atom in dynamics(index):
                if isinstance(atom.value, Expr):
                    yield atom.value


def _measure(made: Plan, largest: int) -> None:
    for node in made.nodes:
        for child in node.children:
            made.nodes[child].uses += 1
    for node in made.nodes:
        children = [made.nodes[c] for c in node.children]
        node.safe = all(c.safe for c in children) and _is_safe(node.value)
        node.size = (1 + len(children) // 3) + sum(c.size for c in children if not c.kept)
        node.depth = 1 + max((c.depth for c in children if not c.kept), default=0)
        leaf = isinstance(node.value, Const) or (not node.children and not _is_long(node.value))
        dear = isinstance(node.value, Apply) and not _is_plain(node.value)
        node.kept = not leaf and (
            (node.uses > 1 and (dear or node.size > 2)) or node.size > largest or node.depth > DEEPEST
        )
    made.nodes[made.root].kept = False


def _is_plain(value: Apply) -> bool:
    """A conversion or sign of a leaf costs nothing to write twice."""
    inner = value.args[0]
    leaf = (
        isinstance(inner, Const)
        or (isinstance(inner, Read) and not inner.index)
        or isinstance(inner, IndexValue)
    )
    halves = inner.dtype.arithmetic != inner.dtype or value.dtype.arithmetic != value.dtype
    return leaf and not halves and value.fn in ("cast", "neg", "not", "bitcast")


def _is_long(value: Expr) -> bool:
    if not isinstance(value, Read):
        return False
    return value.dtype.arithmetic != value.dtype or value.dtype != getattr(value.source, "dtype", value.dtype)


def _is_safe(value: Expr) -> bool:
    """Whether evaluating a part where it is not wanted does no harm: its places are inside for sure."""
    if not isinstance(value, Read) or not isinstance(value.source, Buffer):
        return True
    return all(_is_inside(i, extent) for i, extent in zip(value.index, value.source.shape, strict=True))


def _is_inside(place: IndexLike, extent: IndexLike) -> bool:
    lo, _ = interval(place)
    _, over = interval(place - extent)
    return lo is not None and lo >= 0 and over is not None and over < 0


def _place(made: Plan) -> None:
    """Find for every part the innermost branch that all its uses stand in."""
    made.nodes[made.root].reached = True
    for number in range(len(made.nodes) - 1, -1, -1):
        node = made.nodes[number]
        if not node.reached:
            continue
        if node.branch is not None and node.safe and isinstance(node.value, Read) and node.value.index:
            node.kept = True  # a load that a branch may skip keeps compilers from making vectors
        if node.kept and node.safe:
            node.branch = None
        is_where = isinstance(node.value, Apply) and node.value.fn == "where"
        for side, child in enumerate(node.children):
            branch = node.branch
            if is_where and side:
                branch = Branch(branch, number, side, (branch.depth if branch else 0) + 1)
            _reach(made.nodes[child], branch)


def _reach(node: Node, branch: Branch | None) -> None:
    node.branch = branch if not node.reached else _common(node.branch, branch)
    node.reached = True


def _common(a: Branch | None, b: Branch | None) -> Branch | None:
    while a is not None and b is not None and (a.where, a.side) != (b.where, b.side):
        if a.depth >= b.depth:
            a = a.outer
        else:
            b = b.outer
    return a if b is not None else None


def _split_branches(made: Plan) -> None:
    """A `where` with declarations in a branch becomes an `if`, and so do those around it."""
    for node in made.nodes:
        if not node.kept:
            continue
        branch = node.branch
        while branch is not None:
            made.split.add(branch.where)
            branch = branch.outer
    for number in made.split:
        made.nodes[number].kept = True
