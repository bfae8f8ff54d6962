"""The programs of the document about scalar programs run as written; pieces marked `py` belong to others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "scalar.md"


def test_the_document_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for program in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.S):
        exec(program, names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph.svg", "loops.svg"]
    assert names["model"].parameters()[0].grad != 0
