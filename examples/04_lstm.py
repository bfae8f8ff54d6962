"""An LSTM reads digits row by row; its time loop stays a loop in the compiled C."""

import numpy as np
from sklearn.datasets import load_digits

import intaglio
from intaglio import nn, optim
from intaglio.data import DataLoader, TensorDataset
from intaglio.nn import functional as F

intaglio.manual_seed(0)
digits = load_digits()
rows = (digits.images / 16).astype(np.float32)  # 8 steps of 8 features
labels = digits.target.astype(np.int64)
train, test = slice(0, 1500), slice(1500, None)


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 64, batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        _, (hidden, _) = self.lstm(x)
        return self.head(hidden[-1])


model = Reader()
optimizer = optim.AdamW(model.parameters(), lr=5e-3)


@intaglio.jit
def step(x, y):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


loader = DataLoader(TensorDataset(rows[train], labels[train]), batch_size=50, shuffle=True, seed=0)
for epoch in range(10):
    losses = [step(x, y).item() for x, y in loader]
    print(f"epoch {epoch}: loss {np.mean(losses):.4f}")

with intaglio.no_grad():
    predicted = model(intaglio.tensor(rows[test])).numpy().argmax(axis=1)
accuracy = (predicted == labels[test]).mean()
print(f"accuracy on {len(predicted)} unseen digits: {accuracy:.1%}")
assert accuracy > 0.85
