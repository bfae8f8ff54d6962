"""A compiled program is held to its graph before anyone uses it.

One step of the program and one of the graph itself, row by row in the interpreter's order, on the same
numbers: captured ones with noise, then random ones. Every output, gradient and updated parameter must have
the same bits, so an error in re-rolling, in the C or in a C compiler cannot become a wrong answer. Programs
over many samples are compared in the same way with single samples, when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from intaglio.scalar.capture import CONST, INPUT, PARAM, Trace
from intaglio.scalar.sweeps import Array, sweep
from intaglio.shared.errors import VerifyError

if TYPE_CHECKING:
    from intaglio.scalar.batches import Batches
    from intaglio.scalar.rerolled import Rerolled
    from intaglio.scalar.samples import Samples
    from intaglio.scalar.streams import Running

RATES = (1.0, 2.0**40)
"""Learning rates: one that shows the parameters, one that shows small gradients."""

NOISE = 0.01
PAIRS = 2
LARGE = 1 << 20
"""Rows of a graph for which one pair is enough: there are many of each kind."""

MOST_SAMPLES = 3
LARGEST_DEVIATION = 1e-4
"""Of results that may be reassociated, relative to the largest of their kind."""


def check(engine: Rerolled) -> float:
    """The largest relative deviation of the program from its graph: 0 where it must be exact.

    Raises:
        VerifyError: the program computes something else.
    """
    trace = engine.trace
    leaves = np.flatnonzero((trace.op == PARAM) | (trace.op == INPUT))
    samples = _samples(trace, leaves)
    worst = max(_compare(engine, Reference(trace, leaves, sample))
                for sample in (samples if engine.build.exact else samples[:1]))  # fmt: skip
    for array in engine.memory.changing():
        array[:] = 0
    engine.load_leaves(trace.k)
    return worst


def _samples(trace: Trace, leaves: Array) -> list[Array]:
    """Numbers for the leaves: the captured ones with noise, and random ones.

    Those come in pairs that differ in the sign of the parameters, so that what one of them clips flows
    through in the other.
    """
    random = np.random.default_rng(0)
    near = trace.k[leaves]
    samples = [np.where(near == 0, NOISE, near) * (1 + NOISE * random.random(len(leaves)))]
    for _ in range(PAIRS if len(trace) < LARGE else 1):
        sample = random.uniform(-1.5, 1.5, len(leaves))
        samples += [sample, np.where(trace.op[leaves] == PARAM, -sample, sample)]
    return samples


class Reference:
    """Data and gradients of every row for some data of the leaves."""

    def __init__(self, trace: Trace, leaves: Array, sample: Array) -> None:
        self.data, self.grad = trace.k.copy(), np.zeros(len(trace))
        self.data[leaves] = sample
        run_graph(trace, self.data, self.grad)


def run_graph(trace: Trace, data: Array, grad: Array, accumulate: Array | None = None) -> None:
    """Data and gradients of every row from those of the leaves; some rows' gradients are added to."""
    columns = (trace.op, trace.a, trace.b, trace.k)
    sweep("forward_pass", len(trace), *columns, data)
    root = int(trace.outputs[0])
    before = None if accumulate is None else grad[accumulate]
    grad[:] = 0
    if accumulate is not None:
        grad[accumulate] = before
    grad[root] = 1
    sweep("backward_pass", root, *columns, data, grad)


def _compare(engine: Rerolled, expected: Reference) -> float:
    trace, dag = engine.trace, engine.dag
    engine.load_leaves(expected.data)
    engine.forward()
    engine.backward()
    data, grad = expected.data, expected.grad
    found = [("output", dag.outputs, data[trace.outputs]),
             ("gradient of an output", dag.output_gradients, grad[trace.outputs]),
             ("gradient of an input", dag.input_gradients, grad[trace.inputs])]  # fmt: skip
    worst = max(_deviation(engine, *kind) for kind in found)
    rows = trace.parameters
    for rate in RATES if engine.build.exact else RATES[:1]:
        engine.load_leaves(expected.data)
        engine.update(rate)
        with np.errstate(all="ignore"):
            moved = data[rows] - rate * grad[rows]
        worst = max(worst, _deviation(engine, "parameter", dag.parameters, moved))
    return worst


def _deviation(engine: Rerolled, kind: str, rows: Array, expected: Array) -> float:
    used = rows >= 0
    used[used] = engine.dag.op[rows[used]] != CONST
    numbers = np.flatnonzero(used)
    return _hold(kind, numbers, engine.read_rows(rows[used]), expected[used], exact=engine.build.exact)


def _hold(kind: str, numbers: Array, found: Array, expected: Array, *, exact: bool) -> float:
    """How far numbers are from those expected. Raises VerifyError when that is too far."""
    same = (found.view(np.int64) == expected.view(np.int64)) | (np.isnan(found) & np.isnan(expected))
    if same.all():
        return 0.0
    place = int(np.argmin(same))
    finite = np.isfinite(expected)
    if not exact and np.array_equal(finite, np.isfinite(found)):
        away = np.abs(found[finite] - expected[finite])
        worst = float(away.max(initial=0) / max(float(np.abs(expected[finite]).max(initial=0)), 1e-300))
        if worst <= LARGEST_DEVIATION:
            return worst
        place = int(np.flatnonzero(finite)[away.argmax()])
    raise VerifyError(
        f"the compiled program disagrees with its graph: {kind} {int(numbers[place])} is "
        f"{float(found[place])!r}, not {float(expected[place])!r}",
        hint="engine='straight' compiles the graph without loops; this is a bug, please report the graph"
        if exact
        else "the order of its sums matters too much to give up: compile with exact=True",
    )


# Programs over many samples


def check_training(engine: Rerolled, running: Running, samples: Samples) -> None:
    """A stream's first updates are those of one sample after the other.

    Raises:
        VerifyError: they are not.
    """
    count = min(len(samples), MOST_SAMPLES)
    rates = np.linspace(0.25, 0.5, count)
    expected = np.empty((count, len(engine.trace.outputs)))
    kept = engine.memory.saved()
    done = 0
    while done < count:
        engine.set_input(samples.row(done))
        went_well = engine.forward()
        expected[done] = [engine.data("output", place) for place in range(expected.shape[1])]
        if not (went_well and engine.backward()):
            break
        engine.update(float(rates[done]))
        done += 1
    rows = engine.dag.parameters
    rows = rows[rows >= 0]
    moved = engine.read_rows(rows)
    engine.memory.restore(kept)
    results = np.zeros_like(expected)
    well = running.over("train", samples, 0, rates, results)
    _hold_samples(well, results, done, expected, exact=engine.build.exact)
    _hold("parameter", np.arange(len(rows)), engine.read_rows(rows), moved, exact=engine.build.exact)
    engine.memory.restore(kept)


def check_batch(batches: Batches, running: Running, samples: Samples) -> None:
    """A batch's first gradients are those of the graph, sample by sample.

    Raises:
        VerifyError: they are not.
    """
    trace, exact = batches.trace, batches.build.exact
    count = min(len(samples), MOST_SAMPLES)
    kept = batches.memory.saved()
    results = np.zeros((count, len(trace.outputs)))
    done = running.over("accumulate", samples, 0, np.empty(0), results)
    data, grad = trace.k.copy(), np.zeros(len(trace))
    used = trace.parameters >= 0
    parameters = trace.parameters[used]
    data[parameters] = batches.parameters()[used]
    expected = np.empty((done, len(trace.outputs)))
    for number in range(done):
        known = trace.inputs >= 0
        data[trace.inputs[known]] = samples.row(number)[known]
        run_graph(trace, data, grad, parameters)
        expected[number] = data[trace.outputs]
    _hold_samples(done, results, done, expected, exact=exact)
    found = batches.gradients()
    _hold("gradient of parameter", np.flatnonzero(used), found[used], grad[parameters], exact=exact)
    batches.memory.restore(kept)


def _hold_samples(well: int, results: Array, done: int, expected: Array, *, exact: bool) -> None:
    if well != done:
        raise VerifyError(
            f"the compiled program disagrees with its graph: {well} samples went well, not {done}"
        )
    outputs = expected.shape[1]
    numbers = np.arange(done * outputs) % outputs
    _hold("output", numbers, results[:done].reshape(-1), expected[:done].reshape(-1), exact=exact)
