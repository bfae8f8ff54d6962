"""What capturing and re-rolling a scalar graph costs per node, from 100 thousand to 5 million nodes.

Two ways to grow: a wider layer (784-N-10 on one sample) and a larger batch (64-32-10, a graph of N samples).
Each size has a process of its own. Times are of the processor; memory is what the process grows by at its
largest, beyond the values themselves.

python benchmarks/scalar_linear.py [--sizes 100000,300000,1000000,2000000,5000000] [--plot FILE.svg]
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from intaglio import scalar
from intaglio.native.emit import emit_program
from intaglio.native.targets import find_target
from intaglio.scalar import Value, nn
from intaglio.scalar.capture import capture
from intaglio.scalar.gradient import training_step
from intaglio.scalar.reroll.raising import raise_dag
from intaglio.scalar.rerolled import step_program

SIZES = "100000,300000,1000000,2000000,5000000"
KINDS = ("width", "batch")
LIMITS = {"microseconds": 2.0, "bytes": 200.0}


def loss_of(logits: list[Any], target: list[Any]) -> Any:
    exponentials = [logit.exp() for logit in logits]
    total = sum(exponentials)
    return -sum(t * (e / total).log() for t, e in zip(target, exponentials, strict=True))


def graph(kind: str, nodes: int) -> tuple[Any, list[Any], list[Any]]:
    """A loss of about so many nodes, its inputs and parameters."""
    random.seed(0)
    sizes = (784, max(nodes // 2384, 1), 10) if kind == "width" else (64, 32, 10)
    samples = 1 if kind == "width" else max(nodes // 4890, 1)
    net = nn.MLP(sizes[0], list(sizes[1:]))
    inputs = [[Value(0.1) for _ in range(sizes[0] + 10)] for _ in range(samples)]
    losses = [loss_of(net(row[: sizes[0]]), row[sizes[0] :]) for row in inputs]
    loss = sum(losses) * (1.0 / samples)
    return loss, [value for row in inputs for value in row], net.parameters()


def memory(field: str) -> int:
    """VmRSS (now) or VmHWM (the most so far) of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def rolled(kind: str, nodes: int) -> dict[str, Any]:
    """Seconds, bytes and sizes of one graph."""
    loss, inputs, parameters = graph(kind, nodes)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    marks = [time.process_time()]
    trace = capture([loss], inputs, parameters)
    marks.append(time.process_time())
    raised = raise_dag(training_step(trace), find_target("native"))
    marks.append(time.process_time())
    grown = memory("VmHWM") - before
    source = emit_program(step_program(raised), find_target("native"))
    marks.append(time.process_time())
    steps = [b - a for a, b in pairwise(marks)]
    return {
        "kind": kind, "nodes": len(trace), "rows": len(raised.dag), "capture": steps[0],
        "re-rolling": steps[1], "C": steps[2], "bytes": grown, "length of C": len(source),
        "loops": raised.loops,
    }  # fmt: skip


def table(found: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| grown by | nodes | with backward and update | capture us/node | re-rolling us/node | both "
        "| bytes/node | writing C s | bytes of C | loops |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for f in found:
        n = f["nodes"]
        costs = [f[stage] / n * 1e6 for stage in ("capture", "re-rolling")]
        lines.append(
            f"| {f['kind']} | {n:,} | {f['rows']:,} | {costs[0]:.2f} | {costs[1]:.2f} | {sum(costs):.2f} "
            f"| {f['bytes'] / n:.0f} | {f['C']:.2f} | {f['length of C']:,} | {f['loops']} |"
        )
    return lines


def plot(found: list[dict[str, Any]], path: str) -> None:
    import matplotlib.pyplot as plt

    _, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    for kind in KINDS:
        mine = [f for f in found if f["kind"] == kind]
        nodes = [f["nodes"] for f in mine]
        costs = [(f["capture"] + f["re-rolling"]) / f["nodes"] * 1e6 for f in mine]
        left.plot(nodes, costs, "o-", label=kind)
        right.plot(nodes, [f["bytes"] / f["nodes"] for f in mine], "o-", label=kind)
    limits = (LIMITS["microseconds"], LIMITS["bytes"])
    for axis, title, limit in zip(
        (left, right), ("microseconds per node", "bytes per node"), limits, strict=True
    ):
        axis.axhline(limit, color="gray", linestyle=":")
        axis.set(xscale="log", xlabel="nodes", ylabel=title, ylim=(0, None))
        axis.legend()
    plt.tight_layout()
    plt.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--plot", default="", help="a picture of it, by matplotlib")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        rolled("width", 20_000)
        kind, nodes = options.one.split(",")
        with scalar.tracing():
            print(json.dumps(rolled(kind, int(nodes))))
        return
    found = []
    for kind in KINDS:
        for size in options.sizes.split(","):
            command = [sys.executable, __file__, "--one", f"{kind},{size}"]
            found.append(
                json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            )
    print("\n".join(table(found)))
    if options.plot:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
