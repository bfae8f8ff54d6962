"""The re-rolled engine's programs over many samples, compiled when first needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from intaglio.loop.spec import verify
from intaglio.scalar.memory import Library, Memory
from intaglio.scalar.reroll.raising import Raised
from intaglio.scalar.samples import Samples, Source
from intaglio.scalar.streaming import Stream
from intaglio.scalar.sweeps import Array
from intaglio.shared.settings import verify_passes
from intaglio.shared.target import Target

if TYPE_CHECKING:
    from intaglio.scalar.engines import Build

Make = Callable[[Raised, list[Source], Target], Stream]


class Running:
    """A stream compiled for blocks of one kind."""

    def __init__(self, stream: Stream, build: Build, memory: Memory) -> None:
        if verify_passes():
            verify(stream.program)
        self.stream = stream
        self.library = Library(stream.program, build, memory)
        self.done = memory[stream.done]
        self.entries: dict[str, Any] = {name: self.library.entry(name) for name in stream.program.phases}
        self.count = np.zeros(1, np.int64)
        self.checked = False

    def run(self, name: str) -> None:
        """Run a phase that reads no sample."""
        self.entries[name](self.library.pointers, self.count.ctypes.data, None)

    def over(self, name: str, samples: Samples, first: int, rates: Array, results: Array) -> int:
        """Run a phase over as many samples as there are results; returns how many went well."""
        library, stream = self.library, self.stream
        arrays = [source.data[first : first + len(results)] for source in samples.sources]
        bound = zip((*stream.blocks, stream.rates, stream.results), (*arrays, rates, results), strict=True)
        for buffer, array in bound:
            assert array.flags.c_contiguous
            if buffer in library.position:
                library.pointers[library.position[buffer]] = array.ctypes.data
        self.count[0] = len(results)
        self.done[0] = 0
        self.run(name)
        return int(self.done[0])


class Streams:
    """Compiled streams by the kinds of their blocks."""

    def __init__(self, raised: Raised, build: Build, memory: Memory) -> None:
        self.raised = raised
        self.build = build
        self.memory = memory
        self.known: dict[Any, Running] = {}

    def find(self, make: Make, samples: Samples) -> Running:
        """The stream that `make` makes for such samples."""
        key = (make, *(source.kind for source in samples.sources))
        if key not in self.known:
            stream = make(self.raised, samples.sources, self.build.target)
            self.known[key] = Running(stream, self.build, self.memory)
        return self.known[key]
