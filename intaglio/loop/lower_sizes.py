"""Sizes that are found at run time: where the driver gets them, and how the caller learns of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.graph.ir import Graph, Node
from intaglio.graph.symbols import defined_symbols, variables_of
from intaglio.loop.ir import Buffer, Kernel, Let, Slice, Stmt, Store, block
from intaglio.loop.places import origin
from intaglio.ops.expr import Apply, Const, Expr, IndexValue, Read
from intaglio.shared import dtypes
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import Index, Var, var_index

if TYPE_CHECKING:
    from intaglio.loop.lower import Lowering


def lower_prefix(lowering: Lowering, node: Node) -> list[Stmt]:
    """The size is read from its array; the rows that are kept are the front of the array of all."""
    x, count = node.inputs
    (result,) = node.outputs
    extent = node.attrs["extent"]
    statements: list[Stmt] = []
    if isinstance(extent, Index):
        (var,) = extent.variables
        assert var.hi is not None
        place = lowering.place(count)
        found: Expr = Read(place.buffer, origin(place), dtypes.i64)
        for bound, limit in (("max", var.lo), ("min", var.hi)):
            found = Apply(bound, (found, Const(limit, dtypes.i64)), dtypes.i64)
        lowering.program.sizes.setdefault(var, None)
        statements.append(Let(var, found))
    if result in lowering.places or x.source not in ("node", "constant"):
        return [*statements, lowering.copy(result, lowering.place(x), lowering.place(result))]
    lowering.places[result] = lowering.place(x)
    return statements


def give_sizes(lowering: Lowering, graph: Graph) -> list[Stmt]:
    """The sizes in the shapes of results go to outputs of their own, behind all others."""
    own = defined_symbols(graph)
    if own and lowering.keep_phases:
        raise UnsupportedError("a training step in phases cannot have sizes that are found at run time")
    wanted: dict[Var, None] = {}
    for value in graph.outputs:
        for var in sorted(variables_of(value.type.shape) & set(own), key=lambda var: var.name):
            wanted[var] = None
    return [_give_size(lowering, var) for var in wanted]


def _give_size(lowering: Lowering, var: Var) -> Stmt:
    output = Buffer(lowering.unique(var.name), dtypes.i64, (), "output")
    lowering.program.outputs.append(output)
    lowering.program.sizes[var] = output
    to = Buffer("to", dtypes.i64, ())
    body = block(Store(to, (), IndexValue(var_index(var))))
    kernel = Kernel(lowering.unique(f"give_{var.name}"), (to,), (to,), body, (f"size: {var}",), bytes=8)
    return lowering.call(kernel, (Slice(output),))
