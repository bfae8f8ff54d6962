"""A compiled program is held to its graph before anyone uses it.

One step of the program and one of the graph itself, row by row in the interpreter's order, on the same
numbers: captured ones with noise, then random ones. Every output, gradient and updated parameter must have
the same bits, so an error in re-rolling, in the C or in a C compiler cannot become a wrong answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from intaglio.scalar.capture import CONST, INPUT, PARAM, Trace
from intaglio.scalar.sweeps import Array, sweep
from intaglio.shared.errors import VerifyError

if TYPE_CHECKING:
    from intaglio.scalar.rerolled import Rerolled

RATES = (1.0, 2.0**40)
"""Learning rates: one that shows the parameters, one that shows small gradients."""

NOISE = 0.01
PAIRS = 2
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
    for _ in range(PAIRS):
        sample = random.uniform(-1.5, 1.5, len(leaves))
        samples += [sample, np.where(trace.op[leaves] == PARAM, -sample, sample)]
    return samples


class Reference:
    """Data and gradients of every row for some data of the leaves."""

    def __init__(self, trace: Trace, leaves: Array, sample: Array) -> None:
        self.data = trace.k.copy()
        self.data[leaves] = sample
        columns = (trace.op, trace.a, trace.b, trace.k)
        sweep("forward_pass", len(trace), *columns, self.data)
        root = int(trace.outputs[0])
        self.grad = np.zeros(len(trace))
        self.grad[root] = 1
        sweep("backward_pass", root, *columns, self.data, self.grad)


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
    found, expected = engine.read_rows(rows[used]), expected[used]
    same = (found.view(np.int64) == expected.view(np.int64)) | (np.isnan(found) & np.isnan(expected))
    if same.all():
        return 0.0
    place = int(np.argmin(same))
    finite = np.isfinite(expected)
    if not engine.build.exact and np.array_equal(finite, np.isfinite(found)):
        away = np.abs(found[finite] - expected[finite])
        worst = float(away.max(initial=0) / max(float(np.abs(expected[finite]).max(initial=0)), 1e-300))
        if worst <= LARGEST_DEVIATION:
            return worst
        place = int(np.flatnonzero(finite)[away.argmax()])
    raise VerifyError(
        f"the compiled program disagrees with its graph: {kind} {int(np.flatnonzero(used)[place])} is "
        f"{found[place]!r}, not {expected[place]!r}",
        hint="engine='straight' compiles the graph without loops; this is a bug, please report the graph"
        if engine.build.exact
        else "the order of its sums matters too much to give up: compile with exact=True",
    )
