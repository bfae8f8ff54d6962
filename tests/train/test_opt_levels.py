"""A training step is one program at every opt level, fused or not, and learns the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import intaglio
from intaglio import nn, optim
from intaglio.nn import functional as F


def losses(**settings: Any) -> list[float]:
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    for parameter in model.parameters():
        parameter.data[...] = rng.standard_normal(parameter.shape).astype(np.float32) * 0.3
    optimiser = optim.Adam(model.parameters(), lr=0.01)

    @intaglio.jit(opt="fast-compile", **settings)
    def step(x: Any, y: Any) -> Any:
        optimiser.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimiser.step()
        return loss

    x, y = rng.standard_normal((5, 6)).astype(np.float32), np.array([0, 1, 2, 0, 1])
    return [float(step(x, y).item()) for _ in range(4)]


@pytest.mark.parametrize("settings", [{"opt_level": 0}, {"opt_level": 1}, {"opt_level": 2},
                                      {"disabled_passes": ["FuseOps"]}])  # fmt: skip
def test_every_level_learns_the_same(settings: dict[str, Any]) -> None:
    first = losses()
    assert first[-1] < first[0]
    np.testing.assert_allclose(losses(**settings), first, rtol=1e-5)
