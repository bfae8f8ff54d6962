"""Exports one training step of a small classifier as C; main.c trains with it, without Python."""

import sys

import numpy as np

import intaglio
from intaglio import nn, optim

intaglio.manual_seed(0)
model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
optimizer = optim.SGD(model.parameters(), lr=0.5)
loss_function = nn.CrossEntropyLoss()


@intaglio.jit
def step(x, y):
    optimizer.zero_grad()
    loss = loss_function(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


x = intaglio.tensor(np.zeros((64, 2), np.float32))
y = intaglio.tensor(np.zeros(64, np.int64))
compiled = step.compile(x, y, keep_phases=True)
print(compiled)
folder = compiled.export_c(sys.argv[1], name="circle")
print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
