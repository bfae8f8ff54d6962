"""Batches: gradients of samples added up in their order, as micrograd does without `zero_grad`."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from scalar_models import MODELS, random_graph, samples, softmax_nll, together, values
from test_stream import RATE, bits, compiled, state

from intaglio import scalar
from intaglio.scalar import Value, nn
from intaglio.scalar.rerolled import Rerolled


@pytest.mark.parametrize("name", MODELS)
def test_engines_agree(name: str) -> None:
    """Batches of 1, of 3, and with a rest."""
    model = MODELS[name]()
    rows = np.array(model.samples * 3)[:7]
    expected, engines = None, [{"engine": "interpreted"}, {"engine": "straight"}, {}, {"toolchain": "gcc"}]
    for options in engines:
        program = compiled(model, input_gradients=True, **options)
        found = []
        for batch in (1, 3, 7):
            found += [bits(program.train(rows, RATE, batch=batch)), state(program, model)]
            found.append(bits([program.grad(v) for v in model.inputs]))
        program.step(rows[0], RATE)
        found.append(state(program, model))
        expected = expected or found
        assert found == expected, options


def test_random_graphs() -> None:
    for first in range(3000, 3060, 20):
        model = together([random_graph(seed) for seed in range(first, first + 20)])
        found = []
        for engine in ("interpreted", "rerolled"):
            program = compiled(model, engine=engine, input_gradients=True)
            results = program.train(np.array(model.samples), 1e-3, batch=2)
            found.append([*bits(results), *state(program, model)])
        assert found[0] == found[1], first


def test_micrograd_itself() -> None:
    """Values, a graph for every sample, gradients never set to zero within a batch."""
    random.seed(3)
    net = nn.MLP(6, [5, 3])
    rows, rates = samples(8, 9), [0.1, 0.05, 0.02]
    x, t = values(6, 1), values(3, 2)
    program = scalar.compile(softmax_nll(net(x), t), [*x, *t], net.parameters(), toolchain="gcc")
    found = program.train(np.array(rows), rates, batch=3)
    losses: list[Any] = []
    for number, rate in enumerate(rates):
        net.zero_grad()
        for row in rows[3 * number : 3 * number + 3]:
            loss = softmax_nll(net([Value(v) for v in row[:6]]), [Value(v) for v in row[6:]])
            loss.backward()
            losses.append(loss.data)
        for p in net.parameters():
            p.data -= rate * p.grad
    assert bits(found) == bits(losses)
    assert bits([program.data(p) for p in net.parameters()]) == bits([p.data for p in net.parameters()])
    assert bits([program.grad(p) for p in net.parameters()]) == bits([p.grad for p in net.parameters()])


def test_the_c_does_not_depend_on_the_batch() -> None:
    model = MODELS["perceptron"]()
    program = compiled(model)
    for batch in (2, 4):
        program.train(np.array(model.samples), RATE, batch=batch)
    assert isinstance(program.engine, Rerolled)
    assert len(program.engine.batches.streams.known) == 1
