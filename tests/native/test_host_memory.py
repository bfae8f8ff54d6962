"""Memory for programs: on cache lines, together, on huge pages where there is much of it."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from intaglio.native import host_memory
from intaglio.native.host_memory import ALONE, HUGE_PAGE, LARGE, aligned, aligned_copies, kept

RNG = np.random.default_rng(0)


def test_copies_lie_one_behind_the_other_on_cache_lines() -> None:
    given = [
        RNG.standard_normal((3, 5)).astype(np.float32).T,
        np.zeros((0, 3), np.int64),
        np.array(2.5),
        np.arange(7, dtype=">i4"),
        np.arange(3).astype(ml_dtypes.bfloat16),
    ]
    copies = aligned_copies(given)
    for one, copy in zip(given, copies, strict=True):
        np.testing.assert_array_equal(one, copy)
        assert copy.flags.c_contiguous
        assert copy.dtype.isnative
        assert copy.ctypes.data % 64 == 0 or copy.size == 0
    assert copies[2].ctypes.data - copies[0].ctypes.data == 64


def test_large_constants_stay_where_they_are() -> None:
    large = aligned(ALONE)
    small, shifted = np.ones(10), aligned(ALONE + 1)[1:]
    found = kept([large, small, shifted])
    assert found[0] is large
    assert found[1] is not small
    assert found[2].ctypes.data % 64 == 0
    np.testing.assert_array_equal(found[2], shifted)


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="no huge pages here")
def test_much_memory_asks_for_huge_pages() -> None:
    memory = aligned(LARGE)
    assert memory.ctypes.data % HUGE_PAGE == 0
    assert memory.flags.writeable
    maps = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.M)
    for one in maps:
        span = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", one)
        if span and int(span[1], 16) <= memory.ctypes.data < int(span[2], 16):
            flags = re.search(r"VmFlags:(.*)", one)
            assert flags is not None
            assert "hg" in flags[1].split()  # the advice was taken
            return
    raise AssertionError("the memory is in no mapping")


def test_a_system_without_huge_pages_gives_cache_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(host_memory.mmap, "MADV_HUGEPAGE", raising=False)
    memory = aligned(LARGE)
    assert (memory.size, memory.ctypes.data % 64) == (LARGE, 0)
