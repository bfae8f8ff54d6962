"""Graphs of modules, and lowered programs of one input and one output through the interpreter."""

from __future__ import annotations

import numpy as np

from intaglio import nn
from intaglio.array.trace import trace
from intaglio.graph.freeze import freeze_states
from intaglio.graph.ir import Graph
from intaglio.loop.eval import evaluate
from intaglio.loop.ir import Program
from intaglio.loop.memory import plan_memory
from intaglio.loop.spec import verify


def graph_of(model: nn.Module, x: np.ndarray) -> Graph:
    return freeze_states(trace(model, (x,)).graph)


def run(program: Program, x: np.ndarray, like: np.ndarray) -> np.ndarray:
    program = plan_memory(program)
    verify(program)
    arrays = {program.inputs[0].name: x, program.outputs[0].name: np.full(like.shape, np.nan, np.float32)}
    evaluate(program, arrays)
    return arrays[program.outputs[0].name]
