"""PyTorch's symbolic sizes as ours."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import IndexLike, Var, var_index


class Symbols:
    """The symbols of one program; `ranges` are those of an exported one, which knows its own."""

    def __init__(self, ranges: Mapping[Any, Any] | None = None) -> None:
        self.ranges = ranges
        self.known: dict[str, IndexLike] = {}

    def extent(self, extent: Any) -> IndexLike:
        """An extent: a number, or an expression of symbols with their bounds."""
        if isinstance(extent, int):
            return extent
        expression = extent.node.expr
        total: IndexLike = 0
        for term, coefficient in expression.as_coefficients_dict().items():
            if not term.is_Symbol and not term.is_Integer:
                raise UnsupportedError(f"the size {expression}", hint="sizes are sums of symbols and numbers")
            total = total + (self._symbol(term, extent) if term.is_Symbol else int(term)) * int(coefficient)
        return total

    def _symbol(self, symbol: Any, extent: Any) -> IndexLike:
        name = str(symbol)
        if name not in self.known:
            range_ = bounds_of(symbol, extent) if self.ranges is None else self.ranges.get(symbol)
            low = int(range_.lower) if range_ is not None else 1
            self.known[name] = var_index(Var(re.sub(r"\W", "_", name), max(low, 1), highest(range_)))
        return self.known[name]


def bounds_of(symbol: Any, extent: Any) -> Any:
    """PyTorch's range of a symbol in an extent of a graph that is being compiled."""
    return extent.node.shape_env.bound_sympy(symbol)


def highest(range_: Any) -> int | None:
    """The upper bound of PyTorch's range of a symbol, None where it has none."""
    if range_ is None or not math.isfinite(float(range_.upper)) or int(range_.upper) >= 2**31:
        return None
    return int(range_.upper)
