"""FuseOps, second part: elementwise groups over the same elements become one.

When every operator has a group, one that reads another's results at the elements that it computes is taken
together with it, also where others read those results too: one pass instead of two. Arrays that are stored
side by side are written by the group that makes them, each element at its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from intaglio.graph.ir import Node, Value
from intaglio.loop import access
from intaglio.loop.access import Place
from intaglio.loop.groups import Group
from intaglio.ops.expr import Expr, Read

if TYPE_CHECKING:
    from intaglio.loop.fuse import Fuser

Reads = list[tuple[Value, Place]]
MOST_ARRAYS = 20  # that one loop goes through; more than the machine follows ahead of their use


def merge_rows(fuser: Fuser, most: int) -> None:
    """Take elementwise groups of at most `most` operators together, then let them write what is put side by
    side."""
    for node in fuser.graph.nodes:
        group = fuser.group_of.get(node)
        if group is not None and _is_elementwise(group):
            for other in fuser.producers(node):
                _merge(fuser, group, other, most, "same elements")
    for node in fuser.graph.nodes:
        if node in fuser.group_of and node.op.name == "concat":
            _join_parts(fuser, node, most)


def _is_elementwise(group: Group) -> bool:
    return group.kind == "row" and not group.has_reduction and group.rows == len(group.shape)


def _merge(fuser: Fuser, group: Group, other: Group, most: int, because: str) -> bool:
    """Take a group together with another that it may read; False when they are not fit for it."""
    if group is other or not _fit(fuser, group, other, most):
        return False
    fuser.take(group, other, because)
    return True


def _fit(fuser: Fuser, group: Group, other: Group, most: int) -> bool:
    if not (_is_elementwise(group) and _is_elementwise(other)) or group.shape != other.shape:
        return False
    nodes = [*group.nodes, *other.nodes]
    if fuser.keep_phases and len({node.phase for node in nodes}) > 1:
        return False
    if len(nodes) > most or any(node.op.name == "concat" for node in nodes):
        return False
    values = {value for node in nodes for value, _ in fuser.places[node]}
    made = {value for node in nodes for value in node.outputs}
    if len(values - made) + sum(_is_stored(fuser, value, nodes) for value in made) > MOST_ARRAYS:
        return False
    inside = made.__contains__
    for node in nodes:
        own = access.output_variables(node.outputs[0])
        if not access.is_local(fuser.places[node], inside, own, len(own)):
            return False
    return not _between(fuser, group, other) and not _between(fuser, other, group)


def _is_stored(fuser: Fuser, value: Value, nodes: Sequence[Node]) -> bool:
    return value in fuser.needed or any(reader not in nodes for reader in fuser.readers.get(value, ()))


def _between(fuser: Fuser, last: Group, first: Group) -> bool:
    """Whether a third group needs the first one and is needed by the last one."""
    mark = 1 << first.number
    return any(
        third.ancestors & mark and last.ancestors >> third.number & 1
        for third in fuser.groups.values()
        if third is not first and third is not last
    )


def _join_parts(fuser: Fuser, node: Node, most: int) -> None:
    """Let the group that makes the parts of a stored concatenation write them there."""
    own = fuser.group_of[node]
    shape = node.inputs[0].shape
    if len(own.nodes) > 1 or len(node.inputs) < 2 or any(v.shape != shape for v in node.inputs):
        return
    index = access.output_variables(node.inputs[0])
    parts = [_reads_of(value, index, fuser.free.__contains__) for value in node.inputs]
    made = [value.node for part in parts for value, _ in part if value.node in fuser.group_of]
    makers = [g for g in dict.fromkeys(fuser.group_of[n] for n in made if n is not None) if _makes(g, shape)]
    for other in makers[1:]:
        _merge(fuser, makers[0], other, most, "their results stand side by side")
    for group in makers:
        inside = fuser.inside(group)
        if (
            fuser.groups.get(group.number) is group
            and len(group.nodes) < most
            and all(access.is_local(part, inside.__contains__, index, len(index)) for part in parts)
            and not _between(fuser, own, group)
        ):
            fuser.take(group, own, "its parts are written where they stand")
            return


def _makes(group: Group, shape: Place) -> bool:
    return _is_elementwise(group) and group.shape == shape


def _reads_of(value: Value, index: Place, is_free: Callable[[Node], bool]) -> Reads:
    """Every stored tensor that an element of a value is made of, and where."""
    found: Reads = []

    def resolve(inner: Value, at: Place) -> Expr:
        if inner.node is not None and is_free(inner.node):
            return access.element(inner.node, at, resolve)
        found.append((inner, at))
        return Read(inner, at, inner.dtype.arithmetic)

    resolve(value, index)
    return found
