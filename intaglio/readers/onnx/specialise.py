"""Importing a model for given arguments: their shapes, and the values of those that decide shapes.

An input that is the new shape of a Reshape, or the axes of a sum, must be known when compiling. Which inputs
those are is found by importing: the operator that needs one asks for it, and the import starts again with
its value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from intaglio.graph.ir import Graph
from intaglio.readers.onnx.importer import load_packed
from intaglio.readers.onnx.limits import Limits
from intaglio.readers.onnx.packing import Packing
from intaglio.readers.onnx.registry import InputNeeded
from intaglio.shared.errors import ArgumentError, UnsupportedError

MAX_ELEMENTS = 64
"""Elements of an input that may be fixed to its value: what decides shapes is small, data is not."""

MAX_IMPORTS = 32
"""Imports until nothing is asked for; behind half of them all inputs that may decide are known."""


@dataclass(frozen=True)
class Specialised:
    """A model imported for given arguments.

    Attributes:
        known: inputs whose values decide shapes; the graph reads what else depends on them.
        fixed: inputs that are constants of the graph: nothing less was enough.
        decided: what the values of known inputs were used for: operators, and which operand of theirs.
    """

    graph: Graph
    packing: Packing
    known: tuple[str, ...]
    fixed: tuple[str, ...]
    decided: frozenset[tuple[str, int]]


def input_names(model: onnx.ModelProto) -> list[str]:
    """The names of the inputs that have no default value in the model."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [info.name for info in model.graph.input if info.name not in weights]


def load_for(
    source: Any, model: onnx.ModelProto, arguments: Sequence[Any], *, limits: Limits | None = None
) -> Specialised:
    """Import a model for arguments: arrays, sequences of them as lists, absent optionals as None.

    Args:
        source: what `model` was read from.

    Raises:
        ArgumentError: another number of arguments than the model has inputs.
        UnsupportedError: what decides a shape is too large, or no function of the inputs.
    """
    names = input_names(model)
    if len(arguments) != len(names):
        raise ArgumentError(f"the model takes {len(names)} inputs, {len(arguments)} were given")
    given = dict(zip(names, arguments, strict=True))
    shapes = {name: shape_of(value) for name, value in given.items()}
    known: dict[str, Any] = {}
    fixed: dict[str, Any] = {}
    for attempt in range(MAX_IMPORTS):
        decided: set[tuple[str, int]] = set()
        try:
            graph, packing = load_packed(
                source, shapes=shapes, values=fixed, known=known, limits=limits, decided=decided
            )
        except InputNeeded as request:
            chosen = known if any(name not in known for name in request.names) else fixed
            asked = {name: given[name] for name in request.names if name not in chosen}
            last = attempt == MAX_IMPORTS - 1
            if last or not asked or not all(map(_may_decide, asked.values())):
                raise UnsupportedError(request.message, hint="a shape depends on much data") from request
            chosen.update(asked)
            if attempt == MAX_IMPORTS // 2:
                known.update({name: value for name, value in given.items() if _may_decide(value)})
        else:
            open_ = tuple(name for name in known if name not in fixed)
            return Specialised(graph, packing, open_, tuple(fixed), frozenset(decided))
    raise AssertionError("the last import returns or raises")


def _may_decide(value: Any) -> bool:
    """Whether an argument is a tensor, and small."""
    return value is not None and not isinstance(value, (list, tuple)) and np.size(value) <= MAX_ELEMENTS


def shape_of(value: Any) -> Any:
    """The shape of an argument, as `load` takes it."""
    if isinstance(value, (list, tuple)):
        return [shape_of(part) for part in value]
    return None if value is None else np.shape(value)
