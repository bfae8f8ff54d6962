"""Time of kernels, next to the machine's limits."""

from __future__ import annotations

import numpy as np
import pytest

import intaglio
from intaglio import nn
from intaglio.shared.errors import ArgumentError
from intaglio.view.explain import HEADER, explain
from intaglio.view.profile import profile


def test_every_statement_of_the_driver_is_timed() -> None:
    x = np.ones((32, 64), np.float32)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10), nn.Softmax(-1))
    compiled = intaglio.compile(model, [x], threads=1)
    found = explain(compiled, [x], rounds=3)
    assert len(found.kernels) == sum(len(block) for block in compiled.program.phases.values())
    assert found.seconds > 0
    assert found.roof.flops > 1e8
    assert sum(kernel.flops for kernel in found.kernels) >= 2 * 32 * (64 * 128 + 128 * 10)
    rows = list(found.rows(2))
    assert len(rows) == 2
    assert all(len(row) == len(HEADER) for row in rows)


def test_loops_of_the_driver_count_every_step() -> None:
    x = np.ones((5, 2, 4), np.float32)
    compiled = intaglio.compile(nn.LSTM(4, 8), [x], threads=1, opt="fast-compile")
    loops = [kernel for kernel in profile(compiled, [x], rounds=2) if "loop" in kernel.name]
    assert loops
    assert loops[0].flops > 5 * 2 * 2 * 32 * 8 / 2
    with pytest.raises(ArgumentError, match="rounds"):
        profile(compiled, [x], rounds=0)
