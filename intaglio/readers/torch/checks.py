"""Indices that are out of range: PyTorch raises an error for them, compiled C clamps them.

Where PyTorch calls the program, it also says whether there were any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from intaglio.ops.compositions.basic import reshape, shape_of
from intaglio.ops.compositions.functions import logical_and, logical_or
from intaglio.ops.compositions.indexing import concat
from intaglio.ops.compositions.reduction import any as any_of
from intaglio.ops.dispatch import type_of
from intaglio.ops.registry import prim
from intaglio.shared.index import IndexLike

if TYPE_CHECKING:
    from intaglio.readers.torch.registry import FxCall


class IndexChecks:
    """What a program has to look at, and what to say when it is wrong."""

    def __init__(self) -> None:
        self.flags: list[Any] = []
        self.texts: list[str] = []

    def flags_together(self) -> Any:
        """One vector with a truth value for every text."""
        flags = [reshape(flag, (1,)) for flag in self.flags]
        return concat(flags, 0) if len(flags) > 1 else flags[0]


def check_index(
    call: FxCall,
    index: Any,
    extent: IndexLike,
    *,
    lowest: IndexLike | None = None,
    ignored: int | None = None,
) -> None:
    """Have the program report when an index is not below `extent`, or below `lowest` (by default -extent).

    Args:
        ignored: a number that is no index.
    """
    checks = call.importer.checks
    if checks is None or 0 in shape_of(index) or not type_of(index).dtype.is_integer:
        return
    wrong = logical_or(prim.lt(index, -extent if lowest is None else lowest), prim.le(extent, index))
    if ignored is not None:
        wrong = logical_and(wrong, prim.ne(index, ignored))
    checks.flags.append(any_of(wrong))
    text = f"{call.node.target}: an index is out of range for {extent} places"
    where = call.place
    checks.texts.append(f"{text}\n  at {where}" if where else text)
