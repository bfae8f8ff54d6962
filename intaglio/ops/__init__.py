"""The meaning of every primitive operator, one declaration each, and the compositions over them."""

from intaglio.ops import contract, elementwise, movement, reduce
from intaglio.ops.dispatch import composition, dispatch, evaluate, type_of
from intaglio.ops.registry import REGISTRY, Op, all_ops, lookup

__all__ = ["REGISTRY", "Op", "all_ops", "composition", "contract", "dispatch", "elementwise", "evaluate",
           "lookup", "movement", "reduce", "type_of"]
