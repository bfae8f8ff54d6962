"""From a captured graph to a training step: contributions, sums of them, updates, and sums as folds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from intaglio.scalar.capture import CONST, INPUT, PARAM, Trace
from intaglio.scalar.dag import APPLYING, BACKWARD, FORWARD, UPDATING, Dag, sorted_dag
from intaglio.scalar.operators import (
    ADD,
    BY_CODE,
    COPY,
    FOLD,
    LEFT_WINS,
    MUL,
    ONE_MINUS,
    POSITIVE,
    POW,
    RECIPROCAL,
    RIGHT_WINS,
    UPDATE,
    Flow,
)
from intaglio.scalar.sweeps import Array, sweep
from intaglio.shared.errors import UnsupportedError

LEAST_TERMS = 4
"""Sums of fewer terms are expressions, others loops."""

_CODES = {
    "mul": MUL,
    "pow": POW,
    "square": POW,
    "positive": POSITIVE,
    "reciprocal": RECIPROCAL,
    "one_minus": ONE_MINUS,
    "left_wins": LEFT_WINS,
    "right_wins": RIGHT_WINS,
}


def training_step(trace: Trace, *, input_gradients: bool = False, accumulate: bool = False) -> Dag:
    """Forward, backward and update of a captured graph.

    Without parameters it is the forward part alone. `input_gradients` asks for those of inputs too.
    To `accumulate`, the gradients of parameters are leaves that a sample adds to and a phase of its own
    applies: `parameter_gradients` are these leaves.
    """
    columns = _Columns(trace)
    _merge_unary(columns)
    _fold_sums(columns)
    building = _Gradients(columns, input_gradients)
    gradient = building.build()
    parameters, gradients = trace.parameters, _at(gradient, trace.parameters)
    roots: list[Array] = []
    if accumulate:
        gradients, roots = building.accumulated(parameters)
    moved = parameters >= 0
    phase = APPLYING if accumulate else UPDATING
    updates = columns.rows(UPDATE, int(moved.sum()), phase, born=np.flatnonzero(moved))
    updates.a[:] = parameters[moved]
    updates.b[:] = np.where(gradients >= 0, gradients, columns.constant(0.0))[moved]
    outputs, wanted = columns.rep[trace.outputs], np.where(input_gradients, trace.inputs, -1)
    ends = [outputs, trace.inputs, parameters, _at(gradient, trace.outputs), _at(gradient, wanted), gradients]
    found = np.concatenate([*roots, *ends])
    found = np.concatenate([found[found >= 0], updates.ids])
    del building, gradient, updates
    return sorted_dag(columns.dag(ends), found)


def _at(column: Array, rows: Array) -> Array:
    """The entries of a column at rows; -1 for the row -1."""
    entries: Array = np.append(column, np.int32(-1))[rows]
    return entries


class _Block(NamedTuple):
    """New rows, and their operands to be set."""

    ids: Array
    a: Array
    b: Array


class _Columns:
    """Growing columns: those of the trace, then blocks of new rows. `rep` are rows with equal data."""

    def __init__(self, trace: Trace) -> None:
        n = len(trace)
        self.trace = trace
        self.rep = np.arange(n, dtype=np.int32)
        self.terms = np.empty(0, np.int32)
        none = np.full(n, -1, np.int32)
        born = trace.born.copy()
        for rows in (trace.parameters, trace.inputs):
            used = rows >= 0
            born[rows[used]] = np.flatnonzero(used)
        self.blocks: list[tuple[Array, ...]] = []
        self.count = 0
        self._append(trace.op.copy(), trace.a.copy(), trace.b.copy(), none, trace.k,
                     np.full(n, FORWARD, np.uint8), born, none.copy())  # fmt: skip
        self.op, self.a, self.b, self.c = self.blocks[0][:4]
        self.constants: dict[bytes, int] = {}

    def _append(self, *block: Array) -> int:
        first = self.count
        self.blocks.append(block)
        self.count += len(block[0])
        return first

    def constant(self, value: float) -> int:
        """The row of a constant."""
        key = np.float64(value).tobytes()
        if key not in self.constants:
            self.constants[key] = self._append(*self._block(CONST, 1, BACKWARD, k=value))
        return self.constants[key]

    @staticmethod
    def _block(
        op: int,
        n: int,
        phase: int,
        a: Array | int = -1,
        b: Array | int = -1,
        c: Array | int = -1,
        k: Array | float = 0.0,
        born: Array | int = 0,
        of: Array | int = -1,
    ) -> tuple[Array, ...]:
        def column(value: Array | float, dtype: type) -> Array:
            return np.full(n, value, dtype) if np.ndim(value) == 0 else np.asarray(value, dtype)

        return (column(op, np.uint8), column(a, np.int32), column(b, np.int32), column(c, np.int32),
                column(k, np.float64), column(phase, np.uint8), column(born, np.int32),
                column(of, np.int32))  # fmt: skip

    def rows(self, op: int, n: int, phase: int = BACKWARD, /, **columns: Any) -> _Block:
        """New rows of one operator."""
        block = self._block(op, n, phase, **columns)
        first = self._append(*block)
        return _Block(np.arange(first, first + n, dtype=np.int32), block[1], block[2])

    def dag(self, ends: list[Array]) -> Dag:
        """All blocks as one graph, which ends them; `ends` are outputs, inputs and so on."""
        parts = [list(column) for column in zip(*self.blocks, strict=True)]
        del self.op, self.a, self.b, self.c, self.blocks
        joined = []
        for part in parts:
            joined.append(np.concatenate(part))
            part.clear()
        op, a, b, c, k, phase, born, of = joined
        return Dag(op, a, b, c, k, phase, born, of, self.terms, *ends)


def _merge_unary(columns: _Columns) -> None:
    """Rows that apply one function to one row are computed once; their gradients stay apart."""
    trace = columns.trace
    unary = np.flatnonzero((trace.a >= 0) & (trace.b < 0))
    if not len(unary):
        return
    key = np.stack([trace.op[unary].astype(np.int64), trace.a[unary].astype(np.int64),
                    trace.k[unary].view(np.int64) * (trace.op[unary] == POW)])  # fmt: skip
    order = np.lexsort(key)
    same = np.r_[False, (key[:, order][:, 1:] == key[:, order][:, :-1]).all(axis=0)]
    first = np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))
    columns.rep[unary[order]] = unary[order][first]
    for column in (columns.a, columns.b):
        column[column >= 0] = columns.rep[column[column >= 0]]


def _fold_sums(columns: _Columns) -> None:
    """Chains of sums in the forward part become folds."""
    n = len(columns.trace)
    zero = columns.constant(-0.0)
    uses, length = np.empty(n, np.int32), np.empty(n, np.int32)
    inner, kept = np.empty(n, np.uint8), np.zeros(n, np.uint8)
    op, a, b, c = columns.op, columns.a, columns.b, columns.c
    live = np.zeros(n, np.uint8)
    live[columns.rep] = 1
    dead = live == 0
    a[dead], b[dead], op[dead] = -1, -1, CONST
    sweep("count_uses", n, op, a, b, c, columns.terms, uses)
    kept[columns.rep[columns.trace.outputs]] = 1
    terms = np.full(2 * int((op == ADD).sum()) + 1, -1, np.int32)
    used = sweep("fold_chains", n, op, a, b, c, uses, kept, zero, LEAST_TERMS - 1, terms, 0, length, inner)
    columns.terms = terms[:used]


class _Gradients:
    """Contributions to gradients and their sums."""

    def __init__(self, columns: _Columns, input_gradients: bool) -> None:
        self.columns = columns
        self.trace = trace = columns.trace
        self.root = int(trace.outputs[0])
        needs = (trace.op == PARAM) | ((trace.op == INPUT) & input_gradients)
        self.needs = needs.astype(np.uint8)
        self.needs[trace.outputs] = 1
        sweep("dependent", len(trace), trace.a, trace.b, self.needs)
        self.edges()
        self.born = columns.blocks[0][6]

    def edges(self) -> None:
        """Every use of a value that needs a gradient, in the order in which the interpreter adds."""
        trace = self.trace
        structure = (trace.a, trace.b, self.needs)
        starts = np.zeros(len(trace) + 1, np.int32)
        count = sweep("count_edges", self.root, len(trace), *structure, starts)
        self.out, self.slot = np.empty(count, np.int32), np.empty(count, np.uint8)
        sweep("group_edges", self.root, len(trace), *structure, starts, self.out, self.slot)
        self.starts, self.counts = starts[:-1], np.diff(starts)

    def build(self) -> Array:
        """For every row the row of its gradient, -1 for those that need none."""
        n, root = len(self.trace), self.root
        self.gradient = np.full(n, -1, np.int32)
        alias = self.aliases()
        own = np.flatnonzero((self.counts > 0) & (alias == np.arange(n)) & (np.arange(n) != root))
        large = self.counts[own] >= LEAST_TERMS
        self.gradient[root] = self.columns.constant(1.0)
        folds = self.fold(own[large])
        sums = [self.small(own[self.counts[own] == count], count) for count in range(1, LEAST_TERMS)]
        self.gradient = self.gradient[alias]
        self.found = contributions = self.contributions()
        self.first_term = len(self.columns.terms)
        folds.b[:] = self.first_term + self.starts[own[large]]
        self.columns.terms = np.concatenate([self.columns.terms, contributions])
        for count, blocks in enumerate(sums, 1):
            rows = own[self.counts[own] == count]
            blocks[0].a[:] = contributions[self.starts[rows]]
            for step in range(1, count):
                blocks[step].a[:] = blocks[step - 1].ids
                blocks[step].b[:] = contributions[self.starts[rows] + step]
        return self.gradient

    def accumulated(self, parameters: Array) -> tuple[Array, list[Array]]:
        """Leaves for the gradients of parameters, -1 where none flows, and the rows that add to them.

        A sum goes on where the last sample's ended: `((gradient + first) + second) + ...`.
        """
        if self.root in parameters:
            raise UnsupportedError("batches: the loss is itself a parameter", hint="train without batches")
        place = np.flatnonzero(parameters >= 0)
        place = place[self.counts[parameters[place]] > 0]
        rows = parameters[place]
        about = {"born": self.born[rows], "of": self.columns.rep[rows]}
        leaves = self.columns.rows(INPUT, len(rows), FORWARD, **about)
        total = leaves.ids.copy()
        counts, starts = self.counts[rows], self.starts[rows]
        many = counts >= LEAST_TERMS
        folds = self.columns.rows(FOLD, int(many.sum()), a=leaves.ids[many], b=self.first_term + starts[many],
                                  c=counts[many], born=about["born"][many], of=about["of"][many])  # fmt: skip
        total[many] = folds.ids
        for step in range(LEAST_TERMS - 1):
            at = (counts > step) & ~many
            total[at] = self.columns.rows(ADD, int(at.sum()), a=total[at], b=self.found[starts[at] + step],
                                          born=about["born"][at], of=about["of"][at]).ids  # fmt: skip
        kept = self.columns.rows(UPDATE, len(rows), UPDATING, a=leaves.ids, b=total, k=1.0, born=place)
        found = np.full(len(parameters), -1, np.int32)
        found[place] = leaves.ids
        return found, [kept.ids]

    def aliases(self) -> Array:
        """A value read once, by a sum, has the gradient of that sum."""
        n = len(self.trace)
        alias = np.arange(n, dtype=np.int32)
        single = np.flatnonzero(self.counts == 1)
        reader = self.out[self.starts[single]]
        copies = self.trace.op[reader] == ADD
        alias[single[copies]] = reader[copies]
        while True:
            further = alias[alias]
            if np.array_equal(further, alias):
                return alias
            alias = further

    def fold(self, rows: Array) -> _Block:
        """Folds over many contributions."""
        folds = self.columns.rows(FOLD, len(rows), a=self.columns.constant(0.0), c=self.counts[rows],
                                  born=self.born[rows], of=self.columns.rep[rows])  # fmt: skip
        self.gradient[rows] = folds.ids
        return folds

    def small(self, rows: Array, count: int) -> list[_Block]:
        """Sums of one to three contributions as chains; the last sum is the gradient."""
        about = {"born": self.born[rows], "of": self.columns.rep[rows]}
        chain = [self.columns.rows(ADD if step else COPY, len(rows), **about) for step in range(count)]
        self.gradient[rows] = chain[-1].ids
        return chain

    def contributions(self) -> Array:
        """The row of what flows along every edge."""
        found = np.full(len(self.out), -1, np.int32)
        readers = self.trace.op[self.out]
        for code in np.flatnonzero(np.bincount(readers)):
            for slot, flow in enumerate(BY_CODE[int(code)].flow):
                edges = np.flatnonzero((readers == code) & (self.slot == slot)).astype(np.int32)
                if len(edges):
                    found[edges] = self.flow(flow, self.out[edges])
        return found

    def flow(self, flow: Flow, out: Array) -> Array:
        """The rows of an expression of the operands and the gradient of `out`."""
        rep, trace = self.columns.rep, self.trace
        if isinstance(flow, str):
            if flow == "g":
                return self.gradient[out]
            if flow == "k":
                values, which = np.unique(trace.k[out], return_inverse=True)
                return np.array([self.columns.constant(v) for v in values], np.int32)[which]
            found: Array = rep[{"a": trace.a[out], "b": trace.b[out], "y": out}[flow]]
            return found
        name, *parts = flow
        assert isinstance(name, str)
        rows = [self.flow(part, out) for part in parts]
        if len(rows) > 1:
            operands = dict(zip("abc", rows, strict=False))
            return self.columns.rows(_CODES[name], len(out), born=self.born[out], **operands).ids
        exponents = {"pow": trace.k[out] - 1, "square": np.full(len(out), 2.0)}.get(name, np.zeros(len(out)))
        first, which = _distinct(rows[0], exponents)
        made = self.columns.rows(_CODES[name], len(first), a=rows[0][first], k=exponents[first],
                                 born=self.born[out][first])  # fmt: skip
        return made.ids[which]


def _distinct(rows: Array, exponents: Array) -> tuple[Array, Array]:
    """The places of distinct pairs, and for every place the number of its pair."""
    order = np.lexsort((exponents, rows))
    new = np.r_[True, (np.diff(rows[order]) != 0) | (np.diff(exponents[order]) != 0)]
    which = np.empty(len(rows), np.int64)
    which[order] = np.cumsum(new) - 1
    return order[new], which
