"""The cache directory: where it is, and what happens when it cannot be written."""

import os
from pathlib import Path

import pytest

from intaglio.shared.cache import atomic_path, cache_dir, configured_dir


def test_variable_names_the_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path / "here"))
    assert cache_dir("native") == tmp_path / "here" / "native"
    assert cache_dir("native").is_dir()


def test_platform_directory_without_the_variable(tmp_path, monkeypatch):
    monkeypatch.delenv("INTAGLIO_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert configured_dir() == tmp_path / "intaglio"


def test_unwritable_directory_falls_back_with_a_warning(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("in the way")
    monkeypatch.setenv("INTAGLIO_CACHE", str(file / "below"))
    with pytest.warns(UserWarning, match=r"cannot be written.*INTAGLIO_CACHE"):
        path = cache_dir("native")
    assert path.is_dir()
    assert os.access(path, os.W_OK)
    assert tmp_path not in path.parents


def test_full_disk_falls_back(tmp_path, monkeypatch):
    def full(handle, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path / "full"))
    monkeypatch.setattr("os.write", full)
    with pytest.warns(UserWarning, match="cannot be written"):
        assert tmp_path not in cache_dir().parents


def test_atomic_path_replaces_or_leaves_nothing(tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def write_half() -> None:
        with atomic_path(target) as path:
            path.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert target.read_bytes() == b"old"
    with atomic_path(target) as path:
        path.write_bytes(b"new")
    assert target.read_bytes() == b"new"
    assert list(Path(tmp_path).iterdir()) == [target]
