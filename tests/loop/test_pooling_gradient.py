"""Derivatives of pooling: compiled against PyTorch's, ties and numbers that are none included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import intaglio
from intaglio import Tensor
from intaglio.nn import functional as F

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)

# shape, kernel, stride, padding, dilation, ceil_mode
CASES: list[tuple[tuple[int, ...], Any, Any, Any, Any, bool]] = [
    ((2, 3, 12, 12), 2, 2, 0, 1, False),
    ((2, 3, 13, 9), 2, 2, 0, 1, False),
    ((2, 3, 13, 9), 2, 2, 0, 1, True),
    ((2, 3, 12, 14), 3, 2, 1, 1, False),
    ((1, 5, 17, 20), 3, 1, 1, 1, False),
    ((2, 2, 9, 11), (3, 2), (2, 3), (1, 0), 1, False),
    ((1, 2, 13, 13), 5, 2, 2, 1, True),
    ((1, 2, 14, 14), 3, 2, 0, 2, False),
    ((1, 2, 14, 14), 3, 1, 1, 2, True),
    ((2, 2, 14, 14), 7, 7, 0, 1, False),
    ((2, 3, 13, 20), (4, 3), (4, 3), 0, 1, False),
    ((1, 2, 5, 7, 41), (2, 3, 4), (2, 3, 4), 0, 1, False),
    ((3, 2, 37), 2, 2, 0, 1, False),
    ((3, 2, 30), 4, 3, 2, 1, False),
    ((1, 2, 6, 8, 10), 2, 2, 0, 1, False),
    ((1, 2, 5, 8, 9), 3, 2, 1, 1, False),
]


def _settings(case: tuple[Any, ...], kind: str) -> dict[str, Any]:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    settings = dict(zip(names, case[1:], strict=True))
    return settings if kind == "max" else {k: v for k, v in settings.items() if k != "dilation"}


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_gradients(kind: str) -> None:
    """All cases are one program: relu before, its derivative fused; half of the elements tie."""
    cases = [c for c in CASES if kind == "max" or c[4] == 1]
    arrays = [np.round(RNG.standard_normal(c[0]) * 2).astype(np.float32) / 2 for c in cases]
    weights, wanted = [], []
    for case, x in zip(cases, arrays, strict=True):
        name = f"{kind}_pool{len(case[0]) - 2}d"
        given = torch.from_numpy(x).requires_grad_()
        y = getattr(torch.nn.functional, name)(torch.relu(given), **_settings(case, kind))
        weights.append(RNG.standard_normal(tuple(y.shape)).astype(np.float32))
        y.backward(torch.from_numpy(weights[-1]))
        wanted.append((y.detach().numpy(), given.grad.numpy()))

    def model(*xs: Tensor) -> tuple[Tensor, ...]:
        found = []
        for case, x, weight in zip(cases, xs, weights, strict=True):
            x.requires_grad = True
            y = getattr(F, f"{kind}_pool{len(case[0]) - 2}d")(F.relu(x), **_settings(case, kind))
            y.backward(Tensor(weight))
            found += [y, x.grad]
        return tuple(found)

    compiled = intaglio.jit(model).compile(*map(Tensor, arrays))
    results = compiled(*arrays)[: 2 * len(cases)]
    for case, y, dx, (want, gradient) in zip(cases, results[::2], results[1::2], wanted, strict=True):
        np.testing.assert_allclose(y, want, atol=1e-6, err_msg=str(case))
        np.testing.assert_allclose(dx, gradient, atol=1e-6, err_msg=str(case))
    plans = [note for kernel in compiled.program.kernels for note in kernel.schedule]
    forms = ("local plane", "if it is the one") if kind == "max" else ("gathered",)
    assert sum(any(form in note for form in forms) for note in plans) >= len(cases) - 3
    assert kind == "avg" or sum("place of each extreme" in note for note in plans) >= len(cases) - 2
