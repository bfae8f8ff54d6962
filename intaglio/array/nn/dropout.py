"""Dropout as modules; in inference mode they do nothing. `inplace` is taken and has no effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from intaglio.array import functional as F
from intaglio.array.nn.module import Module
from intaglio.shared.errors import ArgumentError


class _Dropout(Module):
    function: Callable[..., Any]

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ArgumentError(f"{self._get_name()}: p is {p}, a probability is between 0 and 1")
        self.p = p
        self.inplace = inplace

    def forward(self, x: Any) -> Any:
        return type(self).function(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """Zero each element with probability `p` and scale the others by `1 / (1 - p)`, in training mode."""

    function = F.dropout


class Dropout1d(_Dropout):
    """Zero whole channels of [n, c, l] with probability `p`, in training mode."""

    function = F.dropout1d


class Dropout2d(_Dropout):
    """Zero whole channels of [n, c, h, w] with probability `p`, in training mode."""

    function = F.dropout2d
