"""Samples that stay as they are in memory: blocks of columns that become a program's inputs row by row.

A block is an array of numbers, or of small integers that stand for numbers in a table: pixels of 8 bits, the
number of a class. Nothing is converted beforehand; a compiled program reads the block itself.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from intaglio.scalar.sweeps import Array
from intaglio.shared.errors import ArgumentError, DTypeError, ShapeError

READABLE = ("float64", "float32", "int64", "int32", "int16", "int8", "uint32", "uint16", "uint8")
"""Types that are read where they lie; others become doubles first."""


@dataclass(frozen=True, eq=False)
class Lookup:
    """Codes and what they stand for: `table[code]` is one number, or a row of them."""

    codes: Any
    table: Any


def lookup(codes: Any, table: Any) -> Lookup:
    """Inputs `table[codes]`, looked up as samples are read: `lookup(pixels, np.arange(256) / 255)`.

    Args:
        codes: integers, one sample a row (or one code a sample).
        table: a number for every code, or a row of numbers for every code.
    """
    return Lookup(codes, table)


def one_hot(labels: Any, classes: int) -> Lookup:
    """Inputs that are 1 at the label and 0 at the other classes."""
    return Lookup(labels, np.eye(classes))


Values: TypeAlias = "Any | Lookup | tuple[Any | Lookup, ...]"
"""Samples: one block, or a tuple of blocks side by side."""


@dataclass(frozen=True, eq=False)
class Source:
    """A block of columns: `data` [samples, columns], and the table [codes, numbers] if they are codes."""

    data: Array
    table: Array | None

    @property
    def width(self) -> int:
        """How many inputs a sample gets from this block."""
        columns = int(self.data.shape[1])
        return columns if self.table is None else columns * int(self.table.shape[1])

    @property
    def kind(self) -> tuple[str, int, bytes]:
        """What code that reads such blocks depends on: type, columns, table."""
        table = b"" if self.table is None else self.table.tobytes()
        return self.data.dtype.name, int(self.data.shape[1]), table

    def row(self, sample: int) -> Array:
        """The inputs of one sample as doubles."""
        row = self.data[sample]
        numbers: Array = row if self.table is None else self.table[row]
        return numbers.astype(np.float64).reshape(-1)


class Samples:
    """Rows of inputs in one or several blocks."""

    def __init__(self, values: Values, inputs: int) -> None:
        blocks = values if isinstance(values, tuple) else (values,)
        self.sources = [_source(block) for block in blocks]
        counts = [len(source.data) for source in self.sources]
        if len(set(counts)) != 1:
            raise ShapeError(f"blocks of samples have {', '.join(map(str, counts))} rows")
        width = sum(source.width for source in self.sources)
        if width != inputs:
            shapes = " + ".join(str(source.width) for source in self.sources)
            raise ShapeError(f"the program has {inputs} inputs but a sample has {shapes} values")
        self.count = counts[0]

    def __len__(self) -> int:
        return self.count

    def row(self, sample: int) -> Array:
        """The inputs of one sample as doubles."""
        return np.concatenate([source.row(sample) for source in self.sources])


def _source(block: Any) -> Source:
    if isinstance(block, Lookup):
        return _coded(block)
    return Source(_rows(as_numbers(block, READABLE)), None)


def as_numbers(values: Any, readable: Collection[str] = ("float64",)) -> Array:
    """An array of doubles, or of one of these types.

    Text, None and complex numbers, which NumPy would convert, are refused.
    """
    try:
        array = np.asarray(values)
        none = array.dtype.kind == "O" and any(v is None for v in array.flat)
        numeric = array.dtype.kind not in "USmMc" and not none
        read = not numeric or array.dtype.name in readable
        converted = array if read else array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DTypeError(f"inputs must be numbers: {error}") from error
    if not numeric:
        raise DTypeError(f"inputs must be numbers, not {'None' if none else array.dtype}")
    return converted


def _coded(block: Lookup) -> Source:
    codes = np.asarray(block.codes)
    if codes.dtype.kind not in "iu":
        raise DTypeError(f"lookup: codes are {codes.dtype} but must be integers")
    if codes.dtype.name not in READABLE:
        codes = codes.astype(np.int64)
    table = np.asarray(block.table, np.float64)
    if table.ndim not in (1, 2) or not table.size:
        raise ShapeError(f"lookup: the table is {list(table.shape)} but must be [codes] or [codes, numbers]")
    least, largest = (int(codes.min()), int(codes.max())) if codes.size else (0, 0)
    if least < 0 or largest >= len(table):
        raise ArgumentError(f"lookup: codes are {least} to {largest} but the table has {len(table)} entries")
    return Source(_rows(codes), np.ascontiguousarray(table.reshape(len(table), -1)))


def _rows(data: Array) -> Array:
    """One sample a row, one row after the other."""
    if data.ndim == 0:
        raise ShapeError("samples must be an array with a row for each sample")
    return np.ascontiguousarray(data.reshape(len(data), math.prod(data.shape[1:])))
