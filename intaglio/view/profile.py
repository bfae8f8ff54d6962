"""Time of each kernel of a compiled model, in the order and with the caches of a real run.

Every statement of the driver becomes a phase of its own, so that it can be called, and timed, alone; a
round calls them all in order. What a call from Python costs is measured with an empty phase and taken off.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from intaglio.compiled import Compiled
from intaglio.loop.ir import Block, Call, For, If, Program, Stmt, While
from intaglio.native import toolchain as toolchains
from intaglio.native.call import CallSpec, address, prepare
from intaglio.native.emit import emit_program, is_ordered
from intaglio.native.host_memory import aligned, aligned_copies, kept
from intaglio.native.names import sanitise
from intaglio.shared.errors import ArgumentError
from intaglio.shared.target import Target
from intaglio.view.timing import COMPUTED

QUANTILE = 0.25
"""Which of the samples, from the fastest, is shown: other programs take the machine now and then."""


@dataclass(frozen=True)
class KernelTime:
    """One statement of the driver: its kernels, seconds per run, and the work it does in them."""

    name: str
    doc: tuple[str, ...]
    schedule: tuple[str, ...]
    seconds: float
    flops: int
    bytes: int

    @property
    def operators(self) -> tuple[str, ...]:
        """The operators that run in it, in order."""
        found = (re.match(r"\S+ = (\w+)\(.*\) -> \w+\[", line) for line in self.doc)
        return tuple(one[1] for one in found if one)

    @property
    def gflops(self) -> float:
        return self.flops / self.seconds / 1e9 if self.seconds > 0 else 0.0

    @property
    def gbytes(self) -> float:
        return self.bytes / self.seconds / 1e9 if self.seconds > 0 else 0.0


def profile(compiled: Compiled, arrays: Sequence[Any], rounds: int = 30) -> list[KernelTime]:
    """Time every statement of the driver, one thread.

    Args:
        arrays: one input array per input, as for a call. States keep their content.

    Raises:
        ArgumentError: the inputs do not fit, or `rounds` is not positive.
    """
    if rounds < 1:
        raise ArgumentError(f"rounds is {rounds}, expected at least 1")
    statements = [s for block in compiled.program.phases.values() for s in block]
    run = _phase_runner(compiled, statements, arrays)
    samples = np.array([run() for _ in range(rounds + 1)][1:])
    *times, idle = np.quantile(samples, QUANTILE, axis=0).tolist()
    return [_row(s, max(t - idle, 0.0)) for s, t in zip(statements, times, strict=True)]


def _row(statement: Stmt, seconds: float) -> KernelTime:
    kernels = [call.kernel for call in calls_of(statement)]
    name = kernels[0].name if isinstance(statement, Call) else f"{type(statement).__name__.lower()} loop"
    runs = [(k, n) for k, n in _runs(statement)]
    return KernelTime(
        name,
        tuple(line for kernel in kernels for line in kernel.doc),
        tuple(dict.fromkeys(line for kernel in kernels for line in kernel.schedule)),
        seconds,
        sum(k.flops * n for k, n in runs),
        sum(k.bytes * n for k, n in runs),
    )


def calls_of(statement: Stmt) -> Iterator[Call]:
    if isinstance(statement, Call):
        yield statement
    elif isinstance(statement, (For, While)):
        for inner in statement.body:
            yield from calls_of(inner)
    elif isinstance(statement, If):
        for branch in (statement.then, statement.orelse or Block()):
            for inner in branch:
                yield from calls_of(inner)


def _runs(statement: Stmt, times: int = 1) -> Iterator[tuple[Any, int]]:
    """Kernels with how often a run calls them; loops of unknown length count once."""
    if isinstance(statement, For):
        extent = statement.extent
        for inner in statement.body:
            yield from _runs(inner, times * (extent if isinstance(extent, int) else 1))
    else:
        yield from ((call.kernel, times) for call in calls_of(statement))


def _phase_runner(compiled: Compiled, statements: Sequence[Stmt], arrays: Sequence[Any]) -> Any:
    """A function that runs all statements once and returns the seconds of each, an empty one last."""
    phases = load_phases(_by_statement(compiled.program, statements), compiled.target, arrays)

    def run() -> list[float]:
        seconds = []
        for phase in phases:
            started = COMPUTED()
            phase()
            seconds.append(COMPUTED() - started)
        return seconds

    return run


def load_phases(program: Program, target: Target, arrays: Sequence[Any]) -> list[Callable[[], object]]:
    """Build a program and give each phase as a function; they share arrays, and run on one thread."""
    library = toolchains.build_shared(
        emit_program(program, target),
        target=target,
        toolchain=toolchains.choose(None).toolchain,
        exact=is_ordered(program),
        name="profile",
    )
    loaded = ctypes.CDLL(str(library))
    spec = CallSpec.of(program)
    made = prepare(spec, tuple(arrays))
    held = [*aligned_copies(spec.states), *kept(spec.constants)]
    arena = aligned(max(spec.arena_bytes, 1))
    own = [address(a) for a in (*made.inputs, *made.outputs, *held, arena)]
    buffers = (ctypes.c_void_p * len(own))(*own)
    symbols = (ctypes.c_int64 * max(len(made.symbols), 1))(*made.symbols)

    def caller(phase: str) -> Callable[[], object]:
        function = getattr(loaded, f"{sanitise(program.name)}_{phase}")

        def run(alive: Any = (made, held, arena)) -> None:
            function(buffers, symbols, None)

        return run

    return [caller(phase) for phase in program.phases]


def _by_statement(program: Program, statements: Sequence[Stmt]) -> Program:
    phases = {f"statement_{k}": Block((s,)) for k, s in enumerate(statements)}
    return replace(program, phases={**phases, "nothing": Block()})
