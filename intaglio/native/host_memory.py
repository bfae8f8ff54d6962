"""Memory of this process for compiled programs: on cache lines, and where there is much of it on huge pages.

A core remembers where a few thousand pages lie. Pages of 4 kB let it look up addresses again and again in
megabytes of weights; Linux gives pages of 2 MB, in most installations only to those who ask.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

ALIGNMENT = 64
HUGE_PAGE = 2 << 20
LARGE = 1 << 20
"""Bytes from which memory starts on a huge page."""
ALONE = 4 << 20
"""Bytes from which a constant stays where it is; NumPy has asked for huge pages itself."""


def aligned(size: int) -> Array:
    """`size` uninitialised bytes that start on a cache line, or on a huge page."""
    if size >= LARGE and hasattr(mmap, "MADV_HUGEPAGE"):
        pages = mmap.mmap(-1, size + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(OSError):  # a kernel without huge pages: the memory is as good as any
            pages.madvise(mmap.MADV_HUGEPAGE)
        return _from(np.frombuffer(pages, np.uint8), size, HUGE_PAGE)
    return _from(np.empty(size + ALIGNMENT, np.uint8), size, ALIGNMENT)


def _from(memory: Array, size: int, alignment: int) -> Array:
    start = -memory.ctypes.data % alignment
    return memory[start : start + size]


def aligned_copy(content: Array) -> Array:
    """A copy in row-major order that starts on a cache line."""
    return aligned_copies([content])[0]


def aligned_copies(contents: Sequence[Array]) -> list[Array]:
    """Copies in row-major order, one behind the other, each on a cache line."""
    starts, end = [], 0
    for content in contents:
        starts.append(end)
        end += -(-content.nbytes // ALIGNMENT) * ALIGNMENT
    block = aligned(end)
    copies = []
    for start, content in zip(starts, contents, strict=True):
        memory = block[start : start + content.nbytes]
        dtype = content.dtype if content.dtype.isnative else content.dtype.newbyteorder("=")
        copy: Array = memory.view(dtype).reshape(content.shape)
        copy[...] = content
        copies.append(copy)
    return copies


def kept(contents: Sequence[Array]) -> list[Array]:
    """Arrays that a program reads as long as it lives: together, large ones as they are if they can be."""
    stay = {k for k, content in enumerate(contents) if content.nbytes >= ALONE and _fits(content)}
    copies = iter(aligned_copies([content for k, content in enumerate(contents) if k not in stay]))
    return [content if k in stay else next(copies) for k, content in enumerate(contents)]


def _fits(array: Array) -> bool:
    return bool(array.flags.c_contiguous and array.dtype.isnative and array.ctypes.data % ALIGNMENT == 0)
