"""Kernels that put a sample into the arrays of a program's inputs.

Where the places that are not 0 are asked for, the loop that reads them lists them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from intaglio.loop.ir import Block, Buffer, Call, For, Kernel, Slice, Store, block
from intaglio.ops.expr import Expr, Read, as_index, cast
from intaglio.scalar.reroll.addresses import Tables
from intaglio.scalar.reroll.raising import Raised, kernel_of
from intaglio.scalar.reroll.zeros import Listing
from intaglio.scalar.samples import Source
from intaglio.scalar.sweeps import Array
from intaglio.shared import dtypes
from intaglio.shared.index import Index, IndexLike, Var, var_index


@dataclass(frozen=True, eq=False)
class Reader:
    """A kernel that reads a row of `block` into arrays of inputs, and does the listings of `done`."""

    kernel: Kernel
    block: Buffer
    row: Buffer
    done: list[Listing] = field(default_factory=list)

    def call(self, sample: IndexLike) -> Call:
        """Read one sample."""
        extent = self.row.size
        assert isinstance(extent, int)
        arguments = (Slice(self.block, sample * extent) if b is self.row else Slice(b)
                     for b in self.kernel.params)  # fmt: skip
        return Call(self.kernel, tuple(arguments))


def readers(raised: Raised, sources: list[Source], blocks: list[Buffer], twins: Mapping[Buffer, Buffer],
            listings: Sequence[Listing], tables: Tables) -> list[Reader]:  # fmt: skip
    """A reader for every block; arrays that have a twin are left alone, the twin is filled.

    A listing of numbers that one loop reads in their order is done in that loop.
    """
    made = []
    first = 0
    for source, samples in zip(sources, blocks, strict=True):
        reader = _Reading(raised, source, samples, listings, tables).reader(first, twins)
        first += source.width
        if reader.kernel.params:
            made.append(reader)
    return made


class _Reading:
    def __init__(self, raised: Raised, source: Source, samples: Buffer, listings: Sequence[Listing],
                 tables: Tables) -> None:  # fmt: skip
        self.raised = raised
        self.source = source
        self.samples = samples
        self.listings, self.done = listings, list[Listing]()
        self.tables = tables
        self.row = Buffer(f"{samples.name}_row", samples.dtype, (int(source.data.shape[1]),), "input")
        self.table: Buffer | None = None

    def reader(self, first: int, twins: Mapping[Buffer, Buffer]) -> Reader:
        """The kernel of a block whose first column is input `first`."""
        storage = self.raised.storage
        rows = self.raised.dag.inputs[first : first + self.source.width]
        arrays = np.where(rows >= 0, storage.array[rows], -1)
        names, body = [], Block()
        for number in np.unique(arrays[arrays >= 0]):
            columns = np.flatnonzero(arrays == number)
            buffer = self.raised.buffers[int(number)]
            target = twins.get(buffer, buffer)
            names.append(target.name)
            body = block(body, self.moved(target, storage.place[rows[columns]], columns))
        if not names:
            return Reader(Kernel("nothing", (), (), Block()), self.samples, self.row)
        coded = self.source.table is not None
        source = f"{self._numbers().name}[{self.row.name}]" if coded else self.row.name
        doc = (f"{', '.join(names)} = {source}", *(listing.doc for listing in self.done))
        kernel = kernel_of(f"read_{'_'.join(names[:3])}", body, doc)
        return Reader(kernel, self.samples, self.row, self.done)

    def moved(self, target: Buffer, places: Array, columns: Array) -> Block:
        """Columns of the sample to places of an array."""
        loop = Var("i", 0, len(places) - 1)
        i = var_index(loop)
        read = Store(target, (self.listed(places, i),), self.value(self.listed(columns, i)))
        listing = self.listing(target, places)
        if listing is None:
            return block(For(loop, len(places), block(read)))
        self.done.append(listing)
        return listing.around(For(loop, len(places), block(read, listing.each(i))))

    def listing(self, target: Buffer, places: Array) -> Listing | None:
        """What is to be listed of exactly these places, in this order."""
        for listing in self.listings:
            wanted = listing.base + listing.step * np.arange(listing.extent)
            if listing.values is target and np.array_equal(places, wanted) and not self.done:
                return listing
        return None

    def listed(self, numbers: Array, i: Index) -> IndexLike:
        """The i-th of these numbers, from a table where they do not follow one another."""
        if (np.diff(numbers) == 1).all():
            return i + int(numbers[0])
        table = self.tables.add(numbers.astype(np.int32), "table")
        return as_index(Read(table, (i,), dtypes.i32), 0, int(numbers.max()))

    def value(self, column: IndexLike) -> Expr:
        """What the sample has for one of its inputs, as a double."""
        if self.source.table is None:
            return cast(Read(self.row, (column,), self.row.dtype), dtypes.f64)
        codes, width = self.source.table.shape
        code = cast(Read(self.row, (column // width,), self.row.dtype), dtypes.i32)
        place = as_index(code, 0, codes - 1) * width + column % width
        return Read(self._numbers(), (place,), dtypes.f64)

    def _numbers(self) -> Buffer:
        """What codes stand for."""
        assert self.source.table is not None
        if self.table is None:
            self.table = self.tables.add(self.source.table, "codes")
        return self.table
