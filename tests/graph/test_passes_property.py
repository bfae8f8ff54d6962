"""Random networks: every pass alone, every opt level, and every pass left out agree with plain evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_like import random_network

from intaglio.compile import Settings, compile_graph, lower_graph, optimise
from intaglio.graph.eval import evaluate
from intaglio.graph.ir import Graph
from intaglio.graph.passes import PASSES
from intaglio.graph.spec import verify
from intaglio.loop.eval import evaluate as run_loops
from intaglio.shared.types import TensorType


def inputs_of(graph: Graph, seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(tuple(map(int, v.shape))).astype(np.float32) for v in graph.inputs]


def widened(graph: Graph, inputs: list[Any]) -> list[float]:
    """How much each result moves when the inputs move by some units of rounding."""
    exact = evaluate(graph, inputs)[0]
    moved = evaluate(graph, [x * np.float32(1 + 1e-6) for x in inputs])[0]
    return [float(np.max(np.abs(a - b), initial=0.0)) for a, b in zip(exact, moved, strict=True)]


def assert_agree(before: Graph, results: list[Any], inputs: list[Any]) -> None:
    expected, moves = evaluate(before, inputs)[0], widened(before, inputs)
    for a, b, move in zip(expected, results, moves, strict=True):
        scale = float(np.max(np.abs(a), initial=0.0))
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-4 * scale + 20 * move + 1e-6)


@pytest.mark.parametrize("seed", range(30))
def test_every_pass_alone_and_every_level(seed: int) -> None:
    graph = random_network(seed)
    inputs = inputs_of(graph, seed)
    for one in PASSES:
        after = one.function(graph)
        verify(after)
        assert_agree(graph, evaluate(after, inputs)[0], inputs)
    for level in range(4):
        assert_agree(graph, evaluate(optimise(graph, Settings(opt_level=level)), inputs)[0], inputs)


@pytest.mark.parametrize("name", [one.name for one in PASSES])
def test_every_pass_can_be_left_out(name: str) -> None:
    for seed in range(100, 106):
        graph = random_network(seed)
        inputs = inputs_of(graph, seed)
        seen: list[str] = []
        after = optimise(graph, Settings(disabled_passes=(name,)), after=lambda n, g: seen.append(n))
        assert seen == [one.name for one in PASSES if one.name != name]
        assert_agree(graph, evaluate(after, inputs)[0], inputs)


@pytest.mark.parametrize("level", range(4))
def test_loops_of_every_level(level: int) -> None:
    for seed in range(200, 206):
        graph = random_network(seed, steps=8)
        inputs = inputs_of(graph, seed)
        assert_agree(graph, loops(graph, Settings(opt_level=level), inputs), inputs)


def loops(graph: Graph, settings: Settings, inputs: list[Any]) -> list[Any]:
    program = lower_graph(graph, settings).program
    arrays = {b.name: x for b, x in zip(program.inputs, inputs, strict=True)}
    for buffer in program.outputs:
        arrays[buffer.name] = np.zeros(tuple(map(int, buffer.shape)), np.float32)  # type: ignore[arg-type]
    run_loops(program, arrays)
    return [arrays[b.name] for b in program.outputs]


def test_compiled_code_of_every_level() -> None:
    for seed in range(300, 302):
        graph = random_network(seed, steps=10)
        inputs = inputs_of(graph, seed)
        for level, disabled in ((0, []), (1, []), (2, []), (3, []), (3, ["FuseOps"])):
            compiled = compile_graph(
                graph, threads=1, opt="fast-compile", opt_level=level, disabled_passes=disabled
            )
            assert_agree(graph, compiled.run_arrays(inputs), inputs)


def test_every_pass_fires_on_some_network() -> None:
    """The passes on loops, sums of loops, derivatives and quantised models have tests of their own."""
    own = {"MergeLoops", "SinkConstants", "HoistReductions", "FakeQuantizationToInteger", "ReluMasks"}
    expected = {one.name for one in PASSES} - own
    fired: set[str] = set()
    for seed in range(60):
        graph = random_network(seed)

        def watch(name: str, made: Graph) -> None:
            nonlocal graph
            if made is not graph:
                fired.add(name)
            graph = made

        optimise(graph, Settings(), after=watch)
    assert expected <= fired, expected - fired


def test_shapes_of_inputs_stay() -> None:
    graph = random_network(1)
    for level in range(4):
        after = optimise(graph, Settings(opt_level=level))
        assert [v.type for v in after.inputs] == [v.type for v in graph.inputs]
        assert all(isinstance(v.type, TensorType) for v in after.outputs)
