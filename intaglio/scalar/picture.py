"""Pictures of graphs: boxes and arrows as SVG, drawn here, and as text for Graphviz."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from html import escape
from itertools import pairwise
from os import PathLike
from pathlib import Path

from intaglio.scalar.layout import Point, arrange
from intaglio.shared.errors import ArgumentError

LETTER, LINE, MARGIN = 7.2, 15.0, 8.0
"""Width and height of a letter, and space around text."""


@dataclass(frozen=True, slots=True)
class Box:
    """Text in a frame: cells side by side, each of lines. A `round` box is an operator."""

    cells: tuple[tuple[str, ...], ...]
    fill: str = "#ffffff"
    round: bool = False

    @property
    def widths(self) -> list[float]:
        return [max(map(len, cell)) * LETTER + 2 * MARGIN for cell in self.cells]

    @property
    def size(self) -> Point:
        lines = max(map(len, self.cells))
        return max(sum(self.widths), 26.0), lines * LINE + MARGIN


@dataclass(frozen=True)
class Picture:
    """Boxes and arrows between their numbers; an arrow runs from a smaller number to a larger one.

    Notebooks show it; `save` writes it to a file. Arrows run to the right, or down if it is `vertical`.
    """

    boxes: tuple[Box, ...]
    arrows: tuple[tuple[int, int], ...]
    title: str = ""
    vertical: bool = False

    def __repr__(self) -> str:
        return f"<Picture of {self.title or 'a graph'}: {len(self.boxes)} boxes, {len(self.arrows)} arrows>"

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | PathLike[str]) -> None:
        """Write a `.svg` picture or `.dot` text."""
        target = Path(path)
        if target.suffix not in (".svg", ".dot"):
            raise ArgumentError(f"save: {target.name!r} ends in neither .svg nor .dot")
        target.write_text(self.svg if target.suffix == ".svg" else self.dot, encoding="utf-8")

    @property
    def dot(self) -> str:
        """The graph in Graphviz's language."""
        direction = "TB" if self.vertical else "LR"
        lines = [
            "digraph {",
            f'    graph [rankdir="{direction}"];',
            '    node [fontname="monospace", style="filled"];',
        ]
        for number, box in enumerate(self.boxes):
            if box.round:
                lines.append(f'    n{number} [label="{_quoted(box.cells[0][0])}", fillcolor="{box.fill}"];')
                continue
            cells = " | ".join("\\l".join(map(_record, cell)) + "\\l" * (len(cell) > 1) for cell in box.cells)
            lines.append(f'    n{number} [shape="record", label="{{ {cells} }}", fillcolor="{box.fill}"];')
        lines += [f"    n{a} -> n{b};" for a, b in self.arrows]
        return "\n".join([*lines, "}", ""])

    @cached_property
    def svg(self) -> str:
        """The picture."""
        turn = _turned if self.vertical else _same
        plan = arrange([turn(box.size) for box in self.boxes], self.arrows)
        width, height = map(round, turn((plan.width, plan.height)))
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="monospace" font-size="12">',
            f"<title>{escape(self.title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>',
            '<g fill="none" stroke="#555555">',
            *(_curve([turn(point) for point in route], self.vertical) for route in plan.routes),
            "</g>",
        ]
        for box, corner in zip(self.boxes, plan.corners, strict=True):
            lines += _box(box, turn(corner))
        return "\n".join([*lines, "</svg>", ""])


def _same(point: Point) -> Point:
    return point


def _turned(point: Point) -> Point:
    return point[1], point[0]


def _curve(route: list[Point], vertical: bool) -> str:
    """A smooth line that leaves and reaches every point in the direction of the layers."""
    path = "M{:.1f} {:.1f}".format(*route[0])
    for (x, y), (to_x, to_y) in pairwise(route):
        middle = (y + to_y) / 2 if vertical else (x + to_x) / 2
        bends = ((x, middle), (to_x, middle)) if vertical else ((middle, y), (middle, to_y))
        path += "C" + " ".join(f"{a:.1f} {b:.1f}" for a, b in (*bends, (to_x, to_y)))
    return f'<path d="{path}" marker-end="url(#tip)"/>'


def _box(box: Box, corner: Point) -> list[str]:
    (x, y), (width, height) = corner, box.size
    radius = height / 2 if box.round else 3
    lines = [f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius:.1f}" '
             f'fill="{box.fill}" stroke="#000000"/>']  # fmt: skip
    if box.round:
        text = escape(box.cells[0][0])
        lines.append(f'<text x="{x + width / 2:.1f}" y="{y + LINE:.1f}" text-anchor="middle">{text}</text>')
        return lines
    for number, (cell, wide) in enumerate(zip(box.cells, box.widths, strict=True)):
        if number:
            lines.append(f'<path d="M{x:.1f} {y:.1f}v{height:.1f}" stroke="#000000"/>')
        for place, text in enumerate(cell, 1):
            at = f'x="{x + MARGIN:.1f}" y="{y + place * LINE:.1f}"'
            lines.append(f"<text {at}>{escape(text)}</text>")
        x += wide
    return lines


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _record(text: str) -> str:
    """Text of a record's cell."""
    return "".join("\\" + c if c in '\\"{}<>| ' else c for c in text)
