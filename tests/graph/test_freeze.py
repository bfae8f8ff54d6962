"""States that nothing updates become constants, with the same results."""

import numpy as np
import pytest

from intaglio.graph.eval import evaluate
from intaglio.graph.freeze import freeze_states
from intaglio.graph.ir import Graph
from intaglio.graph.spec import verify
from intaglio.shared.dtypes import f32
from intaglio.shared.errors import ArgumentError
from intaglio.shared.types import TensorType

X = np.arange(4, dtype=np.float32)


def counter():
    """y = w * x + n, and n counts up."""
    graph = Graph("counter")
    x = graph.input(TensorType(f32, (4,)), "x")
    w = graph.state(np.full(4, 2, np.float32), "w")
    n = graph.state(np.zeros(4, np.float32), "n")
    graph.set_outputs([w * x + n])
    graph.update(n, n + 1.0)
    return graph


def test_only_states_without_updates_are_frozen():
    frozen = freeze_states(counter())
    verify(frozen)
    assert [s.name for s in frozen.states] == ["n"]
    assert "w" in [c.name for c in frozen.constants]
    (y,), (n,) = evaluate(frozen, [X])
    np.testing.assert_array_equal(y, 2 * X)
    np.testing.assert_array_equal(n, np.ones(4))


def test_contents_are_taken_over_and_the_graph_stays():
    graph = counter()
    frozen = freeze_states(graph, [np.full(4, 3, np.float32), np.full(4, 7, np.float32)])
    np.testing.assert_array_equal(evaluate(frozen, [X])[0][0], 3 * X + 7)
    np.testing.assert_array_equal(evaluate(graph, [X])[0][0], 2 * X)


def test_number_of_contents():
    with pytest.raises(ArgumentError, match="1 contents for 2 states"):
        freeze_states(counter(), [X])
