"""Search: the plans that recipes offer for a model's kernels, timed against one another.

Kernels are timed alone, each with arrays of its own: every candidate takes its turn in every round, beside a
probe of the machine's speed, and rounds in which the machine was slow do not count. A plan replaces the
estimate's choice when it is faster by more than noise; at the end the whole model is timed both ways.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from intaglio.compile import Settings, compile_graph, optimise, to_loops
from intaglio.graph.ir import Graph
from intaglio.loop.ir import Block, Buffer, Call, Kernel, Program, Slice
from intaglio.loop.memory import plan_memory
from intaglio.loop.search import Survey
from intaglio.native.targets import find_target
from intaglio.native.toolchain import buildable
from intaglio.shared.errors import ArgumentError
from intaglio.shared.target import Target
from intaglio.view import race
from intaglio.view.profile import calls_of, load_phases
from intaglio.view.timing import COMPUTED, repeats_for, seconds_per_call

NOISE = 0.03
"""A plan must be faster by this part to replace the estimate's."""
ROUNDS = 15
SLOW = 0.8
"""Rounds in which the probe is below this part of its median do not count."""
MOST_PLANS = 12
SAMPLE_SECONDS = 2e-3

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Choice:
    """What was measured for one kernel: seconds of each plan by name, the estimate's choice first."""

    key: str
    kernel: str
    seconds: Mapping[str, float]
    ratios: Mapping[str, float]

    @property
    def estimated(self) -> str:
        """The plan that estimates choose."""
        return next(iter(self.seconds))

    @property
    def best(self) -> str:
        """The fastest plan; the estimate's where no other is faster by more than noise."""
        name = min(self.ratios, key=lambda name: self.ratios[name])
        return name if self.ratios[name] < 1 - NOISE else self.estimated

    @property
    def loss(self) -> float:
        """The part by which the estimate's choice is slower than the best."""
        return 1 / self.ratios[self.best] - 1


@dataclass
class Tuned:
    """Choices, those kernels that time did not suffice for, and the whole model both ways."""

    choices: list[Choice] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0
    untuned_seconds: float = 0.0
    ratio: float = 1.0

    @property
    def records(self) -> dict[str, str]:
        return {choice.key: choice.best for choice in self.choices}

    @property
    def remarks(self) -> dict[str, str]:
        """What a reader of the records may want to know."""
        found = {}
        for one in self.choices:
            found[one.key] = f"{one.seconds[one.best] * 1e6:.1f} us"
            if one.best != one.estimated:
                found[one.key] += f"; {one.estimated}: {one.seconds[one.estimated] * 1e6:.1f} us"
        return found


@dataclass
class _Candidates:
    """The kernels that plans of one key make, by the name of the plan."""

    key: str
    order: list[str]
    kernels: dict[str, tuple[Kernel, Call]] = field(default_factory=dict)


def tune(
    graph: Graph,
    arrays: Sequence[Any],
    *,
    seconds: float,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Tuned:
    """Search plans for a graph's kernels, the ones with most work first, for about `seconds`.

    Args:
        arrays: inputs, for timing the whole model.
        settings: how to compile; its `tuning` is where nothing was searched.
        progress: told the part that is done, and what is being timed.

    Raises:
        ArgumentError: the target is not this machine.
    """
    settings = settings or Settings()
    if settings.target != "native":
        raise ArgumentError(f"tune: target {settings.target!r} is not this machine", hint="use native")
    tell = progress or (lambda part, text: None)
    started = time.perf_counter()
    target = buildable(find_target("native"), settings.toolchain, settings.opt)
    found = survey(graph, target, settings)
    result = Tuned()
    for number, one in enumerate(found):
        spent = time.perf_counter() - started
        kernel = one.kernels[one.order[0]][0].name
        if result.choices and spent > seconds * (number + 1) / len(found) and spent > 0.8 * seconds:
            result.skipped.append(kernel)
            continue
        tell(min(0.8, 0.8 * max(number / len(found), spent / seconds)), kernel)
        result.choices.append(_time(one, target))
    tell(0.8, "the whole model")
    _whole(graph, arrays, settings, result)
    tell(1.0, "done")
    return result


def survey(graph: Graph, target: Target, settings: Settings) -> list[_Candidates]:
    """Lower the graph once per rank of plans and collect the kernels they make, most work first."""
    graph = optimise(graph, settings)
    found: dict[str, _Candidates] = {}
    rank, most = 0, 1
    while rank < most:
        view = Survey(rank)
        program, _ = to_loops(graph, replace(target, tuning=view), settings)
        most = min(MOST_PLANS, max((len(names) for names in view.offered.values()), default=0))
        for call in _calls(program):
            key, _ = view.bodies.get(id(call.kernel.body), ("", None))
            if not key or rank >= len(view.offered[key]) or not _is_plain(call.kernel):
                continue
            one = found.setdefault(key, _Candidates(key, view.offered[key]))
            one.kernels.setdefault(view.offered[key][rank], (call.kernel, call))
        rank += 1
    several = [one for one in found.values() if len(one.kernels) > 1 and one.order[0] in one.kernels]
    return sorted(several, key=lambda one: -one.kernels[one.order[0]][0].flops)


def _calls(program: Program) -> Iterator[Call]:
    for body in program.phases.values():
        for statement in body:
            yield from calls_of(statement)


def _is_plain(kernel: Kernel) -> bool:
    """Whether all sizes are known."""
    return all(isinstance(extent, int) for b in kernel.params for extent in b.shape)


def _time(one: _Candidates, target: Target) -> Choice:
    names = [name for name in one.order if name in one.kernels]
    program, arrays = _program([one.kernels[name] for name in names])
    runs = load_phases(program, target, arrays)
    repeats = [repeats_for(run, SAMPLE_SECONDS) for run in runs]
    samples, speeds = [], []
    for _ in range(ROUNDS):
        speeds.append(race.probe())
        samples.append(
            [seconds_per_call(run, count, COMPUTED) for run, count in zip(runs, repeats, strict=True)]
        )
    fair = statistics.median(speeds) * SLOW
    kept = [row for row, speed in zip(samples, speeds, strict=True) if speed >= fair]
    seconds = {name: statistics.median(row[k] for row in kept) for k, name in enumerate(names)}
    ratios = {name: statistics.median(row[k] / row[0] for row in kept) for k, name in enumerate(names)}
    return Choice(one.key, one.kernels[names[0]][0].name, seconds, ratios)


def _program(kernels: Sequence[tuple[Kernel, Call]]) -> tuple[Program, list[np.ndarray[Any, Any]]]:
    """A program with a phase per kernel, and its inputs; arrays of one place and kind are shared."""
    program = Program("candidates")
    shared: dict[tuple[Any, ...], Buffer] = {}
    rng = np.random.default_rng(0)
    arrays = []
    for number, (kernel, call) in enumerate(kernels):
        renamed = replace(kernel, name=f"{kernel.name}_{number}")
        args = []
        for place, (param, given) in enumerate(zip(kernel.params, call.args, strict=True)):
            data = given.buffer.data if given.buffer.role == "constant" else None
            data = data if data is not None and data.shape == param.shape else None
            written = any(param is b for b in kernel.written)
            content = (number, id(given.buffer)) if data is not None else (place, written)
            key = (*content, param.dtype, param.shape)
            if key not in shared:
                name = f"{param.name}_{number}_{place}"
                role = "constant" if data is not None else "output" if written else "input"
                made = Buffer(name, param.dtype, param.shape, role, data=data)  # type: ignore[arg-type]
                shared[key] = made
                getattr(program, f"{role}s").append(made)
                if role == "input":
                    arrays.append(_content(made, rng))
            args.append(Slice(shared[key]))
        program.kernels.append(renamed)
        program.phases[f"plan_{number}"] = Block((Call(renamed, tuple(args)),))
    return plan_memory(program), arrays


def _content(buffer: Buffer, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    shape = tuple(int(extent) for extent in buffer.shape)  # type: ignore[arg-type]
    if buffer.dtype.is_float:
        return rng.standard_normal(shape).astype(buffer.dtype.numpy)
    return np.zeros(shape, buffer.dtype.numpy)


def _whole(graph: Graph, arrays: Sequence[Any], settings: Settings, result: Tuned) -> None:
    """Time the model as estimates make it and with the records, in turns."""

    def made(records: Mapping[str, str]) -> Callable[[], object]:
        compiled = compile_graph(
            graph,
            threads=settings.threads or 1,
            opt_level=settings.opt_level,
            disabled_passes=settings.disabled_passes,
            toolchain=settings.toolchain,
            accuracy=settings.accuracy,
            tuning={**settings.tuning, **records},
        )
        return lambda: compiled(*arrays)

    runs = [made({}), made(result.records)]
    repeats = [repeats_for(run, 10 * SAMPLE_SECONDS) for run in runs]
    pairs = list(zip(runs, repeats, strict=True))
    clock = COMPUTED if (settings.threads or 1) == 1 else time.perf_counter
    samples = [[seconds_per_call(run, count, clock) for run, count in pairs] for _ in range(ROUNDS)]
    before, after = zip(*samples, strict=True)
    result.untuned_seconds, result.seconds = statistics.median(before), statistics.median(after)
    result.ratio = statistics.median(a / b for a, b in samples)
