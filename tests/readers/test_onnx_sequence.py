"""Sequences and optionals of ONNX: their operators, and models that take and give them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from intaglio.graph.spec import verify
from intaglio.readers.onnx.importer import load, load_packed
from intaglio.shared.errors import ArgumentError, IntaglioError, ShapeError, UnsupportedError
from tests.readers.onnx_models import model, node

A = np.arange(12, dtype=np.float32).reshape(3, 4)
B = A * 10
ABC = node("SequenceConstruct", "a", "b", "a", out="s")
IDENTITY = helper.make_graph(
    [node("Neg", "e", out="n"), node("Add", "e", "o", out="p")],
    "body",
    [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("e", "o")],
    [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("n", "p")],
)
NODES: dict[str, list[Any]] = {
    "insert and at": [ABC, node("SequenceInsert", "s", "b", "zero", out="t"), node("SequenceAt", "t", "one")],
    "insert at the end": [ABC, node("SequenceInsert", "s", "b", out="t"), node("SequenceAt", "t", "minus")],
    "erase": [ABC, node("SequenceErase", "s", "zero", out="t"), node("SequenceAt", "t", "zero")],
    "erase the last": [ABC, node("SequenceErase", "s", out="t"), node("SequenceAt", "t", "minus")],
    "at, found at run time": [ABC, node("SequenceAt", "s", "k")],
    "length": [ABC, node("SequenceLength", "s")],
    "empty": [node("SequenceEmpty", out="s"), node("SequenceLength", "s")],
    "concat": [ABC, node("ConcatFromSequence", "s", axis=-1)],
    "stack": [ABC, node("ConcatFromSequence", "s", axis=-1, new_axis=1)],
    "split by size": [
        node("SplitToSequence", "a", "two", out="s", axis=1),
        node("SequenceAt", "s", "minus"),
    ],
    "split by sizes": [node("SplitToSequence", "a", "sizes", out="s"), node("SequenceAt", "s", "one")],
    "split into rows": [
        node("SplitToSequence", "a", out="s", keepdims=0, axis=1),
        node("ConcatFromSequence", "s", axis=0, new_axis=1),
    ],
    "map": [
        ABC,
        node("SequenceMap", "s", "b", out=["m", "q"], body=IDENTITY),
        node("SequenceAt", "m", "one", out="u"),
        node("SequenceAt", "q", "zero", out="v"),
        node("Sub", "u", "v"),
    ],
}
WEIGHTS = {
    "zero": np.asarray(0),
    "one": np.asarray(1),
    "minus": np.asarray(-1),
    "two": np.asarray(2),
    "sizes": np.array([1, 2]),
}


@pytest.mark.parametrize("name", NODES)
def test_operators(name: str) -> None:
    inputs = {"a": A, "b": B, "k": np.asarray(-2)}
    proto = model(NODES[name], inputs, WEIGHTS)
    expected = ReferenceEvaluator(proto).run(None, inputs)
    graph = load(proto)
    verify(graph)
    (got,) = graph.run(*inputs.values())
    assert got.dtype == expected[0].dtype
    np.testing.assert_array_equal(got, expected[0])


@pytest.mark.parametrize(
    ("nodes", "error", "says"),
    [
        ([ABC, node("SequenceAt", "s", "three")], ShapeError, "position 3 of a sequence with 3 places"),
        (
            [ABC, node("SequenceErase", "s", "k", out="t"), node("SequenceLength", "t")],
            UnsupportedError,
            "run",
        ),
        ([node("SequenceLength", "a")], IntaglioError, "a sequence is expected"),
        ([ABC, node("Add", "s", "a")], IntaglioError, "Add"),
        (
            [node("SplitToSequence", "a", "one_three", out="s"), node("SequenceLength", "s")],
            ShapeError,
            "parts",
        ),
        ([node("Optional", out="o", type=None), node("OptionalGetElement", "o")], IntaglioError, "missing"),
    ],
)
def test_errors(nodes: Any, error: type[Exception], says: str) -> None:
    inputs = {"a": A, "b": B, "k": np.asarray(-2)}
    weights = {**WEIGHTS, "three": np.asarray(3), "one_three": np.array([1, 3])}
    with pytest.raises(error, match=says):
        load(model(nodes, inputs, weights))


def sequence_model(optional: bool) -> Any:
    """Inputs: a sequence and an optional tensor. Outputs: the sequence turned, and what the optional is."""
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    sequence = helper.make_sequence_type_proto(tensor)
    nodes = [
        node("SequenceAt", "s", "zero", out="first"),
        node("SequenceErase", "s", "zero", out="rest"),
        node("SequenceInsert", "rest", "first", out="turned"),
        node("OptionalHasElement", "o", out="has"),
        node("Optional", *(["first"] if optional else []), out="p", type=None if optional else tensor),
    ]
    made = model(nodes, {}, {"zero": np.asarray(0)}, outputs=())
    made.graph.input.extend(
        [
            helper.make_value_info("s", sequence),
            helper.make_value_info("o", helper.make_optional_type_proto(tensor)),
        ]
    )
    made.graph.output.extend([helper.make_value_info(n, sequence) for n in ("turned", "has", "p")])
    return made


@pytest.mark.parametrize("present", [True, False])
def test_models_that_take_and_give_sequences(present: bool) -> None:
    shapes = {"s": [(2,), (3, 1)], "o": (4,) if present else None}
    graph, packing = load_packed(sequence_model(present), shapes=shapes)
    verify(graph)
    x, y = np.ones(2, np.float32), np.zeros((3, 1), np.float32)
    arguments = [[x, y], np.ones(4, np.float32) if present else None]
    turned, has, p = packing.pack(graph.run(*packing.flatten(arguments)))
    np.testing.assert_array_equal(turned[0], y)
    np.testing.assert_array_equal(turned[1], x)
    assert bool(has) == present
    assert (p is not None) == present
    for wrong in ([[x], arguments[1]], [[x, y]], [[x, y], None if present else x], [x, arguments[1]]):
        if present and wrong[-1] is None:
            continue
        with pytest.raises(ArgumentError):
            packing.flatten(wrong)


def test_fixed_inputs_cannot_be_given_another_value() -> None:
    proto = model([node("Add", "a", "b")], {"a": A, "b": B})
    graph, packing = load_packed(proto, values={"b": B})
    assert [v.name for v in graph.inputs] == ["a"]
    assert len(packing.flatten([A, B])) == 1
    with pytest.raises(ArgumentError, match="b was fixed"):
        packing.flatten([A, A])


def test_a_sequence_of_unknown_length_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="how many elements"):
        load(sequence_model(True))
