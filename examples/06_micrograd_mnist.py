"""A scalar network of micrograd's kind trained on MNIST, and the engines that can run it.

Optional arguments: a directory with the IDX files; `--all` for straight-line C through gcc too (minutes).
"""

import random
import sys
import time

import numpy as np

from intaglio import datasets, scalar
from intaglio.scalar import Value, nn

arguments = [a for a in sys.argv[1:] if a != "--all"]
digits = datasets.mnist(arguments[0] if arguments else None)

# One Value per number, one operation after the other, as in the article.
random.seed(1337)
with scalar.tracing():
    model = nn.MLP(784, [50, 10])
    for p in model.parameters():
        p.data *= 0.1
    image = [Value(0.0) for _ in range(784)]
    target = [Value(0.0) for _ in range(10)]
    logits = model(image)
    top = logits[0]
    for logit in logits[1:]:
        top = top.max(logit)
    shifted = [logit - top for logit in logits]
    loss = sum(s.exp() for s in shifted).log() - sum(t * s for t, s in zip(target, shifted, strict=True))


def samples(images, labels):
    """Pixels and labels as they lie in memory, and the numbers they stand for."""
    return scalar.lookup(images.reshape(-1, 784), np.arange(256) / 255), scalar.one_hot(labels, 10)


def compiled(**options):
    return scalar.compile((loss, *logits), [*image, *target], model.parameters(), **options)


program = compiled()
print(program.report(), end="\n\n")


def progress(done, total):
    print(f"\r  {done:6,} of {total:,} images", end="", flush=True)


for epoch in range(3):
    started = time.perf_counter()
    results = program.train(samples(digits.train_images, digits.train_labels), 0.02, progress=progress)
    seconds = time.perf_counter() - started
    checked = program.train(samples(digits.test_images, digits.test_labels), 0.0)  # moves nothing
    score = (checked[:, 1:].argmax(axis=1) == digits.test_labels).mean()
    print(f"\repoch {epoch}: loss {results[:, 0].mean():.4f}, test accuracy {score:.2%}, "
          f"{seconds:.2f} s, {len(results) / seconds:,.0f} images/s")  # fmt: skip

LEVELS = ("-O0", "-O1", "-O3")
ENGINES = [
    ("interpreted", {"engine": "interpreted"}, 4),
    ("straight C, tcc", {"engine": "straight", "toolchain": "tcc"}, 400),
    *((f"straight C, gcc {o}", {"engine": "straight", "toolchain": "gcc", "level": o}, 400) for o in LEVELS),
    ("loops, tcc", {"toolchain": "tcc"}, 2_000),
    *((f"loops, gcc {o}", {"toolchain": "gcc", "level": o}, 20_000) for o in LEVELS),
]
print(f"\n{'engine':<20} {'compiled in':>12} {'images/s':>10} {'an epoch':>12}  the same bits")
first = None
for name, options, count in ENGINES if "--all" in sys.argv else [*ENGINES[:2], *ENGINES[5:]]:
    started = time.perf_counter()
    program = compiled(**options)
    program.train(samples(digits.train_images[:2], digits.train_labels[:2]), 0.0)  # compiles what trains
    built = time.perf_counter()
    results = program.train(samples(digits.train_images[:count], digits.train_labels[:count]), 0.02)
    rate = count / (time.perf_counter() - built)
    first = results[:4] if first is None else first
    assert np.array_equal(results[:4], first)
    print(f"{name:<20} {built - started:>10.2f} s {rate:>10,.1f} {60_000 / rate:>10,.1f} s  yes")
