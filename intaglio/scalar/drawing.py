"""Pictures of scalar graphs, as micrograd's notebook draws them, and of the loops that they become."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from intaglio.loop.ir import Buffer
from intaglio.scalar.capture import operands
from intaglio.scalar.dag import BACKWARD, FORWARD, UPDATING
from intaglio.scalar.picture import Box, Picture
from intaglio.scalar.program import Program
from intaglio.scalar.reroll.addresses import Domain
from intaglio.scalar.reroll.raising import Raised, Step
from intaglio.scalar.rerolled import Rerolled
from intaglio.shared.errors import ArgumentError, TraceError

MOST_BOXES = 400
LONGEST = 90
"""Letters of a line."""

LEAF, COMPUTED, OPERATOR, ARRAY = "#fff3d6", "#ffffff", "#e8e8e8", "#fff3d6"
PHASES = {FORWARD: "#dcecff", BACKWARD: "#ffe0dc", UPDATING: "#dff3dc"}


def draw(what: Any, *, limit: int = MOST_BOXES) -> Picture:
    """A picture of the graph below a Value, or of the loops of a compiled program.

    Notebooks show it; `.save("graph.svg")` and `.save("graph.dot")` write it.

    Args:
        what: a Value (micrograd's too), or a program of the re-rolled engine.
        limit: the largest number of values or kernels to draw.

    Raises:
        ArgumentError: there is more to draw than `limit`, or nothing that can be drawn.
        TraceError: the graph has a cycle.
    """
    if isinstance(what, Program):
        return _draw_loops(what, limit)
    if not all(hasattr(what, name) for name in ("data", "grad", "_prev", "_op")):
        raise ArgumentError(f"draw: a {type(what).__name__} is neither a Value nor a compiled program")
    return _draw_graph(what, limit)


def _draw_graph(root: Any, limit: int) -> Picture:
    boxes: list[Box] = []
    arrows: list[tuple[int, int]] = []
    number: dict[Any, int] = {}
    for value in _below(root, limit):
        below = [number[child] for child in operands(value)]
        if below:
            boxes.append(Box(((value._op,),), OPERATOR, round=True))
            arrows += [(child, len(boxes) - 1) for child in dict.fromkeys(below)]
            arrows.append((len(boxes) - 1, len(boxes)))
        number[value] = len(boxes)
        cells = ((f"data {_shown(value.data)}",), (f"grad {_shown(value.grad)}",))
        boxes.append(Box(cells, COMPUTED if below else LEAF))
    return Picture(tuple(boxes), tuple(arrows), "a scalar graph")


def _below(root: Any, limit: int) -> Iterator[Any]:
    """Every value below the root behind its operands."""
    open_, done = {root}, set()
    stack = [(root, iter(operands(root)))]
    while stack:
        value, children = stack[-1]
        child = next((c for c in children if c not in done), None)
        if child is None:
            stack.pop()
            open_.discard(value)
            done.add(value)
            yield value
        elif child in open_:
            raise TraceError("draw: a value depends on itself: the graph has a cycle")
        else:
            open_.add(child)
            stack.append((child, iter(operands(child))))
        if len(open_) + len(done) > limit:
            raise ArgumentError(
                f"draw: more than {limit} values lie below this one",
                hint="draw a value further down, compile the graph and draw the program, or raise limit=",
            )


def _shown(number: Any) -> str:
    value = float(number)
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.4g}"


def _draw_loops(program: Program, limit: int) -> Picture:
    engine = program.engine
    if not isinstance(engine, Rerolled):
        raise ArgumentError(
            f"draw: the {engine.name} engine has no loops", hint="compile(..., engine='rerolled')"
        )
    raised = engine.raised
    steps = [step for step in raised.steps if step.phase in PHASES]
    if len(steps) > limit:
        raise ArgumentError(
            f"draw: the program has {len(steps)} kernels, more than {limit}",
            hint="most of its graph is irregular; raise limit=, or read program.source",
        )
    boxes: list[Box] = []
    arrows: dict[tuple[int, int], None] = {}
    writer: dict[Buffer, int] = {}
    for step in steps:
        sources = []
        for buffer in step.kernel.params:
            if buffer not in writer and _is_given(raised, buffer, step):
                writer[buffer] = len(boxes)
                boxes.append(Box(((f"{buffer.name}: {buffer.size}",),), ARRAY))
            if buffer in writer:
                sources.append(writer[buffer])
        arrows |= {(source, len(boxes)): None for source in sources}
        writer |= {buffer: len(boxes) for buffer in step.kernel.written}
        boxes.append(Box((tuple(_lines(raised, step)),), PHASES[step.phase]))
    return Picture(tuple(boxes), tuple(arrows), "the loops of a scalar program", vertical=True)


def _is_given(raised: Raised, buffer: Buffer, step: Step) -> bool:
    """Whether a buffer's content is there before the program runs: inputs, parameters, tables."""
    return buffer not in (raised.rate, raised.fault) and (
        buffer not in step.kernel.written or step.phase == UPDATING
    )


def _lines(raised: Raised, step: Step) -> Iterator[str]:
    """A kernel in words: its name, what it computes, and its loops."""
    yield step.kernel.name
    for line in step.kernel.doc:
        yield line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."
    for region in step.regions:
        for family in region.families:
            yield loops_in_words(raised.domains[id(family)])


def loops_in_words(domain: Domain) -> str:
    """The extents of a family's loops: `19 turns of 64 x 16 sums of 8`."""
    members = " x ".join(map(str, domain.members)) or "1"
    rounds = [" x ".join(map(str, extents)) for extents in domain.rounds.values() if extents]
    text = f"{members} sums of {' + '.join(rounds)}" if rounds else f"{members} values"
    return f"{domain.turns} turns of {text}" if domain.turns > 1 else text
