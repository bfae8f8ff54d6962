"""The meaning of every primitive operator, one declaration each, and the compositions over them."""

from intaglio.ops import (
    compare,
    contract,
    control,
    convolution,
    elementwise,
    functions,
    indexing,
    movement,
    random,
    reduce,
    slicing,
    windows,
)
from intaglio.ops.dispatch import composition, dispatch, evaluate, type_of
from intaglio.ops.registry import REGISTRY, Op, all_ops, lookup, prim

__all__ = [
    "REGISTRY",
    "Op",
    "all_ops",
    "compare",
    "composition",
    "contract",
    "control",
    "convolution",
    "dispatch",
    "elementwise",
    "evaluate",
    "functions",
    "indexing",
    "lookup",
    "movement",
    "prim",
    "random",
    "reduce",
    "slicing",
    "type_of",
    "windows",
]
