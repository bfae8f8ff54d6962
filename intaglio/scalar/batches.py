"""The re-rolled engine's batches: gradients of many samples added up in their order, then one update.

The gradient of a parameter used several times goes on, term by term, where the last sample's ended. So this
is a graph of its own, with loops of its own; it shares the parameters' arrays where both lay them out alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from intaglio.scalar.capture import Trace
from intaglio.scalar.checking import check_batch
from intaglio.scalar.gradient import training_step
from intaglio.scalar.memory import Memory, Move, moves, read_row
from intaglio.scalar.reroll.raising import raise_dag
from intaglio.scalar.samples import Samples
from intaglio.scalar.streaming import accumulating
from intaglio.scalar.streams import Streams
from intaglio.scalar.sweeps import Array

if TYPE_CHECKING:
    from intaglio.scalar.engines import Build
    from intaglio.scalar.reroll.raising import Raised


class Batches:
    """Loops that add up gradients, beside an engine whose parameters they use."""

    def __init__(self, trace: Trace, build: Build, parameters: tuple[Raised, Memory], *,
                 input_gradients: bool) -> None:  # fmt: skip
        self.trace, self.build = trace, build
        self.dag = training_step(trace, input_gradients=input_gradients, accumulate=True)
        self.raised = raise_dag(self.dag, build.target, exact=build.exact)
        self.memory = Memory()
        self.copies = self._share(*parameters)
        self.streams = Streams(self.raised, build, self.memory)
        self._gradients = moves(self.raised, self.memory, self.dag.parameter_gradients)
        self._parameters = moves(self.raised, self.memory, self.dag.parameters)
        self.rate, self.fault = self.memory[self.raised.rate], self.memory[self.raised.fault]

    def _share(self, raised: Raised, memory: Memory) -> list[tuple[Array, Array, Array, Array]]:
        """Use the parameters' arrays; what lies elsewhere there is copied: (own, places, theirs, places)."""
        own, theirs = self.raised.storage, raised.storage
        used = self.dag.parameters >= 0
        rows, others = self.dag.parameters[used], raised.dag.parameters[used]
        pairs = np.stack([own.array[rows], theirs.array[others]], axis=1)
        counts = np.bincount(own.array[own.array >= 0])
        copies = []
        for mine, other in np.unique(pairs, axis=0):
            at = (pairs == (mine, other)).all(axis=1)
            here, there = own.place[rows[at]], theirs.place[others[at]]
            buffer, array = self.raised.buffers[mine], memory[raised.buffers[other]]
            all_of_it = own.sizes[mine] == theirs.sizes[other] and counts[mine] == at.sum()
            if all_of_it and np.array_equal(here, there):
                self.memory.arrays[buffer] = array
            else:
                copies.append((self.memory[buffer], here, array, there))
        return copies

    def start(self) -> None:
        """Take the parameters; no gradients yet."""
        for own, places, array, others in self.copies:
            own[places] = array[others]
        for array, places_, _ in self._gradients:
            array[places_] = 0

    def gradients(self) -> Array:
        """The gradients of the parameters so far."""
        return self._numbers(self._gradients)

    def parameters(self) -> Array:
        """The parameters as this sees them; 0 for those that nothing depends on."""
        return self._numbers(self._parameters)

    def _numbers(self, found: list[Move]) -> Array:
        numbers = np.zeros(len(self.dag.parameters))
        for array, places, which in found:
            numbers[which] = array[places]
        return numbers

    def add(self, samples: Samples, first: int, results: Array) -> int:
        """Add the gradients of samples; returns how many went well."""
        self.fault[0] = 0
        self.running = self.streams.find(accumulating, samples)
        if not self.running.checked:
            check_batch(self, self.running, samples)
            self.running.checked = True
        return self.running.over("accumulate", samples, first, np.empty(0), results)

    def add_current(self) -> None:
        """Add the gradients of the sample that did not go well."""
        self.running.run("add")

    def apply(self, lr: float) -> None:
        """Update the parameters."""
        self.rate[0] = lr
        self.running.run("apply")
        for own, places, array, others in self.copies:
            array[others] = own[places]

    def read(self, row: int) -> float:
        """The number of a row."""
        return read_row(self.raised, self.memory, row)
