"""Translation of kernels to Python over NumPy, for the interpreter.

A `For` whose statements may be run one after another, each for all iterations at once, becomes one
NumPy operation per statement (its loops are the axes of the operands); local buffers declared inside
then get the loops as further axes. That is legal when two accesses of one place, one of them a write,
always belong to the same iteration of the loops around both; `loop.independence` proves it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from intaglio.loop import places
from intaglio.loop.eval_order import Leaf, leaves, may_distribute
from intaglio.loop.independence import disjoint
from intaglio.loop.ir import (
    Alloc,
    Block,
    Buffer,
    Comment,
    For,
    If,
    Kernel,
    Prefetch,
    Reduce,
    Stmt,
    Store,
    While,
)
from intaglio.ops.elementwise import convert
from intaglio.ops.expr import FUNCTIONS, Apply, Const, Expr, IndexValue, Read
from intaglio.shared.dtypes import DType
from intaglio.shared.index import (
    Atom,
    Div,
    Dynamic,
    IndexLike,
    Max,
    Min,
    Mod,
    Var,
    product,
)

Array = np.ndarray[Any, Any]
COMBINES = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
}


def unwritten(shape: tuple[int, ...], dtype: DType) -> Array:
    """Memory that nobody has written yet: NaN, or an odd integer."""
    if dtype.is_float:
        return np.full(shape, np.nan, dtype.numpy)
    return np.full(shape, 1 if dtype.kind == "bool" else 0x5B, dtype.numpy)


def translate(kernel: Kernel) -> Callable[..., None]:
    """The kernel as a Python function of flat arrays and, by name, symbols."""
    source = _Source([*kernel.params])
    source.block(kernel.body)
    function: Callable[..., None] = source.function()
    return function


def translate_value(value: Expr, buffers: list[Buffer]) -> Callable[..., Any]:
    """A scalar of the driver as a Python function of flat arrays and, by name, variables."""
    source = _Source(buffers)
    source.line(f"return {source.value(value, Leaf(), guarded=False)}")
    function: Callable[..., Any] = source.function()
    return function


@dataclass
class _Source:
    """The Python text of one function and the objects it names."""

    buffers: list[Buffer]
    lines: list[str] = field(default_factory=list)
    objects: dict[str, Any] = field(default_factory=dict)
    names: dict[Buffer | Var, str] = field(default_factory=dict)
    prefixes: dict[Buffer, tuple[For, ...]] = field(default_factory=dict)
    symbols: dict[Var, str] = field(default_factory=dict)
    shared: dict[tuple[int, int, bool], tuple[Apply, Leaf, str]] = field(default_factory=dict)
    indent: int = 1
    count: int = 0

    def __post_init__(self) -> None:
        for buffer in self.buffers:
            self.names[buffer] = self.unique(buffer.name)
        self.objects = {
            "np": np,
            "take": _take,
            "typed": _typed,
            "convert": _convert,
            "at": _at,
            "unwritten": unwritten,
        }

    def function(self) -> Any:
        params = ", ".join(self.names[buffer] for buffer in self.buffers)
        symbols = [f"    {name} = symbols[{var.name!r}]" for var, name in self.symbols.items()]
        text = "\n".join(
            [f"def run({params}{', ' if params else ''}**symbols):", *symbols, *self.lines, "    return"]
        )
        exec(compile(text, "<loop program>", "exec"), self.objects)
        return self.objects["run"]

    def unique(self, name: str) -> str:
        self.count += 1
        return re.sub(r"\W", "_", f"v{name}" if name[:1].isdigit() else name) + f"_{self.count}"

    def held(self, value: Any, hint: str) -> str:
        """The name of an object in the text."""
        name = self.unique(hint)
        self.objects[name] = value
        return name

    def line(self, text: str) -> None:
        self.lines.append("    " * self.indent + text)

    @contextmanager
    def indented(self, text: str) -> Iterator[None]:
        self.line(text)
        self.indent += 1
        yield
        self.line("pass")
        self.indent -= 1

    # Statements

    def block(self, body: Block) -> None:
        for statement in body:
            self.statement(statement)

    def statement(self, statement: Stmt) -> None:
        if isinstance(statement, For):
            found = leaves(statement)
            if found is not None and may_distribute(statement, found):
                self.nest(statement, ())
            else:
                self.loop(statement)
        elif isinstance(statement, (Store, Reduce)):
            self.leaf(Leaf((), statement))
        elif isinstance(statement, Alloc):
            self.alloc(statement.buffer, ())
        elif isinstance(statement, If):
            with self.indented(f"if {self.value(statement.condition, Leaf(), False)}:"):
                self.block(statement.then)
            with self.indented("else:"):
                self.block(statement.orelse or Block())
        elif isinstance(statement, While):
            with self.indented(f"while {self.value(statement.condition, Leaf(), False)}:"):
                self.block(statement.body)
        elif not isinstance(statement, (Prefetch, Comment)):
            raise TypeError(f"{type(statement).__name__} does not belong into a kernel")

    def loop(self, loop: For) -> None:
        """A Python loop."""
        name = self.names[loop.var] = self.unique(loop.var.name)
        start, stop = self.index(loop.start, Leaf()), self.index(loop.stop, Leaf())
        with self.indented(f"for {name} in range({start}, {stop}, {loop.step}):"):
            self.block(loop.body)
        del self.names[loop.var]

    def nest(self, statement: Stmt, loops: tuple[For, ...]) -> None:
        """Every statement of a nest, for all its iterations at once."""
        if isinstance(statement, For):
            for inner in statement.body:
                self.nest(inner, (*loops, statement))
        elif isinstance(statement, Alloc):
            self.alloc(statement.buffer, loops)
        elif isinstance(statement, (Store, Reduce)):
            self.leaf(Leaf(loops, statement))

    def alloc(self, buffer: Buffer, loops: tuple[For, ...]) -> None:
        """A local buffer; inside of a nest one for each iteration."""
        self.names[buffer] = self.unique(buffer.name)
        self.prefixes[buffer] = loops
        size = self.index(product((*(loop.extent for loop in loops), *buffer.shape)), Leaf())
        self.line(f"{self.names[buffer]} = unwritten((max(0, {size}),), {self.held(buffer.dtype, 'dtype')})")

    def leaf(self, leaf: Leaf) -> None:
        statement = leaf.statement
        assert statement is not None
        rank = len(leaf.loops)
        for axis, loop in enumerate(leaf.loops):
            name = self.names[loop.var] = self.unique(loop.var.name)
            start, stop = self.index(loop.start, Leaf()), self.index(loop.stop, Leaf())
            shape = ["1"] * rank
            shape[axis] = "-1"
            self.line(f"{name} = np.arange({start}, {stop}, {loop.step}).reshape({', '.join(shape)})")
        target, place = self.names[statement.buffer], self.place(statement.buffer, statement.index, leaf)
        value = self.value(statement.value, leaf, guarded=False)
        if isinstance(statement, Store):
            if any(loop.var not in self.used(statement) for loop in leaf.loops):
                whole = self.held_shape(leaf)
                place, value = f"np.broadcast_to({place}, {whole})", f"np.broadcast_to({value}, {whole})"
            self.line(f"{target}[{place}] = {value}")
        else:
            self.reduce(statement, leaf, target, place, value)
        for loop in leaf.loops:
            del self.names[loop.var]

    def reduce(self, statement: Reduce, leaf: Leaf, target: str, place: str, value: str) -> None:
        ufunc = self.held(COMBINES[statement.combine], statement.combine)
        if not leaf.loops:
            self.line(f"{target}[{place}] = {ufunc}({target}[{place}], {value})")
            return
        shape = self.held_shape(leaf)
        value = f"np.broadcast_to({value}, {shape})"
        if statement.ordered:
            self.line(f"at({ufunc}, {target}, np.broadcast_to({place}, {shape}), {value})")
            return
        used = self.used(statement)
        summed = tuple(axis for axis, loop in enumerate(leaf.loops) if loop.var not in used)
        if summed:
            dtype = self.dtype(statement.value.dtype)
            value = f"{ufunc}.reduce({value}, axis={summed}, keepdims=True, dtype={dtype})"
            if len(summed) == len(leaf.loops):
                value = f"{value}.reshape(())"
        kept = [
            loop
            for loop in leaf.loops
            if loop.var in used and loop not in self.prefixes.get(statement.buffer, ())
        ]
        if all(disjoint(statement.buffer, [statement.index], loop) for loop in kept):
            self.line(f"{target}[{place}] = {ufunc}({target}[{place}], {value})")
        else:
            kept_shape = self.unique("kept")
            self.line(f"{kept_shape} = {value}")
            self.line(f"at({ufunc}, {target}, np.broadcast_to({place}, {kept_shape}.shape), {kept_shape})")

    def used(self, statement: Store | Reduce) -> set[Var]:
        """Variables that the place of a written element depends on."""
        prefix = self.prefixes.get(statement.buffer, ())
        return {loop.var for loop in prefix}.union(*map(places.index_variables, statement.index))

    def held_shape(self, leaf: Leaf) -> str:
        name = self.unique("shape")
        extents = ", ".join(self.names[loop.var] + ".size" for loop in leaf.loops)
        self.line(f"{name} = ({extents},)")
        return name

    # Expressions

    def dtype(self, dtype: DType) -> str:
        return self.held(dtype.numpy, dtype.name)

    def place(self, buffer: Buffer, index: tuple[IndexLike, ...], leaf: Leaf) -> str:
        """The flat position of an element; of one iteration's own buffer when there is one for each."""
        position = self.index(places.flat(buffer, index), leaf)
        own = ""
        for loop in self.prefixes.get(buffer, ()):
            extent = self.index(loop.extent, Leaf())
            number = f"(({self.names[loop.var]}) - {self.index(loop.start, Leaf())}) // {loop.step}"
            own = f"({own}) * ({extent}) + {number}" if own else number
        return f"({own}) * {self.index(buffer.size, Leaf())} + ({position})" if own else position

    def value(self, value: Expr, leaf: Leaf, guarded: bool) -> str:
        """The text of an expression; a guarded one may read outside of a buffer and is then not used."""
        if isinstance(value, Const):
            return self.held(value.dtype.numpy.type(value.value), "const")
        if isinstance(value, Read):
            return self.read(value, leaf, guarded)
        if isinstance(value, IndexValue):
            return f"typed({self.index(value.index, leaf)}, {self.dtype(value.dtype)})"
        assert isinstance(value, Apply)
        if not any(isinstance(argument, Apply) for argument in value.args):
            return self.applied(value, leaf, guarded)
        key = id(value), id(leaf), guarded
        if key not in self.shared:
            text = self.applied(value, leaf, guarded)
            name = self.unique("part")
            self.line(f"{name} = {text}")
            self.shared[key] = value, leaf, name
        return self.shared[key][2]

    def applied(self, value: Apply, leaf: Leaf, guarded: bool) -> str:
        inner = guarded or value.fn == "where"
        arguments = [self.value(argument, leaf, inner) for argument in value.args]
        if value.fn == "where":
            return f"np.where({', '.join(arguments)})"
        if value.fn == "cast":
            return f"convert({arguments[0]}, {self.held(value.dtype, value.dtype.name)})"
        if value.fn == "bitcast":
            return f"np.asarray({arguments[0]}).view({self.dtype(value.dtype)})"
        function = self.held(FUNCTIONS[value.fn].numpy, value.fn)
        return f"typed({function}({', '.join(arguments)}), {self.dtype(value.dtype)})"

    def read(self, read: Read, leaf: Leaf, guarded: bool) -> str:
        buffer = read.source
        assert isinstance(buffer, Buffer)
        name, place = self.names[buffer], self.place(buffer, read.index, leaf)
        text = f"take({name}, {place})" if guarded else f"{name}[{place}]"
        return text if read.dtype == buffer.dtype else f"typed({text}, {self.dtype(read.dtype)})"

    def index(self, index: IndexLike, leaf: Leaf) -> str:
        if isinstance(index, int):
            return str(index)
        parts = [str(index.const)] if index.const else []
        parts += [
            f"{coef} * {self.atom(atom, leaf)}" if coef != 1 else self.atom(atom, leaf)
            for atom, coef in index.terms
        ]
        return f"({' + '.join(parts)})"

    def atom(self, atom: Atom, leaf: Leaf) -> str:
        if isinstance(atom, Var):
            return self.variable(atom)
        if isinstance(atom, Dynamic):
            assert isinstance(atom.value, Expr)
            return f"typed({self.value(atom.value, leaf, True)}, np.int64)"
        if isinstance(atom, (Div, Mod)):
            sign = "//" if isinstance(atom, Div) else "%"
            return f"({self.index(atom.num, leaf)} {sign} {self.index(atom.den, leaf)})"
        a, b = self.index(atom.a, leaf), self.index(atom.b, leaf)
        if isinstance(atom, (Min, Max)):
            return f"np.{'minimum' if isinstance(atom, Min) else 'maximum'}({a}, {b})"
        return f"({a} * {b})"

    def variable(self, var: Var) -> str:
        if var in self.names:
            return self.names[var]
        if var not in self.symbols:
            self.symbols[var] = self.unique(var.name)
        return self.symbols[var]


def _take(array: Array, place: Any) -> Any:
    """Elements at places some of which may lie outside, where any value will do."""
    if array.size == 0:
        return np.zeros(np.shape(place), array.dtype)
    return array.take(place, mode="clip")


def _convert(value: Any, dtype: DType) -> Any:
    array = np.asarray(value)
    return array if array.dtype == dtype.numpy else convert(array, dtype)


def _typed(value: Any, dtype: Any) -> Any:
    array = np.asarray(value)
    return array if array.dtype == dtype else array.astype(dtype)


def _at(ufunc: Any, target: Array, place: Array, value: Any) -> None:
    """Combine element by element, in order, where places may repeat."""
    ufunc.at(target, place.reshape(-1), np.asarray(value).astype(target.dtype).reshape(-1))
