"""The plans of the estimates beside tuned ones, models and training steps: the table of docs/kernels.md.

python benchmarks/tuned.py [--work mobilenet-v2,mlp-step-32,...] [--seconds 60] [--rounds 12]
                           [--keep FOLDER] [--document]

Each model is searched first (`intaglio tune`); then both ways take turns, each in a process of its own. One
thread, and the time that it computes. Where tuned plans win, the kernels that gain are named. `--keep` holds
the records, and takes those that it finds there in place of a search.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import Peer, compare, serve

from intaglio.view.timing import COMPUTED

HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "docs" / "kernels.md"
MARKS = ("<!-- tuned: benchmarks/tuned.py writes this -->", "<!-- /tuned -->")
sys.path.insert(0, str(HERE / "peers"))

MODELS = ("mobilenet-v2", "efficientnet-lite0", "resnet-18", "bert-6x384", "gpt2-4x256", "mlp-1", "mlp-32",
          "cnn-1", "cnn-32", "lstm-32")  # fmt: skip
STEPS = ("mlp-step-1", "mlp-step-32", "mlp-step-128", "cnn-step-32", "lstm-step-32")


def step_of(name: str) -> tuple[str, int]:
    """The work and the batch of a training step."""
    work, _, batch = name.split("-")
    return work, int(batch)


def graph_of(name: str) -> tuple[Any, list[Any]]:
    """The graph of a model or training step, and arrays for its inputs."""
    if name in STEPS:
        from training_step import data, intaglio_step

        work, batch = step_of(name)
        arrays = data(work, batch)
        graph = intaglio_step(work, 1).graph(*arrays)
        rates = [np.full(value.shape, 0.01) for value in graph.inputs[len(arrays) :]]
        return graph, [*arrays, *rates]
    from inference_models import model

    from intaglio.compile import capture

    module, inputs = model(name)
    return capture(module, inputs), [x.numpy() for x in inputs]


def search(name: str, seconds: float, file: Path) -> None:
    """Search plans, and write them with what was measured."""
    from intaglio.compile import Settings
    from intaglio.loop.search import save_records
    from intaglio.tuning import tune

    graph, arrays = graph_of(name)
    found = tune(graph, arrays, seconds=seconds, settings=Settings(threads=1))
    save_records(file, found.records, found.remarks)
    for one in sorted(found.choices, key=lambda one: -one.loss * one.seconds[one.best]):
        if one.loss:
            mine, best = (one.seconds[plan] * 1e6 for plan in (one.estimated, one.best))
            print(f"  {one.kernel}: {one.estimated} {mine:.1f} us, {one.best} {best:.1f} us; {one.key}")
    print(f"  {len(found.choices)} searched, no time for {len(found.skipped)}", flush=True)


def work_of(name: str, tuning: str | None) -> Callable[[], object]:
    """What one side runs: with the plans of the estimates, or with records."""
    if name in STEPS:
        from training_step import data, intaglio_step

        work, batch = step_of(name)
        arrays = data(work, batch)
        step = intaglio_step(work, 1, tuning=tuning)
        return lambda: step(*arrays)
    from intaglio.compile import compile_graph

    graph, given = graph_of(name)
    compiled = compile_graph(graph, threads=1, tuning=tuning)
    return lambda: compiled(*given)


def measure(name: str, file: Path, rounds: int) -> tuple[float, float, float]:
    """Medians of both sides in seconds, untuned first, and the median of the ratios of each round."""
    command = [sys.executable, str(Path(__file__)), "--serve", name]
    sides = [Peer("tuned", [*command, str(file)], 1), Peer("untuned", [*command, ""], 1)]
    compare(sides, rounds)
    for side in sides:
        if not side.seconds:
            raise SystemExit(f"{name}: {side.failure}")
    tuned, untuned = sides
    return untuned.median, tuned.median, statistics.median(
        b / a for a, b in zip(tuned.seconds, untuned.seconds, strict=True)
    )  # fmt: skip


def write_document(lines: list[str]) -> None:
    """Put the table between its marks."""
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(MARKS[0])
    behind = rest.partition(MARKS[1])[2]
    DOCUMENT.write_text("\n".join([before + MARKS[0], *lines, MARKS[1] + behind]), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", default=",".join((*MODELS, *STEPS)))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--keep", type=Path, help="folder of records")
    parser.add_argument("--document", action="store_true", help="write the table into docs/kernels.md")
    parser.add_argument("--serve", nargs=2, metavar=("NAME", "RECORDS"), help="one side, for the harness")
    options = parser.parse_args()
    if options.serve:
        name, records = options.serve
        serve(work_of(name, records or None), clock=COMPUTED)
        return
    lines = ["| one thread | estimates us | tuned us | estimates / tuned |", "|---|--:|--:|--:|"]
    with tempfile.TemporaryDirectory() as made:
        folder = options.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.work.split(","):
            file = folder / f"{name}.txt"
            if not file.exists():
                search(name, options.seconds, file)
            untuned, tuned, ratio = measure(name, file, options.rounds)
            lines.append(f"| {name} | {untuned * 1e6:.1f} | {tuned * 1e6:.1f} | {ratio:.3f} |")
            print(lines[-1], flush=True)
    print("\n".join(["", *lines]))
    if options.document:
        write_document(lines)


if __name__ == "__main__":
    main()
