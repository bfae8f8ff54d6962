"""The table of ATen operators: which function imports which operator, by name or by name and overload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from intaglio.graph.ir import Graph
from intaglio.ops.registry import prim
from intaglio.readers.torch.arrays import dtype_of_torch
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.where import Where

if TYPE_CHECKING:
    from torch.fx import Node as FxNode

    from intaglio.readers.torch.importer import Importer

Handler = Callable[..., Any]
_HANDLERS: dict[str, Handler] = {}


def aten(*names: str) -> Callable[[Handler], Handler]:
    """Register `handler(call, *args, **kwargs)` for operators: `relu`, or `max.dim` for one overload."""

    def register(handler: Handler) -> Handler:
        for name in names:
            _HANDLERS[name] = handler
        return handler

    return register


def direct(table: Mapping[str, Callable[..., Any]]) -> None:
    """Register functions that take the operator's own arguments."""
    for name, function in table.items():
        _HANDLERS[name] = _without_call(function)


def _without_call(function: Callable[..., Any]) -> Handler:
    def handler(call: FxCall, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return handler


def find_handler(target: str) -> Handler:
    """The handler of an operator by its full name (`aten.max.dim`). Raises UnsupportedError that names it."""
    name = target.removeprefix("aten.")
    handler = _HANDLERS.get(name) or _HANDLERS.get(name.rpartition(".")[0])
    if handler is None:
        raise UnsupportedError(
            f"operator {target} is not supported",
            hint="replace it in the module, or keep this part outside of what is compiled",
        )
    return handler


def known_operators() -> list[str]:
    """Every operator that can be imported."""
    return sorted(_HANDLERS)


@dataclass(frozen=True)
class FxCall:
    """One node of an FX graph, who imports it, and the user's line that made it."""

    importer: Importer
    node: FxNode
    place: Where | None

    @property
    def graph(self) -> Graph:
        return self.importer.graph

    @property
    def dtype(self) -> DType:
        """The element type that PyTorch found for the (first) result."""
        found = self.node.meta["val"]
        return dtype_of_torch((found[0] if isinstance(found, (tuple, list)) else found).dtype)

    def full(self, shape: Any, number: Any, dtype: DType | None = None) -> Any:
        """A tensor of one number, by default of the result's element type."""
        extents = self.importer.extents(shape)
        scalar = self.graph.constant(np.asarray(number, (dtype or self.dtype).numpy))
        return prim.broadcast(scalar, shape=extents) if extents else scalar
