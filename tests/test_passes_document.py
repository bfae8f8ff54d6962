"""docs/passes.md is true: its programs print what it says, and its table is that of the compiler."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

from intaglio.graph.passes import PASSES
from intaglio.view.stages import pass_table

TEXT = (Path(__file__).parent.parent / "docs" / "passes.md").read_text()


def test_programs_print_what_the_document_says() -> None:
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```(?:\n\nprints\n\n```\n(.*?)```)?", TEXT, re.S)
    assert len(blocks) >= 10
    for program, printed in blocks:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(program, names)
        assert out.getvalue().strip() == printed.strip()


def test_the_table_is_that_of_the_compiler() -> None:
    rows = re.findall(r"^\| (\S+) \| (\w+) \| (.*) \|$", TEXT, re.M)[1:]
    wanted = [("-" if name == "PlanMemory" else str(level), name, text) for name, level, text in pass_table()]
    assert rows == wanted


def test_every_pass_is_explained() -> None:
    below = TEXT[TEXT.index("## Each pass") :]
    assert all(f"`{one.name}`" in below or f"### {one.name}\n" in below for one in PASSES)
