"""The engines behind a program: the interpreter, straight-line C and re-rolled C.

An engine keeps data and gradients somewhere and runs the phases; `locate` says where a leaf's or output's
number lives. All engines give the same bits.
"""

from __future__ import annotations

import ctypes
import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from intaglio.native.toolchain import Opt, Toolchain, build_shared
from intaglio.scalar.capture import Trace
from intaglio.scalar.interpret import Interpreter
from intaglio.scalar.operators import EXP, LOG, POW
from intaglio.scalar.samples import Samples
from intaglio.scalar.straight import straight_source
from intaglio.scalar.sweeps import Array
from intaglio.shared.errors import ArgumentError
from intaglio.shared.target import Target

Role: TypeAlias = Literal["output", "input", "parameter"]


@dataclass(frozen=True, slots=True)
class Build:
    """How C is compiled: the compiler, its level (empty for the compiler's best), the machine."""

    toolchain: Toolchain
    level: str
    target: Target
    exact: bool

    def shared(self, source: str, name: str, opt: Opt = "default") -> ctypes.CDLL:
        """A loaded library of C text; `opt` is the compiler's best or its fastest level.

        There gcc does not analyse pointers: that takes a third of its time and finds what `restrict` says.
        """
        extra: tuple[str, ...] = (self.level,) if self.level and self.toolchain.kind != "tcc" else ()
        if opt == "fast-compile" and self.toolchain.kind == "gcc":
            extra = (*extra, "-fno-tree-pta")
        path = build_shared(source, target=self.target, toolchain=self.toolchain, opt=opt,
                            exact=self.exact, name=name, extra=extra)  # fmt: skip
        return ctypes.CDLL(str(path))

    def __str__(self) -> str:
        return f"{self.toolchain.name} {self.level}".strip()


@dataclass
class Figures:
    """What a report says of an engine: see `Report`."""

    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    exact: bool = True
    deviation: float = 0.0
    contractions: tuple[str, ...] = ()


class Engine(ABC):
    """A program in some executable form."""

    name: str
    source: str = ""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.figures = Figures()
        self._empty = True

    @abstractmethod
    def set_input(self, values: Array) -> None: ...

    @abstractmethod
    def forward(self) -> bool:
        """Compute the outputs; False when Python may have raised on the way."""

    @abstractmethod
    def backward(self, *, onto: bool = False) -> bool:
        """Compute the gradients from nothing; False when Python may have raised on the way.

        With `onto` those of parameters are added to what they are.
        """

    @abstractmethod
    def update(self, lr: float) -> None: ...

    def outputs(self) -> list[float]:
        """The numbers of all outputs."""
        return [self.data("output", place) for place in range(len(self.trace.outputs))]

    def train(self, samples: Samples, first: int, rates: Array, results: Array) -> int:
        """A step on each sample from `first` on, with its rate; outputs before the update go to `results`.

        Returns how many went well. Where Python may have raised, that sample is set and computed, its
        update is left out, and none behind it is touched.
        """
        for n, rate in enumerate(rates.tolist()):
            self.set_input(samples.row(first + n))
            ran = self.forward()
            results[n] = self.outputs()
            if not (self.backward() and ran):
                return n
            self.update(rate)
        return len(rates)

    def start_batch(self) -> None:
        """From here on gradients of parameters are added up."""
        self._empty = True

    def add_samples(self, samples: Samples, first: int, results: Array) -> int:
        """Add the gradients of as many samples as there are `results`; returns how many went well."""
        for n in range(len(results)):
            self.set_input(samples.row(first + n))
            ran = self.forward()
            results[n] = self.outputs()
            if not ran:
                return n
            self.add_sample()
        return len(results)

    def add_sample(self) -> None:
        """Add the gradients of the sample that is set and computed."""
        self.backward(onto=not self._empty)
        self._empty = False

    def end_batch(self, lr: float) -> None:
        """Update the parameters by the gradients of all samples."""
        self.update(lr)

    def step(self, lr: float) -> bool:
        """All three; False, with the parameters as they were, when Python may have raised on the way."""
        ran = self.forward()
        if not (self.backward() and ran):
            return False
        self.update(lr)
        return True

    def row(self, role: Role, place: int) -> int:
        """The captured row of an output, input or parameter."""
        rows = {"parameter": self.trace.parameters, "input": self.trace.inputs, "output": self.trace.outputs}
        return int(rows[role][place])

    @abstractmethod
    def data(self, role: Role, place: int) -> float: ...

    @abstractmethod
    def gradient(self, role: Role, place: int) -> float: ...

    @abstractmethod
    def write(self, role: Role, place: int, value: float) -> None:
        """Set the data of an input or parameter."""


class Interpreted(Engine):
    """Python, row by row."""

    name = "interpreted"

    def __init__(self, trace: Trace) -> None:
        super().__init__(trace)
        self.interpreter = Interpreter(trace)
        self.figures.counts["rows"] = len(trace)

    def set_input(self, values: Array) -> None:
        self.interpreter.set(self.trace.inputs.tolist(), values.tolist())

    def forward(self) -> bool:
        self.interpreter.forward()
        return True

    def backward(self, *, onto: bool = False) -> bool:
        self.interpreter.backward(accumulate=self.trace.parameters.tolist() if onto else ())
        return True

    def update(self, lr: float) -> None:
        self.interpreter.update(self.trace.parameters.tolist(), lr)

    def data(self, role: Role, place: int) -> float:
        return float(self.interpreter.data[self.row(role, place)])

    def gradient(self, role: Role, place: int) -> float:
        return float(self.interpreter.grad[self.row(role, place)])

    def write(self, role: Role, place: int, value: float) -> None:
        self.interpreter.data[self.row(role, place)] = value


class Straight(Engine):
    """One C statement per value."""

    name = "straight"

    def __init__(self, trace: Trace, build: Build, *, input_gradients: bool) -> None:
        super().__init__(trace)
        started = time.perf_counter()
        self.source = straight_source(trace, "straight", input_gradients=input_gradients)
        written = time.perf_counter()
        library = build.shared(self.source, "straight")
        self.figures.counts = {"rows": len(trace), "bytes of C": len(self.source)}
        self.figures.seconds = {"C": written - started, "C compiler": time.perf_counter() - written}
        self.figures.exact, self.figures.deviation = build.exact, 0.0 if build.exact else math.nan
        self.values, self.gradients = trace.k.copy(), np.zeros(len(trace))
        self.input_gradients = input_gradients
        self._known = trace.inputs >= 0
        self._inputs = trace.inputs[self._known]
        self._partial = np.flatnonzero(np.isin(trace.op, (EXP, LOG, POW)))
        self._powers = trace.a[trace.op == POW]
        self._functions = {
            name: getattr(library, f"straight_{name}") for name in ("forward", "backward", "update")
        }
        for function in self._functions.values():
            function.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_double)
            function.restype = None

    def _run(self, name: str, lr: float = 0.0) -> None:
        self._functions[name](self.values.ctypes.data, self.gradients.ctypes.data, lr)

    def set_input(self, values: Array) -> None:
        self.values[self._inputs] = values[self._known]

    def forward(self) -> bool:
        self._run("forward")
        return bool(np.isfinite(self.values[self._partial]).all())

    def backward(self, *, onto: bool = False) -> bool:
        rows = self.trace.parameters[(self.trace.parameters >= 0) & onto]
        before = self.gradients[rows]
        self.gradients[:] = 0
        self.gradients[rows] = before
        self.gradients[self.trace.outputs[0]] = 1
        self._run("backward")
        return bool(np.isfinite(self.gradients[self._powers]).all())

    def update(self, lr: float) -> None:
        self._run("update", lr)

    def data(self, role: Role, place: int) -> float:
        return float(self.values[self.row(role, place)])

    def gradient(self, role: Role, place: int) -> float:
        refuse_input_gradient(role, self.input_gradients)
        return float(self.gradients[self.row(role, place)])

    def write(self, role: Role, place: int, value: float) -> None:
        self.values[self.row(role, place)] = value


def refuse_input_gradient(role: Role, computed: bool) -> None:
    """Raise when an input's gradient is asked for that no one computes."""
    if role == "input" and not computed:
        raise ArgumentError("gradients of inputs are not computed", hint="compile(..., input_gradients=True)")
