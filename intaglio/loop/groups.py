"""Groups of operators that become one kernel each: what they are, why, and the order in which they run."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from intaglio.graph.ir import Node, Value
from intaglio.loop.access import Place
from intaglio.shared.errors import VerifyError


@dataclass(frozen=True, slots=True)
class Decision:
    """One fusion made or refused: of an operator, named by its result, into a group of others."""

    node: str
    op: str
    target: str
    fused: bool
    because: str

    def __str__(self) -> str:
        return f"{'Fuse' if self.fused else 'Keep'}({self.node}, {self.target}): {self.because}"


@dataclass(eq=False)
class Group:
    """Nodes that become one kernel; `ancestors` is a bit set of the numbers of groups it needs."""

    number: int
    kind: Literal["row", "anchor", "opaque"]
    nodes: list[Node]
    rows: int
    shape: Place
    anchor: Node | None = None
    ancestors: int = 0

    @property
    def has_reduction(self) -> bool:
        return any(node.op.kind == "reduce" for node in self.nodes)

    @property
    def label(self) -> str:
        return "+".join(dict.fromkeys(node.op.name for node in self.nodes))


@dataclass(frozen=True)
class Pooled:
    """The group of a convolution, and the one that pools `image`, which it makes."""

    made: Group
    pooling: Group
    image: Value

    @property
    def groups(self) -> tuple[Group, Group]:
        return self.made, self.pooling


@dataclass
class Fusion:
    """Groups in order of execution, the nodes that live inside their readers, and why.

    `readers` gives the nodes that read each stored value; `in_place` the new values of states that
    are written over the old ones.
    """

    groups: list[Group]
    free: set[Node]
    decisions: list[Decision]
    group_of: dict[Node, Group]
    readers: dict[Value, list[Node]]
    in_place: dict[Value, Value]
    needed: set[Value]

    def stored_outside(self, group: Group) -> set[Value]:
        """Values of a group that must exist as arrays: results, and what other groups read."""
        members = set(group.nodes)
        return {
            value
            for node in group.nodes
            for value in node.outputs
            if value in self.needed or any(r not in members for r in self.readers.get(value, ()))
        }


def execution_order(ancestors: Mapping[int, int], first: Mapping[int, int]) -> list[int]:
    """The numbers of all groups.

    Args:
        ancestors: by number, the groups it needs as a bit set of their numbers; itself does not count.
        first: by number, the place in the graph of its first operator.
    """
    waiting, children = {}, dict[int, list[int]]()
    for number, bits in ancestors.items():
        parents = [k for k in ancestors if bits >> k & 1 and k != number]
        waiting[number] = len(parents)
        for parent in parents:
            children.setdefault(parent, []).append(number)
    ready = [(first[k], k) for k, n in waiting.items() if n == 0]
    heapq.heapify(ready)
    order = []
    while ready:
        _, number = heapq.heappop(ready)
        order.append(number)
        for child in children.get(number, ()):
            waiting[child] -= 1
            if waiting[child] == 0:
                heapq.heappush(ready, (first[child], child))
    if len(order) != len(ancestors):
        raise VerifyError("fusion made groups that need each other")
    return order
