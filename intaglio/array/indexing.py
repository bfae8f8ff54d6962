"""Indexing as PyTorch has it: numbers, slices, `None`, `...`, masks and index tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.array.tensor import Tensor, tensor
from intaglio.ops.compositions import basic, indexing
from intaglio.ops.registry import prim
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, TraceError
from intaglio.shared.where import caller


def _expanded(index: Any, rank: int) -> list[Any]:
    """One entry per axis (and `None` for new ones): `...` filled up, masks as index arrays."""
    parts = list(index) if isinstance(index, tuple) else [index]
    entries: list[Any] = []
    for part in parts:
        if isinstance(part, (list, np.ndarray)) and not isinstance(part, Tensor):
            part = tensor(np.asarray(part))
        if isinstance(part, Tensor) and part.dtype == dtypes.bool_:
            if part.is_traced:
                raise TraceError(
                    "the result of a boolean index has a shape that depends on values",
                    where=caller(),
                    hint="use where() with the mask instead",
                )
            entries.extend(tensor(k) for k in np.nonzero(part.numpy()))
        else:
            entries.append(part)
    used = sum(e is not None and e is not Ellipsis for e in entries)
    if used > rank:
        raise ArgumentError(f"{used} indices for a tensor of {rank} axes", where=caller())
    fill: list[Any] = [slice(None)] * (rank - used)
    if Ellipsis in [e for e in entries if not isinstance(e, Tensor)]:
        at = next(k for k, e in enumerate(entries) if e is Ellipsis)
        return entries[:at] + fill + entries[at + 1 :]
    return entries + fill


def get(x: Tensor, index: Any) -> Tensor:
    """`x[index]`. Raises ArgumentError for an index out of range."""
    entries = _expanded(index, x.ndim)
    arrays: list[Any] = []
    start, stop, step, shape = [], [], [], []
    axis = 0
    for entry in entries:
        if entry is None:
            shape.append(1)
            continue
        extent = x.shape[axis]
        axis += 1
        if isinstance(entry, slice):
            a, b, s = entry.indices(extent)
            start.append(a)
            stop.append(b if (b - a) * s > 0 else a)
            step.append(s)
            shape.append(len(range(a, b, s)))
            arrays.append(None)
        elif isinstance(entry, Tensor) and (entry.ndim or entry.is_traced):
            start.append(0)
            stop.append(extent)
            step.append(1)
            shape.append(extent)
            arrays.append(entry)
        else:
            k = int(entry)
            if not -extent <= k < extent:
                raise ArgumentError(
                    f"index {k} is out of range for axis {axis - 1} of {x.type}", where=caller()
                )
            start.append(k % extent)
            stop.append(k % extent + 1)
            step.append(1)
            arrays.append("drop")
    return _assemble(x, entries, arrays, (tuple(start), tuple(stop), tuple(step)), shape)


def _assemble(
    x: Tensor, entries: list[Any], arrays: list[Any], cut: tuple[Any, Any, Any], shape: list[Any]
) -> Any:
    start, stop, step = cut
    whole = all(a == 0 and s == 1 and b == e for a, b, s, e in zip(start, stop, step, x.shape, strict=True))
    part = x if whole else prim.slice(x, start=start, stop=stop, step=step)
    if part.shape != tuple(shape):
        part = basic.reshape(part, shape)
    elif part is x:
        part = x.clone()
    if not any(isinstance(a, Tensor) for a in arrays):
        return part
    kept = iter(a for a in arrays if not (isinstance(a, str) and a == "drop"))
    indices = [
        None if e is None else next(kept)
        for e in entries
        if e is None or isinstance(e, slice) or (isinstance(e, Tensor) and (e.ndim or e.is_traced))
    ]
    return indexing.get_items(part, indices)


def put(x: Tensor, index: Any, value: Any) -> Tensor:
    """The tensor with `x[index] = value` done."""
    if isinstance(index, Tensor) and index.dtype == dtypes.bool_ and index.shape == x.shape:
        value = value if isinstance(value, Tensor) else tensor(np.asarray(value, x.dtype.numpy))
        if value.ndim == 0 or value.shape == x.shape:
            result: Tensor = prim.where(index, value.to(x.dtype), x)
            return result
    places = basic.reshape(_positions(x), x.shape)
    flat = get(places, index)
    value = value if isinstance(value, Tensor) else tensor(np.asarray(value, x.dtype.numpy))
    updates = basic.expand(value.to(x.dtype), flat.shape)
    scattered = prim.scatter(x.reshape(-1), updates.reshape(-1), flat.reshape(-1), axes=(0,), mode="set")
    changed: Tensor = basic.reshape(scattered, x.shape)
    return changed


def _positions(x: Tensor) -> Tensor:
    count = int(np.prod(x.shape, dtype=np.int64))
    return tensor(np.arange(count))
