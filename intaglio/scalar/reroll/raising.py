"""A scalar graph raised to the loop level: arrays, kernels, and the phases that run them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from intaglio.loop import places
from intaglio.loop.ir import Alloc, Block, Buffer, For, Kernel, Reduce, Stmt, Store, block, walk
from intaglio.ops.expr import Const, Expr, Read
from intaglio.scalar.capture import CONST, INPUT, PARAM
from intaglio.scalar.dag import APPLYING, BACKWARD, FORWARD, ON_DEMAND, UPDATING, Dag
from intaglio.scalar.operators import FOLD, PARTIAL
from intaglio.scalar.reroll.addresses import Addresses, Domain, Tables, variables
from intaglio.scalar.reroll.bodies import Body, body_of
from intaglio.scalar.reroll.contractions import FastSum, describe, main_segment
from intaglio.scalar.reroll.families import Facts, Family, Region, analyse, find_regions
from intaglio.scalar.reroll.names import name_arrays
from intaglio.scalar.reroll.nests import F64, Nest, compose
from intaglio.scalar.reroll.storage import Storage, place_rows, target_rows
from intaglio.scalar.reroll.words import Words
from intaglio.scalar.sweeps import Array
from intaglio.shared.index import IndexLike, var_index
from intaglio.shared.target import Target

STATEMENT_TERMS = 8
"""Terms of the longest sum that is one statement."""

FEW = 2
"""Operations that are statements in any case."""

SCATTERED = 64
"""Operations of a family without regular places that are written as statements instead of a loop."""

PART = 200
"""Statements of one function of single statements."""

MOST_RUNS = 8
"""Stretches of an array that are checked one by one; beyond that all of it is."""


@dataclass(eq=False)
class Step:
    """A kernel, its phase, and the families it computes (none: single statements)."""

    kernel: Kernel
    phase: int
    regions: tuple[Region, ...] = ()


@dataclass(eq=False)
class Raised:
    """Kernels in an order in which they can run; `buffers` by array number, and two of one number."""

    dag: Dag
    facts: Facts
    storage: Storage
    buffers: list[Buffer]
    rate: Buffer
    fault: Buffer
    steps: list[Step]
    tables: list[Buffer]
    loops: int = 0
    statements: int = 0
    contractions: list[str] = field(default_factory=list)
    domains: dict[int, Domain] = field(default_factory=dict)
    bodies: dict[int, Body] = field(default_factory=dict)


def raise_dag(dag: Dag, target: Target, *, exact: bool = True) -> Raised:
    """The loops of a scalar graph. The terms of sums keep their order unless `exact` is False."""
    facts = analyse(dag)
    regions = find_regions(dag, facts)
    work: list[tuple[Region, list[Body | None]]] = []
    for region in regions:
        work.append(
            (region, [None if is_statement(dag, f) else body_of(dag, facts, f) for f in region.families])
        )
    facts.forget_hashes()
    flat = [
        (family, body)
        for region, bodies in work
        for family, body in zip(region.families, bodies, strict=True)
    ]
    lanes = target.lanes(F64.size) if target.vector_types else 1
    storage = place_rows(dag, facts, flat, lanes)
    names = name_arrays(dag, storage, flat)
    buffers = [
        Buffer(name, F64, (int(size),), "state") for name, size in zip(names, storage.sizes, strict=True)
    ]
    raised = Raised(dag, facts, storage, buffers, Buffer("lr", F64, (1,), "state"),
                    Buffer("fault", F64, (1,), "state"), [], [])  # fmt: skip
    _Raiser(raised, target, exact).run(work)
    return raised


def is_statement(dag: Dag, family: Family) -> bool:
    """Whether a family is one row that is one statement."""
    row = int(family.rows.flat[0])
    return family.rows.size == 1 and (int(dag.op[row]) != FOLD or int(dag.c[row]) <= STATEMENT_TERMS)


class _Raiser:
    def __init__(self, raised: Raised, target: Target, exact: bool) -> None:
        self.raised = raised
        self.exact = exact
        self.dag, self.facts, self.storage = raised.dag, raised.facts, raised.storage
        self.target = target
        self.tables = Tables()
        self.addresses = Addresses(self.dag, self.storage, raised.buffers, self.tables)
        self.words = Words(self.dag, self.facts, self.storage, raised.buffers)
        self.pending: list[Store] = []
        self.pending_rows: list[int] = []
        self.phase = FORWARD
        self.taken: dict[str, int] = {}

    def run(self, work: Sequence[tuple[Region, list[Body | None]]]) -> None:
        for region, bodies in work:
            if region.phase != self.phase:
                self.flush()
                self.check(self.phase)
                self.phase = region.phase
            self.region(region, bodies)
        self.flush()
        self.check(self.phase)
        used = {buffer for step in self.raised.steps for buffer in step.kernel.params}
        self.raised.tables = [table for table in self.tables.buffers if table in used]

    def region(self, region: Region, bodies: list[Body | None]) -> None:
        if bodies[0] is None and len(bodies) == 1:
            self.statement(int(region.families[0].rows.flat[0]))
            return
        pairs = list(zip(region.families, [body for body in bodies if body is not None], strict=True))
        size = sum(self.operations(family, body) for family, body in pairs)
        domains = [] if size <= FEW else [self.addresses.domain(family, body) for family, body in pairs]
        if size <= FEW or (size <= SCATTERED and any(domain.tables for domain in domains)):
            for turn in range(region.turns):
                for family in region.families:
                    for row in family.rows[turn]:
                        self.statement(int(row))
            return
        self.flush()
        self.loops(region, [body for body in bodies if body is not None], domains)

    @staticmethod
    def operations(family: Family, body: Body) -> int:
        return int(family.rows.size) * max(1, sum(s.count * len(s.templates) for s in body.segments))

    def loops(self, region: Region, bodies: list[Body], domains: list[Domain]) -> None:
        turns = variables("t", (region.turns,))
        turn = var_index(turns[0]) if region.turns > 1 else 0
        parts: list[Block] = []
        doc: list[str] = []
        numbers = count(1)
        for family, body, domain in zip(region.families, bodies, domains, strict=True):
            fast = None if self.exact else self.fast_nest(body, domain, turn, parts)
            parts.append(fast or Nest(body, domain, self.target, self.raised.rate, numbers, turn).build())
            doc.append(self.words.family(family, body) + self.note(family, body, domain))
            self.raised.domains[id(family)], self.raised.bodies[id(family)] = domain, body
        nest = block(*parts)
        if region.turns > 1:
            nest = block(For(turns[0], region.turns, nest))
        results = [self.buffer(target_rows(self.dag, family.rows)).name for family in region.families]
        verb = "update" if region.phase == UPDATING else "compute"
        self.add(f"{verb}_{'_'.join(dict.fromkeys(results[:3]))}", nest, tuple(doc), (region,))
        self.raised.loops += 1

    def fast_nest(self, body: Body, domain: Domain, turn: IndexLike, before: list[Block]) -> Block | None:
        """A fast nest for sums whose order is free."""
        number = main_segment(body)
        if number is None:
            return None
        taken = {"t", *(s.buffer.name for part in before for s in walk(part) if isinstance(s, Alloc))}
        return FastSum(body, domain, number, self.raised.rate, turn, frozenset(taken)).nest(self.target)

    def note(self, family: Family, body: Body, domain: Domain) -> str:
        """Write down which contraction a family is; in brackets, for the comment above its loop."""
        text = describe(self.dag, body, domain)
        if text is None:
            return ""
        name = self.buffer(target_rows(self.dag, family.rows)).name
        turns = f"{family.turns} times one after the other, " if family.turns > 1 else ""
        self.raised.contractions.append(f"{name}: {turns}{text}")
        return f"  ({text})"

    def add(self, name: str, body: Block, doc: tuple[str, ...], regions: tuple[Region, ...] = ()) -> None:
        kernel = kernel_of(self.unique(name), body, doc)
        self.raised.steps.append(Step(kernel, self.phase, regions))

    def unique(self, name: str) -> str:
        """The name, numbered where a kernel has it already."""
        made = name
        while made in self.taken:
            self.taken[name] += 1
            made = f"{name}_{self.taken[name]}"
        self.taken[made] = 1
        return made

    def buffer(self, rows: Array) -> Buffer:
        return self.raised.buffers[int(self.storage.array[rows.flat[0]])]

    # Single statements

    def statement(self, row: int) -> None:
        target = int(target_rows(self.dag, np.array([row]))[0])
        self.pending.append(
            Store(self.buffer(np.array([target])), (int(self.storage.place[target]),), self.row(row))
        )
        self.pending_rows.append(row)
        self.raised.statements += 1
        if len(self.pending) >= PART:
            self.flush()

    def flush(self) -> None:
        """The statements so far as a kernel."""
        if self.pending:
            self.add("statements", block(*self.pending), self.words.statements(self.pending_rows))
            self.pending, self.pending_rows = [], []

    def row(self, row: int) -> Expr:
        """The expression of a stored row."""
        op = int(self.dag.op[row])
        if op == FOLD:
            total = self.operand(int(self.dag.a[row]))
            first = int(self.dag.b[row])
            for term in self.dag.terms[first : first + int(self.dag.c[row])]:
                total = total + self.operand(int(term))
            return total
        parts = [int(column[row]) for column in (self.dag.a, self.dag.b, self.dag.c) if column[row] >= 0]
        return compose(op, float(self.dag.k[row]), [self.operand(part) for part in parts], self.raised.rate)

    def operand(self, row: int) -> Expr:
        op = int(self.dag.op[row])
        if op == CONST:
            return Const(float(self.dag.k[row]), F64)
        if self.facts.stored[row] or op in (PARAM, INPUT):
            buffer = self.raised.buffers[int(self.storage.array[row])]
            return Read(buffer, (int(self.storage.place[row]),), F64)
        return self.row(row)

    # Faults

    def check(self, phase: int) -> None:
        """Note where an exponential, logarithm or power gave no finite number: Python would have raised."""
        if phase not in (FORWARD, BACKWARD):
            return
        dag = self.dag
        partial = np.isin(dag.op, list(PARTIAL)) & (dag.phase == phase) & (self.facts.stored != 0)
        rows = np.flatnonzero(partial)
        fault = self.raised.fault
        statements: list[Stmt | Block] = [Store(fault, (0,), Const(0.0, F64))] if phase == FORWARD else []
        for number in np.unique(self.storage.array[rows]):
            places_ = np.sort(self.storage.place[rows[self.storage.array[rows] == number]])
            for first, size in _runs(places_, int(self.storage.sizes[number])):
                statements.append(self.checked(self.raised.buffers[number], first, size))
        if statements:
            self.add("check_" + ("forward", "backward")[phase], block(*statements),
                     ("fault = NaN where an exponential, logarithm or power is not finite",))  # fmt: skip

    def checked(self, buffer: Buffer, first: int, count: int) -> Block:
        loops = variables("i", (count,))
        place = var_index(loops[0]) + first if count > 1 else first
        term = Reduce(self.raised.fault, (0,), "add", Read(buffer, (place,), F64) * 0.0, ordered=True)
        return block(For(loops[0], count, block(term)) if count > 1 else term)


def kernel_of(name: str, body: Block, doc: tuple[str, ...]) -> Kernel:
    """A kernel whose parameters are what its body touches."""
    touched: dict[Buffer, None] = {}
    written: dict[Buffer, None] = {}
    local: set[Buffer] = set()
    for statement in walk(body):
        if isinstance(statement, For):
            bounds = places.index_reads(statement.start, statement.stop)
            touched |= {read.source: None for read in bounds if isinstance(read.source, Buffer)}
        elif isinstance(statement, Alloc):
            local.add(statement.buffer)
        elif isinstance(statement, (Store, Reduce)):
            written[statement.buffer] = None
            touched[statement.buffer] = None
            for read in (*places.reads(statement.value), *places.index_reads(*statement.index)):
                assert isinstance(read.source, Buffer)
                touched[read.source] = None
    params = tuple(b for b in touched if b not in local)
    return Kernel(name, params, tuple(b for b in written if b not in local), body, doc)


def _runs(places_: Array, size: int) -> list[tuple[int, int]]:
    """Stretches that cover sorted places, as (first, count)."""
    breaks = np.flatnonzero(np.diff(places_) != 1) + 1
    if len(breaks) >= MOST_RUNS:
        return [(0, size)]
    return [(int(part[0]), len(part)) for part in np.split(places_, breaks)]


PHASES = {"forward": FORWARD, "backward": BACKWARD, "update": UPDATING, "gradients": ON_DEMAND,
          "apply": APPLYING}  # fmt: skip
