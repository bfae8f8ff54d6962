"""Training steps of recurrent layers, compiled, against PyTorch: results, gradients and updates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import intaglio
from intaglio import nn, optim

torch = pytest.importorskip("torch")

STEPS, BATCH, INPUTS, HIDDEN, RATE = 5, 8, 12, 48, 0.5
X = np.random.default_rng(0).standard_normal((STEPS, BATCH, INPUTS)).astype(np.float32)
WANTED = np.random.default_rng(1).standard_normal((STEPS, BATCH, HIDDEN)).astype(np.float32)


@pytest.mark.parametrize("layer", ["LSTM", "GRU", "RNN"])
def test_a_step_is_that_of_torch(layer: str) -> None:
    theirs: Any = getattr(torch.nn, layer)(INPUTS, HIDDEN).double()
    ours: Any = getattr(nn, layer)(INPUTS, HIDDEN)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        other.data = torch.from_numpy(mine.numpy().astype(np.float64))
    optimizer = optim.SGD(ours.parameters(), lr=RATE)

    @intaglio.jit(threads=1, opt="fast-compile")
    def step(x: Any, wanted: Any) -> Any:
        optimizer.zero_grad()
        y, _ = ours(x)
        loss = ((y - wanted) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss, y

    loss, y = step(X, WANTED)
    outputs, _ = theirs(torch.from_numpy(X).double())
    expected = ((outputs - torch.from_numpy(WANTED)) ** 2).sum()
    expected.backward()
    np.testing.assert_allclose(y.numpy(), outputs.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert float(loss) == pytest.approx(expected.item(), rel=1e-5)
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        updated = (other - RATE * other.grad).detach().numpy()
        np.testing.assert_allclose(mine.numpy(), updated, rtol=1e-4, atol=2e-4, err_msg=name)
