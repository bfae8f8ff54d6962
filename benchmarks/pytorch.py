"""PyTorch models in Intaglio, eager PyTorch, inductor, ONNX Runtime and OpenVINO: inference and training.

python benchmarks/pytorch.py [--work minilm,...] [--peers intaglio,...] [--threads 1,2] [--json FILE]

First every peer runs alone, in an empty cache: that gives its compile time (from the module, or the ONNX
file, to the first results) and its results, which must be those of eager PyTorch. Then all take turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from harness import Peer, compare, record, report

HERE = Path(__file__).parent
INFERENCE = ("minilm", "vit-tiny", "mobilenet-v2", "resnet-18")
TRAINING = ("train-gpt2", "train-resnet-18")
TRAINS = ("intaglio", "backend", "eager", "inductor")
PEERS = ("intaglio", "frozen", "backend", "eager", "inductor", "onnxruntime", "openvino")
NAMES = {
    "frozen": 'torch.compile(backend="intaglio"), freeze',
    "backend": 'torch.compile(backend="intaglio")',
    "inductor": "torch.compile (inductor)",
}
REFERENCE = "eager"
TOLERANCE = 1e-3
LONGEST = 900.0
"""Seconds after which a peer that is not ready is given up."""


def made(names: list[str], work: str, threads: int, folder: Path) -> list[Peer]:
    """The peers of one comparison, whose caches and results are files of a folder."""
    caches = {"INTAGLIO_CACHE": str(folder / "intaglio"), "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}
    script = str(HERE / "peers" / "torch_peer.py")
    return [
        Peer(
            NAMES.get(name, name),
            [sys.executable, script, name, work, str(threads), str(folder / f"{name}.npz")],
            threads,
            environment=caches,
        )
        for name in names
    ]


def run_alone(peer: Peer) -> tuple[float, np.ndarray[Any, Any] | None]:
    """Seconds until the first results, and these; a peer that fails carries the reason."""
    results = Path(peer.command[-1])
    once = Peer(peer.name, [*peer.command, "once"], peer.threads, environment=peer.environment)
    try:
        once.start()
        assert once.process is not None
        once.process.wait(LONGEST)
        once.wait_ready()
        if not results.exists():
            peer.failure = once.failure
            return 0.0, None
        with np.load(results) as held:
            return float(held["seconds"]), held["found"]
    except subprocess.TimeoutExpired:
        peer.failure = f"it was not ready after {LONGEST:.0f} s"
        return 0.0, None
    finally:
        once.stop()


def difference(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    """The largest error relative to the largest element."""
    if found.shape != expected.shape:
        return float("inf")
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def compile_all(peers: list[Peer], reference: Peer) -> dict[str, float]:
    """Compile times of the peers; those whose results differ from the reference's are left out."""
    runs = {peer.name: run_alone(peer) for peer in peers}
    expected = runs[reference.name][1]
    if expected is None:
        raise SystemExit(f"{reference.name} fails: {reference.failure}")
    for peer in peers:
        found = runs[peer.name][1]
        if found is not None and not difference(found, expected) <= TOLERANCE:
            peer.failure = f"its results differ by {difference(found, expected):.1e} of the largest element"
    return {peer.name: runs[peer.name][0] for peer in peers if not peer.failure}


def measure(work: str, names: list[str], threads: int, rounds: int) -> dict[str, Any]:
    """One comparison, printed and as JSON has it."""
    chosen = [name for name in names if work in INFERENCE or name in TRAINS]
    with tempfile.TemporaryDirectory() as folder:
        peers = made(list(dict.fromkeys((*chosen, REFERENCE))), work, threads, Path(folder))
        reference = peers[[peer.command[2] for peer in peers].index(REFERENCE)]
        seconds = compile_all(peers, reference)
        racing = [peer for peer in peers if not peer.failure]
        speeds = compare(racing, rounds)
    rows = [*racing, *(peer for peer in peers if peer not in racing)]
    lines = report(f"{work}, {threads} thread{'s' if threads > 1 else ''}", rows, speeds)
    lines += ["| | from module to first result, s |", "|---|--:|"]
    lines += [f"| {name} | {spent:.1f} |" for name, spent in seconds.items()]
    print("\n".join([*lines, ""]), flush=True)
    return {"work": work, "threads": threads, "compile_seconds": seconds, **record(rows, speeds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", default=",".join((*INFERENCE, *TRAINING)))
    parser.add_argument("--peers", default=",".join(PEERS), help="the first is what ratios refer to")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", default="", help="file to write everything measured to")
    options = parser.parse_args()
    found = [
        measure(work, options.peers.split(","), threads, options.rounds)
        for work in options.work.split(",")
        for threads in map(int, options.threads.split(","))
    ]
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
