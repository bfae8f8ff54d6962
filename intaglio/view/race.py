"""Interleaved timing of peers in separate processes, next to a probe of the machine's speed.

A peer is a command that prints `ready` once it is set up, then for each line it reads runs its work for a
moment and prints the seconds one unit took. All peers of one comparison take turns, round by round, so that
a change of the machine's speed meets all of them; ratios are taken round by round and their median is shown.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from intaglio.view.timing import repeats_for, seconds_per_call

TURN_SECONDS = 0.25
REST = 0.3
"""Seconds before each turn, in which idle threads of the peer before it fall asleep: some spin for 0.2 s and
take a core from whoever is next."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "INTAGLIO_THREADS")


@dataclass
class Peer:
    """A running peer and what it measured, in seconds per unit of work, one entry per round.

    `failure` says why a peer has no times.
    """

    name: str
    command: Sequence[str]
    threads: int
    seconds: list[float] = field(default_factory=list)
    failure: str = ""
    process: subprocess.Popen[str] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    words: IO[str] | None = None

    def start(self) -> None:
        self.words = tempfile.TemporaryFile("w+")  # noqa: SIM115 closed with the peer
        threads = {name: str(self.threads) for name in THREAD_VARIABLES}
        self.process = subprocess.Popen(
            list(self.command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.words,
            text=True,
            env={**os.environ, **threads, **self.environment},
        )

    def wait_ready(self) -> bool:
        """Wait until the peer is set up; False when it ended instead."""
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == "ready":
                return True
        self._failed()
        return False

    def turn(self) -> None:
        """One sample; a peer that ends instead carries the reason from then on."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
            self.seconds.append(float(self.process.stdout.readline()))
        except (OSError, ValueError):
            self.seconds.clear()
            self._failed()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        if self.words is not None:
            self.words.close()

    def ratio(self, other: Peer) -> float:
        """How many times longer the other takes: the median of the ratios of each round."""
        return statistics.median(b / a for a, b in zip(self.seconds, other.seconds, strict=True))

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        return min(self.seconds)

    def _failed(self) -> None:
        assert self.words is not None
        self.words.seek(0)
        self.failure = (self.words.read().strip().splitlines() or ["it ended without a word"])[-1]


def probe() -> float:
    """GFLOP/s of a fixed NumPy matrix product: the machine's speed at this moment."""
    import numpy as np

    a = np.ones((384, 384), np.float32)
    started = time.perf_counter()
    for _ in range(4):
        a @ a
    return 4 * 2 * 384**3 / (time.perf_counter() - started) / 1e9


def compare(
    peers: Sequence[Peer], rounds: int, *, accept: Callable[[Peer], str] | None = None
) -> list[float]:
    """Run all peers in turns; returns the probe's value of each round. Peers that fail carry the reason.

    Args:
        accept: asked once a peer is ready; a text that is not empty is the reason to leave it out.
    """
    try:
        for peer in peers:
            peer.start()
        for peer in peers:
            if peer.wait_ready() and accept is not None:
                peer.failure = accept(peer)
        speeds = []
        for _ in range(rounds):
            speeds.append(probe())
            for peer in peers:
                if not peer.failure:
                    time.sleep(REST)
                    peer.turn()
        return speeds
    finally:
        for peer in peers:
            peer.stop()


def report(title: str, peers: Sequence[Peer], speeds: Sequence[float], unit: str = "us") -> list[str]:
    """A Markdown table: median, minimum and the ratio to the first peer, round by round."""
    ours = peers[0]
    lines = [f"### {title}", "", f"| | median {unit} | min {unit} | times ours |", "|---|--:|--:|--:|"]
    for peer in peers:
        if not peer.seconds or not ours.seconds:
            lines.append(f"| {peer.name} | - | - | {peer.failure[:60]} |")
            continue
        lines.append(
            f"| {peer.name} | {peer.median * 1e6:.1f} | {peer.minimum * 1e6:.1f} | {ours.ratio(peer):.2f} |"
        )
    lines += ["", f"machine-speed probe: {min(speeds):.0f} to {max(speeds):.0f} GFLOP/s", ""]
    return lines


def record(peers: Sequence[Peer], speeds: Sequence[float]) -> dict[str, Any]:
    """What was measured, as JSON has it: seconds of every round, medians, minima, ratios to the first."""
    ours = peers[0]
    found = []
    for peer in peers:
        row: dict[str, Any] = {"name": peer.name, "threads": peer.threads}
        if peer.seconds:
            row |= {"median": peer.median, "minimum": peer.minimum, "seconds": peer.seconds}
            row |= {"times_ours": ours.ratio(peer)} if ours.seconds else {}
        else:
            row["failure"] = peer.failure
        found.append(row)
    return {"peers": found, "probe_gflops": list(speeds)}


def serve(work: Callable[[], object], units: int = 1, clock: Callable[[], float] = time.perf_counter) -> None:
    """The peer's side: warm up, say ready, then time turns on request. A call of `work` does some units."""
    for _ in range(2):
        work()
    repeats = repeats_for(work, TURN_SECONDS)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(seconds_per_call(work, repeats, clock) / units, flush=True)
