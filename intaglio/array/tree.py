"""Nested arguments and results: tensors taken out of tuples, lists and dicts, and put back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from intaglio.array.tensor import Tensor
from intaglio.shared.errors import ArgumentError
from intaglio.shared.where import caller


class Leaf:
    """The place of a tensor in what `flatten` leaves."""

    __slots__ = ("position",)

    def __init__(self, position: int) -> None:
        self.position = position

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Leaf) and other.position == self.position

    def __hash__(self) -> int:
        return hash(self.position)

    def __repr__(self) -> str:
        return f"*{self.position}"


def is_leaf(value: Any) -> bool:
    """Whether a value is a tensor or array."""
    return isinstance(value, (Tensor, np.ndarray, np.generic))


def flatten(tree: Any, leaves: list[Any]) -> Any:
    """Take tensors and arrays out of nested tuples, lists and dicts; what is left says where they were."""
    if is_leaf(tree):
        leaves.append(tree)
        return Leaf(len(leaves) - 1)
    return _rebuilt(tree, lambda part: flatten(part, leaves))


def unflatten(tree: Any, leaves: Sequence[Any]) -> Any:
    """Put leaves back where `flatten` took them from."""
    if isinstance(tree, Leaf):
        return leaves[tree.position]
    return _rebuilt(tree, lambda part: unflatten(part, leaves))


def _rebuilt(tree: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(tree, (tuple, list)):
        parts = [function(part) for part in tree]
        if isinstance(tree, tuple):
            return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
        return parts
    if isinstance(tree, dict):
        return {key: function(part) for key, part in tree.items()}
    return tree


def hashable(tree: Any) -> Any:
    """A structure without leaves as a key: plain values by type and value, other objects by identity."""
    if isinstance(tree, dict):
        return dict, tuple((key, hashable(part)) for key, part in tree.items())
    if isinstance(tree, (tuple, list)):
        return type(tree), tuple(map(hashable, tree))
    if isinstance(tree, (set, bytearray)):
        raise ArgumentError(
            f"a {type(tree).__name__} is no argument: arguments must be tensors, arrays or plain values",
            hint="tuples, lists and dicts of them will do too",
            where=caller(),
        )
    plain = isinstance(tree, (Leaf, int, float, complex, str, bytes, type(None)))
    return (type(tree), tree) if plain else (type(tree), id(tree))
