"""Graph -> loops: kernels, the driver that calls them, and where every value lives.

A value lives in an array of the program: an input, an output, a state, a constant, or scratch. The
new value of a state is written over the old one where fusion found that safe, else into scratch and
copied at the end of the call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from intaglio.graph.ir import Graph, Node, Value
from intaglio.loop import lower_control, lower_opaque
from intaglio.loop.access import Order, ordered
from intaglio.loop.attention import Attention, find_attention
from intaglio.loop.chains import Chain, find_chains
from intaglio.loop.fuse import fuse
from intaglio.loop.groups import Decision, Fusion, Group, Pooled
from intaglio.loop.ir import Block, Buffer, Call, Kernel, Program, Role, Slice, Stmt, Store, block
from intaglio.loop.layout import choose_layouts
from intaglio.loop.lower_anchor import lower_anchor
from intaglio.loop.lower_attention import AttentionLowering
from intaglio.loop.lower_chain import ChainLowering
from intaglio.loop.lower_group import GroupLowering, axis_variable, loops_over, total_work
from intaglio.loop.lower_pooled import has_recipe, lower_pooled
from intaglio.loop.lower_rows import lower_rows
from intaglio.loop.lower_sizes import give_sizes
from intaglio.loop.memory import touched
from intaglio.loop.names import identifier, unique_name
from intaglio.loop.places import buffers_of, stored_in
from intaglio.loop.pooled import find_pooled
from intaglio.loop.recipes.anchor import Accuracy, Nest
from intaglio.loop.repeats import Repeats
from intaglio.loop.transform import tidy
from intaglio.ops.expr import Read
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import Index, Var, upper
from intaglio.shared.regions import Region
from intaglio.shared.target import Target

PHASES = ("forward", "backward", "update")
Several: TypeAlias = Chain | Pooled | Attention
"""Groups that become one kernel."""


@dataclass
class Lowering:
    """Lowers a graph, and the bodies of its loops, into one program."""

    program: Program
    target: Target
    keep_phases: bool = False
    fusing: bool = True
    layouting: bool = True
    chaining: bool = True
    attention: bool = True
    accuracy: Accuracy = "standard"
    plain: frozenset[str] = frozenset()
    layouts: dict[Value, Order] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    places: dict[Value, Slice] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    unread: set[Buffer] = field(default_factory=set)
    loop: Repeats | None = None

    def unique(self, wanted: str) -> str:
        return unique_name(wanted, self.names)

    def scratch(self, value: Value) -> Slice:
        """A new scratch array for a value."""
        order = self.layouts.get(value)
        shape = value.shape if order is None else ordered(value.shape, order)
        buffer = Buffer(self.unique(value.name), value.dtype, shape, "scratch")
        self.program.scratch.append(buffer)
        return Slice(buffer)

    def place(self, value: Value) -> Slice:
        """Where a value lives; a constant gets its array at first use."""
        if value not in self.places:
            if value.source == "constant":
                buffer = Buffer(
                    self.unique(value.name), value.dtype, value.shape, "constant", data=value.data
                )
                self.program.constants.append(buffer)
                self.places[value] = Slice(buffer)
            else:
                self.places[value] = self.scratch(value)
        return self.places[value]

    def body(self, graph: Graph, outputs: dict[Value, Slice]) -> dict[str, list[Stmt]]:
        """The driver's statements by phase for a graph whose inputs and states have places already.

        `outputs` maps values to the arrays they must end in, besides the graph's own updates.
        """
        fusion = fuse(graph, keep_phases=self.keep_phases, fusing=self.fusing)
        pooled = self.pooled(fusion) if self.fusing and self.chaining else []
        if self.layouting:
            self.layouts |= choose_layouts(fusion, pooled, self.target)
        chains = find_chains(fusion, pooled, self.layouts, self.target) if self.chaining else []
        attentions = find_attention(fusion) if self.attention else []
        several: list[Several] = [*chains, *pooled, *attentions]
        ends = {each.groups[-1]: each for each in several}
        inside = {group for each in several for group in each.groups[:-1]}
        self.decisions += fusion.decisions
        for value, state in fusion.in_place.items():
            self.places[value] = self.places[state]
        first, last = self.assign_outputs(graph, fusion, outputs)
        statements: dict[str, list[Stmt]] = {phase: [] for phase in PHASES}
        statements["forward"] += first
        reached = 0
        for group in fusion.groups:
            if group in inside:
                continue
            reached = max(reached, *(PHASES.index(node.phase) for node in group.nodes))
            made = self.several(ends[group], fusion) if group in ends else self.group(group, fusion)
            statements[PHASES[reached]] += made
        statements[PHASES[reached]] += last
        return statements

    def assign_outputs(
        self, graph: Graph, fusion: Fusion, outputs: dict[Value, Slice]
    ) -> tuple[list[Stmt], list[Stmt]]:
        """Give results their arrays; what cannot be made in place is copied before or after."""
        first: list[Stmt] = []
        last: list[Stmt] = []
        overwritten = {state for state, _ in graph.updates}
        for value, target in outputs.items():
            if value.source == "node" and value not in self.places:
                self.places[value] = target
            elif value.source == "node":
                last.append(self.copy(value, self.places[value], target))
            else:
                first.append(self.copy(value, self.place(value), target))
        for state, value in graph.updates:
            if value in fusion.in_place:
                continue
            source = self.place(value)
            if value in overwritten and value is not state:
                saved = self.scratch(value)
                first.append(self.copy(value, source, saved))
                source = saved
            if value is not state:
                last.append(self.copy(value, source, self.places[state]))
        return first, last

    def copy(self, value: Value, source: Slice, target: Slice) -> Stmt:
        """A kernel that copies an array."""
        size = value.type.size
        a = Buffer("from", value.dtype, (size,))
        b = Buffer("to", value.dtype, (size,))
        index = (axis_variable(0, size),)
        body = loops_over(index, (size,), block(Store(b, index, Read(a, index, a.dtype))))
        count = upper(size) or 0
        kernel = Kernel(
            self.unique(f"copy_{value.name}"),
            (a, b),
            (b,),
            body,
            (f"copy: {value.type}",),
            bytes=2 * count * value.dtype.size,
        )
        return self.call(kernel, (source, target))

    def call(self, kernel: Kernel, args: tuple[Slice, ...]) -> Call:
        self.program.kernels.append(kernel)
        return Call(kernel, args)

    def group(self, group: Group, fusion: Fusion) -> list[Stmt]:
        """The statements that run one group."""
        node = group.nodes[0]
        if group.kind == "opaque":
            if node.op.name in lower_control.RULES:
                return lower_control.RULES[node.op.name](self, node)
            return lower_opaque.lower_opaque(self, node)
        stored = fusion.stored_outside(group)
        if all(0 in value.shape for value in stored):
            return []
        lowering = GroupLowering(group, fusion, self.place, stored, layouts=self.layouts)
        if group.kind == "anchor":
            plain = unique_name(kernel_name(group), set(self.names)) in self.plain
            nest = lower_anchor(lowering, self.target, self.accuracy, plain, self.loop)
        else:
            nest = Nest(tidy(lower_rows(lowering, self.target)))
        return [self.finish_kernel((group,), lowering, nest)]

    def several(self, made: Several, fusion: Fusion) -> list[Stmt]:
        """The statements that run groups as one kernel, or as one each where a recipe does not fit."""
        groups = made.members if isinstance(made, Attention) else made.groups
        first = GroupLowering(groups[0], fusion, self.place, set(), layouts=self.layouts)
        lowerings = [
            replace(first, group=group, stored=fusion.stored_outside(group), bound={}, touched=[])
            for group in groups
        ]
        try:
            if isinstance(made, Pooled):
                nest = lower_pooled(made, lowerings, self.target, self.accuracy)
            elif isinstance(made, Attention):
                nest = AttentionLowering(made, fusion, lowerings, self.target, self.accuracy).lower()
            else:
                nest = ChainLowering(made, lowerings, self.target, self.accuracy).lower()
        except UnsupportedError as error:
            if isinstance(made, Attention):
                self.decisions.append(made.decision(error.message))
            return [s for group in made.groups for s in self.group(group, fusion)]
        if isinstance(made, Attention):
            self.decisions.append(made.decision())
        return [self.finish_kernel(groups, first, nest)]

    def pooled(self, fusion: Fusion) -> list[Pooled]:
        """Poolings in the kernels of convolutions."""
        return find_pooled(
            fusion, self.target, lambda pair: has_recipe(pair, fusion, self.target, self.accuracy)
        )

    def finish_kernel(self, groups: Sequence[Group], lowering: GroupLowering, nest: Nest) -> Call:
        """Make the kernel of a nest, with what is printed above it."""
        scratch = tuple(b for b in nest.scratch if b.data is None)
        own = {buffer: self.own(buffer) for buffer in nest.scratch}
        used = buffers_of(nest.body) | buffers_of(nest.first)
        self.unread |= {at.buffer for param, at in lowering.params.values() if param not in used}
        name = "_".join(dict.fromkeys(map(kernel_name, groups)))
        args = arguments(lowering, own, nest.body)
        stored = stored_in(nest.body)
        made = tuple(b for b in scratch if b in stored)
        moved = sum((upper(b.size) or 0) * b.dtype.size for b in args if b not in made)
        kernel = Kernel(
            self.unique(name),
            tuple(args),
            (*lowering.written, *made),
            nest.body,
            tuple(line for group in groups for line in describe(group)),
            flops=sum(total_work(group) or 0 for group in groups),
            bytes=moved,
            schedule=nest.notes,
        )
        if nest.first:
            self.before_loop(f"{name}_pack", arguments(lowering, own, nest.first), nest.first)
        return self.call(kernel, tuple(args.values()))

    def before_loop(self, name: str, args: dict[Buffer, Slice], body: Block) -> None:
        """Let a nest run once before the loop of the driver that is being lowered."""
        assert self.loop is not None
        written = stored_in(body)
        made = tuple(buffer for buffer in args if buffer in written)
        shown = ", ".join(f"{buffer.name}: {buffer.dtype}{list(buffer.shape)}" for buffer in made)
        doc = f"pack what stays the same in the loop into {shown}"
        moved = sum((upper(b.size) or 0) * b.dtype.size for b in args)
        kernel = Kernel(self.unique(name), tuple(args), made, body, (doc,), bytes=moved)
        self.loop.before.append(self.call(kernel, tuple(args.values())))

    def own(self, buffer: Buffer) -> Slice:
        """An array of the program for one that a recipe asks for; packed weights move into it."""
        name = self.unique(buffer.name)
        if buffer.data is None:
            made = Buffer(name, buffer.dtype, buffer.shape, "scratch")
            self.program.scratch.append(made)
        else:
            made = Buffer(name, buffer.dtype, buffer.shape, "constant", data=buffer.data)
            self.program.constants.append(made)
            buffer.role, buffer.data = "local", None
        return Slice(made)


def arguments(lowering: GroupLowering, own: Mapping[Buffer, Slice], body: Block) -> dict[Buffer, Slice]:
    """The parameters of a kernel and what the driver hands to it: arrays that are read, arrays that are
    written, then those of its own."""
    used = buffers_of(body)
    pairs = sorted(lowering.params.values(), key=lambda pair: pair[0] in lowering.written)
    return {buffer: place for buffer, place in (*pairs, *own.items()) if buffer in used}


def kernel_name(group: Group) -> str:
    """A short name: the regions the operators come from, else the operators themselves."""
    names = []
    for node in group.nodes:
        region = outermost(node)
        names.append(region.name if region else node.op.name)
    if group.anchor is not None and outermost(group.anchor) is None:
        names.insert(0, group.anchor.op.name)
    unique = list(dict.fromkeys(names))
    return "_".join(unique[:3])


def outermost(node: Node) -> Region | None:
    """The outermost region a node was recorded in."""
    region = node.region
    while region is not None and region.parent is not None:
        region = region.parent
    return region


def describe(group: Group) -> tuple[str, ...]:
    """What is printed above a kernel: operators with formula and types, and the lines they come from."""
    lines = []
    for node in group.nodes:
        shown = ", ".join(str(v.type) for v in node.inputs)
        lines.append(f"{node.outputs[0].name} = {node.op.name}({shown}) -> {node.outputs[0].type}")
    anchor = group.anchor or group.nodes[-1]
    lines.insert(0, f"{anchor.op.name}: {anchor.op.formula}")
    places = dict.fromkeys(str(n.where) for n in group.nodes if n.where is not None)
    return (*lines, *(f"from {place}" for place in list(places)[:3]))


def lower(
    graph: Graph,
    target: Target,
    *,
    keep_phases: bool = False,
    fusing: bool = True,
    layouting: bool = True,
    chaining: bool = True,
    attention: bool = True,
    accuracy: Accuracy = "standard",
    plain: frozenset[str] = frozenset(),
) -> tuple[Program, list[Decision]]:
    """Lower a verified graph to a program whose scratch arrays have no place in memory yet.

    Args:
        keep_phases: forward, backward and update become separate parts of the driver.
        fusing: False gives every operator a kernel of its own.
        layouting: False stores every array as its type says, the last axis fastest.
        chaining: False gives every convolution a kernel of its own.
        attention: False gives the products of attention kernels of their own.
        accuracy: which formulas recipes may use.
        plain: names of kernels that get plain nests, for schedules to start from.
    """
    program = Program(identifier(graph.name))
    lowering = Lowering(program, target, keep_phases, fusing, layouting, chaining, attention, accuracy, plain)
    for values, role, buffers in (
        (graph.inputs, "input", program.inputs),
        (graph.states, "state", program.states),
    ):
        for value in values:
            buffer = _declare(lowering, value, value.name, role)  # type: ignore[arg-type]
            buffers.append(buffer)
            lowering.places[value] = Slice(buffer)
    outputs: dict[Value, Slice] = {}
    again: list[tuple[Value, Slice]] = []
    for value, name in zip(graph.outputs, graph.output_names, strict=True):
        buffer = _declare(lowering, value, name, "output")
        program.outputs.append(buffer)
        if value in outputs:
            again.append((value, Slice(buffer)))
        else:
            outputs[value] = Slice(buffer)
    program.symbols = _call_symbols(graph)
    statements = lowering.body(graph, outputs)
    last = "update" if keep_phases else "forward"
    if not keep_phases:
        statements = {"forward": [s for phase in PHASES for s in statements[phase]]}
    statements[last] += [lowering.copy(v, lowering.place(v), target_) for v, target_ in again]
    statements[last] += give_sizes(lowering, graph)
    program.phases = {phase: Block(tuple(body)) for phase, body in statements.items()}
    read = {b for body in program.phases.values() for statement in body for b in touched(statement)}
    unread = lowering.unread - read
    program.constants = [buffer for buffer in program.constants if buffer not in unread]
    return program, lowering.decisions


def _declare(lowering: Lowering, value: Value, name: str, role: Role) -> Buffer:
    data = value.data if role == "state" else None
    return Buffer(lowering.unique(name), value.dtype, value.shape, role, data=data)


def _call_symbols(graph: Graph) -> list[Var]:
    """Dimensions that a call passes, by name: those in the shapes of inputs and states."""
    found: set[Var] = set()
    for value in [*graph.inputs, *graph.states]:
        for extent in value.shape:
            if isinstance(extent, Index):
                found |= extent.variables
    return sorted(found, key=lambda var: var.name)
