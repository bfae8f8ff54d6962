"""Groups of products of narrow integers, which machines sum in one instruction.

The loop level says them as they are: `for q in 4: acc[lane] += a[k, q] * b[k, lane, q]` with bytes, or two
integers of 16 bits in place of the four, in a loop over lanes.
"""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.loop import places
from intaglio.loop.ir import Buffer, For, Reduce
from intaglio.native import tree as c
from intaglio.native.emit_index import IndexEmitter
from intaglio.native.emit_value import Context
from intaglio.native.emit_vector import Lanes, address
from intaglio.ops.expr import Apply, Expr, Read
from intaglio.shared import dtypes
from intaglio.shared import index as indices
from intaglio.shared.index import IndexLike

_FORMS = {4: (dtypes.u8, dtypes.i8), 2: (dtypes.i16, dtypes.i16)}
LANES = (4, 8, 16)


@dataclass(frozen=True)
class GroupedProduct:
    """`acc[...] += sum of first[q] * second[q]`; a factor is one group for all lanes, or has one for each."""

    reduce: Reduce
    loop: For
    factors: tuple[Read, Read]

    @property
    def helper(self) -> str:
        return f"dot{self.loop.stop}_i32x"


def grouped_product(loop: For, lanes: Lanes) -> GroupedProduct | None:
    """The product that a loop inside of a vector loop is; None for any other."""
    if loop.kind != "unroll" or loop.start != 0 or loop.step != 1 or loop.stop not in _FORMS:
        return None
    if lanes.count not in LANES or 4 * lanes.count > lanes.widest or len(loop.body) != 1:
        return None
    (statement,) = loop.body
    if not isinstance(statement, Reduce) or statement.combine != "add" or statement.ordered:
        return None
    moves = {var for index in statement.index for var in places.index_variables(index)}
    if statement.buffer.dtype != dtypes.i32 or loop.var in moves:
        return None
    factors = _factors(statement.value, loop)
    if factors is None or not any(_stride(read, lanes) for read in factors):
        return None
    if any(_stride(read, lanes) not in (0, loop.stop) for read in factors):
        return None
    return GroupedProduct(statement, loop, factors)


def _factors(value: Expr, loop: For) -> tuple[Read, Read] | None:
    """Both factors, the unsigned one first; None where they are not groups of narrow integers."""
    if not isinstance(value, Apply) or value.fn != "mul" or value.dtype != dtypes.i32:
        return None
    found = [a.args[0] for a in value.args if isinstance(a, Apply) and a.fn == "cast"]
    reads = [read for read in found if isinstance(read, Read) and isinstance(read.source, Buffer)]
    assert isinstance(loop.stop, int)
    for pair in (reads, reads[::-1]):
        if tuple(read.dtype for read in pair) == _FORMS[loop.stop] and all(_moves(r, loop) for r in pair):
            return pair[0], pair[1]
    return None


def _moves(read: Read, loop: For) -> bool:
    """Whether the elements of a group lie side by side."""
    assert isinstance(read.source, Buffer)
    return read.source.dtype == read.dtype and places.stride(read.source, read.index, loop.var) == 1


def _stride(read: Read, lanes: Lanes) -> int | None:
    assert isinstance(read.source, Buffer)
    return places.stride(read.source, read.index, lanes.var)


def words(
    context: Context, product: GroupedProduct, lanes: Lanes, emitter: IndexEmitter
) -> tuple[c.Expr, ...]:
    """Both factors as vectors of one word per lane."""
    made = []
    for read in product.factors:
        assert isinstance(read.source, Buffer)
        first: IndexLike = places.flat(read.source, read.index)
        first = indices.substitute(first, {lanes.var: 0, product.loop.var: 0})
        kind = "words" if _stride(read, lanes) else "word"
        where = address(context, read.source, first, emitter)
        made.append(c.Invoke(context.helpers.use(f"{kind}_i32x{lanes.count}"), (where,)))
    return tuple(made)
