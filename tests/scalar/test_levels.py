"""Raised programs at the loop level: verified, printed, parsed back and interpreted; their size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scalar_models import MODELS, Model, convolution, moons, perceptron, recurrent, stack

from intaglio import scalar
from intaglio.loop.eval import evaluate
from intaglio.loop.ir import For, Program, walk
from intaglio.loop.spec import verify
from intaglio.loop.text import parse_program, print_program

RATE = 0.05
SMOOTH = {"recurrent"}
"""NumPy's tanh is not the C library's: equal but for the last bits."""


def compiled(model: Model, **options: Any) -> scalar.Program:
    return scalar.compile(tuple(model.outputs), model.inputs, model.parameters, toolchain="tcc", **options)


@pytest.mark.parametrize("name", MODELS)
def test_the_loop_level_serves_raised_programs(name: str) -> None:
    model = MODELS[name]()
    program = compiled(model, input_gradients=True)
    engine: Any = program.engine
    loops: Program = engine.program
    verify(loops)
    text = print_program(loops)
    again = parse_program(text)
    verify(again)
    assert print_program(again) == text
    program.set_input(model.samples[0])
    arrays = {buffer.name: np.array(engine.memory[buffer]) for buffer in loops.buffers}
    arrays["lr"][:] = RATE
    evaluate(loops, arrays)
    program.step(model.samples[0], RATE)
    for buffer in loops.buffers:
        if name in SMOOTH:
            np.testing.assert_allclose(arrays[buffer.name], engine.memory[buffer], rtol=1e-12, atol=1e-13)
        else:
            np.testing.assert_array_equal(arrays[buffer.name], engine.memory[buffer])


SIZES: dict[str, tuple[Callable[[int], Model], tuple[int, ...]]] = {
    "time steps": (lambda steps: recurrent(steps), (5, 20)),
    "state": (lambda hidden: recurrent(8, hidden), (20, 36)),
    "layers": (lambda layers: stack(layers), (5, 24)),
    "width of layers": (lambda width: stack(7, width), (8, 24)),
    "width": (lambda width: perceptron((width, width, width, 4)), (8, 40)),
    "image": (lambda size: convolution(size=size), (8, 16)),
    "padded image": (lambda size: convolution(padded=True, size=size), (8, 16)),
    "channels": (lambda channels: convolution(channels=channels), (3, 6)),
    "batch": (moons, (10, 32)),
}


@pytest.mark.parametrize("what", SIZES)
def test_the_size_of_c_does_not_grow_with_the_graph(what: str) -> None:
    """Tiles for other extents may differ in a few lines, and a small loop may be statements."""
    build, sizes = SIZES[what]
    reports = [compiled(build(size), input_gradients=False).report().counts for size in sizes]
    assert reports[-1]["rows"] > 2 * reports[0]["rows"] or what == "channels"
    loops, statements = ([report[name] for report in reports] for name in ("loops", "single statements"))
    assert max(loops) - min(loops) <= 1, loops
    assert max(statements) - min(statements) <= 8, statements
    lines = [report["lines of C"] for report in reports]
    assert max(lines) <= 1.12 * min(lines), lines


def test_time_steps_and_layers_are_loops_around_families() -> None:
    for model, turns in ((recurrent(12), 11), (stack(9), 8)):
        engine: Any = compiled(model).engine
        outer = [s for kernel in engine.program.kernels for s in walk(kernel.body)
                 if isinstance(s, For) and s.var.name == "t"]  # fmt: skip
        assert outer
        assert turns in {loop.extent for loop in outer} <= {turns - 1, turns, turns + 1}
