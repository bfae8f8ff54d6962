"""Search: plans timed in turns, records in a file, and programs made from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import intaglio
from intaglio import nn
from intaglio.__main__ import app
from intaglio.compile import Settings
from intaglio.loop.search import load_records, save_records
from intaglio.native.targets import find_target
from intaglio.shared.errors import ArgumentError
from intaglio.tuning import survey, tune

X = np.random.default_rng(0).standard_normal((6, 64)).astype(np.float32)


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 48))


def test_a_search_offers_every_plan_once_and_its_records_are_used(tmp_path: Path) -> None:
    model = small()
    plain = intaglio.compile(model, [X], threads=1)
    found = survey(plain.graph, find_target("native"), Settings())
    if not found:
        pytest.skip("this machine's compilers have no vector types, so there is no choice")
    for one in found:
        assert set(one.kernels) <= set(one.order)
        assert len(one.kernels) == len(one.order) > 3
        assert len({kernel.schedule for kernel, _ in one.kernels.values()}) > 1
    other = {one.key: one.order[-1] for one in found}
    file = tmp_path / "tuning.txt"
    save_records(file, other, dict.fromkeys(other, "3.1 us"))
    assert load_records(file).plans == other
    again = [intaglio.compile(model, [X], threads=1, tuning=file) for _ in range(2)]
    assert again[0].source == again[1].source != plain.source
    np.testing.assert_allclose(again[0](X), plain(X), rtol=1e-4, atol=1e-5)
    again[0].save(tmp_path / "model.intaglio")
    assert intaglio.load(tmp_path / "model.intaglio").source == again[0].source


def test_records_of_other_kernels_change_nothing() -> None:
    model = small()
    records = ({}, {"native/64x32 dot(...)": "columns"})
    plain, same = [intaglio.compile(model, [X], tuning=given).source for given in records]
    assert plain == same


def test_search_times_all_plans(tmp_path: Path) -> None:
    compiled = intaglio.compile(nn.Linear(64, 40, bias=False), [X], threads=1)
    told: list[float] = []
    found = tune(compiled.graph, [X], seconds=1, progress=lambda part, text: told.append(part))
    if not found.choices:
        pytest.skip("this machine's compilers have no vector types, so there is no choice")
    (choice,) = found.choices
    assert len(choice.seconds) > 3
    assert all(seconds > 0 for seconds in choice.seconds.values())
    assert choice.best in choice.seconds
    assert choice.loss >= 0
    assert found.records == {choice.key: choice.best}
    assert min(found.seconds, found.untuned_seconds) > 0
    assert told == sorted(told)
    assert told[-1] == 1


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text("# fine\nno record here\n")
    with pytest.raises(ArgumentError, match=r"bad\.txt:2"):
        intaglio.compile(small(), [X], tuning=tmp_path / "bad.txt")
    with pytest.raises(ArgumentError, match="cannot be read"):
        load_records(tmp_path / "missing.txt")
    with pytest.raises(ArgumentError, match="not this machine"):
        tune(intaglio.compile(small(), [X]).graph, [X], seconds=1, settings=Settings(target="x86-64-v3"))


def test_command(tmp_path: Path) -> None:
    model, file = tmp_path / "model.intaglio", tmp_path / "tuning.txt"
    intaglio.compile(nn.Linear(64, 40, bias=False), [X]).save(model)
    result = CliRunner().invoke(app, ["tune", str(model), "--seconds", "1", "--out", str(file)])
    assert result.exit_code == 0, result.output
    assert "whole model" in result.output
    assert load_records(file).plans or "plain" in result.output
    missing = CliRunner().invoke(app, ["tune", str(model), "--out", str(tmp_path / "none" / "t.txt")])
    assert missing.exit_code != 0
    assert isinstance(missing.exception, (ArgumentError, SystemExit))
