"""A compiled program as a folder of C: lowered again for the machine asked for, with recorded calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.compile import Settings, lower_graph
from intaglio.compiled import Compiled
from intaglio.graph.eval import evaluate
from intaglio.graph.freeze import freeze_states
from intaglio.graph.ir import Graph
from intaglio.graph.symbols import bind_symbols, defined_symbols
from intaglio.loop.ir import Program
from intaglio.native.call import conform, given_sizes
from intaglio.native.emit import required_flags
from intaglio.native.package import export_c
from intaglio.native.package_selftest import Recording, Step
from intaglio.ops.registry import lookup
from intaglio.shared.errors import ArgumentError
from intaglio.shared.index import upper
from intaglio.shared.target import Target
from intaglio.view.samples import random_input

Array = np.ndarray[Any, Any]

CALLS, TRAINING_CALLS = 2, 3
"""Calls that the self-test makes when no samples are given."""


def export(
    compiled: Compiled,
    directory: Path,
    target: Target,
    name: str | None,
    samples: Sequence[Sequence[Any]] | None,
    seed: int,
) -> Path:
    """Write a folder of C that builds by itself. States start there as they are now; those that no call
    changes, such as the parameters of a trained model, become constants.

    What the self-test must reproduce comes from the interpreter of the graph, not from compiled code.

    Raises:
        ArgumentError: the name is no prefix of C names, or the samples are not the program's inputs.
    """
    graph, chosen = freeze_states(compiled.graph, _states_now(compiled)), compiled.settings
    settings = Settings(
        target=target.name,
        opt_level=chosen["opt_level"],
        disabled_passes=tuple(chosen["disabled_passes"]),
        keep_phases=chosen["keep_phases"],
        accuracy=chosen["accuracy"],
        tuning=chosen.get("tuning", {}),
        schedules=chosen.get("schedules", {}),
    )
    program = lower_graph(graph, settings).program
    calls = _made_up(graph, seed) if samples is None else [_given(graph, sample) for sample in samples]
    return export_c(
        program,
        directory,
        recording=record(graph, program, calls),
        name=name,
        target=target,
        flags=required_flags(program),
        settings=settings.describe(),
    )


def _states_now(compiled: Compiled) -> list[Array]:
    """The states' contents: where calls have been made, what those left."""
    if "loaded" in vars(compiled):
        return list(compiled.states.values())
    return [np.asarray(state.data) for state in compiled.graph.states]


def record(graph: Graph, program: Program, calls: Sequence[Sequence[Array]]) -> Recording:
    """Run calls one after another from the initial states, in the interpreter."""
    steps = []
    graph = _with_counts(graph, program)
    states = [np.asarray(state.data) for state in graph.states]
    for inputs in calls:
        sizes = bind_symbols(graph.inputs, [array.shape for array in inputs])
        outputs, states = evaluate(graph, inputs, states)
        symbols = tuple(upper(sizes[symbol]) or 0 for symbol in program.symbols)
        steps.append(Step(tuple(inputs), tuple(map(np.asarray, outputs)), symbols))
    return Recording(tuple(steps), tuple(map(np.asarray, states)))


def _with_counts(graph: Graph, program: Program) -> Graph:
    """The graph with the sizes that the program finds and gives to the caller as further results."""
    given = given_sizes(program)
    if not given:
        return graph
    made = graph.copy()
    finders = defined_symbols(made)
    counts = []
    for var in given:
        count = finders[var].inputs[1]
        counts.append(lookup("min")(lookup("max")(count, var.lo), var.hi))
    names = [*made.output_names, *(f"{var.name} of {made.name}" for var in given)]
    made.set_outputs([*made.outputs, *counts], names)
    return made


def _made_up(graph: Graph, seed: int) -> list[list[Array]]:
    rng = np.random.default_rng(seed)
    count = TRAINING_CALLS if graph.updates else CALLS
    return [[random_input(value.type, rng) for value in graph.inputs] for _ in range(count)]


def _given(graph: Graph, sample: Sequence[Any]) -> list[Array]:
    if len(sample) != len(graph.inputs):
        names = ", ".join(value.name for value in graph.inputs)
        raise ArgumentError(
            f"export: a sample has {len(sample)} arrays but {graph.name} takes {len(graph.inputs)} ({names})"
        )
    return [conform(value.name, value.type, array) for value, array in zip(graph.inputs, sample, strict=True)]
