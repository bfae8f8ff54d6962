"""Numbers, nested lists and arrays as arrays that a Tensor can hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.array.host import Host
from intaglio.array.storage import Array
from intaglio.shared import dtypes
from intaglio.shared.errors import ShapeError
from intaglio.shared.where import caller


def as_native(data: Any, dtype: Any = None) -> Array:
    """An array of a supported type in native byte order, not copied when it is one; Python floats are f32.

    Raises:
        DTypeError: elements that are no numbers, or of a type that is not supported.
        ShapeError: nested lists that are not rectangular.
    """
    if isinstance(data, (list, tuple)):
        data = _listed(data)
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ShapeError(f"tensor: the nested lists are not rectangular: {error}", where=caller()) from None
    if dtype is not None:
        wanted = dtypes.parse(dtype).numpy
        dtypes.from_numpy(array.dtype)
    elif array.dtype == np.float64 and _is_python(data):
        wanted = np.dtype(np.float32)
    else:
        wanted = dtypes.from_numpy(array.dtype).numpy
    return array if array.dtype == wanted and array.dtype.isnative else array.astype(wanted)


def _is_python(data: Any) -> bool:
    """Whether the numbers are Python's, which have no width."""
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return not hasattr(data, "dtype")


def _listed(data: Any) -> Any:
    if isinstance(data, (list, tuple)):
        return [_listed(x) for x in data]
    return data.numpy() if isinstance(data, Host) else data
