"""Test accuracy of the 784-128-10 perceptron: PyTorch and a compiled Intaglio step, same weights and batches.

python benchmarks/mnist_accuracy.py [--epochs 5] [--data DIR]
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch

import intaglio
from intaglio import datasets, nn, optim
from intaglio.nn import functional as F

BATCH, LR, MOMENTUM = 128, 0.3, 0.9


def batches(count: int, epoch: int) -> list[Any]:
    order = np.random.default_rng(epoch).permutation(count)
    return [order[k : k + BATCH] for k in range(0, count - BATCH + 1, BATCH)]


def network(library: Any) -> Any:
    return library.Sequential(library.Linear(784, 128), library.ReLU(), library.Linear(128, 10))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--data", default=None)
    options = parser.parse_args()
    digits = datasets.mnist(options.data)
    images, test = (
        (a.reshape(len(a), -1) / np.float32(255)).astype(np.float32)
        for a in (digits.train_images, digits.test_images)
    )
    labels = digits.train_labels.astype(np.int64)
    torch.manual_seed(0)
    theirs, ours = network(torch.nn), network(nn)
    ours.load_state_dict({k: v.numpy().copy() for k, v in theirs.state_dict().items()})
    torch_optimizer = torch.optim.SGD(theirs.parameters(), lr=LR, momentum=MOMENTUM, dampening=1 - 0.1)
    optimizer = optim.SGD(ours.parameters(), lr=LR, momentum=MOMENTUM, dampening=1 - 0.1)

    @intaglio.jit
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(ours(x), y)
        loss.backward()
        optimizer.step()
        return loss

    for epoch in range(options.epochs):
        for chosen in batches(len(images), epoch):
            x, y = images[chosen], labels[chosen]
            step(x, y)
            torch_optimizer.zero_grad()
            torch.nn.functional.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(y)).backward()
            torch_optimizer.step()
        with intaglio.no_grad(), torch.no_grad():
            scores = (ours(intaglio.tensor(test)).numpy(), theirs(torch.from_numpy(test)).numpy())
        a, b = (float((s.argmax(1) == digits.test_labels).mean()) for s in scores)
        print(f"epoch {epoch}: intaglio {a:.2%}, PyTorch {b:.2%}", flush=True)


main()
