"""Graphs that are deep, large or irregular: no recursion, linear cost, no slower than straight C."""

from __future__ import annotations

import random
import sys
import time
from typing import Any

import pytest
from scalar_models import Model, samples, values

from intaglio import scalar
from intaglio.scalar import Value, nn, tracing

DEEP = 300_000


def chain(length: int) -> tuple[Value, Value, Value]:
    x, w = Value(0.5), Value(1.0 - 1e-6)
    with tracing():
        last = x
        for _ in range(length // 2):
            last = (last * w).relu()
    return last, x, w


def test_a_deep_chain_is_built_differentiated_compiled_and_deleted() -> None:
    last, x, w = chain(DEEP)
    last.backward()
    program = scalar.compile(last, [x], [w])
    assert program.report().counts["lines of C"] < 300
    assert program.step([0.5], 0.0) == last.data
    assert program.grad(w) == w.grad != 0
    reference = sys.getrefcount(last)
    assert reference == 2
    del last


def test_a_deep_sum_is_one_loop() -> None:
    with tracing():
        terms = [Value(float(k % 7)) for k in range(100_000)]
        total = sum(terms)
    program = scalar.compile(total, terms)
    assert program.report().counts["loops"] <= 2
    assert program.step([float(k % 7) for k in range(100_000)], 0.0) == total.data


def test_a_million_values_cost_little() -> None:
    """Two seconds where nothing else runs; the bound leaves room for a busy machine."""
    random.seed(1)
    with tracing():
        net = nn.MLP(784, [420, 10])
        inputs = [Value(0.01) for _ in range(784)]
        loss = sum(y * y for y in net(inputs))
    started = time.process_time()
    program = scalar.compile(loss, inputs, net.parameters())
    counts = program.report().counts
    assert counts["rows"] > 1_000_000
    assert counts["lines of C"] < 500
    assert counts["single statements"] <= 4
    assert time.process_time() - started < 15
    assert program.step([0.01] * 784, 1e-6) == loss.data


def irregular(size: int, seed: int = 0) -> Model:
    """A graph of random operators on random operands, most of them recent."""
    rng = random.Random(seed)
    x, p = values(200, seed), values(200, seed + 1)
    pool: list[Any] = [*x, *p]
    for _ in range(size):
        a, b = rng.choice(pool[-2000:]), rng.choice(pool[-60:])
        makers = (lambda: a + b, lambda: a * b, lambda: a.tanh(), lambda: a.relu(), lambda: a.max(b),
                  lambda: (a * 0.1).exp())  # fmt: skip
        new = rng.choice(makers)()
        pool.append(new.tanh() if abs(new.data) > 10 else new)
    return Model([sum(pool[-300:])], x, p, samples(2, 200))


def test_an_irregular_graph_compiles_fast_and_runs_no_slower_than_straight_c() -> None:
    model = irregular(4000)
    loss, inputs, parameters = model.outputs[0], model.inputs, model.parameters
    started = time.process_time()
    options: list[dict[str, Any]] = [{}, {"engine": "straight", "level": "-O1"}]
    programs = [scalar.compile(loss, inputs, parameters, toolchain="gcc", **o) for o in options]
    assert time.process_time() - started < 10
    counts = programs[0].report().counts
    assert counts["single statements"] > 1000
    assert counts["arrays"] <= 32
    best = [1.0, 1.0]
    for _ in range(200):
        for k, program in enumerate(programs):
            started = time.perf_counter()
            program.step(model.samples[0], 0.0)
            best[k] = min(best[k], time.perf_counter() - started)
    assert best[0] < best[1]
    for sample in model.samples:
        assert programs[0].step(sample, 0.01) == programs[1].step(sample, 0.01)
    assert [programs[0].data(p) for p in parameters] == [programs[1].data(p) for p in parameters]


@pytest.mark.parametrize("seed", range(3))
def test_irregular_graphs_have_the_bits_of_the_interpreter(seed: int) -> None:
    model = irregular(600, seed)
    graph = (model.outputs[0], model.inputs, model.parameters)
    expected, found = scalar.compile(*graph, engine="interpreted"), scalar.compile(*graph, toolchain="tcc")
    for sample in model.samples:
        assert found.step(sample, 0.01) == expected.step(sample, 0.01)
    assert [found.data(p) for p in model.parameters] == [expected.data(p) for p in model.parameters]
