"""The roofline plot: how near each kernel comes to what one core can do with the bytes it needs.

Across: operations per byte of the arrays a kernel reads and writes. Up: operations per second. A kernel can
be no higher than the roof: the core's rate, or its operations per byte times the rate of the memory that
holds them. The area of a dot is the kernel's share of the time.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

from intaglio.shared.errors import ArgumentError, UnsupportedError
from intaglio.view.explain import Explanation, Part

SUFFIXES = (".png", ".svg", ".pdf")
NAMED = 8
"""Kernels that have a number and a line of text, the dearest ones."""
LEAST = 1e-3
"""The share of the time below which a kernel is not drawn."""
FAMILIES = {
    "convolution": "#3b6fb6",
    "matrix product": "#d1603d",
    "other operators": "#5f9e6e",
}
INK, FAINT = "#222222", "#8a8a8a"


def check(path: str | Path) -> None:
    """Whether a plot can be written there, to be asked before a long measurement.

    Raises:
        ArgumentError: the name has another ending than `SUFFIXES`.
        UnsupportedError: matplotlib is not installed.
    """
    name = Path(path).name
    if Path(path).suffix not in SUFFIXES:
        raise ArgumentError(f"plot: {name!r} ends in none of {', '.join(SUFFIXES)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise UnsupportedError("plot: matplotlib is not installed", hint="pip install 'intaglio[plot]'")


def draw(found: Explanation, path: str | Path) -> None:
    """Write the plot. Raises as `check` does, and ArgumentError when no kernel does arithmetic."""
    check(path)
    figures: Any = importlib.import_module("matplotlib.figure")
    parts = [
        part
        for part in found.parts
        if part.kernel.flops and part.kernel.bytes and part.seconds > LEAST * found.seconds
    ]
    if not parts:
        raise ArgumentError(f"plot: no kernel of {found.name} does arithmetic", hint="use --json")
    figure = figures.Figure(figsize=(10.4, 5.6), layout="constrained")
    axes, side = figure.subplots(1, 2, width_ratios=(2.35, 1))
    _frame(axes, found, parts)
    _dots(axes, found, parts)
    _names(side, found, parts)
    rates = _roof(axes, found, parts)
    figure.draw_without_rendering()
    for text in rates:
        _lay_along(axes, text)
    _numbers(axes, found, parts)
    figure.savefig(path, dpi=160)


def _x(part: Part) -> float:
    return part.kernel.flops / part.kernel.bytes


def _y(part: Part) -> float:
    return part.kernel.gflops


def family(part: Part) -> str:
    """Which colour a kernel has."""
    operators = part.kernel.operators
    if any(name.startswith("conv") for name in operators):
        return "convolution"
    return "matrix product" if "dot" in operators else "other operators"


def _range(found: Explanation, parts: list[Part]) -> tuple[float, float, float, float]:
    """The limits of both axes: all dots, and the corner of the roof of memory."""
    peak, slowest = found.roof.flops / 1e9, found.roof.bandwidth[-1][1] / 1e9
    left = min(0.5 * peak / found.roof.bandwidth[0][1] * 1e9, min(map(_x, parts)) / 1.6)
    right = max(4 * peak / slowest, 2 * max(map(_x, parts)))
    low = min(map(_y, parts)) / 2
    return left, right, max(low, peak / 3e4), 2.2 * peak


def _roof(axes: Any, found: Explanation, parts: list[Part]) -> list[Any]:
    """The lines, and the texts of the slanted ones."""
    left, right, low, _ = _range(found, parts)
    peak = found.roof.flops / 1e9
    rates, first = [], right
    names = ("L1", "L2", "memory")
    for (_, rate), name, shade in zip(found.roof.bandwidth, names, ("#c9c9c9", "#9c9c9c", INK), strict=True):
        rate = rate / 1e9
        corner, start = peak / rate, max(left, low / rate)
        first = min(first, corner)
        axes.plot([left, corner], [left * rate, peak], color=shade, lw=1.6, zorder=1)
        x = start * (corner / start) ** 0.12
        colour = INK if shade == INK else FAINT
        rates.append(
            axes.annotate(
                f"{name}  {rate:.0f} GB/s", (x, x * rate), xytext=(0, 3), textcoords="offset points",
                rotation_mode="anchor", color=colour, fontsize=8,
            )
        )  # fmt: skip
    axes.plot([first, right], [peak, peak], color=INK, lw=1.6, zorder=1)
    axes.annotate(
        f"one core  {peak:.0f} GFLOP/s", (first, peak), xytext=(2, 4), textcoords="offset points",
        color=INK, fontsize=8,
    )  # fmt: skip
    return rates


def _lay_along(axes: Any, text: Any) -> None:
    """Turn the text at a line of the roof as the line runs on paper."""
    x, y = text.xy
    (x0, y0), (x1, y1) = axes.transData.transform([(x, y), (2 * x, 2 * y)])
    text.set_rotation(math.degrees(math.atan2(y1 - y0, x1 - x0)))


def _dots(axes: Any, found: Explanation, parts: list[Part]) -> None:
    for name, colour in FAMILIES.items():
        mine = [part for part in parts if family(part) == name]
        if mine:
            areas = [math.pi * _radius(part, found) ** 2 for part in mine]
            axes.scatter(
                [*map(_x, mine)], [*map(_y, mine)], s=areas, color=colour, alpha=0.72,
                edgecolor="white", linewidth=0.8, label=name, zorder=3,
            )  # fmt: skip
    legend = axes.legend(
        loc="lower right", frameon=False, fontsize=8, title="area: share of time", title_fontsize=7.5
    )
    for handle in legend.legend_handles:
        handle.set_sizes([36.0])


def _radius(part: Part, found: Explanation) -> float:
    """Of a dot, in points."""
    return math.sqrt(max(14.0, 2600 * part.seconds / found.seconds) / math.pi)


def _numbers(axes: Any, found: Explanation, parts: list[Part]) -> None:
    """Numbers in their dots, or beside them where the dot is small or another number stands."""
    placed: list[tuple[float, float]] = []
    points = axes.figure.dpi / 72
    for number, part in enumerate(parts[:NAMED], 1):
        centre = [value / points for value in axes.transData.transform((_x(part), _y(part)))]
        radius = _radius(part, found)
        angles = [math.radians(turn) for turn in (20, 160, 340, 200, 70, 110, 290, 250)]
        shifts = [(0.0, 0.0)] if radius > 6 else []
        shifts += [((radius + 6) * math.cos(a), (radius + 6) * math.sin(a)) for a in angles]
        free = [
            (dx, dy)
            for dx, dy in shifts
            if all(math.hypot(centre[0] + dx - x, centre[1] + dy - y) > 9 for x, y in placed)
        ]
        shift = (free or shifts)[0]
        placed.append((centre[0] + shift[0], centre[1] + shift[1]))
        axes.annotate(
            str(number), (_x(part), _y(part)), xytext=shift, textcoords="offset points", ha="center",
            va="center", fontsize=7.5, weight="bold", color=INK if any(shift) else "white", zorder=4,
        )  # fmt: skip


def _names(side: Any, found: Explanation, parts: list[Part]) -> None:
    """The legend: numbers, names, shares of time and of the roof."""
    side.axis("off")
    side.set(xlim=(0, 1), ylim=(0, 1))
    side.text(0, 0.985, "kernel", color=FAINT, fontsize=8, va="top")
    side.text(0.84, 0.985, "time", color=FAINT, fontsize=8, va="top", ha="right")
    side.text(1.0, 0.985, "of roof", color=FAINT, fontsize=8, va="top", ha="right")
    first, step = 0.94, 0.082
    for number, part in enumerate(parts[:NAMED], 1):
        y = first - step * (number - 1)
        times = f", {part.runs} runs" if part.runs > 1 else ""
        side.text(0, y, str(number), fontsize=8, weight="bold", color=FAMILIES[family(part)], va="top")
        side.text(0.06, y, _short(part.kernel.name, 30), fontsize=8, color=INK, va="top")
        side.text(
            0.06, y - 0.034, _short(" + ".join(dict.fromkeys(part.kernel.operators)), 30) + times,
            fontsize=6.5, color=FAINT, va="top",
        )  # fmt: skip
        side.text(0.84, y, f"{100 * part.seconds / found.seconds:.0f} %", fontsize=8, va="top", ha="right")
        side.text(1.0, y, f"{100 * found.share_of_roof(part):.0f} %", fontsize=8, va="top", ha="right")
    rest = found.seconds - sum(part.seconds for part in parts[:NAMED])
    y = first - step * min(len(parts), NAMED)
    side.text(0.06, y, "all others", fontsize=8, color=FAINT, va="top")
    side.text(0.84, y, f"{100 * rest / found.seconds:.0f} %", fontsize=8, color=FAINT, va="top", ha="right")


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _frame(axes: Any, found: Explanation, parts: list[Part]) -> None:
    ticks: Any = importlib.import_module("matplotlib.ticker")
    left, right, low, high = _range(found, parts)
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(low, high))
    axes.set_title(
        f"{found.name}: {found.seconds * 1e3:.3g} ms in {len(found.kernels)} kernels, one thread",
        loc="left", fontsize=10.5, color=INK, pad=10,
    )  # fmt: skip
    axes.set_xlabel("operations per byte of the kernel's arrays", fontsize=9, color=INK)
    axes.set_ylabel("GFLOP/s", fontsize=9, color=INK)
    for axis, ratio in ((axes.xaxis, right / left), (axes.yaxis, high / low)):
        axis.set_major_locator(ticks.LogLocator(subs=(1, 2, 5) if ratio < 1e3 else (1,)))
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(which="major", color="#ebebeb", lw=0.8, zorder=0)
    axes.tick_params(which="both", labelsize=8, colors=FAINT)
    axes.minorticks_off()
    axes.set_axisbelow(True)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
    for edge in ("left", "bottom"):
        axes.spines[edge].set_color("#cccccc")
