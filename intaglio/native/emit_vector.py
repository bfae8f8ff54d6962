"""Vector loops to C: lanes as values of the compilers' vector types.

A loop of kind `vector` has a vector form when everything in it that depends on its variable is an
element with unit stride, a register array whose last axis is the lanes, or a function that can run on
vectors. `NoVectorForm` says that it has none; the loop is then printed as a plain one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from intaglio.loop import places
from intaglio.loop.ir import Block, Buffer, For, Kernel, Reduce, Store, walk
from intaglio.native import emit_functions as functions
from intaglio.native import tree as c
from intaglio.native.emit_index import IndexEmitter
from intaglio.native.emit_value import Context, ValueEmitter
from intaglio.native.helpers import Helpers
from intaglio.native.math_exp import CORES
from intaglio.native.runtime_vector import mask_dtype, vector_name
from intaglio.ops.expr import Apply, Const, Expr, IndexValue, Read
from intaglio.shared import dtypes
from intaglio.shared import index as indices
from intaglio.shared.dtypes import DType
from intaglio.shared.index import IndexLike, Var, var_index
from intaglio.shared.target import Target

SMALLEST = 8
"""Bytes of the smallest vector worth its name."""

_HELPERS = {
    "float": ("max", "min"),
    "int": ("add", "sub", "mul", "max", "min", "neg"),
    "uint": ("max", "min"),
}
_BITS = {"and": "&", "or": "|", "xor": "^"}


class NoVectorForm(Exception):
    """Something in a vector loop cannot be said with vector types."""


@dataclass
class Lanes:
    """A vector loop: its variable, how many lanes, the widest vector; `held` are its vector variables."""

    var: Var
    count: int
    widest: int
    held: set[Buffer] = field(default_factory=set)

    def type_of(self, dtype: DType) -> str:
        """The C name of the vector type. NoVectorForm when the machine has none of that size."""
        size = self.count * dtype.size
        if dtype.arithmetic != dtype or dtype == dtypes.bool_ or not SMALLEST <= size <= self.widest:
            raise NoVectorForm
        return vector_name(dtype, self.count)


def lanes_of(loop: For, target: Target) -> Lanes | None:
    """The lanes of a vector loop, None when the target or the extent rules vectors out."""
    extent = loop.extent
    if loop.kind != "vector" or loop.start != 0 or not isinstance(extent, int):
        return None
    if not target.vector_types or extent < 2 or extent & (extent - 1) or extent > target.vector_bytes:
        return None
    return Lanes(loop.var, extent, target.vector_bytes)


def vector_arrays(kernel: Kernel, target: Target) -> set[Buffer]:
    """Register arrays that become arrays of vectors: their last axis is the lanes of a vector loop."""
    found: set[Buffer] = set()
    for loop in walk(kernel.body):
        if not isinstance(loop, For) or (lanes := lanes_of(loop, target)) is None:
            continue
        lane = var_index(lanes.var)
        for buffer, index in _touched(loop.body):
            if buffer.space == "register" and buffer.role == "local" and index and index[-1] == lane:
                fits = SMALLEST <= lanes.count * buffer.dtype.size <= lanes.widest
                if fits and buffer.shape[-1] == lanes.count and buffer.dtype.arithmetic == buffer.dtype:
                    found.add(buffer)
    return {b for b in found if b.dtype != dtypes.bool_}


def _touched(body: Block) -> list[tuple[Buffer, tuple[IndexLike, ...]]]:
    found: list[tuple[Buffer, tuple[IndexLike, ...]]] = []
    for statement in walk(body):
        if isinstance(statement, (Store, Reduce)):
            found.append((statement.buffer, statement.index))
            found += [
                (r.source, r.index) for r in places.reads(statement.value) if isinstance(r.source, Buffer)
            ]
    return found


class VectorValueEmitter(ValueEmitter):
    """Expressions in a vector loop: parts that depend on the lane are vectors, all others scalars."""

    def __init__(self, context: Context, value: Expr, lanes: Lanes, arrays: set[Buffer]) -> None:
        super().__init__(context, value)
        self.lanes = lanes
        self.arrays = arrays
        self.varies: list[bool] = []
        self.masks: dict[int, DType] = {}
        for node in self.plan.nodes:
            own = isinstance(node.value, Read) and self._read_varies(node.value)
            own = own or (
                isinstance(node.value, IndexValue) and lanes.var in places.index_variables(node.value.index)
            )
            self.varies.append(own or any(self.varies[child] for child in node.children))

    def _read_varies(self, read: Read) -> bool:
        return read.source in self.lanes.held or lanes_in(read.index, self.lanes)

    def emit_lanes(self, out: list[c.Stmt]) -> tuple[c.Expr, bool]:
        """The value, and whether it is a vector."""
        self._declare(None, out)
        return self._use(self.plan.root), self.varies[self.plan.root]

    def type_of(self, number: int) -> c.Type:
        dtype = self.masks.get(number, self.plan.nodes[number].value.dtype)
        return c.Type(self._vector(dtype)) if self.varies[number] else super().type_of(number)

    def _vector(self, dtype: DType) -> str:
        return self.helpers.use(self.lanes.type_of(dtype))

    def _split(self, number: int, node: object, name: str, out: list[c.Stmt]) -> None:
        raise NoVectorForm

    def _build(self, number: int) -> c.Expr:
        if not self.varies[number]:
            return super()._build(number)
        node = self.plan.nodes[number]
        if isinstance(node.value, Read):
            return self._load(node.value)
        if isinstance(node.value, Apply):
            return self._vector_apply(number, node.value, node.children)
        raise NoVectorForm

    def _load(self, read: Read) -> c.Expr:
        source = read.source
        assert isinstance(source, Buffer)
        if read.dtype != source.dtype:
            raise NoVectorForm
        if source in self.lanes.held:
            return self.context.element(source, read.index, self.index)
        return load(self.context, source, read.index, self.lanes, self.arrays, self.index)

    def splat(self, number: int) -> c.Expr:
        """A part as a vector, whichever it is."""
        value, dtype = self._use(number), self.plan.nodes[number].value.dtype
        return value if self.varies[number] else splat(value, dtype, self.lanes, self.helpers)

    def _vector_apply(self, number: int, value: Apply, children: tuple[int, ...]) -> c.Expr:
        if value.fn == "where":
            return self._select(number, value, children)
        if value.fn in functions.COMPARISONS:
            compared = value.args[0].dtype
            self._vector(compared)
            self.masks[number] = mask_dtype(compared)
            return c.Binary(functions.COMPARISONS[value.fn], *(self.splat(child) for child in children))
        if value.fn == "cast":
            return self._vector_cast(value, children[0])
        if value.fn == "bitcast":
            if value.dtype.size != value.args[0].dtype.size:
                raise NoVectorForm
            return c.Cast(c.Type(self._vector(value.dtype)), self.splat(children[0]))
        if value.dtype == dtypes.bool_:
            return self._mask_logic(number, value, children)
        if (
            value.fn in functions.BOUNDS
            and value.dtype.is_float
            and (bounded := self._bounded(value, children))
        ):
            return bounded
        return vector_function(
            value.fn, value.dtype, self._operands(value, children), self.lanes, self.helpers
        )

    def _bounded(self, value: Apply, children: tuple[int, ...]) -> c.Expr | None:
        """max or min with a literal that is no NaN."""
        for bound, other in (children, children[::-1]):
            literal = self.plan.nodes[bound].value
            if isinstance(literal, Const) and literal.value == literal.value and self.varies[other]:
                helper = f"{functions.BOUNDS[value.fn]}_{self._vector(value.dtype)}"
                return c.Invoke(self.helpers.use(helper), (self._use(other), self._use(bound)))
        return None

    def _operands(self, value: Apply, children: tuple[int, ...]) -> tuple[c.Expr, ...]:
        """Operands as vectors; a float operator takes one scalar beside a vector as it is."""
        plain = value.fn in functions.ARITHMETIC and value.dtype.is_float
        args: list[c.Expr] = []
        for child in children:
            if not self.varies[child] and plain and self.plan.nodes[child].value.dtype == value.dtype:
                args.append(self._use(child))
            else:
                args.append(self.splat(child))
        return tuple(args)

    def _select(self, number: int, value: Apply, children: tuple[int, ...]) -> c.Expr:
        condition, a, b = children
        if not self.varies[condition]:
            return c.Conditional(self._use(condition), self.splat(a), self.splat(b))
        if not (self.plan.nodes[a].safe and self.plan.nodes[b].safe) or value.dtype == dtypes.bool_:
            raise NoVectorForm
        held = self.plan.nodes[condition].value
        if isinstance(held, Read) and held.source not in self.lanes.held:
            mask = self._mask_load(held, mask_dtype(value.dtype))
        else:
            mask = self._use(condition)
            if self._mask_of(condition) != mask_dtype(value.dtype):
                raise NoVectorForm
        helper = self.helpers.use(f"select_{self._vector(value.dtype)}")
        return c.Invoke(helper, (mask, self.splat(a), self.splat(b)))

    def _mask_load(self, read: Read, dtype: DType) -> c.Expr:
        """Truth values that lie in memory, as a mask of a type."""
        assert isinstance(read.source, Buffer)
        self._vector(dtype)
        stored = self._vector(dtypes.u8)
        where = address(self.context, read.source, place(read.source, read.index, self.lanes), self.index)
        loaded = c.Invoke(self.helpers.use(f"load_{stored}"), (where,))
        return c.Unary("-", c.Invoke(self.helpers.use(f"to_{dtype}_{stored}"), (loaded,)))

    def _mask_of(self, number: int) -> DType:
        if number not in self.masks:
            raise NoVectorForm
        return self.masks[number]

    def _mask_logic(self, number: int, value: Apply, children: tuple[int, ...]) -> c.Expr:
        if not all(self.varies[child] for child in children):
            raise NoVectorForm
        args = [self._use(child) for child in children]
        kinds = {self._mask_of(child) for child in children}
        if len(kinds) != 1:
            raise NoVectorForm
        self.masks[number] = kinds.pop()
        if value.fn == "not":
            return c.Unary("~", args[0])
        if value.fn not in _BITS:
            raise NoVectorForm
        return c.Binary(_BITS[value.fn], *args)

    def _vector_cast(self, value: Apply, child: int) -> c.Expr:
        source, target = value.args[0].dtype, value.dtype
        inner = self._use(child)
        if source == dtypes.bool_:
            mask = self._mask_of(child)
            if mask != mask_dtype(target):
                raise NoVectorForm
            helper = self.helpers.use(f"select_{self._vector(target)}")
            one, zero = (splat(c.Number(n, target), target, self.lanes, self.helpers) for n in (1, 0))
            return c.Invoke(helper, (inner, one, zero))
        rounds = source.is_float and target.is_integer
        if target == dtypes.bool_ or (rounds and not _to_integer(source, target)):
            raise NoVectorForm
        self._vector(target)
        how = "inside" if rounds and _inside(value.args[0], target) else "to"
        return c.Invoke(self.helpers.use(f"{how}_{target}_{self._vector(source)}"), (inner,))


def _to_integer(source: DType, target: DType) -> bool:
    """Whether lanes of a float type become integers of a type without a detour."""
    return source == dtypes.f32 and (target.size < 4 or target == dtypes.i32)


def _inside(value: Expr, dtype: DType) -> bool:
    """Whether a value is clamped to numbers that an integer type has, or NaN."""
    found: dict[str, float] = {}
    while isinstance(value, Apply) and value.fn in functions.BOUNDS and value.fn not in found:
        bounds = [a for a in value.args if isinstance(a, Const)]
        others = [a for a in value.args if not isinstance(a, Const)]
        if len(bounds) != 1:
            return False
        found[value.fn], value = float(bounds[0].value), others[0]
    return dtype.size < 4 and dtype.least <= found.get("max", -1e9) <= found.get("min", 1e9) < (
        dtype.least + 2 ** (8 * dtype.size)
    )


def lanes_in(index: tuple[IndexLike, ...], lanes: Lanes) -> bool:
    return any(lanes.var in places.index_variables(i) for i in index)


def splat(value: c.Expr, dtype: DType, lanes: Lanes, helpers: Helpers) -> c.Expr:
    """A scalar in every lane."""
    vector = helpers.use(lanes.type_of(dtype))
    if isinstance(value, c.Number) and value.value == 0 and not str(value.value).startswith("-"):
        return c.Braces((c.number(0),), c.Type(vector))
    return c.Invoke(helpers.use(f"splat_{vector}"), (value,))


def vector_function(
    fn: str, dtype: DType, args: tuple[c.Expr, ...], lanes: Lanes, helpers: Helpers
) -> c.Expr:
    """A function of vectors: an operator, a helper, or the scalar function lane by lane."""
    vector = helpers.use(lanes.type_of(dtype))
    if fn in functions.ARITHMETIC and dtype.is_float:
        return c.Binary(functions.ARITHMETIC[fn], *args)
    if fn == "neg" and dtype.kind != "int":
        return c.Unary("-", args[0])
    if fn in _BITS and not dtype.is_float:
        return c.Binary(_BITS[fn], *args)
    if dtype.kind == "uint" and fn in ("add", "sub", "mul"):
        return c.Binary(functions.ARITHMETIC[fn], *args)
    if fn in _HELPERS[dtype.kind]:
        return c.Invoke(helpers.use(f"{fn}_{vector}"), args)
    if f"{fn}_{dtype}" in CORES:
        return c.Invoke(helpers.use_lanewise(f"{fn}_{dtype}", dtype, lanes.count, len(args)), args)
    letters = tuple(c.Name(letter) for letter in "abcd"[: len(args)])
    scalar = functions.spell(fn, dtype, letters, helpers)
    if not isinstance(scalar, c.Invoke) or scalar.args != letters:
        raise NoVectorForm
    return c.Invoke(helpers.use_lanewise(scalar.function, dtype, lanes.count, len(args)), args)


def place(buffer: Buffer, index: tuple[IndexLike, ...], lanes: Lanes) -> IndexLike:
    """The place of lane 0. NoVectorForm when the lanes do not lie side by side."""
    if places.stride(buffer, index, lanes.var) != 1:
        raise NoVectorForm
    return indices.substitute(places.flat(buffer, index), {lanes.var: 0})


def address(context: Context, buffer: Buffer, flat: IndexLike, emitter: IndexEmitter) -> c.Expr:
    base = c.Name(context.name(buffer))
    return base if flat == 0 else c.Unary("&", c.Element(base, emitter.emit(flat)))


def is_vector_element(
    buffer: Buffer, index: tuple[IndexLike, ...], lanes: Lanes, arrays: set[Buffer]
) -> bool:
    """Whether the lanes are exactly one vector of an array of vectors."""
    if buffer not in arrays or index[-1] != var_index(lanes.var) or buffer.shape[-1] != lanes.count:
        return False
    return not lanes_in(index[:-1], lanes)


def load(
    context: Context,
    buffer: Buffer,
    index: tuple[IndexLike, ...],
    lanes: Lanes,
    arrays: set[Buffer],
    emitter: IndexEmitter,
) -> c.Expr:
    """The lanes of a buffer as a vector."""
    if buffer in arrays:
        if not is_vector_element(buffer, index, lanes, arrays):
            raise NoVectorForm
        return context.element(buffer, index[:-1], emitter)
    vector = context.helpers.use(lanes.type_of(buffer.dtype))
    where = address(context, buffer, place(buffer, index, lanes), emitter)
    return c.Invoke(context.helpers.use(f"load_{vector}"), (where,))
