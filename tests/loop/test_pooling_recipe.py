"""Pooling: compiled windows against PyTorch's, and where the recipe for them is used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import intaglio
from intaglio import Tensor
from intaglio.nn import functional as F

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)

# shape, kernel, stride, padding, dilation
CASES: list[tuple[tuple[int, ...], Any, Any, Any, Any]] = [
    ((2, 3, 12, 12), 3, 2, 1, 1),
    ((1, 5, 17, 40), 3, 1, 1, 1),
    ((2, 2, 9, 11), (3, 2), (2, 3), (1, 0), 1),
    ((1, 2, 13, 13), 5, 2, 2, 1),
    ((1, 2, 14, 14), 3, 2, 0, 2),
    ((1, 2, 14, 14), 3, 1, 1, 2),
    ((3, 2, 30), 4, 3, 2, 1),
    ((1, 2, 5, 8, 9), 3, 2, 1, 1),
    ((1, 1, 4, 4), 4, 4, 2, 1),
]


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_windows(kind: str, ceil_mode: bool) -> None:
    """All cases are one program; the epilogue is fused."""
    cases = [c for c in CASES if kind == "max" or c[4] == 1]
    arrays = [RNG.standard_normal(c[0]).astype(np.float32) for c in cases]
    ours, wanted = [], []
    for (shape, kernel, stride, padding, dilation), x in zip(cases, arrays, strict=True):
        settings = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
        settings |= {"dilation": dilation} if kind == "max" else {}
        name = f"{kind}_pool{len(shape) - 2}d"
        ours.append((getattr(F, name), settings))
        wanted.append(getattr(torch.nn.functional, name)(torch.from_numpy(x), **settings).numpy() * 2 + 1)

    def model(*xs: Tensor) -> tuple[Tensor, ...]:
        return tuple(f(x, **settings) * 2 + 1 for (f, settings), x in zip(ours, xs, strict=True))

    compiled = intaglio.compile(model, arrays)
    for case, got, want in zip(cases, compiled(*arrays), wanted, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5, err_msg=str(case))
    kernels = [k for k in compiled.program.kernels if any("along a line" in note for note in k.schedule)]
    assert len(kernels) >= len(cases) - 2


def test_not_a_number_and_infinities_are_kept() -> None:
    x = RNG.standard_normal((1, 2, 8, 20)).astype(np.float32)
    x[0, 0, 3, 7], x[0, 1, 2, :] = np.nan, -np.inf
    compiled = intaglio.compile(lambda t: F.max_pool2d(t, 3, 2, 1), [x])
    want = torch.nn.functional.max_pool2d(torch.from_numpy(x), 3, 2, 1).numpy()
    np.testing.assert_array_equal(compiled(x), want)
