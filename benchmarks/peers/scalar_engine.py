"""One engine of `scalar_engines.py`: a 784-50-10 perceptron trained image by image on MNIST.

python scalar_engine.py ENGINE TOOLCHAIN LEVEL LIMIT CORE FACTS
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from intaglio import datasets, scalar
from intaglio.native import toolchain
from intaglio.shared.cache import VARIABLE
from intaglio.shared.errors import ToolchainError

sys.path.insert(0, str(Path(__file__).parents[1]))
from harness import serve

engine, compiler, level, limit, core, facts_file = sys.argv[1:]
LR = 0.05
GREYS = np.arange(256) / 255
CHECKED = 10
"""Images after which all engines must have the same bits."""
WINDOW = 5000
"""Images of one call of a fast engine; the window moves over the whole set."""


def network(make: Any, library: Any) -> tuple[Any, list[Any], list[Any], list[Any]]:
    """The loss, inputs, targets and parameters, made of a library's values."""
    random.seed(1)
    net = library.MLP(784, [50, 10])
    for p in net.parameters():
        p.data = random.uniform(-0.05, 0.05)
    image, target = [make(0.0) for _ in range(784)], [make(0.0) for _ in range(10)]
    return loss_of(net(image), target), image, target, net.parameters()


def loss_of(logits: list[Any], target: list[Any]) -> Any:
    """Softmax and negative log likelihood."""
    exponentials = [logit.exp() for logit in logits]
    total = sum(exponentials)
    return -sum(t * (e / total).log() for t, e in zip(target, exponentials, strict=True))


def digest(losses: Any, weights: Any) -> str:
    """The bits of losses and weights in short."""
    return hashlib.sha256(
        np.asarray(losses, float).tobytes() + np.asarray(weights, float).tobytes()
    ).hexdigest()


def tell(**facts: Any) -> None:
    Path(facts_file).write_text(json.dumps(facts))


def images() -> tuple[Any, Any]:
    digits = datasets.mnist(progress=False)
    return digits.train_images.reshape(-1, 784), digits.train_labels


def original() -> None:
    """micrograd itself, with `exp` and `log` added: a graph for every image."""
    from micrograd import engine as library
    from micrograd import nn

    library.Value.exp = lambda v: extended(library.Value, v, math.exp(v.data), "exp", lambda out: out.data)
    library.Value.log = lambda v: extended(library.Value, v, math.log(v.data), "log", lambda out: 1 / v.data)
    _, _, _, parameters = network(library.Value, nn)
    random.seed(1)
    net = nn.MLP(784, [50, 10])
    for p, start in zip(net.parameters(), parameters, strict=True):
        p.data = start.data
    pixels, labels = images()
    place = iter(range(len(pixels)))

    def step() -> float:
        n = next(place)
        target = [float(c == labels[n]) for c in range(10)]
        loss = loss_of(net([float(v) for v in pixels[n] / 255]), target)
        for p in net.parameters():
            p.grad = 0
        loss.backward()
        for p in net.parameters():
            p.data -= LR * p.grad
        return float(loss.data)

    losses = [step() for _ in range(CHECKED)]
    tell(losses=losses, seconds=0.0, bits="")
    serve(step)


def extended(kind: Any, value: Any, data: float, name: str, slope: Any) -> Any:
    """An operator that micrograd does not have."""
    out = kind(data, (value,), name)

    def backward() -> None:
        value.grad += slope(out) * out.grad

    out._backward = backward
    return out


def compiled() -> None:
    """An engine of this package."""
    toolchain.COMPILE_SECONDS = float(limit)
    with scalar.tracing():
        loss, image, target, parameters = network(scalar.Value, scalar.nn)
    pixels, labels = images()
    options = {"toolchain": compiler or None, "level": level if compiler != "tcc" else ""}
    scalar.compile(scalar.Value(1.0) + 1.0, [], engine="interpreted")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as empty:
        os.environ[VARIABLE] = empty
        program = scalar.compile(loss, [*image, *target], parameters, engine=engine, **options)

        def train(first: int, count: int) -> Any:
            part = slice(first, first + count)
            return program.train((scalar.lookup(pixels[part], GREYS), scalar.one_hot(labels[part], 10)), LR)

        first = train(0, 1)
        seconds = time.perf_counter() - started
    losses = [*first, *train(1, CHECKED - 1)]
    weights = [program.data(p) for p in parameters]
    tell(losses=losses, seconds=seconds, bits=digest(losses, weights), lines=program.source.count("\n"))
    started = time.perf_counter()
    train(CHECKED, 1)
    count = WINDOW if time.perf_counter() - started < 0.01 else 1
    place = CHECKED

    def work() -> None:
        nonlocal place
        train(place, count)
        place = (place + count) % (len(pixels) - count)

    serve(work, units=count)


def run() -> None:
    try:
        (original if engine == "micrograd" else compiled)()
    except ToolchainError as error:
        print(str(error).splitlines()[0], file=sys.stderr)


os.sched_setaffinity(0, {int(core)})
sys.setrecursionlimit(100_000)
threading.stack_size(512 << 20)
thread = threading.Thread(target=run)
thread.start()
thread.join()
