"""A convolution and the pooling of its result as one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from intaglio.graph.ir import Value
from intaglio.loop import recipes
from intaglio.loop.access import Place
from intaglio.loop.groups import Fusion, Pooled
from intaglio.loop.ir import Alloc, Buffer, Slice, Stmt
from intaglio.loop.layout import is_depthwise
from intaglio.loop.lower_anchor import describe_anchor
from intaglio.loop.lower_group import GroupLowering
from intaglio.loop.recipes.anchor import Accuracy, Nest, Pooling
from intaglio.loop.rising import rises
from intaglio.ops.expr import Expr, Read
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.target import Target
from intaglio.shared.types import TensorType


def lower_pooled(
    pair: Pooled, lowerings: Sequence[GroupLowering], target: Target, accuracy: Accuracy
) -> Nest:
    """The kernel's nest; `lowerings` are those of both groups, which share their names.

    Raises:
        UnsupportedError: no recipe fits.
    """
    made, pooling = lowerings
    assert pair.made.anchor is not None
    assert pair.pooling.anchor is not None
    image, held = pair.image, [_scalar(made, pair)]
    made.kept[image] = lambda _: (held[-1], ())
    anchor = describe_anchor(made, pair.made.anchor, accuracy)
    windows = describe_anchor(pooling, pair.pooling.anchor, accuracy)
    assert windows.windows is not None

    def element(index: Place, value: Expr) -> tuple[list[Stmt], Expr]:
        if not after:
            return [], value
        held.append(_scalar(made, pair))
        return [Alloc(held[-1]), *anchor.finish(index, value)], Read(held[-1], (), held[-1].dtype)

    after = [node for node in pair.made.nodes if node is not pair.made.anchor]
    kernel = tuple(windows.windows["kernel"])
    free = made.fusion.free.__contains__
    rising = windows.combine == "max" and rises(pair.made.anchor.outputs[0], after, image, free)
    batch, channels, *places = windows.result.shape
    shape = (batch, channels, *(p * k for p, k in zip(places, kernel, strict=True)))
    joined = replace(
        anchor,
        result=TensorType(anchor.result.dtype, shape),
        taken=anchor.taken | windows.names,
        pooling=Pooling(
            kernel, windows.combine, windows.result, element, windows.finish, windows.finish_at, rising
        ),
    )
    nest = recipes.lower_anchor(joined, target)
    if nest is None:
        raise UnsupportedError("the convolution has no recipe that makes whole windows")
    note = f"windows of {' by '.join(map(str, kernel))} results pooled as they are made"
    return Nest(nest.body, (note, *nest.notes), nest.scratch)


def has_recipe(pair: Pooled, fusion: Fusion, target: Target, accuracy: Accuracy) -> bool:
    """Whether there is such a kernel with images stored as their types say; what convolves each channel by
    itself has one only where channels are stored last, which is decided later."""
    assert pair.made.anchor is not None
    if is_depthwise(pair.made.anchor):
        return True
    arrays: dict[Value, Slice] = {}

    def place(value: Value) -> Slice:
        return arrays.setdefault(value, Slice(Buffer(value.name, value.dtype, value.shape, "scratch")))

    first = GroupLowering(pair.made, fusion, place, fusion.stored_outside(pair.made))
    second = replace(
        first, group=pair.pooling, stored=fusion.stored_outside(pair.pooling), bound={}, touched=[]
    )
    try:
        lower_pooled(pair, (first, second), replace(target, tuning=None), accuracy)
    except UnsupportedError:
        return False
    return True


def _scalar(lowering: GroupLowering, pair: Pooled) -> Buffer:
    """A variable for an element of the image."""
    return Buffer(lowering.unique(pair.image.name), pair.image.dtype, (), "local", "register")
