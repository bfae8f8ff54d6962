"""A model as text at any stage of its compilation."""

from __future__ import annotations

import re
import sys

from intaglio.compile import PASS_LEVELS, Settings, lower_graph, optimise
from intaglio.graph.ir import Graph
from intaglio.graph.passes import PASSES
from intaglio.graph.text import print_graph
from intaglio.loop import alternate, attention, chains, fuse, layout, memory, peel
from intaglio.loop.text import print_kernel, print_program
from intaglio.native.emit import emit_program
from intaglio.shared.errors import ArgumentError

STAGES = ("graph", "fusion", "loop", "memory", "c")


def show_stage(
    graph: Graph,
    stage: str,
    settings: Settings,
    *,
    before: str | None = None,
    after: str | None = None,
    kernel: int | None = None,
) -> str:
    """The text of a stage.

    Args:
        stage: `graph`; `fusion`, which operators became one kernel and why; `loop`; `memory`, the lifetime
            map of the arena; or `c`.
        before, after: of a graph pass, for the stage `graph`; default the graph after all of them.
        kernel: only the kernel of this number, for the stage `loop`.

    Raises:
        ArgumentError: there is no such stage, pass or kernel, or the pass does not run at these settings.
    """
    if stage not in STAGES:
        raise ArgumentError(f"there is no stage {stage!r}", hint=f"stages are {', '.join(STAGES)}")
    if stage == "graph":
        return graph_text(graph, settings, before, after)
    lowered = lower_graph(graph, settings)
    if stage == "fusion":
        kernels = [f"{k.name}: {'; '.join(k.doc)}" for k in lowered.program.kernels]
        head = f"{len(kernels)} kernels from {len(lowered.graph.nodes)} operators"
        return "\n".join([head, *kernels, "", *map(str, lowered.decisions)])
    if stage == "memory":
        return memory.lifetime_map(lowered.program)
    if stage == "c":
        return emit_program(lowered.program, lowered.target)
    if kernel is None:
        return print_program(lowered.program)
    count = len(lowered.program.kernels)
    if not 0 <= kernel < count:
        raise ArgumentError(f"there is no kernel {kernel}", hint=f"there are {count}")
    return "\n".join(print_kernel(lowered.program.kernels[kernel])[1:])


def graph_text(graph: Graph, settings: Settings, before: str | None = None, after: str | None = None) -> str:
    """The graph before or behind a pass, or behind all. Raises ArgumentError when that pass does not run."""
    names = [one.name for one in PASSES]
    for wanted in (before, after):
        if wanted is not None and wanted not in names:
            raise ArgumentError(f"there is no graph pass {wanted!r}", hint=f"passes are {', '.join(names)}")
        if wanted is not None and not settings.runs(wanted):
            raise ArgumentError(f"{wanted} does not run at these settings", hint="raise --opt-level")
    running = [name for name in names if settings.runs(name)]
    if before is not None:
        place = running.index(before)
        if place == 0:
            return print_graph(graph)
        after = running[place - 1]
    seen: dict[str, str] = {}

    def keep(name: str, made: Graph) -> None:
        if name == after:
            seen[name] = print_graph(made)

    final = optimise(graph, settings, after=keep)
    return print_graph(final) if after is None else seen[after]


def pass_table() -> list[tuple[str, int, str]]:
    """Every pass in order: its name, the opt level it runs from, and what it does."""
    modules = {one.name: sys.modules[one.function.__module__] for one in PASSES}
    modules |= {"FuseOps": fuse, "AlterOpLayout": layout, "FuseChains": chains, "FuseAttention": attention}
    modules |= {"PeelLoops": peel, "AlternateLoops": alternate, "PlanMemory": memory}
    levels = {**PASS_LEVELS, "PlanMemory": 0}
    return [(name, levels[name], _summary(module.__doc__ or "")) for name, module in modules.items()]


def _summary(doc: str) -> str:
    """The first sentence behind the names that a module's text begins with."""
    return re.split(r"[.:](?=\s|$)", " ".join(doc.split()))[1].strip()
