"""The meaning of every primitive operator, one declaration each, and the compositions over them."""

from intaglio.ops import compare, contract, elementwise, functions, movement, reduce
from intaglio.ops.dispatch import composition, dispatch, evaluate, type_of
from intaglio.ops.registry import REGISTRY, Op, all_ops, lookup, prim

__all__ = [
    "REGISTRY",
    "Op",
    "all_ops",
    "compare",
    "composition",
    "contract",
    "dispatch",
    "elementwise",
    "evaluate",
    "functions",
    "lookup",
    "movement",
    "prim",
    "reduce",
    "type_of",
]
