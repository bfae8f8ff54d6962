"""Rows of large arrays are kept apart by whole vectors: no bit changes, nor is any loop lost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scalar_models import Model, perceptron, samples, values
from test_stream import RATE, bits, compiled, state

from intaglio import scalar
from intaglio.native.targets import find_target
from intaglio.scalar import tracing
from intaglio.scalar.rerolled import Rerolled

WIDTH, INPUTS = 21, 70


def layers() -> Model:
    return perceptron((INPUTS, WIDTH, 3))


def two_views() -> Model:
    """A layer's weights are read again as rows of 14, which do not begin where its own rows do."""
    weights, x = values(INPUTS * WIDTH, 1), values(INPUTS, 2)
    with tracing():
        sums = [sum(weights[k * WIDTH + i] * x[k] for k in range(INPUTS)) for i in range(WIDTH)]
        again = [sum(weights[j * 14 + k] * x[k] for k in range(14)) for j in range(WIDTH * INPUTS // 14)]
        loss = sum(z.tanh() for z in sums) + sum((z * z).tanh() for z in again)
    return Model([loss], x, weights, samples(3, INPUTS))


def length(program: scalar.Program) -> int:
    """Places of the largest array."""
    assert isinstance(program.engine, Rerolled)
    return max(int(buffer.size) for buffer in program.engine.raised.buffers)


def tables(program: scalar.Program) -> int:
    assert isinstance(program.engine, Rerolled)
    return len(program.engine.raised.tables)


def padded() -> bool:
    target = find_target("native")
    return bool(target.vector_types) and target.lanes(8) > 1


@pytest.mark.parametrize(("make", "apart"), [(layers, True), (two_views, False)])
def test_the_bits_of_the_interpreter(make: Callable[[], Model], apart: bool) -> None:
    model = make()
    found = []
    for options in ({"engine": "interpreted"}, {"toolchain": "gcc"}):
        program = compiled(model, **options)
        rows = np.array(model.samples[:3])
        found.append([*bits(program.train(rows, RATE)), *bits(program.train(rows, RATE, batch=2))])
        found[-1] += [*bits(program.step(rows[0], RATE)), *state(program, model)]
    assert found[0] == found[1]
    assert (length(program) > INPUTS * WIDTH) is (apart and padded())
    plain = compiled(model)
    assert length(plain) == INPUTS * WIDTH, "a compiler without vectors"
    assert tables(program) == tables(plain)


def test_sums_of_free_order() -> None:
    model = layers()
    program = compiled(model, toolchain="gcc", exact=False)
    expected = compiled(model, engine="interpreted")
    rows = np.array(model.samples)
    np.testing.assert_allclose(program.train(rows, RATE), expected.train(rows, RATE), rtol=1e-10)
    assert (length(program) > INPUTS * WIDTH) is padded()
