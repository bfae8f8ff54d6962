"""Graphs inside of graphs: what a body takes from the graphs around it becomes its inputs.

Importing the body of a loop or branch opens a frame. A value of an outer graph that is looked up there is
captured: it becomes an input of every frame between its own graph and the innermost one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from intaglio.graph.ir import Graph, Value
from intaglio.readers.onnx.model import MAX_DEPTH
from intaglio.shared.errors import FileFormatError


@dataclass(eq=False)
class Frame:
    """A graph under construction; `captured` maps values of the graph around it to its inputs."""

    graph: Graph
    captured: dict[Value, Value] = field(default_factory=dict)

    def capture(self, value: Value) -> Value:
        """The input that stands for a value of the graph around."""
        if value not in self.captured:
            self.captured[value] = self.graph.input(value.type, value.name)
        return self.captured[value]


class Frames:
    """The stack of graphs that are being imported, the model's own first."""

    def __init__(self, graph: Graph) -> None:
        self._stack = [Frame(graph)]

    @property
    def graph(self) -> Graph:
        """The innermost graph: where nodes go now."""
        return self._stack[-1].graph

    @property
    def nested(self) -> bool:
        """Whether the innermost graph is the body of a loop or branch."""
        return len(self._stack) > 1

    @contextmanager
    def inner(self, name: str) -> Iterator[Frame]:
        """A new graph inside of the current one, until the end of the `with` block."""
        if len(self._stack) > MAX_DEPTH:
            raise FileFormatError(f"graphs are nested more than {MAX_DEPTH} deep")
        with self.again(Frame(Graph(name))) as frame:
            yield frame

    @contextmanager
    def again(self, frame: Frame) -> Iterator[Frame]:
        """The same with a frame that was left before, inside of the same graph."""
        self._stack.append(frame)
        try:
            yield frame
        finally:
            self._stack.pop()

    def local(self, operand: Any) -> Any:
        """An operand as the innermost graph sees it; a sequence element by element."""
        if isinstance(operand, list):
            return [self.local(part) for part in operand]
        return self._local(operand, len(self._stack) - 1) if isinstance(operand, Value) else operand

    def outer(self, value: Value) -> Value | None:
        """What an input of an inner graph stands for in the graph around it; None for one of its own."""
        for frame in self._stack[1:]:
            for captured, own in frame.captured.items():
                if own is value:
                    return captured
        return None

    def _local(self, value: Value, depth: int) -> Value:
        frame = self._stack[depth]
        if value.graph is frame.graph:
            return value
        if depth == 0:
            raise FileFormatError(f"{value.name!r} belongs to an inner graph that has ended")
        return frame.capture(self._local(value, depth - 1))
