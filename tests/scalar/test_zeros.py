"""Zeros among the inputs are left out of updates and sums only where that changes no bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scalar_models import Model, perceptron
from test_stream import bits, compiled

from intaglio.scalar.program import Program
from intaglio.scalar.rerolled import Rerolled

INPUTS, CLASSES = 70, 3
INFINITE = math.inf


def model() -> Model:
    made = perceptron((INPUTS, 9, CLASSES))
    made.outputs = made.outputs[:1]
    return made


def rows(count: int, share: float, seed: int) -> Any:
    """Samples of which a share of the inputs is not 0, and among those that are some are -0."""
    random = np.random.default_rng(seed)
    values = random.uniform(-1, 1, (count, INPUTS))
    values = np.where(random.random(values.shape) < share, values, random.choice([0.0, -0.0], values.shape))
    return np.hstack([values, np.eye(CLASSES)[random.integers(0, CLASSES, count)]])


def outcome(program: Program, made: Model, work: Any) -> tuple[str, list[int]]:
    """What was raised, bits of what came out and of the parameters; NaN is NaN."""
    raised, results = "", []
    try:
        results = np.ravel(work(program)).tolist()
    except (ArithmeticError, ValueError) as error:
        raised = repr(error)
    numbers = [*results, *(program.data(p) for p in made.parameters)]
    return raised, bits([math.nan if n != n else n for n in numbers])


def check(made: Model, samples: Any, rates: Any) -> Program:
    """Both ways of training from the parameters the values have; returns the program that streamed."""

    def stepped(program: Program) -> list[Any]:
        return [program.step(row, rate) for row, rate in zip(samples, rates, strict=True)]

    for toolchain in ("tcc", "gcc"):
        expected = outcome(compiled(made, toolchain=toolchain), made, stepped)
        program = compiled(made, toolchain=toolchain)
        assert outcome(program, made, lambda p: p.train(samples, rates)) == expected, toolchain
    return program


def left_out(program: Program) -> bool:
    """Whether zeros were left out after the last sample but one."""
    assert isinstance(program.engine, Rerolled)
    memory = program.engine.memory.arrays
    (flag,) = (array for buffer, array in memory.items() if buffer.name.endswith("_sparse"))
    return bool(flag[0] == 1)


@pytest.mark.parametrize(("share", "expected"), [(0.0, True), (0.2, True), (0.9, False), (1.0, False)])
def test_as_many_as_there_are(share: float, expected: bool) -> None:
    samples = rows(40, share, 1)
    assert left_out(check(model(), samples, np.full(40, 0.05))) is expected


def test_sparse_and_dense_samples_take_turns() -> None:
    samples = np.vstack([rows(10, share, n) for n, share in enumerate((0.1, 0.9, 0.3, 1.0, 0.0, 0.2))])
    assert left_out(check(model(), samples, np.linspace(0.1, 0.01, 60)))


@pytest.mark.parametrize("weight", [-0.0, 5e-324, -5e-324, 1e299])
def test_unusual_weights(weight: float) -> None:
    made = model()
    for p in made.parameters[: 3 * (INPUTS + 1) : 7]:
        p.data = weight
    check(made, rows(12, 0.2, 2), np.full(12, 0.05))


@pytest.mark.parametrize("weight", [INFINITE, -INFINITE, math.nan, 1e301])
def test_weights_that_are_not_small(weight: float) -> None:
    """0 times infinity is NaN, so nothing is left out."""
    made = model()
    made.parameters[5].data = weight
    samples = rows(6, 0.2, 3)
    samples[:, 5] = 0.0
    made.outputs = [(made.outputs[0] * 0.0 + 1.0).tanh()] if weight == 1e301 else made.outputs
    check(made, samples, np.full(6, 0.05))


def test_a_sum_that_starts_with_minus_zero() -> None:
    """-0 + -0 is -0, but -0 + 0 is 0: the sign depends on every term."""
    made = model()
    for neuron in range(9):
        bias = made.parameters[neuron * (INPUTS + 1) + INPUTS]
        bias.data = -0.0
        for k in range(INPUTS):
            p = made.parameters[neuron * (INPUTS + 1) + k]
            p.data = -abs(p.data)
    samples = np.zeros((8, INPUTS + CLASSES))
    samples[:, INPUTS] = 1.0
    assert not left_out(check(made, samples, np.full(8, 0.05)))


@pytest.mark.parametrize("rate", [0.0, -0.0, -0.05])
def test_rates_that_are_not_positive(rate: float) -> None:
    made = model()
    for p in made.parameters[::3]:
        p.data = -0.0
    assert not left_out(check(made, rows(8, 0.2, 4), np.full(8, rate)))


def test_weights_that_grow_without_bound() -> None:
    samples = rows(12, 0.2, 5)
    check(model(), samples, np.full(12, 1e290))
    check(model(), samples * 1e150, np.full(12, 0.05))
