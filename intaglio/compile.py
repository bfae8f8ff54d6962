"""THE MAP: from a model to native code, as a table of passes. Read this first.

    front end  --capture-->  graph  --graph passes-->  graph  --Lower-->  loops  --PlanMemory-->  loops
               --EmitC-->  C source  --Build-->  shared library  --Load-->  callable

Printing, timing, verifying and stopping after a stage are done once, here, for all passes; no pass
calls another.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from intaglio.compiled import Compiled
from intaglio.graph.freeze import freeze_states
from intaglio.graph.ir import Graph
from intaglio.graph.passes import PASSES
from intaglio.graph.spec import verify as verify_graph
from intaglio.graph.text import print_graph
from intaglio.loop.alternate import alternate_loops
from intaglio.loop.groups import Decision
from intaglio.loop.ir import Program
from intaglio.loop.lower import lower
from intaglio.loop.memory import lifetime_map, plan_memory
from intaglio.loop.peel import peel_loops
from intaglio.loop.recipes.anchor import ACCURACIES, Accuracy
from intaglio.loop.schedule import kernel_names, schedule_program
from intaglio.loop.search import Records, load_records
from intaglio.loop.share import share_kernels
from intaglio.loop.spec import verify as verify_program
from intaglio.loop.text import print_program
from intaglio.loop.threads import settle_threads
from intaglio.native.emit import emit_program
from intaglio.native.targets import find_target
from intaglio.native.toolchain import buildable
from intaglio.shared.errors import ArgumentError, UnsupportedError, VerifyError
from intaglio.shared.settings import debug, default_threads, verify_passes
from intaglio.shared.target import Target

PASS_LEVELS = {
    **{one.name: one.level for one in PASSES},
    "FuseOps": 1,
    "AlterOpLayout": 3,
    "FuseChains": 3,
    "FuseAttention": 3,
    "PeelLoops": 3,
    "AlternateLoops": 3,
}
"""The passes that settings select by name, with the level each runs from."""


@dataclass(frozen=True)
class Settings:
    """How to compile; `target` is a name of `native.targets` or `native`."""

    target: str = "native"
    threads: int | None = None
    opt_level: int = 3
    disabled_passes: tuple[str, ...] = ()
    toolchain: str | None = None
    opt: str = "default"
    keep_phases: bool = False
    accuracy: Accuracy = "standard"
    tuning: Mapping[str, str] = field(default_factory=dict)
    schedules: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.accuracy not in ACCURACIES:
            raise ArgumentError(f"accuracy is {self.accuracy!r}", hint=f"use one of {', '.join(ACCURACIES)}")
        if self.opt_level not in (0, 1, 2, 3):
            raise ArgumentError(f"opt_level is {self.opt_level!r}, expected 0, 1, 2 or 3")
        if self.threads is not None and (not isinstance(self.threads, int) or self.threads < 1):
            raise ArgumentError(f"threads is {self.threads!r}, expected a positive integer")
        unknown = set(self.disabled_passes) - {*PASS_LEVELS}
        if unknown:
            known = ", ".join(PASS_LEVELS)
            raise ArgumentError(f"disabled_passes has unknown {sorted(unknown)}", hint=f"passes are {known}")

    def runs(self, name: str) -> bool:
        """Whether the pass of that name runs."""
        return PASS_LEVELS[name] <= self.opt_level and name not in self.disabled_passes

    def describe(self) -> dict[str, Any]:
        """The settings that decide what the C is, for provenance."""
        return {
            "target": self.target,
            "opt_level": self.opt_level,
            "disabled_passes": list(self.disabled_passes),
            "keep_phases": self.keep_phases,
            "accuracy": self.accuracy,
            **({"tuning": dict(self.tuning)} if self.tuning else {}),
            **({"schedules": dict(self.schedules)} if self.schedules else {}),
        }


@dataclass
class Lowered:
    """All stages of one compilation."""

    graph: Graph
    program: Program
    target: Target
    settings: Settings
    decisions: list[Decision] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def optimise(
    graph: Graph,
    settings: Settings,
    *,
    after: Callable[[str, Graph], None] | None = None,
    seconds: dict[str, float] | None = None,
) -> Graph:
    """Run the graph passes of the settings' level; `after(name, graph)` sees every intermediate graph."""
    for one in PASSES:
        if not settings.runs(one.name):
            continue
        started = time.perf_counter()
        before = graph
        graph = one.function(graph)
        spent = time.perf_counter() - started
        if seconds is not None:
            seconds[one.name] = seconds.get(one.name, 0.0) + spent
        debug(1, f"{one.name}: {len(before.nodes)} -> {len(graph.nodes)} operators, {spent * 1e3:.1f} ms")
        if verify_passes():
            _verified(one.name, verify_graph, print_graph, graph)
        if after is not None:
            after(one.name, graph)
    return graph


def to_loops(
    graph: Graph, target: Target, settings: Settings, plain: frozenset[str] = frozenset()
) -> tuple[Program, list[Decision]]:
    """An optimised graph lowered as settings say, and what was decided; `plain` kernels get plain nests."""
    return lower(
        graph,
        target,
        keep_phases=settings.keep_phases,
        fusing=settings.runs("FuseOps"),
        layouting=settings.runs("AlterOpLayout"),
        chaining=settings.runs("FuseChains"),
        attention=settings.runs("FuseAttention"),
        accuracy=settings.accuracy,
        plain=plain,
    )


def lower_graph(graph: Graph, settings: Settings) -> Lowered:
    """Everything up to loops with their memory planned."""
    target = buildable(find_target(settings.target), settings.toolchain, settings.opt)
    if settings.tuning:
        target = replace(target, tuning=Records(settings.tuning))
    seconds: dict[str, float] = {}
    debug(3, print_graph(graph))
    graph = optimise(graph, settings, seconds=seconds)
    started = time.perf_counter()
    program, decisions = to_loops(graph, target, settings, kernel_names(settings.schedules))
    settle_threads(program)
    program = share_kernels(schedule_program(program, settings.schedules))
    if settings.runs("PeelLoops"):
        program = peel_loops(program)
    if settings.runs("AlternateLoops"):
        program = alternate_loops(program, target)
    seconds["Lower"] = time.perf_counter() - started
    for decision in decisions:
        debug(2, str(decision))
    started = time.perf_counter()
    program = plan_memory(program)
    seconds["PlanMemory"] = time.perf_counter() - started
    if verify_passes():
        _verified("Lower", verify_program, print_program, program)
    debug(
        1,
        f"Lower: {len(program.kernels)} kernels, {seconds['Lower'] * 1e3:.1f} ms; "
        f"arena {program.arena_bytes} bytes",
    )
    debug(2, lifetime_map(program))
    debug(4, print_program(program))
    return Lowered(graph, program, target, settings, decisions, seconds)


def compile_graph(
    graph: Graph,
    *,
    target: str = "native",
    threads: int | None = None,
    opt_level: int = 3,
    disabled_passes: Iterable[str] = (),
    toolchain: str | None = None,
    opt: str = "default",
    keep_phases: bool = False,
    accuracy: Accuracy = "standard",
    tuning: str | Path | Mapping[str, str] | None = None,
    schedules: Mapping[str, str] | None = None,
) -> Compiled:
    """Compile a graph.

    Args:
        target: `native`, or a named target; only native code can be called in this process.
        threads: threads a call may use; default `INTAGLIO_THREADS` or all cores.
        opt_level: 0 to 3, the levels of the graph passes.
        toolchain: a C compiler's name or command; default the best there is.
        opt: `default`, or `fast-compile` for the shortest time until it runs.
        keep_phases: keep forward, backward and update of a training step as separate entry points.
        accuracy: `high` sums products as they are written, in any order; `standard` also uses formulas that
            round no worse on data of one size (Winograd's, tiles of 2 by 2); `relaxed` also some that lose
            about a decimal digit (tiles of 4 by 4).
        tuning: a file of measured choices, as `intaglio tune` writes it, or its records.
        schedules: by kernel name, schedules of plain nests, in the language of `intaglio.loop.schedule`.
    """
    records = load_records(tuning).plans if isinstance(tuning, (str, Path)) else tuning or {}
    disabled = tuple(disabled_passes)
    settings = Settings(
        target,
        threads,
        opt_level,
        disabled,
        toolchain,
        opt,
        keep_phases,
        accuracy,
        records,
        schedules=schedules or {},
    )
    return finish(lower_graph(graph, settings), source_graph=graph)


def finish(lowered: Lowered, source_graph: Graph) -> Compiled:
    """Emit the C of a lowered program and make the compiled object."""
    started = time.perf_counter()
    source = emit_program(lowered.program, lowered.target)
    lowered.seconds["EmitC"] = time.perf_counter() - started
    debug(5, source)
    settings = lowered.settings
    return Compiled(
        graph=source_graph,
        program=lowered.program,
        source=source,
        target=lowered.target,
        threads=settings.threads or default_threads(),
        toolchain=settings.toolchain,
        opt=settings.opt,
        settings=settings.describe(),
        decisions=lowered.decisions,
        seconds=lowered.seconds,
    )


def compile(
    model: Any,
    example_inputs: Sequence[Any] | None = None,
    *,
    bounds: dict[str, int] | None = None,
    shapes: Mapping[str, Any] | None = None,
    target: str = "native",
    threads: int | None = None,
    opt_level: int = 3,
    disabled_passes: Iterable[str] = (),
    toolchain: str | None = None,
    opt: str = "default",
    accuracy: Accuracy = "standard",
    tuning: str | Path | Mapping[str, str] | None = None,
    schedules: Mapping[str, str] | None = None,
) -> Any:
    """Compile a model: a `Graph`, a function or `nn.Module` over Tensors, an `.onnx` file, a PyTorch module.

    Args:
        model: what to compile. Weights that calls do not change are frozen as they are now.
        example_inputs: arrays or Tensors that fix shapes and types; needed for functions and modules.
        bounds: of an `.onnx` file: upper bounds of its named dimensions; one program serves all sizes.
        shapes: of an `.onnx` file: shapes of inputs, in place of the file's own.

    See `compile_graph` for the other arguments.

    Returns:
        A `Compiled`; of an `.onnx` file that leaves sizes open a `SpecialisedModel`, which compiles when it
        is called with new shapes.
    """
    settings: dict[str, Any] = {
        "target": target,
        "threads": threads,
        "opt_level": opt_level,
        "disabled_passes": tuple(disabled_passes),
        "toolchain": toolchain,
        "opt": opt,
        "accuracy": accuracy,
        "tuning": tuning,
        "schedules": schedules,
    }
    if isinstance(model, (str, Path)) and Path(model).suffix == ".onnx":
        from intaglio.specialised import compile_onnx

        return compile_onnx(model, bounds=bounds, shapes=shapes, **settings)
    if bounds is not None or shapes is not None:
        raise ArgumentError("compile: bounds and shapes are for .onnx files", hint="give example_inputs")
    return compile_graph(capture(model, example_inputs), **settings)


def capture(model: Any, example_inputs: Sequence[Any] | None = None) -> Graph:
    """The graph of anything `compile` takes. Raises ArgumentError or UnsupportedError otherwise."""
    if isinstance(model, Graph):
        return model
    if isinstance(model, (str, Path)):
        if Path(model).suffix == ".pt2":
            return _load_torch(model, None)
        if Path(model).suffix != ".onnx":
            raise UnsupportedError(f"{model}: only .onnx and .pt2 files can be compiled by path")
        from intaglio.readers import onnx

        imported: Graph = onnx.load(model)
        return imported
    if any(base.__module__.split(".")[0] == "torch" for base in type(model).__mro__):
        return _load_torch(model, example_inputs)
    if callable(model):
        if example_inputs is None:
            raise ArgumentError(
                "compile: a function or module needs example_inputs",
                hint="compile(model, [array, ...]) with arrays of the shapes to compile for",
            )
        from intaglio.array.trace import trace

        graph = trace(model, tuple(example_inputs)).graph
        return freeze_states(graph, [state.data.copy() for state in graph.states if state.data is not None])
    raise ArgumentError(
        f"compile: cannot compile a {type(model).__name__}",
        hint="give a function, an nn.Module, a Graph, an .onnx path or a PyTorch module",
    )


def _load_torch(model: Any, example_inputs: Sequence[Any] | None) -> Graph:
    from intaglio.readers import torch

    graph: Graph = torch.load(model, example_inputs)
    return graph


def _verified(name: str, check: Callable[[Any], None], show: Callable[[Any], str], program: Any) -> None:
    """Check a program after a pass; what breaks the rules is shown whole."""
    try:
        check(program)
    except VerifyError as error:
        raise VerifyError(f"after {name}: {error.message}\n{show(program)}", where=error.where) from error


class _CallableModule(ModuleType):
    """`intaglio.compile` is this module once it is imported, and the function for who calls it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return compile(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
