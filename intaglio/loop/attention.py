"""FuseAttention: products whose rows are normalised and meet another product run some rows at a time.

The scores of attention are larger than all that they are made of. Where nothing but the next product reads
what becomes of them, only a few rows exist at any time, in a strip that stays in the first cache: a product
makes them, row by row they go through what lies between, and the second product takes them in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from intaglio.graph.ir import Node, Value
from intaglio.loop import access
from intaglio.loop.groups import Decision, Fusion, Group
from intaglio.shared.index import upper

CHEAP = 4
"""What an element of an operand may cost (additions) that is made where it is packed."""
FEWEST_ROWS = 4
"""Rows from which it pays to pack operands for them."""


@dataclass(frozen=True)
class Attention:
    """Groups that become one kernel.

    `score` is what the first product hands to the operators on rows, `weight` what these hand to the second
    product. `made` are elementwise groups that make operands of the products and nothing else.
    """

    first: Group
    rows: Group
    second: Group
    score: Value
    weight: Value
    made: tuple[tuple[Group, ...], tuple[Group, ...]]

    @property
    def groups(self) -> tuple[Group, ...]:
        """All of them, in an order of execution."""
        return (*self.made[0], *self.made[1], self.first, self.rows, self.second)

    @property
    def members(self) -> tuple[Group, Group, Group]:
        """The two products with what makes their operands, and what is between them."""
        first, second = (
            replace(group, nodes=[*(node for each in made for node in each.nodes), *group.nodes])
            for group, made in zip((self.first, self.second), self.made, strict=True)
        )
        return first, self.rows, second

    def decision(self, refusal: str = "") -> Decision:
        """What is noted of it; `refusal` is why it is not made."""
        node = self.second.nodes[0] if self.second.anchor is None else self.second.anchor
        target = f"{self.first.label}+{self.rows.label}"
        because = refusal or "a few rows of scores at a time"
        return Decision(node.outputs[0].name, node.op.name, target, not refusal, because)


def find_attention(fusion: Fusion) -> list[Attention]:
    """What may run as attention; refusals are noted in the fusion."""
    found: list[Attention] = []
    taken: set[Group] = set()
    for group in fusion.groups:
        one = _around(fusion, group)
        if one is None:
            continue
        refusal = _refusal(fusion, one) or (taken.intersection(one.groups) and "it is part of another")
        if refusal:
            fusion.decisions.append(one.decision(refusal))
        else:
            found.append(one)
            taken.update(one.groups)
    return found


def _around(fusion: Fusion, rows: Group) -> Attention | None:
    """Operators on rows between two products."""
    if rows.kind != "row" or not rows.has_reduction:
        return None
    is_free = fusion.free.__contains__
    for weight in fusion.stored_outside(rows):
        for reader in fusion.readers.get(weight, ()):
            second = _product(fusion, reader)
            if second is None or not any(value is weight for value in reader.inputs):
                continue
            for value in (v for node in rows.nodes for v, _ in access.reads(node, is_free)):
                first = _product(fusion, value.node)
                if first is not None and value.shape == weight.shape and value.type.rank > 1:
                    made = tuple(_made_for(fusion, first)), tuple(_made_for(fusion, second))
                    return Attention(first, rows, second, value, weight, made)
    return None


def _product(fusion: Fusion, node: Node | None) -> Group | None:
    """The group of a contraction that a node is in; contractions with constant weights do not count."""
    group = None if node is None else fusion.group_of.get(node)
    if group is None or group.anchor is None or group.anchor.op.name != "dot":
        return None
    constant = any(access.viewed(value).source == "constant" for value in group.anchor.inputs)
    return None if constant else group


def _refusal(fusion: Fusion, one: Attention) -> str:
    """Why groups around rows cannot become one kernel; nothing when they may."""
    first, rows, second, score, weight = one.first, one.rows, one.second, one.score, one.weight
    is_free, readers = fusion.free.__contains__, fusion.readers
    if len({node.phase for group in one.groups for node in group.nodes}) > 1:
        return "they belong to different phases"
    if fusion.stored_outside(rows) != {weight} or len(readers[weight]) > 1 or weight in fusion.needed:
        return "what becomes of the scores is needed elsewhere too"
    if fusion.stored_outside(first) != {score} or any(n not in rows.nodes for n in readers[score]):
        return "the scores are needed elsewhere too"
    count = weight.type.rank - 1
    if rows.rows != count or not all(
        access.is_local(
            access.reads(node, is_free),
            lambda value: value is score,
            access.output_variables(node.outputs[0]),
            count,
        )
        for node in rows.nodes
    ):
        return "what is between reads across rows of scores"
    anchors = [group.anchor for group in (first, second) if group.anchor is not None]
    sizes = [extent for n in anchors for v in (*n.inputs, *n.outputs) for extent in v.shape[-2:]]
    if not all(isinstance(extent, int) for extent in sizes):
        return "the length of rows is known only at run time"
    if (upper(score.shape[-2]) or 0) < FEWEST_ROWS:
        return "too few rows to pack operands for them"
    old = set(fusion.in_place.values())
    if any(v in old for group in one.groups for n in group.nodes for v, _ in access.reads(n, is_free)):
        return "a state that is read is overwritten in between"
    return ""


def _made_for(fusion: Fusion, product: Group) -> Iterator[Group]:
    """Elementwise groups that make an operand of a product, are read by nothing else, and cost little."""
    node, is_free = product.anchor, fusion.free.__contains__
    assert node is not None
    for value in dict.fromkeys(v for v, _ in access.reads(node, is_free)):
        group = None if value.node is None else fusion.group_of.get(value.node)
        if group is None or group is product or group.kind != "row" or group.has_reduction:
            continue
        alone = fusion.stored_outside(group) == {value} and fusion.readers[value] == [node]
        if alone and value not in fusion.needed and _is_cheap(group, is_free):
            yield group


def _is_cheap(group: Group, is_free: Callable[[Node], bool]) -> bool:
    """Whether elements of a group cost little, and are made of elements at plain places."""
    inside = {value for node in group.nodes for value in node.outputs}
    return (
        sum(map(access.cost, group.nodes)) <= CHEAP
        and all(node.op.kind == "map" for node in group.nodes)
        and all(v in inside or access.reads_plainly(v, is_free) for node in group.nodes for v in node.inputs)
    )
