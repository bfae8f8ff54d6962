"""Training over many samples in pieces, so that progress is seen and an interrupt is heard."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from intaglio.scalar.engines import Engine
from intaglio.scalar.samples import Samples
from intaglio.scalar.sweeps import Array
from intaglio.shared.errors import ArgumentError, ShapeError

FIRST_PIECE = 64
PIECE_SECONDS = 0.1
"""A piece takes about so long."""


class Trainer:
    """Runs an engine over samples. `diagnose` raises where the interpreter would for a sample."""

    def __init__(self, engine: Engine, samples: Samples, diagnose: Callable[[Array], None],
                 progress: Callable[[int, int], None] | None) -> None:  # fmt: skip
        self.engine = engine
        self.samples = samples
        self.diagnose = diagnose
        self.progress = progress
        self.results: Array = np.empty((len(samples), len(engine.trace.outputs)))
        self.piece = FIRST_PIECE
        self.told = time.perf_counter()

    def train(self, lr: float | Sequence[float] | Array, batch: int | None) -> Array:
        """All samples, each with an update of its own or in batches; returns their outputs."""
        if batch is not None and batch < 1:
            raise ArgumentError(f"train: batch is {batch} but must be at least 1")
        updates = -(-len(self.samples) // (batch or 1))
        rates = _rates(lr, updates)
        if batch is None:
            self.one_by_one(rates)
        else:
            self.in_batches(rates, batch)
        return self.results

    def one_by_one(self, rates: Array) -> None:
        """An update behind every sample."""
        done = 0
        while done < len(rates):
            last = min(done + self.piece, len(rates))
            started = time.perf_counter()
            went_well = self.engine.train(self.samples, done, rates[done:last], self.results[done:last])
            done += went_well
            if done < last:
                self.diagnose(self.samples.row(done))
                self.engine.update(float(rates[done]))
                done += 1
            self.paced(time.perf_counter() - started)
            self.finished(done)

    def in_batches(self, rates: Array, batch: int) -> None:
        """An update behind every batch."""
        for number, rate in enumerate(rates.tolist()):
            done, last = number * batch, min((number + 1) * batch, len(self.samples))
            self.engine.start_batch()
            while done < last:
                stop = min(done + self.piece, last)
                started = time.perf_counter()
                done += self.engine.add_samples(self.samples, done, self.results[done:stop])
                if done < stop:
                    self.diagnose(self.samples.row(done))
                    self.engine.add_sample()
                    done += 1
                self.paced(time.perf_counter() - started)
            self.engine.end_batch(rate)
            self.finished(last)

    def paced(self, seconds: float) -> None:
        """Make pieces larger or smaller by how long one took."""
        if seconds < PIECE_SECONDS / 2:
            self.piece *= 2
        elif seconds > PIECE_SECONDS * 2:
            self.piece = max(self.piece // 2, 1)

    def finished(self, done: int) -> None:
        """Tell the caller now and then, and at the end."""
        now = time.perf_counter()
        if self.progress is not None and (now - self.told >= PIECE_SECONDS or done == len(self.samples)):
            self.told = now
            self.progress(done, len(self.samples))


def _rates(lr: float | Sequence[float] | Array, updates: int) -> Array:
    rates = np.asarray(lr, np.float64)
    if rates.ndim == 0:
        return np.full(updates, float(rates))
    if rates.shape != (updates,):
        raise ShapeError(f"train: lr is {list(rates.shape)} but there are {updates} updates",
                         hint="give one rate, or one for each update")  # fmt: skip
    return np.ascontiguousarray(rates)
