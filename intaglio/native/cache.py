"""Compiled programs on disk: found by content, bounded in size, the least recently used go first."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

LIMIT_BYTES = 512 << 20
ABANDONED_SECONDS = 24 * 3600


def touch(path: Path) -> bool:
    """Whether `path` is there; a file that is counts as used now."""
    try:
        os.utime(path)
    except PermissionError:
        return path.exists()
    except OSError:
        return False
    return True


def trim(directory: Path, keep: Path, limit: int = LIMIT_BYTES) -> int:
    """Delete the files used longest ago until three quarters of `limit` bytes are left.

    `keep` stays. Directories of builds that were killed go after a day. Returns the bytes freed. Files
    that another process deletes meanwhile are no error, and a library that a process has loaded stays
    valid there after it is deleted.
    """
    found: list[tuple[float, int, str]] = []
    with os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                status = entry.stat()
                if entry.is_dir() and time.time() - status.st_mtime > ABANDONED_SECONDS:
                    shutil.rmtree(entry, ignore_errors=True)
                elif entry.is_file() and os.path.splitext(entry.name)[0] != keep.stem:
                    found.append((status.st_mtime, status.st_size, entry.path))
    total = sum(size for _, size, _ in found)
    if total <= limit:
        return 0
    freed = 0
    for _, size, path in sorted(found):
        if total - freed <= limit * 3 // 4:
            break
        with contextlib.suppress(OSError):
            os.unlink(path)
            freed += size
    return freed


def usage(directory: Path) -> tuple[int, int]:
    """Number of files in a cache directory and their size in bytes."""
    sizes = []
    for path in directory.iterdir():
        with contextlib.suppress(OSError):
            if path.is_file():
                sizes.append(path.stat().st_size)
    return len(sizes), sum(sizes)
