"""What one core of this machine can do: operations per second, bytes per second from each level of memory."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from intaglio.native import toolchain as toolchains
from intaglio.native.targets import detect
from intaglio.shared.target import Target

ACCUMULATORS = 12  # independent chains: more than the latency of a multiply-add times its throughput
STEPS = 200_000


@dataclass(frozen=True)
class Roof:
    """Limits of one core: floating-point operations and bytes read per second, by the size that is read."""

    flops: float
    bandwidth: tuple[tuple[int, float], ...]

    def bytes_per_second(self, size: int) -> float:
        """The rate at which memory of this size is read again and again."""
        fitting = [rate for limit, rate in self.bandwidth if size <= limit]
        return fitting[0] if fitting else self.bandwidth[-1][1]

    def seconds(self, flops: int, size: int) -> float:
        """The least time for this much work on this much memory."""
        return max(flops / self.flops, size / self.bytes_per_second(size))


@cache
def measure(rounds: int = 7) -> Roof:
    """Measure the machine; the best of some rounds, because others may use it too."""
    target = detect()
    toolchain = toolchains.choose(None).toolchain
    path = toolchains.build_shared(_source(target), target=target, toolchain=toolchain, name="roof")
    library = ctypes.CDLL(str(path))
    library.multiply_add.restype = library.read_all.restype = ctypes.c_float
    lanes = target.lanes(4)
    work = 2 * lanes * ACCUMULATORS * STEPS
    flops = work / _fastest(lambda: library.multiply_add(ctypes.c_int64(STEPS)), rounds)
    sizes = (target.l1 // 2, target.l2 // 2, 64 << 20)
    rates = []
    for size in sizes:
        array = np.ones(size // 4, np.float32)
        repeats = max(1, (8 << 20) // size)
        data = array.ctypes.data_as(ctypes.c_void_p)
        arguments = (data, ctypes.c_int64(array.size), ctypes.c_int64(repeats))
        rates.append(repeats * size / _fastest(lambda: library.read_all(*arguments), rounds))
    return Roof(flops, tuple(zip((target.l1, target.l2, 1 << 62), rates, strict=True)))


def _fastest(run: Callable[[], object], rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - started)
    return best


def _source(target: Target) -> str:
    lanes = target.lanes(4)
    vector = (
        f"typedef float v __attribute__((vector_size({4 * lanes}), aligned(4)));"
        if lanes > 1
        else "typedef float v;"
    )
    names = [f"a{k}" for k in range(ACCUMULATORS)]
    return f"""#include <stdint.h>
{vector}
float multiply_add(int64_t steps) {{
    const v x = (v){{0}} + 0.999f, y = (v){{0}} + 0.001f;
    v {", ".join(f"{name} = x + {k}" for k, name in enumerate(names))};
    for (int64_t i = 0; i < steps; i++) {{
        {" ".join(f"{name} = {name} * x + y;" for name in names)}
    }}
    const v sum = {" + ".join(names)};
    return *(const float *)&sum;
}}
float read_all(const float *data, int64_t size, int64_t repeats) {{
    v {", ".join(f"{name} = {{0}}" for name in names)};
    for (int64_t r = 0; r < repeats; r++) {{
        for (int64_t i = 0; i + {lanes * ACCUMULATORS} <= size; i += {lanes * ACCUMULATORS}) {{
            {" ".join(f"{name} += *(const v *)(data + i + {k * lanes});" for k, name in enumerate(names))}
        }}
        __asm__ volatile("" ::: "memory");
    }}
    const v sum = {" + ".join(names)};
    return *(const float *)&sum;
}}
"""
