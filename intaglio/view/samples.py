"""Made-up inputs for a model: seeded, and sensible for each element type."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.shared.index import interval
from intaglio.shared.types import TensorType


def random_input(type_: TensorType, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """An array of the type: normal floats, small non-negative integers; a symbol gets its lower bound."""
    shape = tuple(extent if isinstance(extent, int) else interval(extent)[0] or 1 for extent in type_.shape)
    if type_.dtype.is_float:
        return rng.standard_normal(shape).astype(type_.dtype.numpy)
    return rng.integers(0, 2, shape).astype(type_.dtype.numpy)
