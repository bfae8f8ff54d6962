"""Statements of a vector loop: stores of vectors, and reductions along or across the lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.loop import places
from intaglio.loop.ir import Alloc, Block, Comment, For, If, Prefetch, Reduce, Stmt, Store
from intaglio.native import emit_functions as functions
from intaglio.native import tree as c
from intaglio.native.emit_dots import grouped_product, words
from intaglio.native.emit_index import IndexEmitter
from intaglio.native.emit_vector import (
    Lanes,
    NoVectorForm,
    VectorValueEmitter,
    address,
    is_vector_element,
    lanes_in,
    load,
    place,
    splat,
    vector_function,
)
from intaglio.native.runtime_vector import HORIZONTAL
from intaglio.ops.expr import Expr
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.index import Dynamic

if TYPE_CHECKING:
    from intaglio.native.emit_kernel import KernelEmitter


class LanesEmitter:
    """Emits the body of one vector loop; raises NoVectorForm when a part of it has none."""

    def __init__(self, kernel: KernelEmitter, lanes: Lanes) -> None:
        self.kernel = kernel
        self.context = kernel.context
        self.helpers = kernel.helpers
        self.lanes = lanes
        self.arrays = kernel.vectors

    def block(self, body: Block, out: list[c.Stmt]) -> None:
        for statement in body:
            self.statement(statement, out)

    def statement(self, statement: Stmt, out: list[c.Stmt]) -> None:
        if isinstance(statement, Store):
            self.store(statement, out)
        elif isinstance(statement, Reduce):
            self.reduce(statement, out)
        elif isinstance(statement, Alloc):
            self.allocate(statement, out)
        elif isinstance(statement, For) and self.product(statement, out):
            pass
        elif isinstance(statement, For) and statement.kind in ("serial", "unroll"):
            bounds = places.index_variables(statement.start) | places.index_variables(statement.stop)
            if self.lanes.var in bounds:
                raise NoVectorForm
            self.kernel.loop_around(statement, out, self.block)
        elif isinstance(statement, If):
            self.branch(statement, out)
        elif isinstance(statement, Prefetch) and not lanes_in(statement.index, self.lanes):
            self.kernel.prefetch(statement, out)
        elif isinstance(statement, Comment):
            out.append(c.Remark(statement.text))
        else:
            raise NoVectorForm

    def product(self, loop: For, out: list[c.Stmt]) -> bool:
        """A loop that is a group of products of narrow integers; False, and nothing done, for any other."""
        product = grouped_product(loop, self.lanes)
        target = None if product is None else self.held(product.reduce, out)
        if product is None or target is None:
            return False
        factors = words(self.context, product, self.lanes, self.index(out))
        helper = self.helpers.use(f"{product.helper}{self.lanes.count}")
        out.append(c.Assign(target, c.Invoke(helper, (target, *factors))))
        return True

    def allocate(self, statement: Alloc, out: list[c.Stmt]) -> None:
        """A scalar of the loop's body is a vector; arrays there have no vector form."""
        buffer = statement.buffer
        if buffer.shape:
            raise NoVectorForm
        vector = self.helpers.use(self.lanes.type_of(buffer.dtype))
        name = self.kernel.buffers[buffer] = self.kernel.names.unique(buffer.name)
        self.lanes.held.add(buffer)
        out.append(c.Declare(c.Type(vector), name))

    def branch(self, statement: If, out: list[c.Stmt]) -> None:
        """An `if` whose condition is the same for all lanes."""
        condition, varies = self.value(statement.condition, out)
        if varies:
            raise NoVectorForm
        sides: list[tuple[c.Stmt, ...]] = []
        for body in (statement.then, statement.orelse or Block()):
            side: list[c.Stmt] = []
            self.block(body, side)
            sides.append(tuple(side))
        out.append(c.Branch(condition, *sides))

    def value(self, value: Expr, out: list[c.Stmt]) -> tuple[c.Expr, bool]:
        return VectorValueEmitter(self.context, value, self.lanes, self.arrays).emit_lanes(out)

    def vector(self, value: Expr, dtype: DType, out: list[c.Stmt]) -> c.Expr:
        """A value of the buffer's own type as a vector."""
        if value.dtype != dtype or dtype == dtypes.bool_:
            raise NoVectorForm
        made, varies = self.value(value, out)
        return made if varies else splat(made, dtype, self.lanes, self.helpers)

    def varies(self, statement: Store | Reduce) -> bool:
        return statement.buffer in self.lanes.held or lanes_in(statement.index, self.lanes)

    def index(self, out: list[c.Stmt]) -> IndexEmitter:
        def dynamic(atom: Dynamic) -> c.Expr:
            return self.kernel.dynamic(atom, out)

        return IndexEmitter(self.helpers, self.kernel.variable, dynamic)

    def held(self, statement: Store | Reduce, out: list[c.Stmt]) -> c.Expr | None:
        """The vector variable a statement writes to; None when it writes to memory."""
        buffer, index = statement.buffer, statement.index
        if buffer in self.lanes.held:
            return c.Name(self.kernel.buffers[buffer])
        if is_vector_element(buffer, index, self.lanes, self.arrays):
            return self.kernel.element(buffer, index[:-1], self.index(out))
        if buffer in self.arrays:
            raise NoVectorForm
        return None

    def write(self, statement: Store | Reduce, value: c.Expr, out: list[c.Stmt]) -> None:
        """Store a vector where the lanes of a statement lie in memory."""
        buffer = statement.buffer
        vector = self.helpers.use(self.lanes.type_of(buffer.dtype))
        emitter = self.index(out)
        where = address(self.context, buffer, place(buffer, statement.index, self.lanes), emitter)
        out.append(c.Do(c.Invoke(self.helpers.use(f"store_{vector}"), (where, value))))

    def store(self, statement: Store, out: list[c.Stmt]) -> None:
        dtype = statement.buffer.dtype
        if not self.varies(statement):
            value, varies = self.value(statement.value, out)
            if varies or statement.buffer in self.arrays:
                raise NoVectorForm
            value = functions.convert(value, statement.value.dtype, dtype, self.helpers)
            out.append(c.Assign(self.kernel.target_of(statement, out), value))
            return
        value = self.vector(statement.value, dtype, out)
        target = self.held(statement, out)
        if target is None:
            self.write(statement, value, out)
        elif out and isinstance(out[-1], c.Declare) and c.Name(out[-1].name) == target:
            out[-1] = c.Declare(out[-1].type, out[-1].name, value=value)
        else:
            out.append(c.Assign(target, value))

    def reduce(self, statement: Reduce, out: list[c.Stmt]) -> None:
        if not self.varies(statement):
            self.reduce_across(statement, out)
            return
        dtype = statement.buffer.dtype
        if dtype.arithmetic != dtype or statement.combine in ("and", "or"):
            raise NoVectorForm
        value = self.vector(statement.value, dtype, out)
        target = self.held(statement, out)
        if target is not None and dtype.kind != "int" and statement.combine in ("add", "mul"):
            out.append(c.Assign(target, value, functions.ARITHMETIC[statement.combine] + "="))
            return
        before = target or load(
            self.context, statement.buffer, statement.index, self.lanes, self.arrays, self.index(out)
        )
        after = vector_function(statement.combine, dtype, (before, value), self.lanes, self.helpers)
        if target is None:
            self.write(statement, after, out)
        else:
            out.append(c.Assign(target, after))

    def reduce_across(self, statement: Reduce, out: list[c.Stmt]) -> None:
        """All lanes into one place: their order is not kept."""
        dtype = statement.buffer.dtype
        if statement.ordered or statement.combine not in HORIZONTAL or dtype.arithmetic != dtype:
            raise NoVectorForm
        value = self.vector(statement.value, dtype, out)
        vector = self.lanes.type_of(dtype)
        whole = c.Invoke(self.helpers.use(f"{HORIZONTAL[statement.combine]}_{vector}"), (value,))
        out.append(self.kernel.accumulated(statement, self.kernel.target_of(statement, out), whole))
