"""docs/onnx.md is true: its programs run, and its tables are those of the reader and of the ledger."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")
from intaglio.readers.onnx.coverage import coverage, table

TEXT = (Path(__file__).parents[2] / "docs" / "onnx.md").read_text()


def test_the_programs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for program in re.findall(r"```python\n(.*?)```", TEXT, re.S):
        exec(program, names)
    assert (tmp_path / "classifier" / "Makefile").exists()


def test_the_table_of_operators_is_that_of_the_reader() -> None:
    assert table().rstrip() in TEXT
    found = coverage()
    assert found["ai.onnx"]["Range"] == "11"
    assert found["ai.onnx"]["Scatter"] == "9 to 10"
    assert found["ai.onnx"]["StringConcat"] == "not supported"
    assert found["ai.onnx.ml"]["ZipMap"] == "not supported"
