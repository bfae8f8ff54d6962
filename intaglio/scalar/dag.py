"""A whole training step as one graph of scalar operations: forward, backward and update.

Gradients are rows like any other. In the interpreter the gradient of a value is final when it is first
read, so it is the sum, from 0 on, of the contributions of its readers from the last one in depth-first
order to the first. Nothing else of the order of execution matters to the bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from intaglio.scalar.operators import FOLD
from intaglio.scalar.sweeps import Array, sweep

LARGEST = 24
"""Operations of an expression that is written out where it is used."""

FORWARD, BACKWARD, UPDATING, ON_DEMAND, APPLYING = range(5)
"""Phases. Gradients that an update can compute by itself are stored only on demand. Where gradients of
several samples are added up, that is the updating, and applying them to the parameters follows."""


@dataclass(eq=False)
class Dag:
    """Rows stand behind their operands `a`, `b`, `c` (-1: none); `k` are constants and exponents.

    A FOLD starts with `a` and adds `c` rows, `terms[b : b + c]`, in order. An UPDATE makes the leaf `a` less
    by the rate times `b`, or with a `k` of 1 equal to `b`. `born` orders rows for a reader:
    by the value they belong to. `of` is the forward row a gradient belongs to, else -1. `outputs`, `inputs`,
    `parameters` are rows, and so are their gradients; -1 where there is none.
    """

    op: Array
    a: Array
    b: Array
    c: Array
    k: Array
    phase: Array
    born: Array
    of: Array
    terms: Array
    outputs: Array
    inputs: Array
    parameters: Array
    output_gradients: Array
    input_gradients: Array
    parameter_gradients: Array

    def __len__(self) -> int:
        return len(self.op)

    def sweep(self, name: str, *more: Array | int) -> int:
        """Run a sweep over the structure of the graph."""
        return sweep(name, len(self), self.op, self.a, self.b, self.c, *more)

    @property
    def is_fold(self) -> Array:
        mask: Array = self.op == FOLD
        return mask


def sorted_dag(dag: Dag, roots: Array) -> Dag:
    """The rows below `roots`, operands first; all others are dropped, in place."""
    n = len(dag)
    order, place, stack, following = (np.empty(n, np.int32) for _ in range(4))
    roots = np.ascontiguousarray(roots, np.int32)
    count = dag.sweep("postorder", dag.terms, len(roots), roots, order, place, stack, following)
    assert count >= 0, "a gradient depends on itself"
    del stack, following
    order = order[:count].copy()
    place = np.append(place, np.int32(-1))
    for name in ("op", "k", "phase", "born"):
        setattr(dag, name, getattr(dag, name)[order])
    fold = dag.op == FOLD
    for name in ("a", "of"):
        setattr(dag, name, place[getattr(dag, name)[order]])
    for name in ("b", "c"):
        column = getattr(dag, name)[order]
        column[~fold] = place[column[~fold]]
        setattr(dag, name, column)
    for name in ("terms", "outputs", "inputs", "parameters", "output_gradients", "input_gradients",
                 "parameter_gradients"):  # fmt: skip
        setattr(dag, name, place[getattr(dag, name)])
    return dag
