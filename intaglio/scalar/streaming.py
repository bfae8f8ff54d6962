"""Many samples in one call: loop programs that read samples where they lie and train on one after the other.

    for n < count:  read sample n;  forward;  keep the outputs;  backward;  update

What an update and the next sample's first sums share is one kernel (`reroll.fusing`): then the next sample is
read before the update, into twins of the inputs' arrays. A sample that goes wrong ends the work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from intaglio.loop.ir import Block, Buffer, Call, For, If, Kernel, Program, Slice, Stmt, Store, block, walk
from intaglio.ops.expr import Apply, Const, Expr, IndexValue, Read
from intaglio.scalar.capture import CONST
from intaglio.scalar.reading import readers
from intaglio.scalar.reroll.addresses import Tables
from intaglio.scalar.reroll.fusing import Fused, fuse
from intaglio.scalar.reroll.raising import PHASES, Raised, Step, kernel_of
from intaglio.scalar.samples import Source
from intaglio.shared import dtypes
from intaglio.shared.index import Index, IndexLike, Var, var_index
from intaglio.shared.target import Target

F64 = dtypes.f64


@dataclass(frozen=True, eq=False)
class Stream:
    """A loop program over samples. A call brings `blocks` and `rates`, and gets `results` and `done`."""

    program: Program
    blocks: list[Buffer]
    rates: Buffer
    results: Buffer
    done: Buffer


def training(raised: Raised, sources: list[Source], target: Target) -> Stream:
    """`train`: an update behind every sample, with a rate of its own."""
    return _Builder(raised, sources, target).training()


def accumulating(raised: Raised, sources: list[Source], target: Target) -> Stream:
    """`accumulate` adds up the gradients of all samples, `add` those of a sample that is there already.

    `apply` moves the parameters.
    """
    return _Builder(raised, sources, target).accumulating()


class _Builder:
    def __init__(self, raised: Raised, sources: list[Source], target: Target) -> None:
        self.raised = raised
        self.sources = sources
        self.target = target
        self.count = Var("count", 0)
        samples = var_index(self.count)
        self.tables = Tables()
        self.tables.buffers = list(raised.tables)
        self.results = Buffer("results", F64, (samples * len(raised.dag.outputs),), "output")
        self.rates = Buffer("rates", F64, (samples,), "input")
        self.done = Buffer("done", F64, (1,), "state")
        self.blocks = [
            Buffer(f"block{n}", dtypes.from_numpy(source.data.dtype),
                   (samples * int(source.data.shape[1]),), "input")
            for n, source in enumerate(sources, 1)
        ]  # fmt: skip
        self.result = Buffer("result", F64, (len(raised.dag.outputs),), "output")
        self.rate = Buffer("rate", F64, (1,), "input")
        self.keep, self.note = self._keep(), self._note()
        self.start = self._start()

    def training(self) -> Stream:
        raised = self.raised
        numbers = np.unique(raised.storage.array[raised.dag.inputs[raised.dag.inputs >= 0]])
        arrays = [raised.buffers[int(number)] for number in numbers]
        twins = {b: Buffer(f"next_{b.name}", F64, b.shape, "state") for b in arrays}
        fused = fuse(raised, self.target, twins, self.tables)
        if not fused:
            twins = {}
        listings = [f.zeros.listing for f in fused if f.zeros is not None]
        self.readers = readers(raised, self.sources, self.blocks, twins, listings, self.tables)
        loop = Var("n", 0)
        n = var_index(loop)
        body = self._fused(n, fused, twins) if fused else self._plain(n, self._phase("update"), rate=True)
        lists = [buffer for f in fused if f.zeros is not None for buffer in f.zeros.buffers]
        return self._stream("train", {"train": self._over(loop, body)}, [*twins.values(), *lists])

    def accumulating(self) -> Stream:
        self.readers = readers(self.raised, self.sources, self.blocks, {}, [], self.tables)
        loop = Var("n", 0)
        body = self._plain(var_index(loop), self._phase("update"), rate=False)
        phases = {
            "accumulate": self._over(loop, body),
            "add": self._phase("update"),
            "apply": self._phase("apply"),
        }
        return self._stream("batch", phases, [])

    def _stream(self, name: str, phases: dict[str, Block], more: list[Buffer]) -> Stream:
        calls = [call for body in phases.values() for call in _calls(body)]
        touched = {a.buffer for call in calls for a in call.args} | {self.raised.fault}
        own = [*self.raised.buffers, self.raised.rate, self.raised.fault, *more, self.done]
        program = Program(
            name,
            inputs=[b for b in (*self.blocks, self.rates) if b in touched],
            outputs=[self.results],
            states=[b for b in own if b in touched],
            constants=[b for b in self.tables.buffers if b in touched],
            symbols=[self.count],
            kernels=list({id(call.kernel): call.kernel for call in calls}.values()),
            phases=phases,
            arena_bytes=0,
        )
        return Stream(program, self.blocks, self.rates, self.results, self.done)

    # The driver

    def _over(self, loop: Var, body: Block) -> Block:
        return block(For(loop, var_index(self.count), block(If(self._intact(), body))))

    def _plain(self, n: Index, update: Block, *, rate: bool) -> Block:
        """Everything about sample n, then the update."""
        return block(*self._read(n), self._phase("forward"), self._call_keep(n), self._phase("backward"),
                     If(self._intact(), block(*self._ready(n, rate=rate), update)))  # fmt: skip

    def _fused(self, n: Index, fused: list[Fused], twins: dict[Buffer, Buffer]) -> Block:
        """Everything about sample n but its first sums, then the update with those of sample n + 1."""
        take = _call(self._take(twins))
        started, moved = {id(f.sums) for f in fused}, {id(f.update) for f in fused}
        updates = self._phase("update", moved)
        zeros = [f.zeros for f in fused if f.zeros is not None]
        done = [listing for reader in self.readers for listing in reader.done]
        found = [_call(z.listing.kernel()) for z in zeros if z.listing not in done]
        taken = [_call(z.take) for z in zeros]
        bounds = [_call(z.start) for z in zeros]
        begin = block(*self._read(n), take, *found, *taken, *bounds, *(_call(f.sums.kernel) for f in fused))
        following = block(*self._read(n + 1), *found, *map(self._following, fused), take, *taken)
        last = block(*(_call(f.update.kernel) for f in fused))
        is_last = _equal(IndexValue(n + 1), IndexValue(var_index(self.count)))
        return block(
            If(_equal(IndexValue(n), Const(0, dtypes.i64)), begin),
            self._phase("forward", started), self._call_keep(n), self._phase("backward"),
            If(self._intact(),
               block(*self._ready(n, rate=True), updates, If(is_last, last, following))),
        )  # fmt: skip

    @staticmethod
    def _following(fused: Fused) -> Block:
        """An update and the next sample's sums, without zeros where these can be left out."""
        zeros = fused.zeros
        if zeros is None:
            return block(_call(fused.kernel))
        sparse = _equal(Read(zeros.flag, (0,), F64), Const(1.0, F64))
        without = block(_call(zeros.update), _call(zeros.sums))
        return block(_call(zeros.guard), If(sparse, without, block(_call(fused.kernel))))

    def _phase(self, name: str, without: Iterable[int] = ()) -> Block:
        steps: list[Step] = [s for s in self.raised.steps if s.phase == PHASES[name]]
        return block(*(_call(step.kernel) for step in steps if id(step) not in without))

    def _intact(self) -> Expr:
        return _equal(Read(self.raised.fault, (0,), F64), Const(0.0, F64))

    def _read(self, n: IndexLike) -> list[Stmt]:
        return [reader.call(n) for reader in self.readers]

    # Small kernels

    def _take(self, twins: dict[Buffer, Buffer]) -> Kernel:
        """The next sample becomes this one."""
        body: list[Stmt] = []
        for buffer, twin in twins.items():
            size = buffer.shape[0]
            assert isinstance(size, int)
            loop = Var("i", 0, size - 1)
            at = (var_index(loop),)
            body.append(For(loop, size, block(Store(buffer, at, Read(twin, at, F64)))))
        return kernel_of("take_next", block(*body), ("inputs = those of the next sample",))

    def _keep(self) -> Kernel:
        """The outputs of a sample go where the caller reads them."""
        dag, storage = self.raised.dag, self.raised.storage
        body: list[Stmt] = []
        for place, row in enumerate(dag.outputs.tolist()):
            value: Expr = Const(float(dag.k[row]), F64)
            if dag.op[row] != CONST:
                buffer = self.raised.buffers[int(storage.array[row])]
                value = Read(buffer, (int(storage.place[row]),), F64)
            body.append(Store(self.result, (place,), value))
        return kernel_of("keep_outputs", block(*body), ("result = outputs of this sample",))

    def _note(self) -> Kernel:
        """One more sample is done."""
        more = Read(self.done, (0,), F64) + 1.0
        return kernel_of("note_done", block(Store(self.done, (0,), more)), ("one more sample is done",))

    def _start(self) -> Kernel:
        """The rate of an update."""
        value = Read(self.rate, (0,), F64)
        doc = ("lr = the rate of this sample",)
        return kernel_of("set_rate", block(Store(self.raised.rate, (0,), value)), doc)

    def _call_keep(self, n: Index) -> Call:
        return _call(self.keep, {self.result: Slice(self.results, n * len(self.raised.dag.outputs))})

    def _ready(self, n: Index, *, rate: bool) -> list[Stmt]:
        """Calls between a sample's gradients and its update."""
        started = _call(self.start, {self.rate: Slice(self.rates, n)})
        return [_call(self.note), started] if rate else [_call(self.note)]


def _call(kernel: Kernel, own: Mapping[Buffer, Slice] | None = None) -> Call:
    """A call on the buffers a kernel names, but for those given."""
    return Call(kernel, tuple((own or {}).get(b, Slice(b)) for b in kernel.params))


def _calls(body: Block) -> Iterator[Call]:
    return (statement for statement in walk(body) if isinstance(statement, Call))


def _equal(a: Expr, b: Expr) -> Expr:
    return Apply("eq", (a, b), dtypes.bool_)
