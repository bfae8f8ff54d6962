"""Fast nests for the heavy operators: one heuristic per family, chosen by shapes, strides and target."""

from __future__ import annotations

from intaglio.loop.recipes.anchor import Anchor, Nest, Operand
from intaglio.loop.recipes.contraction import lower_dot, lower_reduction
from intaglio.loop.recipes.convolution import lower_convolution
from intaglio.loop.recipes.extremes import lower_extremes
from intaglio.loop.recipes.folds import lower_fold
from intaglio.loop.recipes.integer_convolution import lower_integer_convolution
from intaglio.loop.recipes.integers import lower_integer_dot
from intaglio.loop.recipes.pooling import lower_pooling
from intaglio.loop.recipes.weights import lower_weights
from intaglio.ops.registry import lookup
from intaglio.shared.target import Target

SUMS = ("add", "mul", "max", "min")


def lower_anchor(anchor: Anchor, target: Target) -> Nest | None:
    """A fast nest for an anchor; None when the plain loops are as good."""
    nest = _nest(anchor, target)
    if nest is not None and target.tuning is not None:
        target.tuning.made(nest.body)
    return nest


def _nest(anchor: Anchor, target: Target) -> Nest | None:
    op = lookup(anchor.op)
    if 0 in anchor.result.shape or any(0 in operand.type.shape for operand in anchor.operands):
        return None
    if anchor.finish_at is not None:
        return lower_extremes(anchor)
    if anchor.windows is not None:
        return lower_pooling(anchor, target)
    if op.name == "fold":
        return lower_fold(anchor, target)
    if op.name == "dot":
        return lower_integer_dot(anchor, target) or lower_dot(anchor, target)
    if op.name == "conv" and anchor.dtype.is_integer:
        return lower_integer_convolution(anchor, target)
    if op.name in ("conv", "conv_dx"):
        return lower_convolution(anchor, target)
    if op.name == "conv_dw":
        return lower_weights(anchor, target)
    if op.kind == "reduce" and op.combine in SUMS and not op.ordered:
        return lower_reduction(anchor, target)
    return None


__all__ = ["Anchor", "Nest", "Operand", "lower_anchor"]
