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
    """The rows below `roots`, operands first; all others are dropped."""
    n = len(dag)
    order, place, stack, following = (np.empty(n, np.int32) for _ in range(4))
    roots = np.ascontiguousarray(roots, np.int32)
    count = dag.sweep("postorder", dag.terms, len(roots), roots, order, place, stack, following)
    assert count >= 0, "a gradient depends on itself"
    order = order[:count]
    place = np.append(place, np.int32(-1))
    fold = dag.op[order] == FOLD
    b, c = dag.b[order], dag.c[order]
    return Dag(
        op=dag.op[order],
        a=place[dag.a[order]],
        b=np.where(fold, b, place[np.where(fold, -1, b)]).astype(np.int32),
        c=np.where(fold, c, place[np.where(fold, -1, c)]).astype(np.int32),
        k=dag.k[order],
        phase=dag.phase[order],
        born=dag.born[order],
        of=place[dag.of[order]],
        terms=place[dag.terms],
        outputs=place[dag.outputs],
        inputs=place[dag.inputs],
        parameters=place[dag.parameters],
        output_gradients=place[dag.output_gradients],
        input_gradients=place[dag.input_gradients],
        parameter_gradients=place[dag.parameter_gradients],
    )
