"""ONNX's backend interface, with cases of ONNX's own suite through ONNX's own runner."""

from __future__ import annotations

import unittest
import warnings

import numpy as np
import pytest

pytest.importorskip("onnx")
from onnx import helper
from onnx.backend.test import BackendTest
from onnx.backend.test.loader import load_model_tests

from intaglio.readers import onnx_backend
from intaglio.shared.errors import ArgumentError, UnsupportedError
from tests.readers.onnx_models import model, node

CASES = (
    "test_add_bcast", "test_reshape_negative_dim", "test_reduce_max_empty_set", "test_split_to_sequence_1",
    "test_optional_get_element_tensor", "test_range_int32_type_negative_delta",
    "test_cast_FLOAT_to_FLOAT8E5M2",
)  # fmt: skip
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_cases_of_the_suite_pass_in_its_own_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings.filterwarnings("ignore")
    chosen = [test for test in load_model_tests(kind="node") if test.name in CASES]
    assert len(chosen) == len(CASES)
    monkeypatch.setattr(
        "onnx.backend.test.runner.load_model_tests", lambda kind: chosen if kind == "node" else []
    )
    settings = {name: {"opt": "fast-compile"} for name in CASES}
    runner = BackendTest(onnx_backend.IntaglioBackend, __name__, settings)
    result = unittest.TestResult()
    runner.test_suite.run(result)
    assert not result.failures, result.failures[0][1]
    assert not result.errors, result.errors[0][1]
    assert (result.testsRun, len(result.skipped)) == (2 * len(CASES), len(CASES))


def test_models_and_nodes_run_by_position_and_by_name() -> None:
    proto = model(
        [node("Add", "a", "b", out="sum"), node("Neg", "sum")], {"a": X, "b": X}, outputs=("y", "sum")
    )
    assert onnx_backend.is_compatible(proto)
    results = onnx_backend.prepare(proto, opt="fast-compile").run({"b": X, "a": X})
    np.testing.assert_array_equal(results[0], -2 * X)
    np.testing.assert_array_equal(results.sum, 2 * X)  # type: ignore[attr-defined]
    twice = helper.make_node("Mul", ["a", "a"], ["y"])
    np.testing.assert_array_equal(onnx_backend.run_node(twice, [X], opt="fast-compile")[0], X * X)
    old = helper.make_node("Squeeze", ["a"], ["y"], axes=[0])
    assert onnx_backend.run_node(old, [X[:1]], opset_version=11, opt="fast-compile")[0].shape == (3,)


def test_what_is_not_there_is_said() -> None:
    assert not onnx_backend.supports_device("CUDA")
    odd = model([node("Nonesuch", "a")], {"a": X})
    assert not onnx_backend.is_compatible(odd)
    assert not onnx_backend.is_compatible(model([node("StringConcat", "a", "a")], {"a": X}, opset=20))
    with pytest.raises(UnsupportedError, match="device 'CUDA'"):
        onnx_backend.prepare(odd, "CUDA")
    with pytest.raises(ArgumentError, match="reads 1 inputs, 2 were given"):
        onnx_backend.run_node(node("Neg", "a"), [X, X])
    with pytest.raises(ArgumentError, match="takes no threads"):
        onnx_backend.prepare(odd).run([X], threads=1)
