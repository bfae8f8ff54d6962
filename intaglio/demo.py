"""The main job, end to end: train MNIST eagerly, then compiled; leave as C; run the C."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import intaglio
from intaglio import datasets, nn, optim
from intaglio.compiled import Compiled
from intaglio.data import DataLoader, TensorDataset
from intaglio.nn import functional as F

BATCH = 128
EAGER_STEPS = 30
SHOWN = 4
SHADES = " .:-=+*#%@"

Array = np.ndarray[Any, Any]


@dataclass
class Trained:
    """What training leaves behind."""

    model: nn.Module
    step: Any
    batch: tuple[Array, Array]
    accuracy: float
    predictions: Array


def network() -> nn.Sequential:
    """The 784-128-10 perceptron."""
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def run(data: Path | None, out: Path, epochs: int, threads: int | None) -> None:
    """The demo, as `intaglio demo` runs it."""
    console = Console()
    digits = datasets.mnist(data)
    trained = train(digits, epochs, threads, console)
    test = flat(digits.test_images)
    classifier = intaglio.compile(trained.model.eval(), [test[:1]], threads=threads)
    classifier.export_c(out / "classifier", samples=[[test[k : k + 1]] for k in range(4)])
    training = trained.step.compile(*trained.batch, keep_phases=True, threads=1)
    training.export_c(out / "training")
    for folder in ("classifier", "training"):
        build(out / folder, console)
    standalone(out / "classifier", classifier, test, digits, trained, console)
    console.print(
        f"the C is in {out.resolve()}: classifier/ and training/, each with header, Makefile and README"
    )


def flat(images: Array) -> Array:
    """Images as rows of floats from 0 to 1."""
    return (images.reshape(len(images), -1) / np.float32(255)).astype(np.float32)


def train(digits: Any, epochs: int, threads: int | None, console: Console) -> Trained:
    """Train a few steps eagerly and the rest compiled; print the speed of both."""
    intaglio.manual_seed(0)
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.3, momentum=0.9, dampening=0.9)

    def step(images: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    dataset = TensorDataset(flat(digits.train_images), digits.train_labels.astype(np.int64))
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True, drop_last=True, seed=0)
    batches = iter(loader)
    eager = samples_per_second(step, [next(batches) for _ in range(EAGER_STEPS)])
    compiled_step = intaglio.jit(step, threads=threads)
    batch = next(batches)
    started = time.perf_counter()
    compiled_step(*batch)
    compile_seconds = time.perf_counter() - started
    spent, seen = 0.0, 0
    with Progress(console=console) as progress:
        bar = progress.add_task("training", total=epochs * len(loader))
        for _ in range(epochs):
            for images, labels in loader:
                started = time.perf_counter()
                compiled_step(images, labels)
                spent += time.perf_counter() - started
                seen += len(images)
                progress.advance(bar)
    test = flat(digits.test_images)
    with intaglio.no_grad():
        predictions = model(intaglio.tensor(test)).numpy().argmax(axis=1)
    accuracy = float((predictions == digits.test_labels).mean())
    table = Table("training", "samples/s")
    table.add_row("eager (NumPy)", f"{eager:,.0f}")
    table.add_row("compiled", f"{seen / spent:,.0f}")
    console.print(table)
    console.print(f"compiled in {compile_seconds:.2f} s; test accuracy {accuracy:.2%} after {epochs} epochs")
    return Trained(model, compiled_step, (batch[0], batch[1]), accuracy, predictions)


def samples_per_second(step: Any, batches: list[Any]) -> float:
    started = time.perf_counter()
    for batch in batches:
        step(*batch)
    return sum(len(batch[0]) for batch in batches) / (time.perf_counter() - started)


def build(folder: Path, console: Console) -> None:
    """Build an exported folder and run its self-test. Raises CalledProcessError with the output shown."""
    for command in (["make"], ["./selftest"]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            console.print(done.stdout + done.stderr)
            raise subprocess.CalledProcessError(done.returncode, command)
    console.print(f"{folder.name}: built, {done.stdout.strip().splitlines()[-1]}")


def standalone(
    folder: Path, classifier: Compiled, test: Array, digits: Any, trained: Trained, console: Console
) -> None:
    """Classify test digits with a C program of its own and show them."""
    source = Path(__file__).with_name("demo_classify.c").read_text().replace("MODEL", classifier.program.name)
    (folder / "classify.c").write_text(source)
    subprocess.run(["make", "classify", "LDLIBS=-lm"], cwd=folder, check=True, capture_output=True)
    (folder / "digits.bin").write_bytes(test.astype("<f4").tobytes())
    started = time.perf_counter()
    done = subprocess.run(
        ["./classify", "digits.bin"], cwd=folder, check=True, capture_output=True, text=True
    )
    seconds = time.perf_counter() - started
    predicted = np.array([int(line) for line in done.stdout.split()])
    accuracy = float((predicted == digits.test_labels).mean())
    same = float((predicted == trained.predictions).mean())
    console.print(
        f"stand-alone executable: {len(test)} digits in {seconds:.3f} s, accuracy {accuracy:.2%}, "
        f"{same:.2%} as in Python"
    )
    console.print("\n".join(picture(digits.test_images[:SHOWN])), markup=False, highlight=False)
    console.print("    ".join(f"{'digit ' + str(p):<14}" for p in predicted[:SHOWN]), highlight=False)


def picture(images: Array) -> list[str]:
    """Images side by side as text, at half height and half width."""
    small = images.reshape(len(images), 14, 2, 14, 2).mean(axis=(2, 4))
    levels = (small / 256 * len(SHADES)).astype(int)
    return ["    ".join("".join(SHADES[v] for v in image[row]) for image in levels) for row in range(14)]
