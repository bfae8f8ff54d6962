"""Training steps (forward, backward, momentum SGD) against PyTorch eager, torch.compile, libtorch and NumPy.

python benchmarks/training.py [--work mlp,cnn,lstm] [--batch 1,8,32,128] [--threads 1,2] [--rounds 10]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness import Peer, compare, report

HERE = Path(__file__).parent
BATCHES = {"mlp": (1, 8, 32, 128), "cnn": (32, 128), "lstm": (32,)}
PEERS = {
    "mlp": ("intaglio", "torch", "torch-compile", "libtorch", "numpy"),
    "cnn": ("intaglio", "torch", "torch-compile", "libtorch"),
    "lstm": ("intaglio", "torch", "torch-compile", "libtorch"),
}


def command(peer: str, work: str, batch: int, threads: int) -> list[str]:
    if peer == "libtorch":
        from peers.libtorch import build

        return [str(build()), work, str(batch), str(threads)]
    return [sys.executable, str(HERE / "peers" / "training_step.py"), peer, work, str(batch), str(threads)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", default="mlp,cnn,lstm")
    parser.add_argument("--batch", default="")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--skip", default="", help="peers to leave out")
    options = parser.parse_args()
    for work in options.work.split(","):
        batches = [int(b) for b in options.batch.split(",")] if options.batch else BATCHES[work]
        for batch in batches:
            for threads in map(int, options.threads.split(",")):
                names = [p for p in PEERS[work] if p not in options.skip.split(",")]
                peers = [Peer(name, command(name, work, batch, threads), threads) for name in names]
                speeds = compare(peers, options.rounds)
                title = f"{work}, batch {batch}, {threads} thread{'s' if threads > 1 else ''}"
                print("\n".join(report(title, peers, speeds)), flush=True)


if __name__ == "__main__":
    main()
