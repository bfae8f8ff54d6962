"""AlterOpLayout: which images are stored with their channels last.

Convolutions of each channel by itself are fast where channels lie side by side, products of channels are
as fast either way, and Winograd's form wants rows of one channel. Every image between kernels is stored one
way or the other, so that the estimated cycles of all kernels that write or read it are least; what a program
is given and what it gives back stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from intaglio.graph.ir import Node, Value
from intaglio.loop import access
from intaglio.loop.access import Order, Place, channels_last
from intaglio.loop.codes import stored_code
from intaglio.loop.groups import Fusion, Group, Pooled
from intaglio.loop.recipes.lines import FEW_CHANNELS
from intaglio.loop.recipes.tiles import best_tile
from intaglio.shared import dtypes
from intaglio.shared.index import Index, IndexLike, upper, variable
from intaglio.shared.target import Target

Last = Mapping[Value, bool]
"""Whether each image is stored with its channels last."""

TURN = 2.0  # cycles to carry one element between two layouts
SCATTERED = 8.0  # cycles of one element in a nest that has no fast form
WINOGRAD_TURN = 0.3  # cycles to turn one element in squares
PLANE = 150.0  # cycles to start a plane of a depthwise convolution
LINE = 8.0  # cycles to start a line of one with channels last
SWEEPS = 8


def choose_layouts(fusion: Fusion, pooled: Sequence[Pooled], target: Target) -> dict[Value, Order]:
    """The images to store with channels last, and the order of their axes.

    Convolutions that are `pooled` in their kernel store what comes out of that.
    """
    convolutions = [g for g in fusion.groups if g.anchor is not None and g.anchor.op.name == "conv"]
    pays = any(is_depthwise(g.anchor) or _is_integer(g.anchor) for g in convolutions if g.anchor)
    if target.lanes(4) < 4 or not (pays or pooled):
        return {}
    model = _Model(fusion, target, {pair.made: pair for pair in pooled})
    last = model.best()
    return {value: channels_last(value.type.rank) for value, chosen in last.items() if chosen}


def _is_integer(node: Node) -> bool:
    return node.outputs[0].dtype == dtypes.i32


def is_depthwise(node: Node) -> bool:
    """Whether a convolution takes each channel by itself."""
    groups = node.attrs["groups"]
    return bool(groups > 1 and groups == node.inputs[1].shape[0] == node.inputs[0].shape[1])


def takes_few(node: Node) -> bool:
    """Whether a convolution makes its channels of a few, as a first layer does."""
    channels = node.inputs[1].shape[1]
    return isinstance(channels, int) and node.attrs["groups"] == 1 and channels <= FEW_CHANNELS


def is_pointwise(node: Node) -> bool:
    """Whether a convolution is a product of channels, place by place."""
    kernel, attrs = node.inputs[1].shape[2:], node.attrs
    once = all(k == 1 for k in (*kernel, *attrs["strides"], attrs["groups"]))
    return once and not any(p for pair in attrs["padding"] for p in pair)


@dataclass
class _Model:
    """Estimated cycles of kernels by the layouts of what they read and write."""

    fusion: Fusion
    target: Target
    pooled: Mapping[Group, Pooled]
    reads: dict[Group, list[Value]] = field(default_factory=dict)
    writes: dict[Group, list[Value]] = field(default_factory=dict)
    elements: dict[Group, list[tuple[Node, Value, Place]]] = field(default_factory=dict)
    """What each group reads element by element, and where, by the variables of the reading node."""

    def __post_init__(self) -> None:
        fusion = self.fusion
        free = fusion.free.__contains__
        inside = {pair.image for pair in self.pooled.values()}
        self.pooling = {pair.pooling for pair in self.pooled.values()}
        results = [(group, value) for group in fusion.groups for value in fusion.stored_outside(group)]
        stored = [(group, value) for group, value in results if value not in inside]
        images = {value for group, value in stored if self.is_free(group, value)}
        for group in fusion.groups:
            read = [(node, v, place) for node in group.nodes for v, place in access.reads(node, free)]
            self.reads[group] = list(dict.fromkeys(v for _, v, _ in read if v in images))
            made = {v for node in group.nodes for v in node.outputs}
            self.elements[group] = [
                (node, v, place)
                for node, v, place in read
                if v not in made and len(place) > 1 and not (node is group.anchor and node.op.name == "conv")
            ]
            maker = self.pooled[group].pooling if group in self.pooled else group
            self.writes[group] = [v for v in fusion.stored_outside(maker) if v in images]

    def is_free(self, group: Group, value: Value) -> bool:
        """Whether an image may be stored either way: nobody outside sees it, and all who use it can tell."""
        fusion = self.fusion
        if value in fusion.needed or value.type.rank < 3 or value.dtype.kind == "bool":
            return False
        if value in fusion.in_place or not all(isinstance(e, int) for e in value.shape[1:]):
            return False
        users = [fusion.group_of[n] for n in fusion.readers.get(value, ()) if n in fusion.group_of]
        written = group in self.pooling or self.writes_images(group)
        return written and all(user.kind == "row" or self.mixes(user) for user in users)

    @classmethod
    def writes_images(cls, group: Group) -> bool:
        """Whether a group's kernel stores its results element by element, wherever they lie."""
        return not group.has_reduction if group.kind == "row" else cls.mixes(group)

    @staticmethod
    def mixes(group: Group) -> bool:
        """Whether a group's anchor is one whose recipes follow the strides of what they read and write."""
        return group.anchor is not None and group.anchor.op.name in ("conv", "sum", "max", "min")

    def best(self) -> dict[Value, bool]:
        """The better end of two descents, from all channels last and from none."""
        images = list(dict.fromkeys(v for values in self.writes.values() for v in values))
        ends = [self.descend(dict.fromkeys(images, start)) for start in (False, True)]
        return min(ends, key=lambda last: self.total(self.reads, last))

    def descend(self, last: dict[Value, bool]) -> dict[Value, bool]:
        """Turn single images as long as that saves cycles."""
        users: dict[Value, list[Group]] = {value: [] for value in last}
        for group in self.reads:
            for value in {*self.reads[group], *self.writes[group]}:
                users[value].append(group)
        for _ in range(SWEEPS):
            turned = False
            for value in last:
                before = self.total(users[value], last)
                last[value] = not last[value]
                if self.total(users[value], last) < before:
                    turned = True
                else:
                    last[value] = not last[value]
            if not turned:
                break
        return last

    def total(self, groups: Iterable[Group], last: Last) -> float:
        return sum(self.cycles(group, last) for group in groups)

    def cycles(self, group: Group, last: Last) -> float:
        """Cycles of one kernel, as far as they depend on layouts."""
        anchor, read, written = group.anchor, self.reads[group], self.writes[group]
        out = any(last[v] for v in written)
        cycles = sum(TURN * _size(v) for v in written if last[v] != out)
        if group in self.pooling:
            return 0.0  # part of its convolution's kernel
        if anchor is not None and anchor.op.name == "conv":
            source = stored_code(anchor.inputs[0], self.fusion.free)
            taken = _size(self.pooled[group].pooling.nodes[0].outputs[0]) if group in self.pooled else None
            cycles += self.convolution(anchor, last.get(source, False), out, taken)
            apart = SCATTERED if _is_integer(anchor) else TURN
            return cycles + apart * self.strided(group, out, last)
        if anchor is not None and access.sliding(anchor) is not None:
            taps = prod(anchor.inputs[0].node.attrs["kernel"]) if anchor.inputs[0].node else 1
            turned = out or any(last[v] for v in read)
            return cycles + (SCATTERED * taps * _size(anchor.outputs[0]) if turned else 0.0)
        return cycles + TURN * self.strided(group, out, last)

    def strided(self, group: Group, out: bool, last: Last) -> int:
        """Elements that a kernel reads with a stride, because its innermost loop runs along another axis than
        the one they are stored along."""
        total = 0
        for node, value, place in self.elements[group]:
            own = access.output_variables(node.outputs[0])
            if node.op.kind == "reduce":
                inner: IndexLike = variable(f"r{len(access.extents(node)) - 1}")
            else:
                inner = own[1 if out and len(own) > 2 else -1]
            fast = place[1 if last.get(value, False) else -1]
            if any(_depends(k, inner) for k in place) and not _depends(fast, inner):
                total += _size(value)
        return total

    def convolution(self, node: Node, source: bool, out: bool, pooled: int | None) -> float:
        """Cycles of a convolution whose image and result have channels last, or not; `pooled` elements are
        stored where that is not all."""
        image, weights, result = *(v.shape for v in node.inputs), node.outputs[0].shape
        batch = upper(result[0]) or 1
        groups, (outs, ins, *kernel) = node.attrs["groups"], _ints(weights)
        places, taps = prod(_ints(result[2:])), prod(kernel)
        lanes = self.target.lanes(node.outputs[0].dtype.size)
        dense = batch * outs * ins * places * taps / lanes
        turn = TURN * batch * (outs * places if source else ins * groups * prod(_ints(image[2:])))
        turn = 0.0 if source == out else turn
        stored = pooled or batch * outs * places
        if is_depthwise(node):
            if source and (out or pooled):
                lines = 1.3 * dense + batch * LINE * places * outs / lanes / min(8, _ints(result)[-1])
                return lines + (0 if out else TURN * stored)
            return batch * outs * (1.3 * taps * places / lanes + 2 * places + PLANE) + turn
        if _is_integer(node):
            copied = 0.0 if source and taps == 1 else TURN * batch * ins * groups * prod(_ints(image[2:]))
            turned = 0.0 if out else TURN * batch * outs * places
            return dense / 4 + copied * (0.2 if source else 1) + turned
        if groups > 1:
            return 2 * dense + (SCATTERED * batch * outs * places if source or out else 0.0)
        if is_pointwise(node):
            tiles = (batch * places, outs) if out else (outs, places)
            times = 1 if out else batch
            return times * best_tile(*tiles, ins, lanes, self.target)[2] + turn * (0.2 if out else 0.5)
        read = batch * ins * prod(_ints(image[2:]))
        fast = set(kernel) == {3} and {*node.attrs["strides"], *node.attrs["dilations"]} == {1} and ins >= 8
        if fast:
            return 0.55 * dense + WINOGRAD_TURN * (read * (not source) + stored * (not out))
        if out or pooled:
            copied = 0 if takes_few(node) else 0.5 * read
            return 1.15 * dense + copied + (0 if out else TURN * stored)
        return (1.3 if ins >= 8 else 2.0) * dense + turn


def _depends(index: IndexLike, on: IndexLike) -> bool:
    names = {var.name for var in on.variables} if isinstance(on, Index) else set()
    return isinstance(index, Index) and any(var.name in names for var in index.variables)


def _ints(shape: tuple[object, ...]) -> tuple[int, ...]:
    return tuple(e if isinstance(e, int) else 1 for e in shape)


def _size(value: Value) -> int:
    return prod(upper(extent) or 1 for extent in value.shape)
