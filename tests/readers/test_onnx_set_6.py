"""Operator set 6, where it differs from the later ones."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import model, node

from intaglio.readers.onnx import load
from intaglio.shared.errors import UnsupportedError

X, Y, C = (np.random.default_rng(0).standard_normal(s).astype(np.float32) for s in ((2, 3, 4), (2, 3), (3,)))


@pytest.mark.parametrize(
    ("made", "other", "expected"),
    [
        (node("Add", "x", "b", broadcast=1, axis=0), Y, X + Y[:, :, None]),
        (node("Mul", "x", "b", broadcast=1, axis=1), C, X * C[:, None]),
        (node("PRelu", "x", "b"), C, np.where(X < 0, X * C[:, None], X)),
    ],
    ids=["add", "mul", "prelu"],
)
def test_operands_are_placed_by_an_axis(made: object, other: object, expected: object) -> None:
    graph = load(model([made], {"x": X, "b": other}, opset=6))  # type: ignore[list-item]
    np.testing.assert_array_equal(graph.run(X, other)[0], expected)


def test_dropout_is_inference_only_when_it_says_so() -> None:
    graph = load(model([node("Dropout", "x", is_test=1)], {"x": X}, opset=6))
    np.testing.assert_array_equal(graph.run(X)[0], X)
    with pytest.raises(UnsupportedError, match="is_test"):
        load(model([node("Dropout", "x")], {"x": X}, opset=6))
