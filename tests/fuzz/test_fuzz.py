"""What fuzzing found stays mended, and a short run finds nothing new."""

from __future__ import annotations

from pathlib import Path

import oracle
import pytest
from fuzz_onnx import all_seeds, make_input
from oracle import Finding, examine

from intaglio.compile import Settings, optimise
from intaglio.graph.ir import Graph

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.onnx"))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_corpus_is_refused_or_runs(path: Path) -> None:
    examine(path.read_bytes(), seed=0, depth=3)


def test_the_corpus_is_small() -> None:
    assert CORPUS
    assert sum(path.stat().st_size for path in CORPUS) < 1 << 20


@pytest.mark.parametrize("part", range(4))
def test_a_short_run(part: int) -> None:
    seeds = all_seeds(quick=True)
    kinds = set()
    for number in range(1000 + part, 1240, 4):
        data, depth = make_input(number, seeds)
        kinds.add(examine(data, number, min(depth, 3)).kind)
    assert {"refused", "loaded"} <= kinds


def test_a_wrong_answer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle itself can fail: a pass that turns a result around is noticed."""

    def wrong(graph: Graph, settings: Settings) -> Graph:
        made = optimise(graph, settings)
        made.set_outputs([-made.outputs[0], *made.outputs[1:]], made.output_names)
        return made

    (data,) = (one for one in all_seeds(quick=True) if b"HardSwish" in one)
    assert examine(data, seed=1, depth=2).kind == "ran"
    monkeypatch.setattr(oracle, "optimise", wrong)
    with pytest.raises(Finding, match="optimised: result 0 differs"):
        examine(data, seed=1, depth=2)
