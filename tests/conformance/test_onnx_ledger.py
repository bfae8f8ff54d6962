"""ONNX's own tests: what passed passes, for one test of every operator; the documentation counts right."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
from onnx import helper

from intaglio.readers.onnx.coverage import MISSING, coverage
from intaglio.readers.onnx.specialise import Specialised, load_for
from intaglio.shared.errors import UnsupportedError
from tests.readers.onnx_models import model, node

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "benchmarks" / "conformance.py"
F32 = np.float32


@pytest.fixture(scope="module")
def conformance() -> Any:
    spec = importlib.util.spec_from_file_location("conformance", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["conformance"] = module  # its dataclasses look for it
    spec.loader.exec_module(module)
    return module


def test_one_test_for_every_operator_is_as_the_ledger_says() -> None:
    command = [sys.executable, str(PROGRAM), "--sample", "--check", "--jobs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    count = re.search(r"(\d+) tests: .*?(\d+) pass", done.stdout)
    assert count is not None
    assert int(count.group(1)) > 160
    assert int(count.group(2)) > 150


def test_the_ledger_has_a_reason_for_all_that_does_not_pass(conformance: Any) -> None:
    rows = conformance.read_ledger().values()
    assert len(rows) > 2000
    assert sum(row.status == "pass" for row in rows) >= 1978
    assert all(row.status in ("pass", "fail", "unsupported") for row in rows)
    assert all(bool(row.reason) == (row.status != "pass") for row in rows)


def test_the_document_has_the_counts_of_the_ledger(conformance: Any) -> None:
    counts = conformance.summary(list(conformance.read_ledger().values()), 40)
    assert f"```\n{counts}\n```" in (ROOT / "docs" / "onnx.md").read_text()
    passed = sum(row.status == "pass" for row in conformance.read_ledger().values())
    own = coverage()["ai.onnx"].values()
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"{sum(sets != MISSING for sets in own)} of {len(own)} operators" in readme
    assert f"{passed} of the {len(conformance.read_ledger())} tests" in readme


def test_what_passed_must_pass(conformance: Any, capsys: pytest.CaptureFixture[str]) -> None:
    row = conformance.Row
    passed = [row("test_add", "pass"), row("test_relu", "pass")]
    assert conformance.check(passed) == 0
    assert conformance.check([row("test_add", "unsupported", "why"), row("test_relu", "fail", "why")]) == 2
    assert "no longer passes: test_add\tunsupported\twhy" in capsys.readouterr().out
    assert conformance.check([row("test_image_decoder_decode_bmp_rgb", "fail", "why")]) == 0


def test_results_are_compared_in_type_shape_and_value(conformance: Any) -> None:
    right = np.ones((2, 3), F32)
    conformance.compare([right], [right * F32(1.0005)], 1e-3, 1e-7)
    for wrong in (right * F32(1.01), right.astype(np.float64), right[:1], [right], None):
        with pytest.raises(AssertionError, match="output 0"):
            conformance.compare([wrong], [right], 1e-3, 1e-7)
    with pytest.raises(AssertionError, match="outputs"):
        conformance.compare([right, right], [right], 1e-3, 1e-7)


def test_data_may_not_be_constant(conformance: Any) -> None:
    """A limit of Range may be known, and is data all the same: the program takes and reads it."""
    proto = model([node("Range", "a", "b", "c")], {"a": F32(0), "b": F32(0), "c": F32(0)})
    special = load_for(proto, proto, [F32(1), F32(5), F32(2)])
    assert sorted(special.known) == ["a", "b", "c"]
    assert special.decided == {("Range", k) for k in range(3)}
    conformance.check_data(special)
    fixed = Specialised(special.graph, special.packing, (), ("a",), frozenset())
    data = Specialised(special.graph, special.packing, ("a",), (), frozenset({("Add", 0)}))
    for refused, says in ((fixed, "input 'a' must be known"), (data, "operand 0 of Add is data")):
        with pytest.raises(UnsupportedError, match=says):
            conformance.check_data(refused)


def test_the_sample_has_every_operator_of_the_suite(conformance: Any) -> None:
    class Test:
        def __init__(self, *operators: str) -> None:
            nodes = [helper.make_node(op, ["x"], ["y"]) for op in operators]
            self.model = helper.make_model(helper.make_graph(nodes, "g", [], []))

    tests = {"a": Test("Add"), "b": Test("Add"), "c": Test("Add", "Mul"), "d": Test("Mul")}
    assert conformance.sample(tests, list(tests)) == ["a", "c"]
