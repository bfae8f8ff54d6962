"""Kernels of equal layers become one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

import intaglio
from intaglio import nn
from intaglio.compile import Settings, lower_graph
from intaglio.compile import capture as capture_model
from intaglio.graph.eval import evaluate
from intaglio.loop.eval import evaluate as run_loops
from intaglio.loop.share import signature

RNG = np.random.default_rng(0)


def layers(*sizes: int) -> Any:
    intaglio.manual_seed(0)
    return nn.Sequential(*(part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.Tanh())))


def test_equal_layers_share_a_kernel_and_keep_their_results() -> None:
    x = RNG.standard_normal((3, 8)).astype(np.float32)
    graph = capture_model(layers(8, 8, 8, 8, 8), [x])
    program = lower_graph(graph, Settings(target="generic")).program
    assert len(program.kernels) == 1
    assert any("shared by 4" in line for line in program.kernels[0].doc)
    y = np.zeros((3, 8), np.float32)
    run_loops(program, {program.inputs[0].name: x, program.outputs[0].name: y})
    np.testing.assert_allclose(y, evaluate(graph, [x])[0][0], rtol=1e-5)


def test_layers_of_other_shapes_do_not_share() -> None:
    x = RNG.standard_normal((3, 8)).astype(np.float32)
    program = lower_graph(capture_model(layers(8, 4, 8, 6), [x]), Settings(target="generic")).program
    assert len(program.kernels) == 3
    assert len({signature(kernel) for kernel in program.kernels}) == 3
