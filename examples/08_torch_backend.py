"""A PyTorch training loop, switched to Intaglio by one line; and the whole step as one program."""

import copy
import time

import torch
from torch import nn

import intaglio

torch.manual_seed(0)
torch.set_num_threads(1)
BATCH, STEPS = 32, 300
images, labels = torch.randn(STEPS, BATCH, 784), torch.randint(0, 10, (STEPS, BATCH))
start = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
loss_function = nn.CrossEntropyLoss()


def train(model, forward):
    """The usual loop. Returns losses and seconds per step without the first (which compiles)."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    for k in range(STEPS):
        if k == 1:
            started = time.perf_counter()
        optimizer.zero_grad()
        loss = loss_function(forward(images[k]), labels[k])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, (time.perf_counter() - started) / (STEPS - 1)


eager = copy.deepcopy(start)
expected, eager_seconds = train(eager, eager)

model = copy.deepcopy(start)
losses, seconds = train(model, torch.compile(model, backend="intaglio"))  # this is the line

whole = copy.deepcopy(start)
optimizer = torch.optim.SGD(whole.parameters(), lr=0.01)
step = intaglio.compile_training(whole, loss_function, optimizer, (images[0], labels[0]), threads=1)
one = [step(images[0], labels[0])]
started = time.perf_counter()
one += [step(x, y) for x, y in zip(images[1:], labels[1:], strict=True)]
one_seconds = (time.perf_counter() - started) / (STEPS - 1)
whole.load_state_dict(step.state_dict())

print(f"{'':24}{'loss at the end':>16}{'us per step':>14}")
for name, found, spent in (
    ("PyTorch", expected, eager_seconds),
    ('backend="intaglio"', losses, seconds),
    ("compile_training", one, one_seconds),
):
    print(f"{name:24}{found[-1]:16.5f}{spent * 1e6:14.0f}")
    assert abs(found[-1] - expected[-1]) < 1e-3
