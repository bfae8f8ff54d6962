"""Row groups: one pass over rows computes maps and reductions, segment by segment."""

from __future__ import annotations

from collections.abc import Callable

from intaglio.graph.ir import Node, Value
from intaglio.loop import access
from intaglio.loop.access import Place, ordered
from intaglio.loop.ir import Alloc, Block, Buffer, Combine, For, Reduce, Stmt, Store, block
from intaglio.loop.lower_group import (
    LOCAL_BYTES,
    GroupLowering,
    Segment,
    argument_update,
    axis_variable,
    combine_identity,
    loops_over,
    total_work,
)
from intaglio.loop.recipes.nests import loop
from intaglio.loop.threads import may_thread
from intaglio.ops.expr import Expr, Read
from intaglio.shared.index import Index, IndexLike, upper, variable
from intaglio.shared.target import Target

LANES_FROM = 2  # vectors at least that a reduction with vector accumulators goes through
TURNS = 4  # vectors that look for an extreme in turn
SHORTEST = 12  # elements; compilers are better at shorter loops
NARROWEST = 4  # lanes of the vectors for what a loop leaves behind whole ones


def lower_rows(lowering: GroupLowering, target: Target) -> Block:
    """The nest of a row group."""
    group = lowering.group
    lowering.flat = _is_flat(lowering)
    if lowering.flat:
        return _flat_nest(lowering)
    rows = group.rows
    own = tuple(axis_variable(k, e) for k, e in enumerate(group.shape[:rows]))
    segments = RowSegments(lowering, own, target)
    if group.has_reduction:
        body = segments.run()
    else:
        rest = tuple(axis_variable(k + rows, e) for k, e in enumerate(group.shape[rows:]))
        body = loops_over(rest, group.shape[rows:], block(*lowering.epilogue(group.nodes, own + rest)))
    order = lowering.layouts.get(group.nodes[-1].outputs[0])
    shape = group.shape[:rows]
    if order is not None and len(order) == rows:
        own, shape = ordered(own, order), ordered(shape, order)
    return _row_loops(own, shape, body, may_thread(total_work(group)))


def _row_loops(variables: Place, shape: Place, body: Block, threads: bool) -> Block:
    """Loops over rows; the outermost one may run on several threads."""
    nest = loops_over(variables, shape, body)
    if not threads or not any(isinstance(v, Index) for v in variables):
        return nest
    outer = nest.statements[0]
    assert isinstance(outer, For)
    return block(For(outer.var, outer.stop, outer.body, "parallel"))


def _is_flat(lowering: GroupLowering) -> bool:
    """Whether every array is read at the element that is written, so that one loop does."""
    group, fusion = lowering.group, lowering.fusion
    if group.has_reduction or len(group.shape) < 2:
        return False
    own = access.output_variables(group.nodes[-1].outputs[0])
    if any(node.outputs[0].shape != group.shape or node.op.kind == "view" for node in group.nodes):
        return False
    arrays = [value for node in group.nodes for value, _ in access.reads(node, fusion.free.__contains__)]
    arrays = [value for value in (*arrays, *lowering.stored) if value.shape == group.shape]
    if len({lowering.layouts.get(value) for value in arrays}) > 1:
        return False
    if not all(_reads_flat(value, fusion.free) for node in group.nodes for value in node.inputs):
        return False
    return all(
        place in ((), own) and (place == () or value.shape == group.shape)
        for node in group.nodes
        for value, place in access.reads(node, fusion.free.__contains__)
    )


def _reads_flat(value: Value, free: set[Node]) -> bool:
    """Whether reading a value at the position in one loop over all elements means the same element."""
    if value.node not in free or access.uniform(value, free.__contains__) is not None:
        return True
    return value.node.op.kind == "map" and all(_reads_flat(v, free) for v in value.node.inputs)


def _flat_nest(lowering: GroupLowering) -> Block:
    group = lowering.group
    size = group.nodes[-1].outputs[0].type.size
    own = (axis_variable(0, size),)
    return _row_loops(
        own, (size,), block(*lowering.epilogue(group.nodes, own)), may_thread(total_work(group))
    )


class RowSegments:
    """Builds the segments of one row."""

    def __init__(self, lowering: GroupLowering, own: Place, target: Target) -> None:
        self.lowering = lowering
        self.own = own
        self.target = target
        self.rows = lowering.group.rows
        self.allocs: list[Stmt] = []
        self.segments: list[Segment] = []
        self.limit: IndexLike | None = None
        """Where rows end that are not needed whole."""

    def cut(self, shape: Place) -> Place:
        """The extents of the rest of a row, as far as it is needed."""
        return shape if self.limit is None else tuple(e if e == 1 else self.limit for e in shape)

    def add_all(self) -> None:
        """Make the segments of all members."""
        for node in self.lowering.group.nodes:
            if node.op.kind == "reduce":
                self.add_reduction(node)
            elif self.lowering.keeps(node):
                self.add_map(node)

    def run(self) -> Block:
        self.add_all()
        parts: list[Stmt | Block] = [*self.allocs]
        for segment in self.segments:
            parts.append(self.statements(segment))
        return block(*parts)

    def statements(self, segment: Segment) -> Block:
        """The loops of a segment, with what comes before and behind them."""
        return block(*segment.before, self.loops(segment), *segment.after)

    def segment_for(self, shape: Place, probe: Callable[[Place], object]) -> Segment:
        """The current segment if the new stage can share its loops, else a new one."""
        if self.segments:
            current = self.segments[-1]
            index = self.variables(shape)
            self.lowering.touched.clear()
            probe(index)
            full = self.own + index
            blocked = any(
                value in current.reductions or (value in current.vectors and place != full)
                for value, place in self.lowering.touched
            )
            if current.shape == shape and not blocked:
                return current
        self.segments.append(Segment(shape))
        return self.segments[-1]

    def variables(self, shape: Place) -> Place:
        return tuple(axis_variable(self.rows + k, e) for k, e in enumerate(shape))

    def add_map(self, node: Node) -> None:
        value = node.outputs[0]
        shape = self.cut(value.shape[self.rows :])
        compute = self.computes(node)
        if all(extent == 1 for extent in shape):
            self.add_scalar(value, compute, tuple(0 for _ in shape))
            return
        segment = self.segment_for(shape, compute)
        target = self.row_buffer(value, shape)
        lowering = self.lowering

        def emit(index: Place) -> list[Stmt]:
            at = index if target.role == "local" and target in self.local_rows else self.own + index
            expression = compute(index)
            lowering.bound[value] = bound
            return [
                lowering.store(value, self.own + index, expression)
                if value in lowering.stored
                else Store(target, at, expression)
            ]

        def bound(place: Place) -> Expr:
            if target in self.local_rows:
                return lowering.read(target, place[self.rows :])
            return lowering.read(*lowering.at(value, place))

        segment.stages.append(emit)
        segment.vectors.add(value)
        lowering.bound[value] = bound

    @property
    def local_rows(self) -> set[Buffer]:
        return {s.buffer for s in self.allocs if isinstance(s, Alloc) and s.buffer.shape}

    def row_buffer(self, value: Value, shape: Place) -> Buffer:
        """Where a row lives: the stored array, or a local one when it is small."""
        lowering = self.lowering
        if value in lowering.stored:
            return lowering.output(value)
        buffer = lowering.local(value, shape)
        size = upper(buffer.size)
        if size is None or size * buffer.dtype.size > LOCAL_BYTES:
            lowering.stored.add(value)
            return lowering.output(value)
        self.allocs.append(Alloc(buffer))
        return buffer

    def computes(self, node: Node) -> Callable[[Place], Expr]:
        """The member's element at a place of the row, computed where it stands."""
        own, resolve = self.own, self.lowering.resolve
        return lambda index: access.element(node, own + index, resolve)

    def add_scalar(self, value: Value, compute: Callable[[Place], Expr], zero: Place) -> None:
        """A value with one element per row becomes a scalar variable."""
        lowering = self.lowering
        segment = self.segment_for((), lambda _: compute(zero))
        scalar = lowering.local(value, ())
        self.allocs.append(Alloc(scalar))

        def emit(_: Place) -> list[Stmt]:
            return [Store(scalar, (), compute(zero))]

        segment.stages.append(emit)
        if value in lowering.stored:
            held = Read(scalar, (), scalar.dtype)
            segment.after.append(lowering.store(value, self.own + zero, held))
        lowering.bound[value] = lambda _: Read(scalar, (), scalar.dtype)

    def add_reduction(self, node: Node) -> None:
        """A reduction accumulates in a scalar, over loops shared with the stages it reads."""
        lowering, value = self.lowering, node.outputs[0]
        shape = self.cut(access.extents(node))
        own, resolve = self.own, lowering.resolve

        def compute(index: Place) -> Expr:
            return access.term(node, own, index, resolve)

        segment = self.segment_for(shape, compute)
        combine = node.op.combine or "add"
        if combine in ("argmax", "argmin"):
            self.add_argument(segment, node, compute, shape)
            return
        scalar = lowering.local(value, ())
        segment.before += [Alloc(scalar), Store(scalar, (), combine_identity(combine, scalar.dtype))]
        segment.stages.append(lambda index: [Reduce(scalar, (), combine, compute(index), node.op.ordered)])  # type: ignore[arg-type]
        self.finish_reduction(segment, value, scalar)

    def finish_reduction(self, segment: Segment, value: Value, scalar: Buffer) -> None:
        segment.reductions.add(value)
        if value in self.lowering.stored:
            held = Read(scalar, (), scalar.dtype)
            segment.after.append(self.lowering.store(value, self.own, held))
        self.lowering.bound[value] = lambda _: Read(scalar, (), scalar.dtype)

    def add_argument(
        self, segment: Segment, node: Node, compute: Callable[[Place], Expr], shape: Place
    ) -> None:
        lowering, value = self.lowering, node.outputs[0]
        place = lowering.local(value, ())
        element = node.inputs[0].dtype.arithmetic
        best = Buffer(lowering.unique("best"), element, (), "local", "register")
        segment.before += [
            Alloc(best),
            Store(best, (), combine_identity(node.op.combine or "argmax", element)),
            Alloc(place),
            Store(place, (), combine_identity("add", place.dtype)),
        ]
        segment.stages.append(lambda index: argument_update(node, best, place, compute(index), index, shape))
        self.finish_reduction(segment, value, place)

    def loops(self, segment: Segment) -> Block:
        """The loops of a segment; a long innermost one with reductions gets vector accumulators."""
        if all(extent == 1 for extent in segment.shape):
            zero = tuple(0 for _ in segment.shape)
            return block(*(s for stage in segment.stages for s in stage(zero)))
        index = self.variables(segment.shape)
        body = [s for stage in segment.stages for s in stage(index)]
        lanes = self.lanes(segment, body)
        if lanes == 1:
            return loops_over(index, segment.shape, block(*body))
        outer, inner = index[:-1], segment.shape[-1]
        assert isinstance(inner, int)
        pre, main, post = _widen(segment, outer, inner, lanes, self.lowering)
        return block(*pre, loops_over(outer, segment.shape[:-1], main), *post)

    def lanes(self, segment: Segment, body: list[Stmt]) -> int:
        """Accumulators per reduction: one vector's worth when the innermost loop is long enough."""
        reductions = [s for s in body if isinstance(s, Reduce)]
        extent = segment.shape[-1]
        if (
            not reductions
            or not isinstance(extent, int)
            or not all(isinstance(s, (Reduce, Store)) for s in body)
            or any(r.ordered for r in reductions)
        ):
            return 1
        lanes = min(self.target.lanes(r.buffer.dtype.size) for r in reductions)
        lanes = lanes if lanes > 1 else 8
        while lanes > NARROWEST and extent < LANES_FROM * lanes:
            lanes //= 2
        return lanes if extent >= max(SHORTEST, LANES_FROM * lanes) else 1


def _widen(
    segment: Segment, outer: Place, extent: int, lanes: int, lowering: GroupLowering
) -> tuple[list[Stmt], Block, list[Stmt]]:
    """Split the innermost loop by lanes: each lane accumulates alone, the lanes are combined at the end.

    Comparisons take longer than additions, so extremes are found by several vectors in turn."""
    lane = variable("lane", lanes)
    wide: dict[Buffer, list[Buffer]] = {}
    pre: list[Stmt] = []
    post: list[Stmt] = []

    def accumulator(scalar: Buffer, combine: Combine, turn: int) -> Buffer:
        held = wide.setdefault(scalar, [])
        if turn == len(held):
            acc = Buffer(lowering.unique(f"{scalar.name}_lanes"), scalar.dtype, (lanes,), "local", "register")
            held.append(acc)
            pre.extend(
                (
                    Alloc(acc),
                    _lane_loop(lane, lanes, Store(acc, (lane,), combine_identity(combine, acc.dtype))),
                )
            )
            into, place = (scalar, ()) if turn == 0 else (held[0], (lane,))
            post.insert(
                0, _lane_loop(lane, lanes, Reduce(into, place, combine, Read(acc, (lane,), acc.dtype)))
            )
        return held[turn]

    def body(start: IndexLike, turn: int = 0) -> list[Stmt]:
        return [
            Reduce(accumulator(s.buffer, s.combine, turn), (lane,), s.combine, s.value)
            if isinstance(s, Reduce)
            else s
            for s in _at(segment, (*outer, start + lane))
        ]

    whole = extent // lanes
    turns = TURNS if whole >= 2 * TURNS and _finds_extremes(segment, outer) else 1
    main = loop(
        "v",
        whole // turns,
        lambda v: [
            _lane_loop(lane, lanes, *body(v * (turns * lanes) + turn * lanes, turn)) for turn in range(turns)
        ],
    )
    main += [_lane_loop(lane, lanes, *body(step * lanes)) for step in range(whole // turns * turns, whole)]
    return pre, block(*main, *_rest(segment, outer, extent - extent % lanes, extent, lanes // 2)), post


def _finds_extremes(segment: Segment, outer: Place) -> bool:
    """Whether a segment does nothing but look for extremes."""
    return all(isinstance(s, Reduce) and s.combine in ("max", "min") for s in _at(segment, (*outer, 0)))


def _rest(segment: Segment, outer: Place, start: int, stop: int, lanes: int) -> list[Stmt]:
    """What is left behind the last whole vector: narrower ones, then single elements."""
    found: list[Stmt] = []
    while lanes >= NARROWEST:
        if stop - start >= lanes:
            lane = variable("lane", lanes)
            found.append(_lane_loop(lane, lanes, *_at(segment, (*outer, start + lane))))
            start += lanes
        lanes //= 2
    return [*found, *loop("rest", stop - start, lambda k: _at(segment, (*outer, start + k)))]


def _at(segment: Segment, index: Place) -> list[Stmt]:
    return [s for stage in segment.stages for s in stage(index)]


def _lane_loop(lane: Index, lanes: int, *body: Stmt) -> For:
    return For(lane.terms[0][0], lanes, block(*body), "vector")  # type: ignore[arg-type]
