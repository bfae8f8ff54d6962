"""Machines to generate C for: the one this runs on, and named ones."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

from intaglio.shared.errors import ArgumentError
from intaglio.shared.target import GENERIC, Target

_NAMED: tuple[Target, ...] = (
    GENERIC,
    Target("x86-64-v3", 32, 16, features=frozenset({"avx2", "fma", "f16c"}), flags=("-march=x86-64-v3",)),
    Target("x86-64-v4", 64, 32, l2=1 << 20, features=frozenset({"avx2", "fma", "f16c", "avx512"}),
           flags=("-march=x86-64-v4",)),
    Target("aarch64", 16, 32, features=frozenset({"neon", "fma"}), flags=("-march=armv8-a",)),
    Target("wasm32-simd", 16, 16, features=frozenset({"simd128"}), flags=("-msimd128",)),
)  # fmt: skip
NAMES = ("native", *(target.name for target in _NAMED))


def find_target(name: str) -> Target:
    """The target of that name. Raises ArgumentError when there is none."""
    if name == "native":
        return detect()
    for target in _NAMED:
        if target.name == name:
            return target
    raise ArgumentError(f"target {name!r} is not known", hint=f"use one of {', '.join(NAMES)}")


@cache
def detect() -> Target:
    """The machine this runs on, as far as Linux or the platform's name tells."""
    machine = platform.machine().lower()
    features = _cpu_features()
    l1 = _cache_bytes(1) or 32 << 10
    l2 = _cache_bytes(2) or 256 << 10
    if machine in ("arm64", "aarch64"):
        return Target("native", 16, 32, l1, l2, features=frozenset({"neon", "fma"}), flags=("-mcpu=native",))
    if machine not in ("x86_64", "amd64"):
        return Target("native", l1=l1, l2=l2)
    known = frozenset({"avx2", "fma", "f16c"} & features)
    if {"avx512f", "avx512vl", "avx512bw", "avx512dq"} <= features:
        known |= {"avx512"} | ({"vnni"} if "avx512_vnni" in features else frozenset())
        return Target("native", 64, 32, l1, l2, features=known, flags=("-march=native",))
    width = 32 if {"avx2", "fma"} <= features else 16
    return Target("native", width, 16, l1, l2, features=known, flags=("-march=native",))


def _cpu_features() -> frozenset[str]:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return frozenset()
    for line in info.read_text(errors="replace").splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def _cache_bytes(level: int) -> int | None:
    """Size of a core's data cache of a level, as Linux tells."""
    for place in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, own = (place / "type").read_text().strip(), int((place / "level").read_text())
            size = (place / "size").read_text().strip()
        except (OSError, ValueError):
            continue
        if own == level and kind in ("Data", "Unified") and size.endswith("K"):
            return int(size[:-1]) << 10
    return None
