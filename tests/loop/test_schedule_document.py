"""docs/schedules.md is true: its programs print what it says, and its table has every verb."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

from intaglio.loop.schedule.records import VERBS, parse_record

TEXT = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text()


def test_programs_print_what_the_document_says() -> None:
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```(?:\n\nprints\n\n```\n(.*?)```)?", TEXT, re.S)
    assert len(blocks) == 5
    for program, printed in blocks:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(program, names)
        assert out.getvalue().strip() == printed.strip()


def test_the_table_has_every_verb_and_its_steps_read_back() -> None:
    steps = re.findall(r"^\| `(.*?)` \|", TEXT, re.M)
    assert {parse_record(step).verb for step in steps} == set(VERBS)
    assert [str(parse_record(step)) for step in steps] == steps
