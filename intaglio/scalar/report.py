"""What a program says about itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Report:
    """Counts of what a graph became, and seconds that each step of its compilation took.

    `exact` says whether every bit is the interpreter's; if not, `deviation` is the largest difference seen
    when compiling, relative to the largest number of its kind (NaN: not measured). `contractions` are the
    loops that are matrix products, convolutions and the like, by the array they compute.
    """

    engine: str
    counts: dict[str, int]
    seconds: dict[str, float]
    exact: bool = True
    deviation: float = 0.0
    contractions: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = [(name, f"{count:,}") for name, count in self.counts.items()]
        rows += [(f"{name}, seconds", f"{seconds:.3f}") for name, seconds in self.seconds.items()]
        rows.append(("all of it, seconds", f"{sum(self.seconds.values()):.3f}"))
        width = max(len(name) for name, _ in rows)
        figures = max(len(figure) for _, figure in rows)
        order = "every bit" if self.exact else "but for rounding"
        if self.deviation > 0:
            order = f"to {self.deviation:.1e}: sums are in any order"
        lines = [f"engine: {self.engine}, as the interpreter {order}",
                 *(f"  {n:<{width}}  {f:>{figures}}" for n, f in rows)]  # fmt: skip
        if self.contractions:
            lines += ["contractions:", *(f"  {text}" for text in self.contractions)]
        return "\n".join(lines)
