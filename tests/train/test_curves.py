"""Whole training steps: compiled, eager and PyTorch's, from the same weights, follow the same curve."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import intaglio
from intaglio import nn, optim
from intaglio.nn import functional as F

STEPS = 200


class Reader:
    """An LSTM over rows with a linear head, in either library."""

    @staticmethod
    def of(nn):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.lstm = nn.LSTM(8, 16, batch_first=True)
                self.head = nn.Linear(16, 10)

            def forward(self, x):
                _, (hidden, _) = self.lstm(x)
                return self.head(hidden[-1])

        return Net()


def mlp(nn):
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def cnn(nn):
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8, 10),
    )


NETS = {
    "mlp": (mlp, (64,), "SGD(p, lr=0.5, momentum=0.9, dampening=0.9)", "StepLR(o, 50, 0.5)"),
    "cnn": (cnn, (1, 8, 8), "Adam(p, lr=0.01)", "ExponentialLR(o, 0.99)"),
    "lstm": (Reader.of, (8, 8), "RMSprop(p, lr=0.002)", "OneCycleLR(o, 0.004, 250, cycle_momentum=False)"),
}


def batches(shape):
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / 16).astype(np.float32).reshape(-1, *shape)
    order = np.random.default_rng(0).permutation(len(images))
    for k in range(STEPS):
        rows = order[np.arange(16 * k, 16 * k + 16) % len(order)]
        yield images[rows], digits.target[rows].astype(np.int64)


def twins(name):
    make, shape, optimizer, schedule = NETS[name]
    torch.manual_seed(0)
    theirs = make(torch.nn)

    def ours(compiled):
        model = make(nn)
        model.load_state_dict(theirs.state_dict())
        return run(
            model,
            optim,
            optimizer,
            schedule,
            shape,
            F.cross_entropy,
            lambda f: intaglio.jit(f) if compiled else f,
            lambda a: a,
        )

    return ours, lambda: run(
        theirs,
        torch.optim,
        optimizer,
        schedule,
        shape,
        torch.nn.functional.cross_entropy,
        lambda f: f,
        torch.tensor,
    )


def run(model, library, optimizer_text, schedule_text, shape, loss_of, compiled, tensor):
    optimizer = eval(f"m.{optimizer_text}", {"m": library, "p": model.parameters()})
    schedule = eval(f"m.lr_scheduler.{schedule_text}", {"m": library, "o": optimizer})

    def step(x, y):
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    step = compiled(step)
    losses = []
    for x, y in batches(shape):
        losses.append(step(tensor(x), tensor(y)).item())
        schedule.step()
    return np.array(losses), {k: v.detach().numpy().copy() for k, v in model.state_dict().items()}


@pytest.mark.parametrize("name", NETS)
def test_curves_agree(name):
    ours, theirs = twins(name)
    eager, eager_state = ours(compiled=False)
    compiled, compiled_state = ours(compiled=True)
    reference, reference_state = theirs()
    assert eager[-20:].mean() < 0.7 * eager[:20].mean()
    np.testing.assert_allclose(eager, reference, rtol=5e-3, atol=2e-3)
    np.testing.assert_allclose(compiled, eager, rtol=5e-3, atol=2e-3)
    np.testing.assert_allclose(compiled[:20], eager[:20], rtol=1e-4)
    for key, value in eager_state.items():
        np.testing.assert_allclose(compiled_state[key], value, rtol=2e-2, atol=5e-3, err_msg=key)
        np.testing.assert_allclose(reference_state[key], value, rtol=2e-2, atol=5e-3, err_msg=key)
