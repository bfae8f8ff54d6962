"""Pooling in the kernel that makes what is pooled: a convolution whose result goes to windows alone.

Where windows lie side by side, each element belongs to one. A recipe that has a whole window at hand combines
its elements as soon as they are made, and the convolution's result is never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from intaglio.graph.ir import Node, Value
from intaglio.loop import access
from intaglio.loop.groups import Decision, Fusion, Group, Pooled
from intaglio.loop.layout import is_depthwise, is_pointwise
from intaglio.shared.index import product
from intaglio.shared.target import Target

LARGEST = 16
"""Elements of a window, which are written out."""
BECAUSE = "each window of its result is combined as soon as it is made"


def find_pooled(fusion: Fusion, target: Target, fits: Callable[[Pooled], bool]) -> list[Pooled]:
    """Poolings that run in the kernel before them; decisions are noted in the fusion.

    Args:
        fits: whether a recipe has a kernel for both; asked last.
    """
    found: list[Pooled] = []
    for group in fusion.groups:
        image = _pooled_image(fusion, group)
        maker = None if image is None or image.node is None else fusion.group_of.get(image.node)
        if image is None or maker is None or not _is_tiled(maker, target):
            continue
        readers = {fusion.group_of[r] for r in fusion.readers.get(image, ()) if r in fusion.group_of}
        same = maker.nodes[0].phase == group.nodes[0].phase and image.dtype == image.dtype.arithmetic
        alone = readers == {group} and fusion.stored_outside(maker) == {image}
        pair = Pooled(maker, group, image)
        if same and alone and _can_wait(fusion, maker, group) and fits(pair):
            found.append(pair)
    _note(fusion, found)
    return found


def _pooled_image(fusion: Fusion, group: Group) -> Value | None:
    """What a group pools by windows that lie side by side inside of it, if all it does goes by windows."""
    node = group.anchor
    view = None if node is None else access.sliding(node)
    if node is None or view is None or node.op.combine not in ("add", "max", "min"):
        return None
    attrs, image = view.attrs, view.inputs[0]
    kernel, inside = attrs["kernel"], not any(low or high for low, high in attrs["padding"])
    elements = product(tuple(kernel))
    if not inside or any(d != 1 for d in attrs["dilations"]) or tuple(kernel) != tuple(attrs["strides"]):
        return None
    if (
        not isinstance(elements, int)
        or elements > LARGEST
        or not all(isinstance(e, int) for e in image.shape[1:])
    ):
        return None
    free = fusion.free.__contains__
    others = (n for n in group.nodes if n is not node and not _finds_place(n, view))
    return None if any(v is image for n in others for v, _ in access.reads(n, free)) else image


def _finds_place(node: Node, view: Node) -> bool:
    """Whether a node finds the place of the extreme of the same windows."""
    return node.op.name in ("argmax", "argmin") and access.sliding(node) is view


def _is_tiled(group: Group, target: Target) -> bool:
    """Whether a group's anchor is a convolution that runs with its lanes along channels."""
    node = group.anchor
    if node is None or node.op.name != "conv" or is_pointwise(node):
        return False
    outs, lanes = node.outputs[0].shape[1], target.lanes(node.outputs[0].dtype.size)
    groups = 1 if is_depthwise(node) else node.attrs["groups"]
    return lanes >= 4 and isinstance(outs, int) and outs // groups >= lanes


def _can_wait(fusion: Fusion, maker: Group, pooling: Group) -> bool:
    """Whether nothing between the two kernels overwrites what the first one reads."""
    order = fusion.groups
    between = order[order.index(maker) + 1 : order.index(pooling)]
    overwritten = {
        state
        for value, state in fusion.in_place.items()
        if value.node is not None and fusion.group_of[value.node] in between
    }
    free = fusion.free.__contains__
    return not any(value in overwritten for node in maker.nodes for value, _ in access.reads(node, free))


def _note(fusion: Fusion, found: Iterable[Pooled]) -> None:
    """Say that poolings joined their convolutions, in place of why they could not."""
    for pair in found:
        anchor = pair.pooling.anchor
        assert anchor is not None
        name = anchor.outputs[0].name
        fusion.decisions[:] = [d for d in fusion.decisions if d.node != name or d.target != pair.made.label]
        fusion.decisions.append(Decision(name, anchor.op.name, pair.made.label, True, BECAUSE))
