"""vectorize: the iterations of a loop as lanes of vectors, and why a loop has no such form."""

from __future__ import annotations

from dataclasses import dataclass, replace

from intaglio.loop import places
from intaglio.loop.independence import bound_in, shared_buffers
from intaglio.loop.ir import Alloc, Buffer, For, If, Reduce, Store, While, walk
from intaglio.loop.schedule.loops import only_reduced
from intaglio.loop.schedule.nest import Nest, constant_extent
from intaglio.loop.schedule.records import Record
from intaglio.ops.expr import Apply, Expr
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import Var


@dataclass(frozen=True)
class Vectorize(Record, verb="vectorize"):
    """The iterations of a loop as lanes of vectors: a power of two of them, each array in it at unit stride
    or the same for all lanes. Reductions into one place are added up across the lanes."""

    loop: str

    def apply(self, nest: Nest) -> None:
        nest.rewrite(self.loop, lambda loop, _: [vectorized(nest, loop)])


def vectorized(nest: Nest, loop: For) -> For:
    """The loop with its iterations as lanes. Raises UnsupportedError where it has no such form."""
    extent = constant_extent("vectorize", loop)
    if extent & (extent - 1) or extent < 2:
        raise UnsupportedError(
            f"vectorize: {extent} iterations over {loop.var} are no power of two",
            hint="split the loop by the lanes of the machine",
        )
    for buffer in shared_buffers(loop, bound_in(loop)):
        if not only_reduced(loop.body, buffer):
            raise UnsupportedError(f"vectorize: iterations over {loop.var} share {buffer!r}")
        nest.reassociates = True
    check_lanes(loop)
    return replace(loop, kind="vector")


def check_lanes(loop: For) -> None:
    """Refuse a loop whose body has no form in vectors, with the reason."""
    for statement in walk(loop.body):
        if isinstance(statement, While) or (isinstance(statement, For) and statement.kind == "vector"):
            raise UnsupportedError(f"vectorize: the loop over {loop.var} holds a loop without vector form")
        if isinstance(statement, Alloc) and statement.buffer.shape:
            raise UnsupportedError(f"vectorize: {statement.buffer!r} is declared in the loop over {loop.var}")
        if isinstance(statement, For) and loop.var in (
            places.index_variables(statement.start) | places.index_variables(statement.stop)
        ):
            raise UnsupportedError(f"vectorize: the bounds of the loop over {statement.var} use {loop.var}")
        if isinstance(statement, If) and loop.var in places.variables(statement.condition):
            raise UnsupportedError(f"vectorize: lanes of {loop.var} take different branches")
        touched = [(r.source, r.index) for r in places.statement_reads(statement)]
        if isinstance(statement, (Store, Reduce)):
            touched.append((statement.buffer, statement.index))
            _check_guards(statement.value, loop.var)
        for source, index in touched:
            stride = places.stride(source, index, loop.var) if isinstance(source, Buffer) else 0
            if stride not in (0, 1):
                raise UnsupportedError(
                    f"vectorize: lanes of {loop.var} lie {stride or 'irregularly'} apart in {source!r}",
                    hint="pack or layout puts them side by side",
                )


def _check_guards(value: Expr, lane: Var) -> None:
    if not isinstance(value, Apply):
        return
    guard = value.fn == "where" and lane in places.variables(value.args[0]) and _guards_place(value.args[0])
    if guard and any(True for side in value.args[1:] for _ in places.reads(side)):
        raise UnsupportedError(
            f"vectorize: a guard on lanes of {lane} keeps places inside of an array",
            hint="specialise peels the edges off, pad reads from a padded copy",
        )
    for argument in value.args:
        _check_guards(argument, lane)


def _guards_place(condition: Expr) -> bool:
    """Whether a condition asks about indices."""
    return not any(True for _ in places.reads(condition))
