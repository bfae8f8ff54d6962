"""The engines of a scalar program in one table: the article's program, MNIST on a 784-50-10 perceptron.

Interpreted, straight-line C and loops, each through every C compiler and level, take turns on one core. First
all of them train on the same images and must have the same bits. Straight-line C takes an optimising compiler
minutes or hours: `--limit` ends it.

python benchmarks/scalar_engines.py [--limit 60] [--rounds 10] [--core 0] [--skip straight-gcc-O3,...]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import Peer, probe

from intaglio.native.toolchain import available

PEER = Path(__file__).parent / "peers" / "scalar_engine.py"
LEVELS = ("-O0", "-O1", "-O3")
BASELINES = ("straight-tcc", "micrograd")


def variants() -> list[tuple[str, str, str]]:
    """Engine, compiler and level of every row."""
    kinds = [t.kind for t in available()]
    compilers = [("tcc", "")] if "tcc" in kinds else []
    clang = next((kind for kind in ("clang", "zig") if kind in kinds), None)
    for kind in ("gcc", clang):
        compilers += [(kind, level) for level in LEVELS if kind in kinds]
    rows = [("micrograd", "", ""), ("interpreted", "", "")]
    return rows + [(engine, *how) for engine in ("straight", "rerolled") for how in compilers]


class Row:
    """A peer, and what it told about itself."""

    def __init__(self, variant: tuple[str, str, str], limit: float, core: int, folder: Path) -> None:
        engine, compiler, level = variant
        self.name = "-".join(part.lstrip("-") for part in variant if part)
        self.file = folder / self.name
        command = [sys.executable, str(PEER), engine, compiler, level, str(limit), str(core), str(self.file)]
        self.peer = Peer(self.name, command, 1)

    @property
    def facts(self) -> dict[str, Any]:
        return json.loads(self.file.read_text()) if self.file.exists() else {}

    def start(self) -> bool:
        self.peer.start()
        ready = self.peer.wait_ready()
        how = f"compiled in {self.facts['seconds']:.2f} s" if ready else self.peer.failure
        print(f"{self.name}: {how}", flush=True)
        return ready


def same_bits(rows: list[Row]) -> None:
    """All engines of this package must agree to the bit; micrograd adds in the order of a set."""
    bits = {row.facts["bits"] for row in rows if row.facts["bits"]}
    if len(bits) != 1:
        raise SystemExit(f"engines differ: { {row.name: row.facts['bits'][:8] for row in rows} }")
    ours = next(row.facts["losses"] for row in rows if row.facts["bits"])
    for row in rows:
        worst = max(abs(a - b) / abs(b) for a, b in zip(row.facts["losses"], ours, strict=True))
        if worst > 1e-9:
            raise SystemExit(f"{row.name} is off by {worst:.1e}")
    print(f"losses and weights of {len(rows)} engines agree: bit for bit, micrograd's to 1e-9\n")


def table(rows: list[Row], started: list[Row], speeds: list[float]) -> list[str]:
    lines = ["| engine | compile s | lines of C | images/s | best | times straight tcc | times micrograd |",
             "|---|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    seconds = {row.name: row.peer.seconds for row in started}
    for row in rows:
        if row not in started:
            lines.append(f"| {row.name} | - | - | {row.peer.failure[:50]} | | | |")
            continue
        mine, facts = row.peer.seconds, row.facts
        ratios = [f"{statistics.median(b / a for a, b in zip(mine, seconds[name], strict=True)):,.1f}"
                  if name in seconds else "-" for name in BASELINES]  # fmt: skip
        lines.append(
            f"| {row.name} | {facts['seconds']:.2f} | {facts.get('lines', 0):,} "
            f"| {1 / statistics.median(mine):,.2f} | {1 / min(mine):,.2f} | {ratios[0]} | {ratios[1]} |"
        )
    return [*lines, "", f"machine-speed probe: {min(speeds):.0f} to {max(speeds):.0f} GFLOP/s"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=float, default=60, help="seconds of one C compilation")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--skip", default="", help="rows to leave out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [Row(v, options.limit, options.core, Path(folder)) for v in variants()]
        rows = [row for row in rows if row.name not in options.skip.split(",")]
        started = [row for row in rows if row.start()]
        same_bits(started)
        speeds = []
        for _ in range(options.rounds):
            speeds.append(probe())
            for row in started:
                row.peer.turn()
        for row in rows:
            row.peer.stop()
        print("\n".join(table(rows, started, speeds)))


if __name__ == "__main__":
    main()
