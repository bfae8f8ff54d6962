"""Compiled scalar programs: what `intaglio.scalar.compile` gives."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from intaglio.native.targets import find_target
from intaglio.native.toolchain import choose
from intaglio.scalar.capture import Trace, capture, tracing
from intaglio.scalar.engines import Build, Engine, Interpreted, Role, Straight
from intaglio.scalar.interpret import Interpreter
from intaglio.scalar.report import Report
from intaglio.scalar.rerolled import Rerolled
from intaglio.scalar.samples import Samples, Values, as_numbers
from intaglio.scalar.sweeps import Array
from intaglio.scalar.trainer import Trainer
from intaglio.shared.errors import ArgumentError, DTypeError, ShapeError

EngineName: TypeAlias = Literal["rerolled", "straight", "interpreted"]
LEVELS = ("", "-O0", "-O1", "-O2", "-O3")
MOST_CHEAP_INPUTS = 64
"""With up to so many inputs their gradients are computed unless `input_gradients` says otherwise."""


def compile(
    outputs: Any,
    inputs: Sequence[Any],
    parameters: Sequence[Any] = (),
    *,
    engine: EngineName = "rerolled",
    exact: bool = True,
    toolchain: str | None = None,
    level: str = "",
    target: str = "native",
    input_gradients: bool | None = None,
) -> Program:
    """Compile the graph below a value, or several: the first is the loss, from which gradients flow.

    Args:
        outputs: a Value, or a sequence of them; `step` then gives a tuple.
        inputs: leaves that are set for each sample.
        parameters: leaves that `update` changes. All other leaves are constants from now on.
        engine: `rerolled` (loops over arrays), `straight` (a C statement per value) or `interpreted`.
        exact: keep every bit of the interpreter. False frees the order of sums and lets the compiler
            contract `a * b + c`: matrix products become as fast as those of arrays.
        toolchain: a C compiler's name (`gcc`, `clang`, `zig`, `tcc`); the best there is without it.
        level: `-O0` to `-O3` in place of the compiler's best.
        target: the machine to generate for.
        input_gradients: whether gradients of inputs are computed; by default with at most 64 inputs.

    Raises:
        ArgumentError: an input or parameter is no leaf, is named twice, or an option is not known.
        TraceError: the graph has a cycle.
        UnsupportedError: an operator that is not known.
    """
    single = not isinstance(outputs, (list, tuple))
    results = [outputs] if single else list(outputs)
    inputs, parameters = _as_list("inputs", inputs), _as_list("parameters", parameters)
    if not results:
        raise ArgumentError("compile: there is no output")
    if level not in LEVELS:
        raise ArgumentError(f"compile: level is {level!r} but must be one of {', '.join(map(repr, LEVELS))}")
    wanted = len(inputs) <= MOST_CHEAP_INPUTS if input_gradients is None else input_gradients
    started = time.perf_counter()
    with tracing():
        trace = capture(results, inputs, parameters)
        captured = time.perf_counter() - started
        made = make_engine(trace, engine, toolchain, level, target, exact=exact, input_gradients=wanted)
        made.figures.seconds = {"capture": captured} | made.figures.seconds
    return Program(made, results, inputs, parameters, single=single)


def make_engine(trace: Trace, engine: EngineName, toolchain: str | None, level: str, target: str, *,
                exact: bool, input_gradients: bool) -> Engine:  # fmt: skip
    """A captured graph in executable form."""
    if engine == "interpreted":
        return Interpreted(trace)
    if engine not in ("rerolled", "straight"):
        raise ArgumentError(
            f"compile: engine is {engine!r}", hint="use 'rerolled', 'straight' or 'interpreted'"
        )
    chosen = choose(toolchain).toolchain
    machine = find_target("generic" if chosen.kind == "tcc" else target)
    build = Build(chosen, level, machine, exact)
    if engine == "straight":
        return Straight(trace, build, input_gradients=input_gradients)
    return Rerolled(trace, build, input_gradients=input_gradients)


class Program:
    """A graph that runs: `step` is one sample's forward, backward and update.

    The values it was compiled from are not touched until `sync`.
    """

    def __init__(
        self,
        engine: Engine,
        outputs: list[Any],
        inputs: list[Any],
        parameters: list[Any],
        *,
        single: bool,
    ) -> None:
        self.engine = engine
        self.inputs, self.parameters = inputs, parameters
        self._outputs = [weakref.ref(output) for output in outputs]
        self._single = single
        self._roles: dict[int, tuple[Role, int]] = {}
        for place, output in enumerate(outputs):
            self._roles[id(output)] = ("output", place)
        for place, value in enumerate(self.inputs):
            self._roles[id(value)] = ("input", place)
        for place, value in enumerate(self.parameters):
            self._roles[id(value)] = ("parameter", place)
        self._changing = [k for k, output in enumerate(outputs) if self._roles[id(output)][0] == "parameter"]
        self._values: Array = np.array([float(value.data) for value in self.inputs])
        self._ran = self._differentiated = False

    @property
    def source(self) -> str:
        """The C; empty for the interpreter."""
        return self.engine.source

    def report(self) -> Report:
        """What the graph became and how long each step took; prints as a table."""
        figures = self.engine.figures
        return Report(self.engine.name, dict(figures.counts), dict(figures.seconds), figures.exact,
                      figures.deviation, figures.contractions)  # fmt: skip

    def set_input(self, values: Any) -> None:
        """Set the inputs, in order, from any sequence or array of numbers."""
        array = _as_values(values, len(self.inputs))
        self.engine.set_input(array)
        self._values = array
        self._ran = self._differentiated = False

    def forward(self) -> float | tuple[float, ...]:
        """Compute the outputs. Raises what the interpreter would raise."""
        if not self.engine.forward():
            self._diagnose()
        self._ran, self._differentiated = True, False
        return self._results()

    def backward(self) -> None:
        """Compute the gradients of the first output, from nothing, behind `forward`."""
        if not self._ran:
            raise ArgumentError(
                "backward: there are no results yet for these inputs", hint="call forward() first"
            )
        if not self.engine.backward():
            self._diagnose()
        self._differentiated = True

    def update(self, lr: float) -> None:
        """Move every parameter: `p -= lr * grad`, behind `backward`."""
        self._check_differentiated("update")
        self.engine.update(_as_rate(lr))
        self._ran = False

    def step(self, values: Any, lr: float) -> float | tuple[float, ...]:
        """Forward, backward and update for one sample; the outputs before the update.

        Raises what the interpreter would raise (an overflow, the log of a negative), parameters unchanged.
        """
        rate = _as_rate(lr)
        self.set_input(values)
        before = {place: self.engine.data("output", place) for place in self._changing}
        if not self.engine.step(rate):
            self._diagnose()
            self.engine.update(rate)
        self._differentiated = True
        return self._results(before)

    def train(
        self,
        values: Values,
        lr: float | Sequence[float] | Array,
        *,
        batch: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        """Steps over many samples in order, as a loop over `step` does, bit for bit.

        Samples are read where they lie, `values` may be integers of 8 bits; see `lookup` and `one_hot`.

        Args:
            values: an array with a sample in each row, or a tuple of such arrays side by side.
            lr: one rate, or one for each update.
            batch: update once for so many samples (the last time for what is left): gradients of a batch
                are added up in the order of its samples, as `backward` does without `zero_grad`.
            progress: called with the numbers of samples done and in all, several times a second.

        Returns:
            The outputs of every sample before its update: [samples], or [samples, outputs].

        Raises what the interpreter would raise; parameters are then those before that sample or its batch.
        """
        samples = Samples(values, len(self.inputs))
        results = Trainer(self.engine, samples, self._diagnosed, progress).train(lr, batch)
        if len(samples):
            self._values = samples.row(len(samples) - 1)
            self.engine.set_input(self._values)
        self._ran, self._differentiated = False, bool(len(samples))
        return results[:, 0] if self._single else results

    def _diagnosed(self, values: Array) -> None:
        self._values = values
        self._diagnose()

    def _results(self, known: Mapping[int, float] | None = None) -> float | tuple[float, ...]:
        """The outputs; `known` are those that an update has changed since."""
        known = known or {}
        places = range(len(self._outputs))
        results = tuple(known.get(place, self.engine.data("output", place)) for place in places)
        return results[0] if self._single else results

    def _check_differentiated(self, what: str) -> None:
        if not self._differentiated:
            raise ArgumentError(
                f"{what}: there are no gradients yet for these inputs",
                hint="call backward() first, or step()",
            )

    def _diagnose(self) -> None:
        """Run the interpreter on this sample: it raises, or infinities and NaN are what they should be."""
        trace = self.engine.trace
        interpreter = Interpreter(trace)
        interpreter.set(trace.inputs.tolist(), self._values.tolist())
        rows = trace.parameters.tolist()
        data = [self.engine.data("parameter", place) if row >= 0 else 0.0 for place, row in enumerate(rows)]
        interpreter.set(rows, data)
        interpreter.forward()
        if rows or getattr(self.engine, "input_gradients", True):
            interpreter.backward()

    def _role(self, value: Any) -> tuple[Role, int]:
        role, place = self._roles.get(id(value), ("output", -1))
        known = {"output": self._outputs, "input": self.inputs, "parameter": self.parameters}[role]
        found = known[place] if place >= 0 else None
        if value is not (found() if isinstance(found, weakref.ref) else found):
            raise ArgumentError(
                "this value is no output, input or parameter of the program",
                hint="name it among the outputs of compile(...) to read it",
            )
        return role, place

    def data(self, value: Any) -> float:
        """The number an output, input or parameter now has."""
        role, place = self._role(value)
        if self.engine.row(role, place) < 0:
            return float(self._values[place] if role == "input" else value.data)
        return self.engine.data(role, place)

    def grad(self, value: Any) -> float:
        """The gradient of the first output by an output, input or parameter; 0 where nothing flows."""
        role, place = self._role(value)
        self._check_differentiated("grad")
        if self.engine.row(role, place) < 0:
            return 0.0
        return self.engine.gradient(role, place)

    def sync(self) -> None:
        """Write data, and gradients if there are any, of outputs, inputs and parameters into the values."""
        outputs = [output for ref in self._outputs if (output := ref()) is not None]
        for value in (*outputs, *self.inputs, *self.parameters):
            value.data = self.data(value)
            role, _ = self._role(value)
            if self._differentiated and (role != "input" or getattr(self.engine, "input_gradients", True)):
                value.grad = self.grad(value)

    def load(self) -> None:
        """Take the data of inputs and parameters from the values."""
        for role, values in (("input", self.inputs), ("parameter", self.parameters)):
            for place, value in enumerate(values):
                if self.engine.row(role, place) >= 0:  # type: ignore[arg-type]
                    self.engine.write(role, place, float(value.data))  # type: ignore[arg-type]
        self._values = np.array([float(value.data) for value in self.inputs])
        self._ran = self._differentiated = False


def _as_list(role: str, values: Any) -> list[Any]:
    try:
        return list(values)
    except TypeError:
        kind = type(values).__name__
        raise ArgumentError(f"compile: {role} is a {kind}, not a sequence of Values") from None


def _as_rate(lr: Any) -> float:
    try:
        return float(lr)
    except (TypeError, ValueError):
        raise DTypeError(f"the learning rate is {lr!r}, which is no number") from None


def _as_values(values: Any, count: int) -> Array:
    array = as_numbers(values)
    if array.size != count:
        raise ShapeError(f"the program has {count} inputs but {array.size} values were given")
    return array.reshape(-1)
