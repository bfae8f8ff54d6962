"""A schedule at work on a kernel of a model, as text."""

from __future__ import annotations

from intaglio.compile import Settings, optimise, to_loops
from intaglio.graph.ir import Graph
from intaglio.loop.schedule import kernel_names, schedule_of
from intaglio.native.targets import find_target


def show_schedule(graph: Graph, kernel: str, steps: str, settings: Settings) -> str:
    """The plain nest of a kernel, and the nest after each step of a schedule.

    Args:
        kernel: its name, or names joined by `+` for kernels that run in a row as one.
        steps: the text of a schedule; without steps there is the plain nest only.

    Raises:
        ArgumentError: there is no such kernel.
        UnsupportedError: a step is not legal; the message says why.
    """
    plain = kernel_names({kernel: steps})
    program, _ = to_loops(optimise(graph, settings), find_target(settings.target), settings, plain)
    return schedule_of(program, kernel).apply(steps).trace()
