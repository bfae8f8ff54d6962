"""A convolutional network on real digits (8 x 8), trained by one compiled program per step."""

import numpy as np
from sklearn.datasets import load_digits

import intaglio
from intaglio import nn, optim
from intaglio.data import DataLoader, TensorDataset
from intaglio.nn import functional as F

intaglio.manual_seed(0)
digits = load_digits()
images = (digits.images[:, None] / 16).astype(np.float32)
labels = digits.target.astype(np.int64)
train, test = slice(0, 1500), slice(1500, None)

model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(128, 10),
)  # fmt: skip
optimizer = optim.Adam(model.parameters(), lr=2e-3)


@intaglio.jit
def step(x, y):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


loader = DataLoader(TensorDataset(images[train], labels[train]), batch_size=50, shuffle=True, seed=0)
for epoch in range(8):
    losses = [step(x, y).item() for x, y in loader]
    print(f"epoch {epoch}: loss {np.mean(losses):.4f}")

model.eval()
with intaglio.no_grad():
    predicted = model(intaglio.tensor(images[test])).numpy().argmax(axis=1)
accuracy = (predicted == labels[test]).mean()
print(f"accuracy on {len(predicted)} unseen digits: {accuracy:.1%}")
assert accuracy > 0.9
