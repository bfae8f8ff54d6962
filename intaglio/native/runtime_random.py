"""The helper function behind random draws: one block of Threefry-2x32, written out so that loops over it
become vector code."""

from __future__ import annotations

from intaglio.native.helper import Helper
from intaglio.ops.random import PARITY, ROTATIONS, ROUNDS


def make(name: str) -> Helper | None:
    """The helper of that name, or None."""
    return Helper(_text()) if name == "threefry_u64" else None


def _text() -> str:
    lines = [
        "/* The first word of Threefry-2x32 with 20 rounds: J. K. Salmon et al., SC 2011. */",
        "static inline uint64_t threefry_u64(uint64_t seed, uint64_t position) {",
        "    const uint32_t k0 = (uint32_t)seed;",
        "    const uint32_t k1 = (uint32_t)(seed >> 32);",
        f"    const uint32_t k2 = k0 ^ k1 ^ 0x{PARITY:X}u;",
        "    uint32_t a = (uint32_t)position + k0;",
        "    uint32_t b = (uint32_t)(position >> 32) + k1;",
    ]
    for block in range(ROUNDS // 4):
        for distance in ROTATIONS[block % 2]:
            lines.append(f"    a += b; b = ((b << {distance}) | (b >> {32 - distance})) ^ a;")
        lines.append(f"    a += k{(block + 1) % 3}; b += k{(block + 2) % 3} + {block + 1}u;")
    return "\n".join([*lines[:-1], f"    return a + k{(ROUNDS // 4) % 3};", "}"])
