"""One training step as a peer process: `training_step.py PEER WORK BATCH THREADS`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from harness import serve

LR, MOMENTUM, DAMPENING = 0.01, 0.9, 0.9
SHAPES = {"mlp": (784,), "cnn": (1, 28, 28), "lstm": (28, 28)}


def data(work: str, batch: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.random((batch, *SHAPES[work]), dtype=np.float32)
    return images, rng.integers(0, 10, batch)


def model(nn: object, work: str) -> object:
    """The network, in PyTorch's or Intaglio's `nn`, which share their names."""
    if work == "mlp":
        return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    if work == "cnn":
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, 10),
        )

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(28, 128, batch_first=True)
            self.head = nn.Linear(128, 10)

        def forward(self, x: object) -> object:
            return self.head(self.lstm(x)[0][:, -1])

    return Reader()


def intaglio_step(work: str, threads: int, **settings: Any) -> Any:
    """The step, compiled at its first call; `settings` are those of `compile_graph`."""
    import intaglio
    from intaglio import nn, optim
    from intaglio.nn import functional as F

    net = model(nn, work)
    optimizer = optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, dampening=DAMPENING)

    def step(x: object, y: object) -> object:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return intaglio.jit(step, threads=threads, **settings)


def torch_step(work: str, batch: int, threads: int, compiled: bool) -> Callable[[], object]:
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    net = model(torch.nn, work)
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, dampening=DAMPENING)
    x, y = (torch.from_numpy(a) for a in data(work, batch))
    forward = torch.compile(net) if compiled else net

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(forward(x), y).backward()
        optimizer.step()

    return step


def numpy_step(batch: int) -> Callable[[], object]:
    """The perceptron by hand, in place where NumPy can."""
    rng = np.random.default_rng(0)
    x, y = data("mlp", batch)
    sizes = [(784, 128), (128,), (128, 10), (10,)]
    weights = [(rng.standard_normal(s) / 28).astype(np.float32) for s in sizes]
    momenta = [np.zeros_like(w) for w in weights]
    rows = np.arange(batch)

    def step() -> None:
        w1, b1, w2, b2 = weights
        hidden = x @ w1
        hidden += b1
        np.maximum(hidden, 0, out=hidden)
        logits = hidden @ w2 + b2
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=1, keepdims=True)
        logits[rows, y] -= 1
        logits /= batch
        back = logits @ w2.T
        back *= hidden > 0
        gradients = [x.T @ back, back.sum(0), hidden.T @ logits, logits.sum(0)]
        for w, v, g in zip(weights, momenta, gradients, strict=True):
            v *= MOMENTUM
            g *= 1 - DAMPENING
            v += g
            w -= LR * v

    return step


def main() -> None:
    peer, work, batch, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if peer == "intaglio":
        step, arrays = intaglio_step(work, threads), data(work, batch)
        serve(lambda: step(*arrays))
    elif peer == "numpy":
        serve(numpy_step(batch))
    else:
        serve(torch_step(work, batch, threads, peer == "torch-compile"))


if __name__ == "__main__":
    main()
