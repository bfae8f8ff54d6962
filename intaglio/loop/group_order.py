"""The order in which groups of operators run: each behind those it needs, else as in the graph."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from intaglio.shared.errors import VerifyError


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
