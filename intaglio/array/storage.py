"""What tensors look at: a box with an array, or with a value of a program that is being recorded."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.graph.ir import Value
from intaglio.shared import dtypes
from intaglio.shared.types import TensorType

Array = np.ndarray[Any, Any]


class Owner:
    """What a compiled program tells the storages it works in, and they it.

    Attributes:
        calls: how often it wrote to them.
        stale: whether one of them moved to other memory, or changed its type.
    """

    __slots__ = ("calls", "stale")

    def __init__(self) -> None:
        self.calls = 0
        self.stale = False


class Storage:
    """A box. A write usually puts another array into it; when others look at the memory itself (NumPy, a
    compiled program), the memory is overwritten.

    Attributes:
        held: an array, or a graph value.
        shared: whether other storages may look at the same memory.
        exposed: whether the memory was handed out, so that writes must reach it.
        owners: compiled programs that read or write the memory.
    """

    __slots__ = ("__weakref__", "exposed", "held", "owners", "shared", "version")

    def __init__(self, held: Array | Value) -> None:
        self.held = held
        self.shared = False
        self.exposed = False
        self.version = 0
        self.owners: tuple[Owner, ...] = ()

    @property
    def type(self) -> TensorType:
        held = self.held
        if type(held) is Value:
            return held.type
        return TensorType(dtypes.from_numpy(held.dtype), held.shape)

    @property
    def stamp(self) -> int:
        """Differs after every overwriting of the memory."""
        return self.version + sum(owner.calls for owner in self.owners) if self.owners else self.version

    def share(self) -> Array:
        """The array for another storage: a copy when others may write to its memory."""
        assert isinstance(self.held, np.ndarray)
        if self.exposed:
            return self.held.copy()
        self.shared = True
        return self.held

    def write(self, source: Storage) -> None:
        """Hold what another storage of the same type holds now."""
        assert isinstance(self.held, np.ndarray)
        assert isinstance(source.held, np.ndarray)
        if self.exposed and self.held.flags.writeable:
            np.copyto(self.held, source.held)
            self.version += 1
        else:
            self.held = source.share()
            self.shared = source.shared

    def replace(self, array: Array) -> None:
        """Hold an array, perhaps of another type, in other memory."""
        self.held, self.shared, self.exposed = array, True, False
        self.version += 1
        for owner in self.owners:
            owner.stale = True

    def expose(self) -> Array:
        """The array for others to look at and write to: no other storage looks at its memory."""
        array = self.held
        assert isinstance(array, np.ndarray)
        if not self.exposed:
            if self.shared or not array.flags.writeable or not array.flags.c_contiguous:
                self.held = array = np.array(array, order="C")
                self.shared = False
            self.exposed = True
        return array


class _Unavailable:
    """In place of a gradient that a compiled function made and did not keep."""


UNAVAILABLE = _Unavailable()
