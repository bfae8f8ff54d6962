"""Machines to generate C for: the one this runs on, and named ones."""

from __future__ import annotations

import platform
from dataclasses import replace
from functools import cache
from pathlib import Path

from intaglio.shared.errors import ArgumentError
from intaglio.shared.target import GENERIC, Target

_NAMED: tuple[Target, ...] = (
    GENERIC,
    Target("x86-64-v3", 32, 16, fma_per_cycle=2, loads_per_cycle=2,
           features=frozenset({"avx2", "fma", "f16c"}), flags=("-march=x86-64-v3",)),
    Target("x86-64-v4", 64, 32, l2=1 << 20, fma_per_cycle=2, loads_per_cycle=2,
           features=frozenset({"avx2", "fma", "f16c", "avx512"}), flags=("-march=x86-64-v4",)),
    Target("aarch64", 16, 32, fma_per_cycle=2, loads_per_cycle=2,
           features=frozenset({"neon", "fma"}), flags=("-march=armv8-a",)),
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
    info = _cpu_info()
    features = frozenset(info.get("flags", info.get("Features", "")).split())
    found = Target("native", l1=_cache_bytes(1) or 32 << 10, l2=_cache_bytes(2) or 256 << 10)
    if machine in ("arm64", "aarch64"):
        known, flags = frozenset({"neon", "fma"}), ("-mcpu=native",)
        return _with_units(replace(found, registers=32, features=known, flags=flags), 16, 16)
    if machine not in ("x86_64", "amd64"):
        return found
    known = frozenset({"avx2", "fma", "f16c"} & features)
    width, registers = 32 if {"avx2", "fma"} <= features else 16, 16
    if {"avx512f", "avx512vl", "avx512bw", "avx512dq"} <= features:
        width, registers = 64, 32
        known |= {"avx512"} | ({"vnni"} if "avx512_vnni" in features else frozenset())
    found = replace(found, registers=registers, features=known, flags=("-march=native",))
    return _with_units(found, width, _unit_bytes(info))


def _with_units(target: Target, width: int, unit: int) -> Target:
    """Vectors of a width, on two units for multiply-adds and two for loads; narrower ones do half as much."""
    rate = 1 if width > unit else 2
    return replace(target, vector_bytes=width, fma_per_cycle=rate, loads_per_cycle=rate)


def _unit_bytes(info: dict[str, str]) -> int:
    """How wide the units of an x86 are: AMD's widened some years after its registers."""
    family = int(info.get("cpu family", "0"))
    if info.get("vendor_id") != "AuthenticAMD" or family > 25:
        return 64
    return 32 if family > 23 or int(info.get("model", "0")) >= 48 else 16


def _cpu_info() -> dict[str, str]:
    """What Linux tells about the first processor."""
    place = Path("/proc/cpuinfo")
    if not place.exists():
        return {}
    first = place.read_text(errors="replace").strip().partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


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
