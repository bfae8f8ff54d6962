"""What a call costs beside the arithmetic: a compiled program that does nothing, called from Python.

    python benchmarks/call_overhead.py

Prints the median and the best of several rounds, in nanoseconds per call, for both loaders, beside a
NumPy function that allocates its result too.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from intaglio.native.call import CallSpec
from intaglio.native.loader import load
from intaglio.native.toolchain import build_shared, choose
from intaglio.shared.dtypes import f32
from intaglio.shared.target import GENERIC
from intaglio.shared.types import TensorType

SOURCE = """
#include <stdint.h>
__attribute__((visibility("default")))
int null_run(void *const *buffers, const int64_t *symbols, void *pool) {
    (void)buffers; (void)symbols; (void)pool;
    return 0;
}
"""


def nanoseconds(function: Callable[..., Any], arguments: tuple[Any, ...], rounds: int = 21) -> list[float]:
    """Time per call of each round, about 10 ms long."""
    started = time.perf_counter()
    for _ in range(1000):
        function(*arguments)
    calls = max(100, int(1e-2 / ((time.perf_counter() - started) / 1000)))
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(calls):
            function(*arguments)
        times.append((time.perf_counter() - started) / calls * 1e9)
    return times


def spec(inputs: int, outputs: int, states: int, work: int) -> CallSpec:
    """A program of small vectors."""
    vector = TensorType(f32, (16,))
    return CallSpec(
        name="null",
        inputs=tuple((f"x{k}", vector) for k in range(inputs)),
        outputs=tuple((f"y{k}", vector) for k in range(outputs)),
        states=tuple(np.zeros(16, np.float32) for _ in range(states)),
        arena_bytes=4096,
        work=work,
        state_names=tuple(f"s{k}" for k in range(states)),
    )


def main() -> None:
    library = build_shared(SOURCE, target=GENERIC, toolchain=choose().toolchain, name="null")
    x = np.zeros(16, np.float32)
    print(f"{'':44}{'median':>9}{'best':>9}  ns per call")
    for inputs, outputs, states, work in ((1, 1, 0, 0), (1, 1, 0, 10**6), (2, 1, 12, 0), (3, 2, 40, 10**6)):
        for loader in ("extension", "ctypes"):
            program = load(library, spec(inputs, outputs, states, work), loader=loader)
            times = nanoseconds(program.call, (x,) * inputs)
            gil = "released" if work else "kept"
            what = f"{loader}: {inputs} in, {outputs} out, {states} states, GIL {gil}"
            print(f"{what:44}{statistics.median(times):9.0f}{min(times):9.0f}")
    for name, function in (("numpy.negative(x)", np.negative), ("numpy.empty_like(x)", np.empty_like)):
        times = nanoseconds(function, (x,))
        print(f"{name:44}{statistics.median(times):9.0f}{min(times):9.0f}")


if __name__ == "__main__":
    main()
