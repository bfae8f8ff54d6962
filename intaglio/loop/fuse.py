"""FuseOps: which operators become one kernel.

Views cost nothing and go into whoever reads them. Every other node joins the group of a producer when
the two can share loops, else it starts one. A group is one of three kinds:

* `row`: maps and reductions over trailing axes that share their first `rows` axes, so that one pass
  over rows serves all (softmax, layer norm, plain elementwise chains where every axis is a row axis);
* `anchor`: one contraction, convolution or other reduction, and the maps on its result;
* `opaque`: an operator that stands alone (sort, scatter, loops).

Decisions are made as records with reasons and come back with the groups.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from intaglio.graph.ir import Graph, Node, Value
from intaglio.graph.symbols import size_finders
from intaglio.loop.access import (
    Place,
    is_local,
    output_variables,
    reads,
    reads_plainly,
    sliding,
)
from intaglio.loop.codes import HEAVY, codes
from intaglio.loop.fuse_rows import merge_rows
from intaglio.loop.groups import Decision, Fusion, Group, execution_order
from intaglio.loop.recompute import cheap_repeats, recomputed
from intaglio.shared.index import product, upper

MAX_NODES = 64
OFF = "FuseOps does not run"
TILED = "makes its result in tiles, and the reduction needs whole rows"
BETWEEN = "another operand is made from the same result by a kernel that runs in between"
LATER = "it is computed when the backward pass needs it, from what is stored anyway"
SMALL = 32 << 10  # elements; below this a group may give up its parallel axes


@dataclass
class Fuser:
    """Groups under construction."""

    graph: Graph
    keep_phases: bool
    fusing: bool
    free: set[Node] = field(default_factory=set)
    groups: dict[int, Group] = field(default_factory=dict)
    group_of: dict[Node, Group] = field(default_factory=dict)
    places: dict[Node, list[tuple[Value, Place]]] = field(default_factory=dict)
    readers: dict[Value, list[Node]] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    needed: set[Value] = field(default_factory=set)
    consumers: dict[Value, list[Node]] = field(default_factory=dict)
    sizes: dict[Node, set[Node]] = field(default_factory=dict)
    started: int = 0

    def run(self) -> Fusion:
        self.find_free()
        self.sizes = size_finders(self.graph, self.free)
        for node in self.graph.nodes:
            if node not in self.free:
                self.places[node] = reads(node, self.free.__contains__)
                for value, _ in self.places[node]:
                    self.readers.setdefault(value, []).append(node)
        for node in self.graph.nodes:
            if node not in self.free:
                self.place(node)
        if self.fusing:
            merge_rows(self, MAX_NODES)
        in_place = {
            value: state for state, value in self.graph.updates if self.updates_in_place(state, value)
        }
        return Fusion(
            self.ordered(), self.free, self.decisions, self.group_of, self.readers, in_place, self.needed
        )

    def find_free(self) -> None:
        """Views live inside their readers, unless their result must exist as an array."""
        graph = self.graph
        self.consumers = graph.uses()
        self.needed = set(graph.roots)
        for node in graph.nodes:
            if node.op.kind == "opaque":
                self.needed.update(node.inputs)
        views = [n for n in graph.nodes if n.op.kind == "view" and n.op.name != "random_bits"]
        self.free = {n for n in views if n.outputs[0] not in self.needed}
        if self.fusing:
            self.free |= cheap_repeats(graph, self.free, self.needed, self.consumers)
            self.free |= recomputed(graph, self.free, self.needed, self.consumers)
        for node in graph.nodes:
            if node.op.name in HEAVY:
                for value in node.inputs:
                    if value.node in self.free and not reads_plainly(value, self.free.__contains__):
                        self.free.discard(value.node)
                        self.note(value.node, "its reader", False, f"{node.op.name} reads it many times")
        if self.fusing:
            self.free |= codes(graph, self.free, self.needed, self.consumers)

    def place(self, node: Node) -> None:
        """Put a node into the best group, or into one of its own."""
        op = node.op
        if op.kind == "opaque":
            self.start(node, "opaque", 0)
            self.apart(node, f"{op.name} stands alone")
        elif op.name in HEAVY:
            self.start(node, "anchor", node.outputs[0].type.rank)
            self.apart(node, f"{op.name} reads each element many times, so it is computed once and stored")
        elif op.kind == "reduce":
            self.place_reduction(node)
        elif not any(self.join(group, node) for group in self.producers(node)):
            self.start(node, "row", node.outputs[0].type.rank)

    def place_reduction(self, node: Node) -> None:
        axes = node.attrs.get("axes", ())
        rank = node.inputs[0].type.rank
        kept = rank - len(axes)
        trailing = bool(axes) and tuple(axes) == tuple(range(kept, rank))
        if self.join_extreme(node):
            return
        if sliding(node) is not None:
            self.start(node, "anchor", node.outputs[0].type.rank)
            self.apart(node, "its windows read an element more than once, or leave some out")
        elif not trailing:
            group = self.start(node, "anchor", node.outputs[0].type.rank)
            for producer in self.producers(node):
                reason = self.absorb(group, producer, "the reduction is its only reader")
                if reason:
                    self.note(node, producer.label, False, reason)
        elif not any(self.join_reduction(group, node, kept) for group in self.producers(node)):
            self.start(node, "row", kept)

    def join_extreme(self, node: Node) -> bool:
        """Let the place of a window's extreme be found together with the extreme."""
        wanted = {"argmax": "reduce_max", "argmin": "reduce_min"}.get(node.op.name)
        if wanted is None or not self.fusing or sliding(node) is None:
            return False
        for other in self.consumers[node.inputs[0]]:
            group = self.group_of.get(other)
            if group is None or other.op.name != wanted or group.anchor is not other:
                continue
            if sliding(other) is None or len(group.nodes) >= MAX_NODES:
                continue
            if self.keep_phases and node.phase != other.phase:
                continue
            self.note(node, group.label, True, "the place of the same extreme")
            self.add(group, node)
            return True
        return False

    def producers(self, node: Node) -> list[Group]:
        """Groups whose results the node reads: anchors first, then rows with reductions, then the latest."""
        found = {self.group_of[v.node] for v, _ in self.places[node] if v.node in self.group_of}
        found |= {self.group_of[finder] for finder in self.sizes.get(node, ())}
        return sorted(found, key=lambda g: (g.kind != "anchor", not g.has_reduction, -g.number))

    def start(self, node: Node, kind: Literal["row", "anchor", "opaque"], rows: int) -> Group:
        group = Group(self.started, kind, [], rows, node.outputs[0].shape, node if kind != "row" else None)
        self.started += 1
        self.groups[group.number] = group
        self.add(group, node)
        return group

    def apart(self, node: Node, because: str) -> None:
        """Note why a node that just started a group is in none of those that make its operands."""
        for producer in self.producers(node):
            self.note(node, producer.label, False, because if self.fusing else OFF)

    def add(self, group: Group, node: Node) -> None:
        group.nodes.append(node)
        self.group_of[node] = group
        bits = 0
        for producer in self.producers(node):
            if producer is not group:
                bits |= producer.ancestors | 1 << producer.number
        self.grow(group, bits)

    def grow(self, group: Group, bits: int) -> None:
        """Add ancestors to a group and to everything behind it."""
        group.ancestors |= bits
        mark = 1 << group.number
        for other in self.groups.values():
            if other.ancestors & mark:
                other.ancestors |= group.ancestors

    def acyclic(self, group: Group, node: Node) -> bool:
        """Whether no operand of the node is made from the group's results by another group."""
        mark = 1 << group.number
        return not any(p is not group and p.ancestors & mark for p in self.producers(node))

    def inside(self, group: Group) -> set[Value]:
        return {value for member in group.nodes for value in member.outputs}

    def join(self, group: Group, node: Node) -> bool:
        """Let a map or materialised view join a producer's group when they can share loops."""
        reason = self.refusal(group, node)
        self.note(node, group.label, not reason, reason or "same rows, reads stay in the row")
        if reason:
            return False
        self.add(group, node)
        self.merge_neighbours(group, node)
        return True

    def refusal(self, group: Group, node: Node) -> str:
        shape, own = node.outputs[0].shape, output_variables(node.outputs[0])
        if not self.fusing:
            return OFF
        if group.kind == "opaque":
            return "the producer stands alone"
        if len(group.nodes) >= MAX_NODES:
            return f"the group has {MAX_NODES} operators already"
        if self.keep_phases and node.phase != group.nodes[0].phase:
            return f"{node.phase} is a phase of its own"
        rows = group.rows
        whole = group.kind == "anchor" or not group.has_reduction
        if shape != group.shape if whole else shape[:rows] != group.shape[:rows]:
            return f"shapes {list(shape)} and {list(group.shape)} share no loops"
        inside = self.inside(group)
        if not is_local(self.places[node], inside.__contains__, own, len(shape) if whole else rows):
            return "it reads other places of the producer"
        if not self.acyclic(group, node):
            return BETWEEN
        return LATER if self.waits(group, node) else ""

    def waits(self, group: Group, node: Node) -> bool:
        """Whether an operator of the backward pass would store its result from the forward pass on, though
        what it reads is stored till then anyway."""
        if node.phase != "backward" or group.nodes[0].phase != "forward":
            return False
        if group.kind == "row" and group.has_reduction:
            return False
        read = {value for value, _ in self.places[node] if value in self.inside(group)}
        size = node.outputs[0].dtype.size
        return all(value.dtype.size <= size and self.is_kept(value, node) for value in read)

    def is_kept(self, value: Value, node: Node) -> bool:
        """Whether another operator of the backward pass reads a value."""
        return any(r.phase == "backward" and r is not node for r in self.readers.get(value, ()))

    def join_reduction(self, group: Group, node: Node, rows: int) -> bool:
        """Let a reduction over trailing axes join the rows it reduces."""
        reason = self.reduction_refusal(group, node, rows)
        self.note(node, group.label, not reason, reason or "reduces each row")
        if reason:
            return False
        group.rows = rows
        self.add(group, node)
        return True

    def reduction_refusal(self, group: Group, node: Node, rows: int) -> str:
        if not self.fusing:
            return OFF
        if group.kind != "row":
            return f"the producer {'stands alone' if group.kind == 'opaque' else TILED}"
        if self.keep_phases and node.phase != group.nodes[0].phase:
            return f"{node.phase} is a phase of its own"
        if group.has_reduction and group.rows != rows:
            return f"the rows differ: {rows} axes and {group.rows}"
        own = output_variables(node.outputs[0])
        if group.shape[:rows] != node.outputs[0].shape[:rows] or not is_local(
            self.places[node], self.inside(group).__contains__, own, rows
        ):
            return "it reads across rows"
        size = upper(product(group.shape))
        if (
            rows == 0
            and group.rows
            and (size is None or size > SMALL)
            and not self.only_read_by(group, {node})
        ):
            return "one row would be the whole tensor"
        return "" if self.acyclic(group, node) else BETWEEN

    def only_read_by(self, group: Group, nodes: set[Node]) -> bool:
        """Whether no value of the group is needed outside of it and of `nodes`."""
        members = {*group.nodes, *nodes}
        return all(
            value not in self.needed and all(r in members for r in self.readers.get(value, ()))
            for value in self.inside(group)
        )

    def merge_neighbours(self, group: Group, node: Node) -> None:
        """Pull in elementwise groups that exist only for this one."""
        own = output_variables(node.outputs[0])
        for other in self.producers(node):
            if other is group or other.kind != "row" or other.has_reduction:
                continue
            inside = self.inside(other)
            if (
                other.shape == node.outputs[0].shape
                and is_local(self.places[node], inside.__contains__, own, len(own))
                and self.stays_in_rows(group, other)
            ):
                self.absorb(group, other, "same elements, no other reader")

    def stays_in_rows(self, group: Group, other: Group) -> bool:
        """Whether everything in a group but its anchor reads another's results in its own row only."""
        inside = self.inside(other).__contains__
        for member in group.nodes:
            own = output_variables(member.outputs[0])
            rows = min(group.rows, len(own)) if group.has_reduction else len(own)
            if member is not group.anchor and not is_local(self.places[member], inside, own, rows):
                return False
        return True

    def absorb(self, group: Group, other: Group, because: str) -> str:
        """Move all nodes of an elementwise group into its only reader, where they are computed in place.

        Returns why it cannot be, nothing when it is done.
        """
        if not self.fusing:
            return OFF
        if other.kind != "row" or other.has_reduction:
            return "only an elementwise producer can be computed again where it is read"
        if not self.only_read_by(other, set(group.nodes)):
            return "the producer's result is read elsewhere too"
        if self.keep_phases and other.nodes[0].phase != group.nodes[0].phase:
            return f"{group.nodes[0].phase} is a phase of its own"
        if len(group.nodes) + len(other.nodes) > MAX_NODES:
            return f"together they have more than {MAX_NODES} operators"
        self.take(group, other, because)
        return ""

    def take(self, group: Group, other: Group, because: str) -> None:
        """Move all nodes of another group into one; who needed the other needs that one now."""
        for member in other.nodes:
            self.group_of[member] = group
        group.nodes[:0] = other.nodes
        del self.groups[other.number]
        own, gone = 1 << group.number, 1 << other.number
        bits = group.ancestors | other.ancestors | own
        for each in self.groups.values():
            if each is group or each.ancestors & (own | gone):
                each.ancestors = (each.ancestors | bits) & ~gone
        group.ancestors &= ~own
        self.note(other.nodes[-1], group.label, True, because)

    def updates_in_place(self, state: Value, value: Value) -> bool:
        """Whether a state's new value may be written over the old one: its kernel reads the old one
        only at the place it writes, and every other reader can run before."""
        group = self.group_of.get(value.node) if value.node else None
        if group is None or group.kind == "opaque" or (group.kind == "row" and group.has_reduction):
            return False
        if any(v is value for s, v in self.graph.updates if s is not state):
            return False
        for node in group.nodes:
            own = output_variables(node.outputs[0])
            if any(
                v is state and (place != own or node.outputs[0].shape != state.shape)
                for v, place in self.places[node]
            ):
                return False
        others = {self.group_of[n] for n in self.readers.get(state, ())} - {group}
        if any(other.ancestors >> group.number & 1 for other in others):
            self.note(group.nodes[-1], state.name, False, "the old state is needed later: it is copied")
            return False
        for other in others:
            self.grow(group, other.ancestors | 1 << other.number)
        return True

    def ordered(self) -> list[Group]:
        """Groups in an order of execution near that of the graph."""
        rank = {node: k for k, node in enumerate(self.graph.nodes)}
        for group in self.groups.values():
            group.nodes.sort(key=rank.__getitem__)
        ancestors = {number: group.ancestors for number, group in self.groups.items()}
        first = {number: rank[group.nodes[0]] for number, group in self.groups.items()}
        return [self.groups[number] for number in execution_order(ancestors, first)]

    def note(self, node: Node, target: str, fused: bool, because: str) -> None:
        self.decisions.append(Decision(node.outputs[0].name, node.op.name, target, fused, because))


def fuse(graph: Graph, *, keep_phases: bool = False, fusing: bool = True) -> Fusion:
    """Group the operators of a graph into kernels.

    Args:
        keep_phases: keep forward, backward and update apart, for programs that call them one by one.
        fusing: False gives every operator a kernel of its own; views still live inside their readers.
    """
    return Fuser(graph, keep_phases, fusing).run()
