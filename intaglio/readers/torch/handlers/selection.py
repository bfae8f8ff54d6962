"""Results whose size is data: places that are not zero, masks as indices.

The size becomes a symbol that `prefix` defines; the FX graph's own symbol for it means the same number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from intaglio.ops.compositions import indexing, selection
from intaglio.ops.compositions.basic import broadcast, dtype_of, extent, rank_of, reshape, shape_of
from intaglio.ops.registry import prim
from intaglio.readers.torch.registry import FxCall, aten
from intaglio.shared import dtypes
from intaglio.shared.atoms import Var
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import IndexLike, var_index


@aten("nonzero")
def nonzero(call: FxCall, x: Any) -> Any:
    """A row of indices for every element that is not zero."""
    places = true_places(call, x, call.importer.known_size(call.node.meta["val"].shape[0]))
    if rank_of(x) == 0:
        return call.full((shape_of(places)[0], 0), 0)
    return indexing.stack(coordinates(places, shape_of(x)), 1)


@aten("_local_scalar_dense")
def item(call: FxCall, x: Any) -> Any:
    """A tensor's only element as a number: still a tensor here, so that it is no size and no condition."""
    return reshape(x, ())


@aten("masked_select")
def masked_select(call: FxCall, x: Any, mask: Any) -> Any:
    x, mask = broadcast(x, mask)
    return indexing.index_select(reshape(x, (-1,)), 0, true_places(call, mask))


def true_places(call: FxCall, x: Any, number: int | None = None) -> Any:
    """The row-major positions of the elements that are not zero; found once for every tensor.

    `number` is how many there are, where a caller of the program has said so.
    """
    known = call.importer.places
    if x not in known:
        mask = x if dtype_of(x).kind == "bool" else prim.ne(x, 0)
        places, count = selection.true_places(mask)
        most = selection.room_for(extent(shape_of(x)))
        if most == 0:
            return call.graph.constant(np.zeros((0,), np.int64))
        size = Var(f"n_true{len(known)}", 0, most)
        known[x] = prim.prefix(places, count, extent=var_index(size) if number is None else number)
        call.importer.counts[size] = count
    return known[x]


def coordinates(places: Any, shape: Sequence[IndexLike]) -> list[Any]:
    """Row-major positions as indices, one tensor for each axis."""
    found = []
    for axis, size in enumerate(shape):
        inner = extent(shape[axis + 1 :])
        if not isinstance(inner, int) or not isinstance(size, int):
            raise UnsupportedError("a mask of a symbolic size")
        place = places if inner == 1 else prim.floor_div(places, inner)
        found.append(place if axis == 0 else prim.remainder(place, size))
    return found


def integer_indices(call: FxCall, indices: Sequence[Any], number: int | None = None) -> list[Any]:
    """Indices with every mask replaced by the places where it is true, one index for each of its axes."""
    found: list[Any] = []
    for index in indices:
        if index is None or dtype_of(index) not in (dtypes.bool_, dtypes.u8):
            found.append(index)
        elif rank_of(index) == 0:
            raise UnsupportedError("a single truth value as an index", hint="use torch.where")
        else:
            found.extend(coordinates(true_places(call, index, number), shape_of(index)))
    return found
