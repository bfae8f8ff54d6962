"""Straight-line C, the simple reference: one statement per value forward, one per contribution backward.

Its C grows with the graph, and so does the compiler's time; nothing but the operators is shared with the
re-rolled engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from intaglio.scalar.capture import INPUT, PARAM, Trace
from intaglio.scalar.operators import ADD, EXP, LOG, MAX, MUL, POW, RELU, TANH
from intaglio.scalar.sweeps import Array, sweep

PART = 1000
"""Statements of one C function: compilers take more than linear time in the length of a function."""

_FORWARD = {ADD: "d[{a}] + d[{b}]", MUL: "d[{a}] * d[{b}]", POW: "pow(d[{a}], {k})",
            RELU: "d[{a}] < 0 ? 0 : d[{a}]", EXP: "exp(d[{a}])", LOG: "log(d[{a}])", TANH: "tanh(d[{a}])",
            MAX: "d[{a}] < d[{b}] ? d[{b}] : d[{a}]"}  # fmt: skip
_BACKWARD = {
    ADD: ("g[{a}] += g[{i}];", "g[{b}] += g[{i}];"),
    MUL: ("g[{a}] += d[{b}] * g[{i}];", "g[{b}] += d[{a}] * g[{i}];"),
    POW: ("g[{a}] += {k} * pow(d[{a}], {less}) * g[{i}];",),
    RELU: ("g[{a}] += (d[{i}] > 0) * g[{i}];",),
    EXP: ("g[{a}] += d[{i}] * g[{i}];",),
    LOG: ("g[{a}] += 1 / d[{a}] * g[{i}];",),
    TANH: ("g[{a}] += (1 - pow(d[{i}], 2.0)) * g[{i}];",),
    MAX: ("if (d[{b}] < d[{a}]) g[{a}] += g[{i}];", "if (!(d[{b}] < d[{a}])) g[{b}] += g[{i}];"),
}


def needed_gradients(trace: Trace, *, input_gradients: bool) -> Array:
    """Which rows need a gradient."""
    needs: Array = ((trace.op == PARAM) | ((trace.op == INPUT) & input_gradients)).astype(np.uint8)
    needs[trace.outputs] = 1
    sweep("dependent", len(trace), trace.a, trace.b, needs)
    return needs


def straight_source(trace: Trace, prefix: str, *, input_gradients: bool) -> str:
    """C functions PREFIX_forward, _backward, _update of (data, gradients, learning rate)."""
    needs = needed_gradients(trace, input_gradients=input_gradients).tolist()
    op, a, b, k = (column.tolist() for column in (trace.op, trace.a, trace.b, trace.k))
    root = int(trace.outputs[0])

    def forward() -> Iterator[str]:
        for i, code in enumerate(op):
            if code in _FORWARD:
                yield f"d[{i}] = {_FORWARD[code].format(a=a[i], b=b[i], k=repr(k[i]))};"

    def backward() -> Iterator[str]:
        for i in range(root, -1, -1):
            for place, text in zip((a[i], b[i]), _BACKWARD.get(op[i], ()), strict=False):
                if needs[place]:
                    yield text.format(i=i, a=a[i], b=b[i], k=repr(k[i]), less=repr(k[i] - 1))

    def update() -> Iterator[str]:
        for p in trace.parameters.tolist():
            if p >= 0:
                yield f"d[{p}] -= lr * g[{p}];"

    parts = {"forward": forward(), "backward": backward(), "update": update()}
    text = [f"/* {prefix}: {len(trace)} values, one statement each */", "#include <math.h>", ""]
    for name, statements in parts.items():
        text += _functions(prefix, name, statements)
    return "\n".join(text) + "\n"


def _functions(prefix: str, name: str, statements: Iterable[str]) -> Iterator[str]:
    """The statements in functions of limited length, and one that calls them in order."""
    written = list(statements)
    numbers = range(0, max(len(written), 1), PART)
    for number, first in enumerate(numbers):
        yield f"static void {name}_{number}(double *d, double *g, double lr) {{"
        yield "    (void)d; (void)g; (void)lr;"
        yield from ("    " + statement for statement in written[first : first + PART])
        yield "}"
    yield f"void {prefix}_{name}(double *d, double *g, double lr) {{"
    yield from (f"    {name}_{number}(d, g, lr);" for number in range(len(numbers)))
    yield "}"
