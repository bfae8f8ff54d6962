"""Which loops run on several threads.

To wake a thread costs some 40 microseconds, to give one work that waits for it less than two. Threads wait
for a moment behind each loop, so that a program whose loops follow closely keeps them awake.
"""

from __future__ import annotations

from dataclasses import replace

from intaglio.loop.ir import Block, For, Program

WAKING = 1 << 22
"""Additions of a loop that pay for waking threads."""
AWAKE = 1 << 19
"""Additions of a loop that pay where threads are awake."""
BUSY = 1 << 25
"""Additions of a program, of which enough are on several threads to keep them awake."""


def worth_threads(work: int | None) -> bool:
    """Whether a loop of this much work (additions) pays for waking other threads."""
    return work is None or work >= WAKING


def may_thread(work: int | None) -> bool:
    """Whether a loop of this much work is for several threads in a program that keeps them awake."""
    return work is None or work >= AWAKE


def settle_threads(program: Program) -> None:
    """Loops that do not pay for waking threads become serial in a program that does not keep them awake."""
    if sum(kernel.flops for kernel in program.kernels) >= BUSY:
        return
    for kernel in program.kernels:
        if not worth_threads(kernel.flops or None):
            kernel.body = Block(tuple(
                replace(s, kind="serial") if isinstance(s, For) and s.kind == "parallel" else s
                for s in kernel.body
            ))  # fmt: skip
