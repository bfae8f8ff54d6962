"""FuseChains: convolutions that run row by row, each on the rows that the one before it has just made.

Between two kernels an image that is larger than the second cache goes to memory and comes back. A chain keeps
only the rows that the next window still needs, in a ring: before each row of the last result, every member
makes the rows that are new. Members are products of channels and convolutions of each channel by itself or of
a few; whatever was fused to them comes along.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from intaglio.graph.ir import Value
from intaglio.loop.access import Order
from intaglio.loop.groups import Decision, Fusion, Group, Pooled
from intaglio.loop.layout import is_depthwise, is_pointwise, takes_few
from intaglio.shared.index import product, upper
from intaglio.shared.target import Target

STRIPS = (4, 2)
"""Into how many parts the rows of one image may be cut for threads."""
HALO = 0.08
"""The part of rows that strips may make twice."""


@dataclass(frozen=True)
class Rows:
    """The rows of an image that one row `p` of a chain's result takes: `step * p + first` and on."""

    step: int
    first: int
    count: int

    def before(self, size: int, stride: int, low: int) -> Rows:
        """The rows that a window of `size` rows reads for these."""
        return Rows(self.step * stride, self.first * stride - low, (self.count - 1) * stride + size)


@dataclass(frozen=True)
class Chain:
    """Groups that run row by row; `images` are what each hands to the next."""

    groups: tuple[Group, ...]
    images: tuple[Value, ...]

    @property
    def rows(self) -> tuple[Rows, ...]:
        """The rows that a row of the last result takes of each result, the last one included."""
        found = [Rows(1, 0, 1)]
        for group in reversed(self.groups[1:]):
            assert group.anchor is not None
            kernel, attrs = group.anchor.inputs[1].shape[2], group.anchor.attrs
            assert isinstance(kernel, int)
            found.append(found[-1].before(kernel, attrs["strides"][0], attrs["padding"][0][0]))
        return tuple(reversed(found))

    @property
    def strips(self) -> int:
        """Parts of the rows that different threads may run."""
        batch, _, height, *_ = self.groups[-1].shape
        made, need = self.groups[0].shape[2], self.rows[0]
        if batch != 1 or not isinstance(height, int) or not isinstance(made, int):
            return 1
        twice = max(0, need.count - need.step)
        fit = (n for n in STRIPS if height % n == 0 and (n - 1) * twice <= HALO * made)
        return next(fit, 1)


def find_chains(
    fusion: Fusion, pooled: Iterable[Pooled], layouts: Mapping[Value, Order], target: Target
) -> list[Chain]:
    """The chains of a program whose images outgrow the second cache; decisions are noted in the fusion.

    Convolutions that are `pooled` in their kernel are in none.
    """
    links: dict[Group, tuple[Value, Group]] = {}
    elsewhere = {pair.made for pair in pooled}
    for group in fusion.groups if not fusion.in_place else ():
        link = _link(fusion, group, layouts)
        if link is not None and link[1] not in elsewhere:
            value, reader = link
            large = (upper(product(value.shape[1:])) or 0) * value.dtype.size > target.l2
            because = "in strips of rows" if large else "the image between stays in the second cache"
            assert reader.anchor is not None
            node = reader.anchor
            fusion.decisions.append(Decision(node.outputs[0].name, node.op.name, group.label, large, because))
            if large:
                links[group] = link
    begun = {reader for _, reader in links.values()}
    chains: list[Chain] = []
    for group in links:
        if group not in begun:
            groups, images = [group], list[Value]()
            while groups[-1] in links:
                value, reader = links[groups[-1]]
                images.append(value)
                groups.append(reader)
            chains.append(Chain(tuple(groups), tuple(images)))
    return chains


def _link(fusion: Fusion, group: Group, layouts: Mapping[Value, Order]) -> tuple[Value, Group] | None:
    """The image that a group makes for one other group, and that one, if both can run row by row."""
    stored = fusion.stored_outside(group)
    if not _by_rows(group) or len(stored) != 1:
        return None
    (value,) = stored
    readers = fusion.readers.get(value, [])
    if value not in layouts or len(readers) != 1 or readers[0] not in fusion.group_of:
        return None
    reader = fusion.group_of[readers[0]]
    direct = reader.anchor is readers[0] and reader.anchor.inputs[0] is value
    same = reader.nodes[0].phase == group.nodes[0].phase
    return (value, reader) if direct and same and _by_rows(reader) else None


def _by_rows(group: Group) -> bool:
    """Whether a group is a convolution of one place of all channels, or of a window of one or a few."""
    node = group.anchor
    if node is None or node.op.name != "conv" or node.outputs[0].type.rank < 4:
        return False
    return is_pointwise(node) or is_depthwise(node) or takes_few(node)
