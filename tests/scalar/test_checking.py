"""A compiled program is compared with its graph before it is used; mistakes of every stage are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scalar_models import MODELS, perceptron

from intaglio import scalar
from intaglio.loop.ir import Block
from intaglio.ops.expr import Const, where
from intaglio.scalar import rerolled, streaming
from intaglio.scalar.capture import capture
from intaglio.scalar.checking import Reference
from intaglio.scalar.gradient import training_step
from intaglio.scalar.interpret import Interpreter
from intaglio.scalar.operators import RELU, UPDATE
from intaglio.scalar.reroll import addresses, nests
from intaglio.scalar.reroll.raising import Raised
from intaglio.shared.errors import VerifyError


def compile_model(name: str = "perceptron", **options: Any) -> scalar.Program:
    model = MODELS[name]()
    return scalar.compile(tuple(model.outputs), model.inputs, model.parameters, toolchain="tcc", **options)


def shifted_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix is read backwards."""
    real = addresses.Addresses.domain

    def domain(self: Any, family: Any, body: Any) -> Any:
        made = real(self, family, body)
        for number, walk in made.walks.items():
            if isinstance(walk, addresses.Walk) and number >= 0 and walk.rounds and walk.members:
                last = walk.base + walk.members[0] * (family.members - 1)
                back = tuple(-stride for stride in walk.members)
                made.walks[number] = replace(walk, members=back, base=last)
        return made

    monkeypatch.setattr(addresses.Addresses, "domain", domain)


def missing_term(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last piece of a tile is left out."""
    monkeypatch.setattr(
        nests, "plain_tiles", lambda extent: [(0, 1, extent - 1, [nests.Piece(0, extent - 1, 1)])]
    )


def other_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels run in the opposite order."""
    real = rerolled.raise_dag

    def raised(*arguments: Any, **options: Any) -> Raised:
        made = real(*arguments, **options)
        made.steps.reverse()
        return made

    monkeypatch.setattr(rerolled, "raise_dag", raised)


def other_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is clipped is clipped too late."""
    monkeypatch.setitem(nests.SIMPLE, RELU, lambda a: where(a < -0.5, Const(0.0, nests.F64), a))


def lost_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """One update's gradient is that of the parameter before."""

    def step(*arguments: Any, **options: Any) -> Any:
        dag = training_step(*arguments, **options)
        rows = (dag.op == UPDATE).nonzero()[0]
        dag.b[rows[1]] = dag.b[rows[0]]
        return dag

    monkeypatch.setattr(rerolled, "training_step", step)


MISTAKES: list[Callable[[pytest.MonkeyPatch], None]] = [
    shifted_walk, missing_term, other_order, other_arithmetic, lost_gradient
]  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m.__name__)
def test_a_mistake_is_found_when_compiling(mistake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_model()
    mistake(monkeypatch)
    with pytest.raises(VerifyError, match="compiled program disagrees with its graph"):
        compile_model()


@pytest.mark.parametrize("batch", [None, 2])
def test_a_mistake_in_many_samples_is_found_when_they_start(
    batch: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels of the backward pass run in the opposite order."""
    real = streaming._Builder._phase

    def phase(self: Any, name: str, *without: Any) -> Block:
        made = real(self, name, *without)
        return Block(made.statements[::-1]) if name == "backward" else made

    model = perceptron()
    samples = np.array(model.samples)
    compile_model().train(samples, 0.1, batch=batch)
    monkeypatch.setattr(streaming._Builder, "_phase", phase)
    program = compile_model()
    with pytest.raises(VerifyError, match="disagrees with its graph"):
        program.train(samples, 0.1, batch=batch)


def test_checking_leaves_the_program_as_it_was_captured() -> None:
    model = perceptron()
    program = scalar.compile(tuple(model.outputs), model.inputs, model.parameters, toolchain="tcc")
    assert [program.data(p) for p in model.parameters] == [p.data for p in model.parameters]
    assert [program.data(x) for x in model.inputs] == [x.data for x in model.inputs]
    assert not any(program.data(y) for y in model.outputs)


def test_checking_is_cheap() -> None:
    model = perceptron((100, 100, 10))
    shares = []
    for _ in range(3):
        seconds = scalar.compile(model.outputs, model.inputs, model.parameters).report().seconds
        shares.append(seconds["check"] / sum(seconds.values()))
    assert min(shares) < 0.25


def test_the_reference_is_the_interpreter() -> None:
    """The sweeps that programs are compared with give the interpreter's bits."""
    for name in ("two heads", "recurrent", "maxima"):
        model = MODELS[name]()
        trace = capture(model.outputs, model.inputs, model.parameters)
        interpreter = Interpreter(trace)
        interpreter.forward()
        interpreter.backward()
        reference = Reference(trace, trace.parameters, trace.k[trace.parameters])
        assert reference.data.tolist() == interpreter.data
        assert reference.grad.tolist() == interpreter.grad
