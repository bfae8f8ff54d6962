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
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

TURN_SECONDS = 0.25


@dataclass
class Peer:
    """A running peer and what it measured, in seconds per unit of work, one entry per round."""

    name: str
    command: list[str]
    threads: int
    seconds: list[float] = field(default_factory=list)
    failure: str = ""
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "INTAGLIO_THREADS")
        environment = {**os.environ, **{name: str(self.threads) for name in names}}
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def wait_ready(self) -> bool:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == "ready":
                return True
        assert self.process.stderr is not None
        self.failure = (self.process.stderr.read().strip().splitlines() or ["no output"])[-1]
        return False

    def turn(self) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.seconds.append(float(self.process.stdout.readline()))

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def probe() -> float:
    """GFLOP/s of a fixed NumPy matrix product: the machine's speed at this moment."""
    a = np.ones((384, 384), np.float32)
    started = time.perf_counter()
    for _ in range(4):
        a @ a
    return 4 * 2 * 384**3 / (time.perf_counter() - started) / 1e9


def compare(peers: Sequence[Peer], rounds: int) -> list[float]:
    """Run all peers in turns; returns the probe's value of each round. Peers that fail carry the reason."""
    for peer in peers:
        peer.start()
    alive = [peer for peer in peers if peer.wait_ready()]
    speeds = []
    for _ in range(rounds):
        speeds.append(probe())
        for peer in alive:
            peer.turn()
    for peer in peers:
        peer.stop()
    return speeds


def report(title: str, peers: Sequence[Peer], speeds: Sequence[float], unit: str = "us") -> list[str]:
    """A Markdown table: median, minimum and the ratio to the first peer, round by round."""
    ours = peers[0]
    lines = [f"### {title}", "", f"| | median {unit} | min {unit} | times ours |", "|---|--:|--:|--:|"]
    for peer in peers:
        if not peer.seconds:
            lines.append(f"| {peer.name} | - | - | {peer.failure[:60]} |")
            continue
        ratios = [b / a for a, b in zip(ours.seconds, peer.seconds, strict=True)]
        lines.append(
            f"| {peer.name} | {statistics.median(peer.seconds) * 1e6:.1f} | {min(peer.seconds) * 1e6:.1f} "
            f"| {statistics.median(ratios):.2f} |"
        )
    lines += ["", f"machine-speed probe: {min(speeds):.0f} to {max(speeds):.0f} GFLOP/s", ""]
    return lines


def serve(work: Callable[[], object], units: int = 1) -> None:
    """The peer's side: warm up, say ready, then time turns on request. A call of `work` does some units."""
    for _ in range(3):
        work()
    started = time.perf_counter()
    work()
    once = max(time.perf_counter() - started, 1e-7)
    repeats = max(1, int(TURN_SECONDS / once))
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        for _ in range(repeats):
            work()
        print((time.perf_counter() - started) / (repeats * units), flush=True)
