"""The ledger of PyTorch's operator database: a few operators are as it says, and so is the documentation."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import torch_operators  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
SOME = ("index_put", "masked_scatter", "nn.functional.pdist", "max.reduction_with_dim", "flip")


@pytest.mark.parametrize("name", SOME)
def test_samples_are_right(name: str) -> None:
    row = torch_operators.run(name, 3)
    assert row.counts["right"] > 0, row.line
    known = torch_operators.ledger()[name]
    for kind, column in (("unsupported", 3), ("wrong", 4), ("no gradient", 6)):
        assert row.counts[kind] <= int(known[column]), row.line


def test_nothing_is_silently_wrong() -> None:
    assert [line for line in torch_operators.ledger().values() if line[4] != "0"] == []


def test_the_documented_totals_are_current() -> None:
    assert torch_operators.summary() in (ROOT / "docs" / "pytorch.md").read_text()
