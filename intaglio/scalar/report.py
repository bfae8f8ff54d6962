"""What a program says about itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Report:
    """Counts of what a graph became, and seconds that each step of its compilation took."""

    engine: str
    counts: dict[str, int]
    seconds: dict[str, float]

    def __str__(self) -> str:
        rows = [(name, f"{count:,}") for name, count in self.counts.items()]
        rows += [(f"{name}, seconds", f"{seconds:.3f}") for name, seconds in self.seconds.items()]
        rows.append(("all of it, seconds", f"{sum(self.seconds.values()):.3f}"))
        width = max(len(name) for name, _ in rows)
        figures = max(len(figure) for _, figure in rows)
        return "\n".join([f"engine: {self.engine}", *(f"  {n:<{width}}  {f:>{figures}}" for n, f in rows)])
