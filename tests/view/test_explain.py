"""Time of kernels, next to the machine's limits; what was fused and what not; the plot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import intaglio
from intaglio import nn
from intaglio.__main__ import app
from intaglio.compiled import Compiled
from intaglio.loop.groups import Decision
from intaglio.shared.errors import ArgumentError, UnsupportedError
from intaglio.view.explain import HEADER, Explanation, explain
from intaglio.view.profile import KernelTime, profile
from intaglio.view.roof import Roof
from intaglio.view.roofline import draw

X = np.ones((32, 64), np.float32)
ROOF = Roof(1e11, ((1 << 15, 2e11), (1 << 20, 1e11), (1 << 62, 1e10)))


def kernel(name: str, seconds: float, flops: int, size: int, op: str = "dot") -> KernelTime:
    return KernelTime(name, ("formula", f"y = {op}(f32[2]) -> f32[2]"), (), seconds, flops, size)


def classifier() -> Compiled:
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10), nn.Softmax(-1))
    compiled: Compiled = intaglio.compile(model, [X], threads=1)
    return compiled


def test_every_statement_of_the_driver_is_timed() -> None:
    compiled = classifier()
    found = explain(compiled, [X], rounds=3)
    assert len(found.kernels) == sum(len(block) for block in compiled.program.phases.values())
    assert found.seconds > 0
    assert found.roof.flops > 1e8
    assert sum(kernel.flops for kernel in found.kernels) >= 2 * 32 * (64 * 128 + 128 * 10)
    assert "dot" in found.kernels[0].operators
    assert next(iter(found.table(2))) == HEADER


def test_kernels_that_layers_share_are_one_part() -> None:
    runs = [kernel("dot", 2e-6, 10_000, 4000), kernel("dot", 4e-6, 10_000, 4000)]
    found = Explanation("m", [*runs, kernel("tail", 1e-6, 10, 40_000, "sort")], ROOF, [])
    both, tail = found.parts
    assert (both.runs, both.seconds, both.kernel.flops) == (2, pytest.approx(6e-6), 20_000)
    assert found.share_of_roof(both) == pytest.approx(2 * 1e-7 / 6e-6)
    assert found.share_of_roof(tail) == pytest.approx(4e-7 / 1e-6)  # 40 kB fit the second level


def test_fusions_that_were_not_made_are_counted_by_reason() -> None:
    kept = [Decision(f"y{k}", "conv", "conv+add", False, "it must be so") for k in range(3)]
    made = Decision("z", "add", "conv", True, "same rows")
    found = Explanation("m", [kernel("dot", 1e-6, 10, 10)], ROOF, [*kept, made])
    (refusal,) = found.refusals
    assert refusal.nodes == ("y0", "y1", "y2")
    assert "conv not with conv+add (3 times, first y0): it must be so" in "\n".join(found.summary())
    assert found.record()["fusions"][3]["fused"]


def test_every_pair_of_kernels_has_a_reason() -> None:
    decisions = classifier().decisions
    refused = {(one.op, one.target.split("+")[0]): one.because for one in decisions if not one.fused}
    assert "reads each element many times" in refused["dot", "dot"]  # the second layer behind the first
    assert "tiles" in refused["reduce_max", "dot"]  # softmax behind the second


def test_loops_of_the_driver_count_every_step() -> None:
    x = np.ones((5, 2, 4), np.float32)
    compiled = intaglio.compile(nn.LSTM(4, 8), [x], threads=1, opt="fast-compile")
    loops = [kernel for kernel in profile(compiled, [x], rounds=2) if "loop" in kernel.name]
    assert loops
    assert loops[0].flops > 5 * 2 * 2 * 32 * 8 / 2
    with pytest.raises(ArgumentError, match="rounds"):
        profile(compiled, [x], rounds=0)


def test_the_plot_shows_roof_and_kernels(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = Explanation("m", [kernel("dense_layer", 1e-6, 20_000, 9000)], ROOF, [])
    draw(found, tmp_path / "roof.png")
    draw(found, tmp_path / "roof.svg")
    assert (tmp_path / "roof.png").read_bytes().startswith(b"\x89PNG")
    picture = (tmp_path / "roof.svg").read_text()
    for text in ("dense_layer", "100 GFLOP/s", "memory  10 GB/s", "matrix product"):
        assert f"<!-- {text}" in picture or f"{text} -->" in picture, text
    with pytest.raises(ArgumentError, match=r"\.gif"):
        draw(found, tmp_path / "roof.gif")
    with pytest.raises(ArgumentError, match="no kernel of m"):
        draw(Explanation("m", [kernel("sort", 1e-6, 0, 10)], ROOF, []), tmp_path / "roof.png")


def test_a_missing_matplotlib_is_told_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match="matplotlib") as caught:
        draw(Explanation("m", [kernel("dot", 1e-6, 10, 10)], ROOF, []), tmp_path / "roof.png")
    assert "intaglio[plot]" in str(caught.value)


def test_command(tmp_path: Path) -> None:
    path = tmp_path / "model.intaglio"
    classifier().save(path)
    shown = CliRunner().invoke(app, ["explain", str(path), "--rounds", "2"])
    assert shown.exit_code == 0, shown.output
    assert HEADER in shown.stdout
    assert "not fused" in shown.stdout
    told = CliRunner().invoke(app, ["explain", str(path), "--rounds", "2", "--json"])
    record = json.loads(told.stdout)
    assert {one["name"] for one in record["kernels"]}
    assert record["roof"]["bandwidth"]["memory"] > 0
    wrong = CliRunner().invoke(app, ["explain", str(path), "--plot", "x.jpg"])
    assert wrong.exit_code != 0
