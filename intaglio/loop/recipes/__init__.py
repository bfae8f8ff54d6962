"""Fast nests for the heavy operators, as heuristics."""

from intaglio.loop.recipes.anchor import Anchor, Nest, Operand

__all__ = ["Anchor", "Nest", "Operand"]
