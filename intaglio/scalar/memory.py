"""The arrays of raised programs, and compiled loop programs that work on them."""

from __future__ import annotations

import ctypes
import time
from typing import Any, TypeAlias

import numpy as np

from intaglio.loop.ir import Buffer, Program
from intaglio.native.emit import emit_program
from intaglio.scalar.capture import CONST
from intaglio.scalar.engines import Build
from intaglio.scalar.reroll.raising import Raised
from intaglio.scalar.sweeps import Array

ALIGNMENT = 64
LONG = 4000
"""Lines of C beyond which few are loops. Level 1 compiles them in half the time, and they run as fast."""


def aligned_zeros(size: int, dtype: type = np.float64) -> Array:
    """Zeros that start on a cache line."""
    raw = np.zeros(size * np.dtype(dtype).itemsize + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size * np.dtype(dtype).itemsize].view(dtype)


class Memory:
    """The arrays of raised programs: one NumPy array per buffer, found by the buffer."""

    def __init__(self) -> None:
        self.arrays: dict[Buffer, Array] = {}

    def __getitem__(self, buffer: Buffer) -> Array:
        if buffer not in self.arrays:
            size = buffer.size
            assert isinstance(size, int)
            self.arrays[buffer] = aligned_zeros(max(size, 1), buffer.dtype.numpy.type)
            if buffer.data is not None:
                self.arrays[buffer][:] = buffer.data
        return self.arrays[buffer]

    def changing(self) -> list[Array]:
        """The arrays that programs write."""
        return [array for buffer, array in self.arrays.items() if buffer.data is None]

    def saved(self) -> list[Array]:
        """A copy of what programs write."""
        return [array.copy() for array in self.changing()]

    def restore(self, saved: list[Array]) -> None:
        """Put a copy back."""
        for array, before in zip(self.changing(), saved, strict=True):
            array[:] = before


class Library:
    """A compiled loop program and its entry points; buffers lie where `memory` has them."""

    def __init__(self, program: Program, build: Build, memory: Memory) -> None:
        started = time.perf_counter()
        self.source = emit_program(program, build.target)
        emitted = time.perf_counter()
        long = self.source.count("\n") > LONG
        self.library = build.shared(self.source, program.name, "fast-compile" if long else "default")
        self.seconds = {"C": emitted - started, "C compiler": time.perf_counter() - emitted}
        self.memory = memory
        fixed = [b for b in program.buffers if b.role != "scratch"]
        self.position = {b: i for i, b in enumerate(fixed)}
        self.pointers = (ctypes.c_void_p * (len(fixed) + 1))(
            *(memory[b].ctypes.data if isinstance(b.size, int) else 0 for b in fixed)
        )
        self.program = program

    def entry(self, name: str) -> Any:
        """A function of (pointers, symbols, pool)."""
        function: Any = getattr(self.library, f"{self.program.name}_{name}")
        function.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
        function.restype = ctypes.c_int
        return function


Move: TypeAlias = "tuple[Array, Array | slice, Array | slice]"


def where(raised: Raised, memory: Memory, row: int) -> tuple[Array, int]:
    """The array and place of a row."""
    storage = raised.storage
    return memory[raised.buffers[int(storage.array[row])]], int(storage.place[row])


def read_row(raised: Raised, memory: Memory, row: int) -> float:
    """The number of a row, stored or constant."""
    if raised.dag.op[row] == CONST:
        return float(raised.dag.k[row])
    array, place = where(raised, memory, row)
    return float(array[place])


def moves(raised: Raised, memory: Memory, rows: Array) -> list[Move]:
    """For every array of these rows: the array, the places in it, and which of the rows they are."""
    storage = raised.storage
    found: list[Move] = []
    for number in np.unique(storage.array[rows[rows >= 0]]):
        mine = np.flatnonzero((rows >= 0) & (storage.array[rows] == number))
        array = memory[raised.buffers[int(number)]]
        found.append((array, _as_slice(storage.place[rows[mine]]), _as_slice(mine)))
    return found


def _as_slice(places: Array) -> Array | slice:
    """Places as a slice where they follow one another."""
    first = int(places[0])
    follow = bool((np.diff(places) == 1).all())
    return slice(first, first + len(places)) if follow else places.astype(np.intp)
