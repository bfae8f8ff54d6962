"""Where the time of a compiled model goes, kernel by kernel, next to what the machine could do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from textwrap import wrap
from typing import Any

from intaglio.compiled import Compiled
from intaglio.loop.groups import Decision
from intaglio.view.profile import KernelTime, profile
from intaglio.view.roof import Roof, measure

HEADER = f"{'us':>10}{'share':>8}{'runs':>6}{'GFLOP/s':>9}{'GB/s':>7}{'of roof':>9}  kernel"
INDENT = " " * 12
MOST_REFUSED = 12
"""Lines of fusions that were not made, the most frequent ones."""


@dataclass(frozen=True)
class Part:
    """A kernel, all its runs in one call of the model together."""

    kernel: KernelTime
    runs: int

    @property
    def seconds(self) -> float:
        return self.kernel.seconds


@dataclass(frozen=True)
class Refusal:
    """Fusions that were not made for one reason: an operator behind, or in front of, a group of others."""

    op: str
    target: str
    because: str
    nodes: tuple[str, ...]

    def __str__(self) -> str:
        count = len(self.nodes)
        times = f"{count} times, first {self.nodes[0]}" if count > 1 else self.nodes[0]
        return f"{self.op} not with {self.target} ({times}): {self.because}"


@dataclass(frozen=True)
class Explanation:
    """Times of all kernels, the machine's limits, and what was and was not fused.

    Attributes:
        kernels: one for each statement of the driver, in order.
    """

    name: str
    kernels: list[KernelTime]
    roof: Roof
    decisions: list[Decision]

    @property
    def seconds(self) -> float:
        return sum(kernel.seconds for kernel in self.kernels)

    @property
    def parts(self) -> list[Part]:
        """Kernels by time, the dearest first; those that layers share are one."""

        def same(kernel: KernelTime) -> tuple[Any, ...]:
            return kernel.name, kernel.doc, kernel.schedule, kernel.flops, kernel.bytes

        found = []
        for _, group in groupby(sorted(self.kernels, key=same), same):
            runs = list(group)
            totals = (sum(getattr(k, name) for k in runs) for name in ("seconds", "flops", "bytes"))
            seconds, flops, size = totals
            found.append(Part(replace(runs[0], seconds=seconds, flops=flops, bytes=size), len(runs)))
        return sorted(found, key=lambda part: -part.seconds)

    def share_of_roof(self, part: Part) -> float:
        """The least time the machine needs for a kernel's work, over the time it took."""
        kernel, runs = part.kernel, part.runs
        least = self.roof.seconds(kernel.flops // runs, kernel.bytes // runs) * runs
        return least / part.seconds if part.seconds > 0 else 0.0

    @property
    def refusals(self) -> list[Refusal]:
        """Fusions that were not made, each with its reason; the most frequent first."""
        found: dict[tuple[str, str, str], list[str]] = {}
        for one in self.decisions:
            if not one.fused:
                found.setdefault((one.op, one.target, one.because), []).append(one.node)
        refusals = [Refusal(*key, tuple(nodes)) for key, nodes in found.items()]
        return sorted(refusals, key=lambda one: -len(one.nodes))

    def table(self, most: int | None = None, width: int = 100) -> Iterator[str]:
        """Lines of text: a row for each kernel, and below it what it is made of and how."""
        yield HEADER
        for part in self.parts[:most]:
            kernel = part.kernel
            yield (
                f"{part.seconds * 1e6:10.1f}{100 * part.seconds / max(self.seconds, 1e-12):6.1f} %"
                f"{part.runs:6}{kernel.gflops:9.1f}{kernel.gbytes:7.1f}"
                f"{100 * self.share_of_roof(part):7.0f} %  {kernel.name}"
            )
            made_of = " + ".join(_counted(kernel.operators)) or kernel.name
            for text in (made_of, "; ".join(kernel.schedule) or "plain loops"):
                yield from (INDENT + line for line in wrap(text, max(width - len(INDENT), 30)))

    def summary(self) -> Iterator[str]:
        """Lines of text below the table."""
        limits = ", ".join(f"{rate / 1e9:.0f} GB/s" for _, rate in self.roof.bandwidth)
        yield (
            f"{self.seconds * 1e3:.3f} ms in {len(self.kernels)} kernels; one core of this machine: "
            f"{self.roof.flops / 1e9:.0f} GFLOP/s, {limits} from L1, L2, memory"
        )
        fused = sum(one.fused for one in self.decisions)
        refusals = self.refusals
        yield f"{fused} operators joined the kernel of another" + ("; not fused:" if refusals else "")
        yield from (f"  {one}" for one in refusals[:MOST_REFUSED])
        if len(refusals) > MOST_REFUSED:
            yield f"  and {len(refusals) - MOST_REFUSED} more kinds, in --json"

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        kernels = []
        for part in self.parts:
            kernel = part.kernel
            row: dict[str, Any] = {
                "name": kernel.name,
                "operators": kernel.operators,
                "schedule": kernel.schedule,
            }
            row |= {"runs": part.runs, "seconds": part.seconds, "flops": kernel.flops, "bytes": kernel.bytes}
            kernels.append(row | {"share_of_roof": self.share_of_roof(part), "doc": kernel.doc})
        rates = zip(("l1", "l2", "memory"), (rate for _, rate in self.roof.bandwidth), strict=True)
        decisions = [
            {"node": d.node, "op": d.op, "with": d.target, "fused": d.fused, "because": d.because}
            for d in self.decisions
        ]
        return {
            "model": self.name,
            "seconds": self.seconds,
            "roof": {"flops": self.roof.flops, "bandwidth": dict(rates)},
            "kernels": kernels,
            "fusions": decisions,
        }


def _counted(operators: Sequence[str]) -> Iterator[str]:
    """Operators in order; a row of equal ones as one with its number."""
    for name, same in groupby(operators):
        count = len(list(same))
        yield name if count == 1 else f"{count} {name}"


def explain(compiled: Compiled, arrays: Sequence[Any], rounds: int = 30) -> Explanation:
    """Time every kernel of a model on one thread, and measure the machine."""
    times = profile(compiled, arrays, rounds)
    return Explanation(compiled.program.name, times, measure(), compiled.decisions)
