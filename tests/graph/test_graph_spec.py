"""Every rule of the verifier refuses a graph that breaks it, and shows the node."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from intaglio.graph.ir import Graph, Node, Value
from intaglio.graph.spec import verify
from intaglio.ops import prim
from intaglio.ops.registry import REGISTRY
from intaglio.shared.dtypes import f32, f64
from intaglio.shared.errors import VerifyError
from intaglio.shared.types import TensorType

MATRIX = TensorType(f32, (2, 3))


def sample() -> Graph:
    graph = Graph("sample")
    x, w = graph.input(MATRIX, "x"), graph.state(np.ones((2, 3), np.float32), "w")
    y = prim.exp(x * w + 1.0)
    graph.set_outputs([y, prim.sum(y, axes=(1,))])
    graph.update(w, y)
    return graph


def test_a_good_graph_passes() -> None:
    verify(sample())


def swap_nodes(graph: Graph) -> None:
    graph.nodes[0], graph.nodes[-1] = graph.nodes[-1], graph.nodes[0]


def foreign_operand(graph: Graph) -> None:
    graph.nodes[-1].inputs = (Graph().input(MATRIX, "alien"),)


def wrong_type(graph: Graph) -> None:
    graph.nodes[-1].outputs[0].type = TensorType(f32, (3,))


def wrong_operand_type(graph: Graph) -> None:
    graph.inputs[0].type = TensorType(f64, (2, 3))


def array_attribute(graph: Graph) -> None:
    graph.nodes[-1].attrs["axes"] = np.array([1])


def list_attribute(graph: Graph) -> None:
    node = next(n for n in graph.nodes if n.op.name == "broadcast")
    node.attrs["shape"] = [2, 3]


def same_name(graph: Graph) -> None:
    graph.nodes[-1].outputs[0].name = "x"


def same_output_name(graph: Graph) -> None:
    graph.output_names = ["y", "y"]


def missing_output_name(graph: Graph) -> None:
    graph.output_names = ["y"]


def lost_output(graph: Graph) -> None:
    graph.nodes.pop()


def update_type(graph: Graph) -> None:
    graph.updates[0] = (graph.states[0], graph.outputs[1])


def update_twice(graph: Graph) -> None:
    graph.updates *= 2


def update_input(graph: Graph) -> None:
    graph.updates[0] = (graph.inputs[0], graph.outputs[0])


def state_array(graph: Graph) -> None:
    graph.states[0].data = np.ones((3, 2), np.float32)


def no_array(graph: Graph) -> None:
    graph.constants[0].data = None


def input_array(graph: Graph) -> None:
    graph.inputs[0].data = np.ones((2, 3), np.float32)


def wrong_role(graph: Graph) -> None:
    graph.inputs.append(graph.constants[0])


def wrong_place(graph: Graph) -> None:
    graph.nodes[0].outputs[0].position = 1


def defined_twice(graph: Graph) -> None:
    graph.nodes.append(graph.nodes[-1])


def unknown_attribute(graph: Graph) -> None:
    graph.nodes[-1].attrs["axis"] = 1


BREAKS: list[tuple[Callable[[Graph], None], str]] = [
    (swap_nodes, "is used before it is defined"),
    (foreign_operand, "operand %alien: f32[2,3] is of another graph"),
    (wrong_type, "the shape rule gives f32[2]"),
    (wrong_operand_type, "does not take its operands"),
    (array_attribute, "attribute axes is a ndarray, not plain data"),
    (list_attribute, "attribute shape is a list, not plain data"),
    (same_name, "two values are called 'x'"),
    (same_output_name, "are not distinct"),
    (missing_output_name, "2 outputs but 1 names"),
    (lost_output, "is not defined in this graph"),
    (update_type, "state %w: f32[2,3] is updated with"),
    (update_twice, "is updated twice"),
    (update_input, "is no state of this graph"),
    (state_array, "has an array of type float32[3, 2]"),
    (no_array, "has no array"),
    (input_array, "carries an array"),
    (wrong_role, "is listed as input but is a constant"),
    (wrong_place, "is not result 0 of its node"),
    (defined_twice, "is defined twice"),
    (unknown_attribute, "does not take its operands"),
]


@pytest.mark.parametrize(("break_", "message"), BREAKS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_graph_is_refused(break_: Callable[[Graph], None], message: str) -> None:
    graph = sample()
    break_(graph)
    with pytest.raises(VerifyError) as caught:
        verify(graph)
    assert message in str(caught.value)
    assert "graph sample" in str(caught.value)


def test_errors_show_the_node_and_the_users_line() -> None:
    graph = sample()
    array_attribute(graph)
    with pytest.raises(VerifyError) as caught:
        verify(graph)
    assert "%sum: f32[2] = sum(%exp: f32[2,3])" in str(caught.value)
    assert "test_graph_spec.py" in str(caught.value)


def loop(body: Graph) -> Graph:
    graph = Graph("main")
    x = graph.input(TensorType(f32, ()), "x")
    node = Node(
        REGISTRY["scan"], (x,), {"body": body, "n_carry": 1, "n_xs": 0, "reverse": False, "length": 3}
    )
    graph.set_outputs([graph.place(node, [x.type], ["y"])[0]])
    return graph


def test_bodies_are_verified_too() -> None:
    body = Graph("inner")
    c = body.input(TensorType(f32, ()), "c")
    body.set_outputs([prim.exp(c)])
    verify(loop(body))
    body.nodes[0].attrs["extra"] = 1
    with pytest.raises(VerifyError, match="graph inner"):
        verify(loop(body))


def test_bodies_have_no_states() -> None:
    body = Graph("inner")
    c, s = body.input(TensorType(f32, ()), "c"), body.state(np.ones((), np.float32), "s")
    body.set_outputs([c + s])
    with pytest.raises(VerifyError, match="bodies have no states"):
        verify(loop(body))


def test_endless_nesting_is_refused() -> None:
    body = Graph("b0")
    c = body.input(TensorType(f32, ()), "c")
    body.set_outputs([c])
    for _ in range(70):
        body = loop(body)
    with pytest.raises(VerifyError, match="nested more than"):
        verify(body)


def test_operands_of_another_graph_are_refused_at_once() -> None:
    value: Value = Graph().input(MATRIX)
    with pytest.raises(VerifyError, match="belongs to another graph"):
        prim.add(sample().inputs[0], value)
