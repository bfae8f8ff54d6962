"""The re-rolled engine: a scalar graph as loops over arrays, compiled, and the memory it works on."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from intaglio.loop.ir import Block, Call, If, Program, Slice, Stmt, block
from intaglio.loop.spec import verify
from intaglio.ops.expr import Apply, Const, Read
from intaglio.scalar.batches import Batches
from intaglio.scalar.capture import Trace
from intaglio.scalar.checking import check, check_training
from intaglio.scalar.dag import Dag
from intaglio.scalar.engines import Build, Engine, Role, refuse_input_gradient
from intaglio.scalar.gradient import training_step
from intaglio.scalar.memory import Library, Memory, moves, read_row, where
from intaglio.scalar.reroll.raising import PHASES, Raised, Step, raise_dag
from intaglio.scalar.samples import Samples
from intaglio.scalar.streaming import training
from intaglio.scalar.streams import Streams
from intaglio.scalar.sweeps import Array
from intaglio.shared import dtypes
from intaglio.shared.settings import verify_passes


def calls(steps: Sequence[Step], phase: int) -> Block:
    """The kernels of a phase in order."""
    return Block(tuple(call_of(step) for step in steps if step.phase == phase))


def call_of(step: Step) -> Call:
    return Call(step.kernel, tuple(Slice(buffer) for buffer in step.kernel.params))


def guarded(raised: Raised, body: Block) -> Block:
    """A block that runs only when nothing has gone wrong."""
    if not len(body):
        return body
    intact = Apply("eq", (Read(raised.fault, (0,), dtypes.f64), Const(0.0, dtypes.f64)), dtypes.bool_)
    return block(If(intact, body))


def loop_program(raised: Raised, name: str, phases: dict[str, Block]) -> Program:
    """A loop program that keeps every array between its runs; it has the kernels its phases call."""
    used = {id(call.kernel) for body in phases.values() for call in _calls(body)}
    steps = [step for step in raised.steps if id(step.kernel) in used]
    touched = {buffer for step in steps for buffer in step.kernel.params} | {raised.rate, raised.fault}
    states = [b for b in (*raised.buffers, raised.rate, raised.fault) if b in touched]
    return Program(name, states=states, constants=[b for b in raised.tables if b in touched],
                   kernels=[step.kernel for step in steps], phases=phases, arena_bytes=0)  # fmt: skip


def _calls(body: Block) -> list[Call]:
    found = []
    for statement in body:
        if isinstance(statement, Call):
            found.append(statement)
        elif isinstance(statement, If):
            found += _calls(statement.then)
    return found


def step_program(raised: Raised) -> Program:
    """forward, backward, update; updates wait for the all-clear."""
    phases: dict[str, Block] = {name: calls(raised.steps, PHASES[name]) for name in ("forward", "backward")}
    phases["update"] = guarded(raised, calls(raised.steps, PHASES["update"]))
    return loop_program(raised, "scalar", phases)


class Rerolled(Engine):
    """Loops over arrays."""

    name = "rerolled"

    def __init__(self, trace: Trace, build: Build, *, input_gradients: bool) -> None:
        super().__init__(trace)
        started = time.perf_counter()
        self.dag: Dag = training_step(trace, input_gradients=input_gradients)
        graph = time.perf_counter()
        self.raised = raise_dag(self.dag, build.target, exact=build.exact)
        rolled = time.perf_counter()
        self.build, self.input_gradients = build, input_gradients
        self.memory = Memory()
        self.program = step_program(self.raised)
        if verify_passes():
            verify(self.program)
        self.main = Library(self.program, build, self.memory)
        self.source = self.main.source
        self._entries = [self.main.entry(name) for name in ("forward", "backward", "update", "run")]
        self._rate, self._fault = self.memory[self.raised.rate], self.memory[self.raised.fault]
        self._on_demand: Library | None = None
        self._batches: Batches | None = None
        self.streams = Streams(self.raised, build, self.memory)
        self._fresh, self._batched = False, False
        self._scatter = moves(self.raised, self.memory, self.dag.inputs)
        leaves = np.concatenate([self.dag.parameters, self.dag.inputs])
        self._leaves = moves(self.raised, self.memory, leaves)
        self._leaf_rows = np.concatenate([trace.parameters, trace.inputs])
        checked = time.perf_counter()
        self.figures.exact, self.figures.deviation = build.exact, check(self)
        self.figures.contractions = tuple(self.raised.contractions)
        checked = time.perf_counter() - checked
        self.figures.counts = {
            "rows": len(trace), "rows with backward and update": len(self.dag), "loops": self.raised.loops,
            "single statements": self.raised.statements, "arrays": len(self.raised.buffers),
            "tables": len(self.raised.tables), "bytes of C": len(self.source),
            "lines of C": self.source.count("\n"),
        }  # fmt: skip
        self.figures.seconds = {
            "gradients": graph - started,
            "re-rolling": rolled - graph,
        } | self.main.seconds
        self.figures.seconds["check"] = checked

    def load_leaves(self, data: Array) -> None:
        """Put the numbers of parameters and inputs, given for every captured row, into their arrays."""
        for array, places, which in self._leaves:
            array[places] = data[self._leaf_rows[which]]

    def read_rows(self, rows: Array) -> Array:
        """The numbers of stored rows."""
        numbers = np.empty(len(rows))
        for array, places, which in moves(self.raised, self.memory, rows):
            numbers[which] = array[places]
        return numbers

    def set_input(self, values: Array) -> None:
        for array, places, which in self._scatter:
            array[places] = values[which]

    def _run(self, number: int) -> bool:
        self._fresh, self._batched = False, False
        self._entries[number](self.main.pointers, None, None)
        return bool(self._fault[0] == 0)

    def forward(self) -> bool:
        return self._run(0)

    def backward(self, *, onto: bool = False) -> bool:
        assert not onto, "loops that add to gradients are those of batches"
        return self._run(1)

    def update(self, lr: float) -> None:
        self._rate[0] = lr
        fresh, before = self._fresh, self._fault[0]
        self._fault[0] = 0
        self._run(2)
        self._fresh, self._fault[0] = fresh, before

    def step(self, lr: float) -> bool:
        self._rate[0] = lr
        return self._run(3)

    # Many samples

    def train(self, samples: Samples, first: int, rates: Array, results: Array) -> int:
        self._fresh, self._batched = False, False
        self._fault[0] = 0
        running = self.streams.find(training, samples)
        if not running.checked:
            check_training(self, running, samples)
            running.checked = True
        return running.over("train", samples, first, rates, results)

    @property
    def batches(self) -> Batches:
        """The loops that add up gradients, made when first needed."""
        if self._batches is None:
            self._batches = Batches(self.trace, self.build, (self.raised, self.memory),
                                    input_gradients=self.input_gradients)  # fmt: skip
        return self._batches

    def start_batch(self) -> None:
        self._batched = True
        self.batches.start()

    def add_samples(self, samples: Samples, first: int, results: Array) -> int:
        return self.batches.add(samples, first, results)

    def add_sample(self) -> None:
        self.batches.add_current()

    def end_batch(self, lr: float) -> None:
        self.batches.apply(lr)

    def _dag_row(self, role: Role, place: int) -> int:
        dag = self.dag
        rows = {"parameter": dag.parameters, "input": dag.inputs, "output": dag.outputs}
        return int(rows[role][place])

    def data(self, role: Role, place: int) -> float:
        if self._batched and role == "output":
            return self.batches.read(int(self.batches.dag.outputs[place]))
        return self.read(self._dag_row(role, place))

    def write(self, role: Role, place: int, value: float) -> None:
        array, index = where(self.raised, self.memory, self._dag_row(role, place))
        array[index] = value

    def read(self, row: int) -> float:
        """The number of a row."""
        return read_row(self.raised, self.memory, row)

    def gradient(self, role: Role, place: int) -> float:
        dag = self.batches.dag if self._batched else self.dag
        refuse_input_gradient(role, self.input_gradients)
        rows = {
            "parameter": dag.parameter_gradients,
            "input": dag.input_gradients,
            "output": dag.output_gradients,
        }
        row = int(rows[role][place])
        if row < 0:
            return 0.0
        if self._batched:
            return self.batches.read(row)
        if self.raised.facts.deferred[row]:
            self._compute_deferred()
        return self.read(row)

    def _compute_deferred(self) -> None:
        """Store the gradients that updates compute by themselves."""
        if self._fresh:
            return
        if self._on_demand is None:
            body: tuple[Stmt, ...] = calls(self.raised.steps, PHASES["gradients"]).statements
            program = loop_program(self.raised, "gradients", {"gradients": Block(body)})
            self._on_demand = Library(program, self.build, self.memory)
            self._gradients = self._on_demand.entry("gradients")
        self._gradients(self._on_demand.pointers, None, None)
        self._fresh = True
