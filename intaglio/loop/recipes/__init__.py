"""Fast nests for the heavy operators: one heuristic per family, chosen by shapes, strides and target."""

from __future__ import annotations

from intaglio.loop.recipes.anchor import Anchor, Nest, Operand
from intaglio.loop.recipes.contraction import lower_dot
from intaglio.shared.target import Target

_RECIPES = {"dot": lower_dot}


def lower_anchor(anchor: Anchor, target: Target) -> Nest | None:
    """A fast nest for an anchor; None when the plain loops are as good."""
    recipe = _RECIPES.get(anchor.op)
    return recipe(anchor, target) if recipe is not None else None


__all__ = ["Anchor", "Nest", "Operand", "lower_anchor"]
