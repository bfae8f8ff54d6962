"""DeadCode: what no output and no new state needs is dropped."""

from __future__ import annotations

from intaglio.graph.ir import Graph
from intaglio.graph.rewrite import remove_dead, transform_bodies


def dead_code(graph: Graph) -> Graph:
    """A new graph of only the nodes and constants that matter, in the bodies of loops and branches too."""
    return transform_bodies(remove_dead(graph), dead_code)
