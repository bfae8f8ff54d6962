"""The passes of the graph level, in the order they run. Each takes a graph and returns a new one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from intaglio.graph.ir import Graph
from intaglio.graph.passes.dead_code import dead_code


@dataclass(frozen=True, slots=True)
class Pass:
    """A rewrite of whole graphs; it runs from `opt_level` `level` on. The argument is left as it is."""

    name: str
    level: int
    function: Callable[[Graph], Graph]


PASSES: tuple[Pass, ...] = (Pass("DeadCode", 0, dead_code),)
