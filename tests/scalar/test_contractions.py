"""Matrix products among raised loops are recognised; with free order they are fast and right to rounding."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from scalar_models import MODELS, Model, convolution, moons, perceptron, recurrent

from intaglio import scalar
from intaglio.loop.ir import For, Reduce, walk

RATE = 0.05
EXPECTED = {
    "perceptron": [
        "z1: matrix-vector product 7 x 20",
        "z2: matrix-vector product 5 x 7",
        "d_h: transposed matrix-vector product 7 x 5",
        "w1: outer product 20 x 7",
        "w2: outer product 7 x 5",
    ],
    "moons": ["z1: matrix product 8 x 8 x 10", "d_h1: matrix product 8 x 8 x 10"],
    "convolution": ["z1: convolution, 36 places of 3 channels, 9 terms", "w2: outer product 27 x 4"],
    "recurrent": [
        "z2: 9 times one after the other, matrix-vector product 8 x 3",
        "z1: 9 times one after the other, matrix-vector product 8 x 8",
        "scalars: dot product of 8",
    ],
    "two heads": [],
}


def compiled(model: Model, **options: Any) -> scalar.Program:
    return scalar.compile(tuple(model.outputs), model.inputs, model.parameters, **options)


@pytest.mark.parametrize("name", EXPECTED)
def test_contractions_are_recognised(name: str) -> None:
    program = compiled(MODELS[name](), toolchain="tcc")
    report = program.report()
    assert set(EXPECTED[name]) <= set(report.contractions)
    assert bool(EXPECTED[name]) == bool(report.contractions)
    assert report.exact
    assert all(line in str(report) for line in ("as the interpreter every bit", *EXPECTED[name]))
    for text in EXPECTED[name]:
        assert text.split(": ")[1].removeprefix("9 times one after the other, ") in program.source


LARGE = {
    "perceptron": lambda: perceptron((60, 50, 40, 10)),
    "batch": lambda: moons(48),
    "recurrent": lambda: recurrent(6, 20, 5),
    "convolution": lambda: convolution(size=12, channels=8),
    "wide": lambda: perceptron((300, 16, 10)),
}


@pytest.mark.parametrize("name", LARGE)
def test_free_order_gives_the_same_numbers_but_for_rounding(name: str) -> None:
    model = LARGE[name]()
    exact, free = compiled(model, toolchain="gcc"), compiled(model, toolchain="gcc", exact=False)
    report = free.report()
    assert not report.exact
    assert 0 < report.deviation < 1e-12
    assert "sums are in any order" in str(report)
    assert unordered(exact) == 0 < unordered(free)
    for sample in model.samples:
        expected, found = exact.step(sample, RATE), free.step(sample, RATE)
        np.testing.assert_allclose(found, expected, rtol=1e-10)
    for p in model.parameters:
        assert free.data(p) == pytest.approx(exact.data(p), rel=1e-9, abs=1e-12)
        assert free.grad(p) == pytest.approx(exact.grad(p), rel=1e-9, abs=1e-12)


def unordered(program: scalar.Program) -> int:
    """How many sums the loop program leaves the order of."""
    engine: Any = program.engine
    return sum(isinstance(s, Reduce) and not s.ordered for kernel in engine.program.kernels
               for s in walk(kernel.body))  # fmt: skip


def test_nothing_is_parallel() -> None:
    engine: Any = compiled(perceptron((400, 300, 10)), exact=False).engine
    loops = [s for kernel in engine.program.kernels for s in walk(kernel.body) if isinstance(s, For)]
    assert loops
    assert not any(loop.kind == "parallel" for loop in loops)


def test_free_order_is_not_slower() -> None:
    model = perceptron((300, 200, 100, 10))
    programs = [compiled(model, exact=exact) for exact in (True, False)]
    best = [1.0, 1.0]
    for _ in range(60):
        for k, program in enumerate(programs):
            started = time.perf_counter()
            program.step(model.samples[0], 0.0)
            best[k] = min(best[k], time.perf_counter() - started)
    assert best[1] < 1.1 * best[0]
