"""Which ATen operators the reader takes: the table of the documentation.

python -m intaglio.readers.torch.coverage
"""

from __future__ import annotations

import torch
from torch._decomp import core_aten_decompositions

from intaglio.readers.torch.handlers.creation import random
from intaglio.readers.torch.registry import find_handler
from intaglio.shared.errors import UnsupportedError

NATIVE, DECOMPOSED, MISSING = "native", "by decomposition", "not yet"
DRAWN = "drawn by PyTorch"


def coverage() -> dict[str, str]:
    """Every operator of the core ATen opset: how it is taken."""
    decomposed = {str(overload) for overload in core_aten_decompositions()}
    found: dict[str, str] = {}
    for name in sorted(torch._C._dispatch_get_all_op_names()):  # "aten::add.Tensor"
        space, _, full = name.partition("::")
        packet_name, _, overload_name = full.partition(".")
        packet = getattr(torch.ops.aten, packet_name, None) if space == "aten" else None
        overload = getattr(packet, overload_name or "default", None)
        if overload is not None and torch.Tag.core in overload.tags:
            found[str(overload).removeprefix("aten.")] = status(str(overload), decomposed)
    return found


def status(operator: str, decomposed: set[str]) -> str:
    """How one operator is taken."""
    try:
        handler = find_handler(operator)
    except UnsupportedError:
        return DECOMPOSED if operator in decomposed else MISSING
    return DRAWN if handler is random else NATIVE


def table() -> str:
    """The table as Markdown, with its totals."""
    found = coverage()
    counts = {kind: sum(s == kind for s in found.values()) for kind in (NATIVE, DECOMPOSED, DRAWN, MISSING)}
    total = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    lines = [f"{len(found)} operators of the core ATen opset: {total}.", "", "| operator | |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{name}` | {kind} |" for name, kind in found.items())]) + "\n"


if __name__ == "__main__":
    print(table(), end="")
