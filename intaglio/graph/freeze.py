"""States that no call changes are constants: to be folded, packed and kept apart from working memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from intaglio.graph.ir import Graph
from intaglio.graph.rewrite import Rewriting
from intaglio.shared.errors import ArgumentError


def freeze_states(graph: Graph, contents: Sequence[np.ndarray[Any, Any]] | None = None) -> Graph:
    """The same graph with every state that has no update as a constant.

    Args:
        contents: what the states hold, in their order; default their initial contents. States that
            remain start with it.

    Raises:
        ArgumentError: the number of contents is not the number of states.
    """
    if contents is not None and len(contents) != len(graph.states):
        raise ArgumentError(f"{graph.name}: {len(contents)} contents for {len(graph.states)} states")
    rewriting = Rewriting(graph)
    new = rewriting.new
    updated = {rewriting.at(state) for state, _ in graph.updates}
    for position, state in enumerate(list(new.states)):
        if contents is not None:
            state.data = np.array(contents[position])
        if state not in updated:
            state.source = "constant"
            new.states.remove(state)
            new.constants.append(state)
    for node in graph.nodes:
        rewriting.stand_for(node, rewriting.copy(node))
    return rewriting.finish()
