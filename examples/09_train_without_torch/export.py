"""Exports a training step of a PyTorch module as C; main.c trains with it, without Python or PyTorch."""

import sys

import torch
from torch import nn

import intaglio

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
batch = (torch.zeros(64, 2), torch.zeros(64, dtype=torch.int64))
step = intaglio.compile_training(model, nn.CrossEntropyLoss(), optimizer, batch)
folder = step.export_c(sys.argv[1], name="spiral")
print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
