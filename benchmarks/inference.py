"""Inference in Intaglio and in other runtimes, f32: the table of the README.

python benchmarks/inference.py [--work mobilenet-v2,...] [--peers onnxruntime,...] [--threads 1,2]
                               [--rounds 10] [--accuracy standard] [--json FILE] [--readme]

Results are compared first; then all runtimes take turns, each in a process of its own. The plain matrix
products are in `kernels.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from intaglio.loop.recipes.anchor import ACCURACIES, Accuracy
from intaglio.shared.errors import IntaglioError
from intaglio.view.bench import Comparison, bench
from intaglio.view.peer import RUNTIMES

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
MARKS = ("<!-- inference: benchmarks/inference.py writes this -->", "<!-- /inference -->")
PEERS = [name for name in RUNTIMES if name != "intaglio"]
sys.path.insert(0, str(HERE / "peers"))

GOALS: dict[str, tuple[str, float]] = {
    "mobilenet-v2": ("MobileNetV2 1.0, batch 1", 1.5),
    "efficientnet-lite0": ("EfficientNet-Lite0, batch 1", 1.5),
    "resnet-18": ("ResNet-18, batch 1", 1.15),
    "bert-6x384": ("BERT 6 x 384, 128 tokens", 1.2),
    "gpt2-4x256": ("GPT-2 4 x 256, 64 tokens", 1.2),
    "mlp-1": ("perceptron 784-128-10, batch 1", 1.3),
    "mlp-32": ("perceptron 784-128-10, batch 32", 1.2),
    "cnn-1": ("MNIST CNN, batch 1", 2.0),
    "cnn-32": ("MNIST CNN, batch 32", 1.3),
    "lstm-32": ("LSTM 64 -> 128, 32 steps, batch 1", 1.4),
}
"""What is timed, and how many times faster than the best other runtime it is to be."""
FILE = """import sys
sys.path.insert(0, {folder!r})
from inference_models import model as made
model, example_inputs = made({name!r})
"""


def measure(
    name: str, peers: list[str], threads: list[int], rounds: int, accuracy: Accuracy
) -> list[Comparison]:
    """All runtimes on one model."""
    from inference_models import model

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "work.py"
        file.write_text(FILE.format(folder=str(HERE / "peers"), name=name))
        arrays = [x.numpy() for x in model(name)[1]]
        settings = {"accuracy": accuracy}
        return bench(
            f"{file}:model", arrays, against=peers, threads=threads, rounds=rounds, settings=settings
        )


def row(name: str, run: Comparison, peers: list[str]) -> str:
    """A line of the table: medians in milliseconds, and how the best other runtime compares."""
    title, _ = GOALS[name]
    ours, *others = run.peers
    by_name = {peer.name: peer for peer in others}
    cells = [
        f"{by_name[peer].median * 1e3:.3f}" if peer in by_name and by_name[peer].seconds else "-"
        for peer in peers
    ]
    timed = [peer for peer in others if peer.seconds]
    best = min((ours.ratio(peer) for peer in timed), default=float("nan"))
    return f"| {title} | {run.threads} | **{ours.median * 1e3:.3f}** | {' | '.join(cells)} | {best:.2f} |"


def table(found: dict[str, list[Comparison]], peers: list[str]) -> list[str]:
    lines = [
        f"| milliseconds, median | threads | Intaglio | {' | '.join(peers)} | best / Intaglio |",
        f"|---|--:|--:|{'--:|' * len(peers)}--:|",
    ]
    return lines + [row(name, run, peers) for name, runs in found.items() for run in runs]


def write_readme(lines: list[str]) -> None:
    """Put the table between the marks of the README; behind its text where there are none."""
    text = README.read_text(encoding="utf-8")
    begin, end = MARKS
    if begin not in text:
        text = f"{text.rstrip()}\n\n## Inference\n\n{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    behind = rest.partition(end)[2]
    README.write_text("\n".join([before + begin, *lines, end + behind]), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", default=",".join(GOALS))
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--accuracy", choices=ACCURACIES, default="standard", help="of Intaglio")
    parser.add_argument("--json", default="", help="file to write everything measured to")
    parser.add_argument("--readme", action="store_true", help="write the table into the README")
    options = parser.parse_args()
    peers = options.peers.split(",")
    threads = [int(count) for count in options.threads.split(",")]
    found: dict[str, list[Comparison]] = {}
    for name in options.work.split(","):
        try:
            found[name] = measure(name, peers, threads, options.rounds, options.accuracy)
        except IntaglioError as error:
            print(f"{name}: {error}", flush=True)
            continue
        for run in found[name]:
            failures = [f"{peer.name}: {peer.failure}" for peer in run.peers if peer.failure]
            goal = f"the goal is {GOALS[name][1]}"
            print("\n".join([row(name, run, peers), goal, *failures]), flush=True)
    lines = table(found, peers)
    print("\n".join(["", *lines]))
    if options.json:
        kept: dict[str, Any] = {name: [run.record() for run in runs] for name, runs in found.items()}
        Path(options.json).write_text(json.dumps(kept, indent=1))
    if options.readme:
        write_readme(lines)


if __name__ == "__main__":
    main()
