"""Every engine gives the interpreter's bits: outputs, gradients, and parameters after many updates."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from scalar_models import MODELS, Model, random_graph, together

from intaglio import scalar
from intaglio.scalar import Value
from intaglio.scalar.program import Program

RATE = 0.05


def bits(number: float) -> bytes:
    return b"NaN" if number != number else struct.pack("d", number)


def observed(program: Program, model: Model) -> list[bytes]:
    """Outputs, gradients and parameters as bits."""
    read: list[Any] = [*model.outputs, *model.inputs, *model.parameters]
    return [bits(program.data(v)) for v in read] + [bits(program.grad(v)) for v in read]


def run(model: Model, program: Program, rounds: int) -> list[list[bytes]]:
    seen = []
    for _ in range(rounds):
        for sample in model.samples:
            try:
                program.step(sample, RATE)
            except (ArithmeticError, ValueError) as error:
                seen.append(
                    [type(error).__name__.encode(), *(bits(program.data(p)) for p in model.parameters)]
                )
            else:
                seen.append(observed(program, model))
    return seen


def compiled(model: Model, **options: Any) -> Program:
    return scalar.compile(
        tuple(model.outputs), model.inputs, model.parameters, input_gradients=True, **options
    )


@pytest.mark.parametrize("toolchain", ["gcc", "tcc"])
@pytest.mark.parametrize("name", MODELS)
def test_engines_agree_with_the_interpreter(name: str, toolchain: str) -> None:
    model = MODELS[name]()
    expected = run(model, compiled(model, engine="interpreted"), 5)
    assert run(model, compiled(model, toolchain=toolchain), 5) == expected
    if toolchain == "tcc":
        assert run(model, compiled(model, engine="straight", toolchain="tcc"), 5) == expected


@pytest.mark.parametrize("name", MODELS)
def test_the_interpreter_is_backward_of_values(name: str) -> None:
    model = MODELS[name]()
    program = compiled(model, engine="interpreted")
    for value in [*model.inputs, *model.parameters]:
        value.grad = 0
    model.outputs[0].backward()
    program.load()
    program.forward()
    program.backward()
    read = [*model.inputs, *model.parameters]
    assert [bits(program.grad(v)) for v in read] == [bits(float(v.grad)) for v in read]
    assert bits(program.data(model.outputs[0])) == bits(float(model.outputs[0].data))


def check_random(model: Model, seed: int) -> None:
    expected = run(model, compiled(model, engine="interpreted"), 2)
    assert run(model, compiled(model, toolchain="tcc"), 2) == expected, seed


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_random_graphs(first: int) -> None:
    for seed in range(first, first + 20):
        check_random(random_graph(seed), seed)


@pytest.mark.parametrize("first", range(200, 2000, 180))
def test_many_random_graphs_in_one(first: int) -> None:
    for seed in range(first, first + 180, 20):
        check_random(together([random_graph(s) for s in range(seed, seed + 20)]), seed)


@pytest.mark.parametrize("rate", [0.5, -0.1, float("inf")])
def test_parameters_that_no_gradient_reaches(rate: float) -> None:
    """Python moves them too: by rate * 0, which shows in a -0 and in NaN."""
    found = []
    for options in (
        {"engine": "interpreted"},
        {"engine": "straight", "toolchain": "tcc"},
        {"toolchain": "tcc"},
    ):
        x, p, q = Value(2.0), Value(3.0), Value(-0.0)
        program = scalar.compile((x * p, q * x), [x], [p, q], **options)
        program.step([2.0], rate)
        seen = [bits(program.data(v)) for v in (p, q)]
        for batch in (None, 2):
            program.train([[1.0], [2.0], [3.0]], rate, batch=batch)
            seen += [bits(program.data(v)) for v in (p, q)]
        found.append(seen)
    p_moved, q_moved = Value(3.0 - rate * 2.0), Value(-0.0 - rate * 0)
    assert found[0][:2] == [bits(p_moved.data), bits(q_moved.data)]
    assert found[1] == found[2] == found[0]
