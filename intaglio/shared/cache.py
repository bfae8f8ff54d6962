"""The user's cache directory: compiled programs and downloaded data sets, all of it safe to delete."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

VARIABLE = "INTAGLIO_CACHE"


def cache_dir(part: str = "") -> Path:
    """A writable directory for `part` of the cache, made when it is missing.

    `INTAGLIO_CACHE` names it, else the platform's place for caches does. When that place cannot be
    written, a private directory under the system's temporary one stands in, with a warning.
    """
    wanted = configured_dir()
    base = wanted if _is_writable(wanted) else _temporary_dir(wanted)
    path = base / part
    path.mkdir(parents=True, exist_ok=True)
    return path


def configured_dir() -> Path:
    """Where the cache belongs on this machine, whether or not it can be written."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "intaglio" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "intaglio"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "intaglio"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path beside `path` to write a file to; it becomes `path` in one step at the end of the block.

    Readers see the old file or the whole new one, and of two writers the last one wins. When the
    block fails, nothing is left behind.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_writable(path: Path) -> bool:
    """Whether files can be made in `path`; asked by making one, since permissions do not say it all."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".probe-", dir=path)
        try:
            os.write(handle, b"intaglio")
        finally:
            os.close(handle)
            os.unlink(name)
    except OSError:
        return False
    return True


@cache
def _temporary_dir(wanted: Path) -> Path:
    path = Path(tempfile.mkdtemp(prefix="intaglio-"))
    warnings.warn(
        f"the cache directory {wanted} cannot be written; using {path} for this process "
        f"(set {VARIABLE} to a writable directory)",
        stacklevel=3,
    )
    return path
