"""MNIST, trained by C that Intaglio generated. Optional argument: a directory with the IDX files."""

import sys
import time

import numpy as np

import intaglio
from intaglio import datasets, nn, optim
from intaglio.data import DataLoader, TensorDataset, accuracy
from intaglio.nn import functional as F

intaglio.manual_seed(0)
digits = datasets.mnist(sys.argv[1] if len(sys.argv) > 1 else None)


def rows(images):
    return (images.reshape(-1, 784) / 255).astype(np.float32)


model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = optim.SGD(model.parameters(), lr=0.3, momentum=0.9, dampening=0.9)
schedule = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.8)


@intaglio.jit
def step(x, y):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


train = TensorDataset(rows(digits.train_images), digits.train_labels.astype(np.int64))
loader = DataLoader(train, batch_size=128, shuffle=True, drop_last=True, seed=0)
test_images = intaglio.tensor(rows(digits.test_images))
test_labels = intaglio.tensor(digits.test_labels.astype(np.int64))
for epoch in range(4):
    started = time.perf_counter()
    losses = [step(x, y).item() for x, y in loader]
    seconds = time.perf_counter() - started
    with intaglio.no_grad():
        score = accuracy(model(test_images), test_labels)
    print(f"epoch {epoch}: loss {np.mean(losses):.4f}, test accuracy {score:.2%}, {seconds:.2f} s")
    schedule.step()  # the compiled step reads the learning rate at each call

nn.save_state(model, "mnist.safetensors")
print("weights saved to mnist.safetensors")
