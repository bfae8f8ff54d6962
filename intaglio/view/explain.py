"""Where the time of a compiled model goes, kernel by kernel, next to what the machine could do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from intaglio.compiled import Compiled
from intaglio.view.profile import KernelTime, profile
from intaglio.view.roof import Roof, measure


@dataclass(frozen=True)
class Explanation:
    """Times of all kernels, the machine's limits, and what was and was not fused."""

    kernels: list[KernelTime]
    roof: Roof
    decisions: list[str]

    @property
    def seconds(self) -> float:
        return sum(kernel.seconds for kernel in self.kernels)

    def share_of_roof(self, kernel: KernelTime) -> float:
        """The least time the machine needs for the kernel's work, over the time it took."""
        least = self.roof.seconds(kernel.flops, kernel.bytes)
        return least / kernel.seconds if kernel.seconds > 0 else 0.0

    def rows(self, most: int | None = None) -> Iterator[tuple[str, ...]]:
        """Rows of a table below `HEADER`, the dearest kernel first."""
        for kernel in sorted(self.kernels, key=lambda k: -k.seconds)[:most]:
            yield (
                kernel.name,
                f"{kernel.seconds * 1e6:.1f}",
                f"{100 * kernel.seconds / max(self.seconds, 1e-12):.1f} %",
                f"{kernel.gflops:.1f}",
                f"{kernel.gbytes:.1f}",
                f"{100 * self.share_of_roof(kernel):.0f} %",
                "; ".join(kernel.schedule) or "plain loops",
            )

    @property
    def refused(self) -> list[str]:
        """Fusions that were not made, each with its reason."""
        return [text for text in self.decisions if text.startswith("Keep")]


HEADER = ("kernel", "us", "share", "GFLOP/s", "GB/s", "of roof", "schedule")


def explain(compiled: Compiled, arrays: Sequence[Any], rounds: int = 30) -> Explanation:
    """Time every kernel of a model on one thread, medians over rounds, and measure the machine."""
    return Explanation(profile(compiled, arrays, rounds), measure(), compiled.decisions)
