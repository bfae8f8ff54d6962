"""What is no plain tensor at the edge of a model: sequences, optionals, codes.

A graph takes and gives tensors only. A sequence of the model becomes as many tensors as it has elements, an
optional one or none; which is decided by the shapes given at import. Tensors of element types that the
compiler does not have become their codes. `Packing` translates between both views.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from intaglio.readers.onnx.elements import Coded, Element
from intaglio.readers.onnx.registry import Array
from intaglio.shared.errors import ArgumentError


@dataclass(frozen=True)
class CodedPlace:
    """The position of a tensor of codes among the graph's, and the element type they are of."""

    position: int
    element: Element


Layout: TypeAlias = "int | CodedPlace | Array | list[Layout] | None"
"""Position of a tensor among the graph's, an array fixed at import, a sequence, or an absent optional."""


@dataclass(frozen=True)
class Packing:
    """The inputs and outputs of a model by name, each with where its tensors are among the graph's."""

    inputs: tuple[tuple[str, Layout], ...]
    outputs: tuple[tuple[str, Layout], ...]

    def flatten(self, arguments: Sequence[Any]) -> list[Any]:
        """The graph's inputs for the model's: arrays, lists of them, None.

        Raises:
            ArgumentError: a number of arguments or elements other than at import, or another fixed value.
        """
        if len(arguments) != len(self.inputs):
            raise ArgumentError(f"the model takes {len(self.inputs)} inputs, {len(arguments)} were given")
        flat: list[Any] = []
        for (name, layout), argument in zip(self.inputs, arguments, strict=True):
            _flatten(name, layout, argument, flat)
        return flat

    def pack(self, results: Sequence[Any]) -> list[Any]:
        """The model's outputs for the graph's."""
        return [_pack(layout, results) for _, layout in self.outputs]


def _flatten(name: str, layout: Layout, argument: Any, flat: list[Any]) -> None:
    if isinstance(layout, int):
        flat.append(argument)
    elif isinstance(layout, CodedPlace):
        flat.append(layout.element.codes(argument))
    elif isinstance(layout, list):
        if not isinstance(argument, (list, tuple)) or len(argument) != len(layout):
            raise ArgumentError(f"input {name}: expected a sequence of {len(layout)} elements")
        for part, element in zip(layout, argument, strict=True):
            _flatten(name, part, element, flat)
    elif layout is None and argument is not None:
        raise ArgumentError(f"input {name} was absent at import, but is given", hint="import the model again")
    elif layout is not None and not np.array_equal(layout, argument):
        raise ArgumentError(f"input {name} was fixed to another value at import", hint="import it again")


def _pack(layout: Layout, results: Sequence[Any]) -> Any:
    if isinstance(layout, list):
        return [_pack(part, results) for part in layout]
    if isinstance(layout, CodedPlace):
        return layout.element.array(results[layout.position])
    return results[layout] if isinstance(layout, int) else layout


def layout_of(operand: Any, name: str, place: Callable[[Any, str], int]) -> Layout:
    """The layout of an operand; `place(tensor, name)` gives every tensor in it its position."""
    if isinstance(operand, list):
        return [layout_of(part, f"{name}_{k}", place) for k, part in enumerate(operand)]
    if isinstance(operand, Coded):
        return CodedPlace(place(operand.codes, name), operand.element)
    return None if operand is None else place(operand, name)
