"""Scalar expressions to C, with local variables for what is shared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from intaglio.loop.ir import Buffer
from intaglio.native import emit_functions as functions
from intaglio.native import tree as c
from intaglio.native.emit_index import IndexEmitter, fits_int
from intaglio.native.emit_plan import Branch, Node, Plan, plan
from intaglio.native.helper import c_type
from intaglio.native.helpers import Helpers
from intaglio.native.names import Names
from intaglio.ops.expr import Apply, Const, Expr, IndexValue, Read
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import Dynamic, IndexLike, Var, interval

Range = tuple[int, int] | None


@dataclass
class Context:
    """What the expressions of one function have in common."""

    helpers: Helpers
    names: Names
    variable: Callable[[Var], str]
    name: Callable[[Buffer], str]
    element: Callable[[Buffer, tuple[IndexLike, ...], IndexEmitter], c.Expr]
    index_type: c.Type


class ValueEmitter:
    """Prints one expression; declarations it needs go to the statements given to `emit`."""

    def __init__(self, context: Context, value: Expr, dtype: DType | None = None) -> None:
        self.context = context
        self.helpers = context.helpers
        self.plan: Plan = plan(value)
        self.dtype = dtype or value.dtype
        self.done: dict[int, c.Expr] = {}
        self.ranges: dict[int, Range] = {}
        self.index = IndexEmitter(context.helpers, context.variable, self._dynamic)

    def emit(self, out: list[c.Stmt]) -> c.Expr:
        """The value, converted to the wanted element type."""
        self._declare(None, out)
        root = self.plan.nodes[self.plan.root]
        return functions.convert(self._use(self.plan.root), root.value.dtype, self.dtype, self.helpers)

    def _declare(self, branch: Branch | None, out: list[c.Stmt]) -> None:
        """Declare every kept part of a branch, in order."""
        where = (branch.where, branch.side) if branch else None
        for number, node in enumerate(self.plan.nodes):
            own = (node.branch.where, node.branch.side) if node.branch else None
            if not node.kept or own != where:
                continue
            name = self.context.names.unique(_temporary(node))
            if number in self.plan.split:
                self._split(number, node, name, out)
            else:
                value = self._build(number)
                out.append(c.Declare(self.type_of(number), name, value=value))
            self.done[number] = c.Name(name)

    def _split(self, number: int, node: Node, name: str, out: list[c.Stmt]) -> None:
        """`where` as an `if`: each side declares what only it needs."""
        out.append(c.Declare(self.type_of(number), name))
        sides: list[tuple[c.Stmt, ...]] = []
        for side in (1, 2):
            body: list[c.Stmt] = []
            self._declare(Branch(node.branch, number, side, 0), body)
            body.append(c.Assign(c.Name(name), self._use(node.children[side])))
            sides.append(tuple(body))
        out.append(c.Branch(self._use(node.children[0]), *sides))

    def type_of(self, number: int) -> c.Type:
        return c.Type(c_type(self.plan.nodes[number].value.dtype))

    def _use(self, number: int) -> c.Expr:
        return self.done[number] if number in self.done else self._build(number)

    def _build(self, number: int) -> c.Expr:
        node = self.plan.nodes[number]
        value = node.value
        if isinstance(value, Const):
            return self._constant(value)
        if isinstance(value, Read):
            return self._read(value)
        if isinstance(value, IndexValue):
            return self._index_value(value)
        assert isinstance(value, Apply)
        return self._apply(number, value, node.children)

    def _constant(self, value: Const) -> c.Expr:
        if (
            value.dtype.is_float and value.value in (float("inf"), float("-inf"))
        ) or value.value != value.value:
            self.helpers.headers.add("math.h")
        return c.Number(value.value, value.dtype)

    def _read(self, value: Read) -> c.Expr:
        source = value.source
        assert isinstance(source, Buffer)
        element = self.context.element(source, value.index, self.index)
        return functions.convert(element, source.dtype, value.dtype, self.helpers)

    def _index_value(self, value: IndexValue) -> c.Expr:
        spelled = self.index.emit(value.index)
        if value.dtype.is_float or self.context.index_type.name != c_type(value.dtype):
            return c.Cast(c.Type(c_type(value.dtype)), spelled)
        return spelled

    def _dynamic(self, atom: Dynamic) -> c.Expr:
        """A value read at run time, as an index."""
        if not isinstance(atom.value, Expr):
            raise UnsupportedError(f"index {atom} is no expression")
        number = self.plan.of(atom.value)
        if c_type(atom.value.dtype) == self.context.index_type.name:
            return self._use(number)
        return c.Cast(self.context.index_type, self._use(number))

    def _apply(self, number: int, value: Apply, children: tuple[int, ...]) -> c.Expr:
        if value.fn in ("cast", "bitcast"):
            return self._converted(value, children[0])
        if value.fn in functions.COMPARISONS and all(self._is_small_index(child) for child in children):
            return self._compare_indices(value.fn, children)
        dtype = value.args[-1].dtype
        args = tuple(self._use(child) for child in children)
        if value.fn == "where":
            return c.Conditional(*args)
        wide = dtype.arithmetic
        if wide != dtype:
            args = tuple(functions.convert(a, dtype, wide, self.helpers) for a in args)
        small = wide.is_integer and self.range_of(number) is not None
        made = functions.spell(value.fn, wide, args, self.helpers, small=small)
        if isinstance(made, c.Binary) and made.op in ("&&", "||") and self._loads_safely(number):
            made = c.Binary(made.op[0], made.a, made.b)
        return (
            made if value.dtype == dtypes.bool_ else functions.convert(made, wide, value.dtype, self.helpers)
        )

    def _loads_safely(self, number: int) -> bool:
        """Whether a condition compares elements that may be loaded at any time: then it needs no branches,
        which keep compilers from making vectors."""
        stack, loads = [number], False
        while stack:
            node = self.plan.nodes[stack.pop()]
            if not node.safe:
                return False
            loads = loads or isinstance(node.value, Read)
            stack.extend(node.children)
        return loads

    def _converted(self, value: Apply, child: int) -> c.Expr:
        inner = self.plan.nodes[child].value
        if value.fn == "bitcast":
            return functions.reinterpret(self._use(child), inner.dtype, value.dtype, self.helpers)
        if isinstance(inner, IndexValue) and value.dtype in (dtypes.f32, dtypes.f64, dtypes.i64, dtypes.i32):
            return c.Cast(c.Type(c_type(value.dtype)), self.index.emit(inner.index))
        return functions.convert(self._use(child), inner.dtype, value.dtype, self.helpers)

    def _is_small_index(self, number: int) -> bool:
        value = self.plan.nodes[number].value
        if isinstance(value, IndexValue):
            return self.context.index_type == c.INT64 or fits_int(value.index)
        return isinstance(value, Const) and isinstance(value.value, int) and abs(value.value) < 2**31

    def _compare_indices(self, fn: str, children: tuple[int, ...]) -> c.Expr:
        """Indices compare as they are, the constant on the right."""
        left, right = (self.plan.nodes[child].value for child in children)
        a, b = (self.index.emit(v.index) if isinstance(v, IndexValue) else self._use(self.plan.of(v))
                for v in (left, right))  # fmt: skip
        if isinstance(a, c.Number):
            mirrored = {"lt": ">", "le": ">=", "gt": "<", "ge": "<="}
            return c.Binary(mirrored.get(fn, functions.COMPARISONS[fn]), b, a)
        return c.Binary(functions.COMPARISONS[fn], a, b)

    def range_of(self, number: int) -> Range:
        """Bounds of an integer part when no operation in it can leave its type, else None."""
        if number not in self.ranges:
            self.ranges[number] = self._range(self.plan.nodes[number])
        return self.ranges[number]

    def _range(self, node: Node) -> Range:
        value = node.value
        if not value.dtype.is_integer:
            return None
        if isinstance(value, Const):
            return int(value.value), int(value.value)
        if isinstance(value, IndexValue):
            lo, hi = interval(value.index)
            return (lo, hi) if lo is not None and hi is not None else None
        own = _limits(value.dtype)
        if not isinstance(value, Apply) or value.fn not in ("add", "sub", "mul", "cast"):
            return own
        parts = []
        for child in node.children:
            source = self.plan.nodes[child].value.dtype
            inner = self.range_of(child) or (_limits(source) if source.is_integer else None)
            if inner is None:
                return own if value.fn == "cast" else None
            parts.append(inner)
        lo, hi = _combined(value.fn, parts)
        if own[0] <= lo and hi <= own[1]:
            return lo, hi
        return own if value.fn == "cast" else None


def _limits(dtype: DType) -> tuple[int, int]:
    bits = 8 * dtype.size
    return (0, 2**bits - 1) if dtype.kind == "uint" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _combined(fn: str, parts: list[tuple[int, int]]) -> tuple[int, int]:
    if fn == "cast":
        return parts[0]
    (alo, ahi), (blo, bhi) = parts
    if fn == "add":
        return alo + blo, ahi + bhi
    if fn == "sub":
        return alo - bhi, ahi - blo
    corners = [x * y for x in (alo, ahi) for y in (blo, bhi)]
    return min(corners), max(corners)


def _temporary(node: Node) -> str:
    """A name for a part: its function's, so that it says something."""
    return node.value.fn if isinstance(node.value, Apply) and len(node.value.fn) > 3 else "t"
