"""The weights of an exported program: one C struct, filled from text when small, else from a binary file.

A compiler reads a million floats of decimal text in some ten seconds, and the same bytes through the
assembler's `.incbin` in no time, so text is only for what a person might want to read.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.native.helper import element_type
from intaglio.native.print import literal
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType

Array = np.ndarray[Any, Any]

INLINE_BYTES = 64 << 10
ALIGNMENT = 64
_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Member:
    """An array of the struct: its C name, content, and what it is in words."""

    name: str
    data: Array
    note: str = ""

    @property
    def dtype(self) -> DType:
        return dtypes.from_numpy(self.data.dtype)

    @property
    def size(self) -> int:
        """Elements in C, where no array is empty."""
        return max(1, self.data.size)


@dataclass(frozen=True, slots=True)
class Weights:
    """The members in order; each starts on a cache line."""

    name: str
    members: tuple[Member, ...]

    @property
    def total_bytes(self) -> int:
        """Size of the struct."""
        return sum(_padded(member.size * member.dtype.size) for member in self.members)

    @property
    def inline(self) -> bool:
        return self.total_bytes <= INLINE_BYTES

    def files(self) -> dict[str, bytes]:
        """The files to write, by name; none for a program without weights."""
        if not self.members:
            return {}
        files = {f"{self.name}_weights.h": self._header().encode()}
        if self.inline:
            files[f"{self.name}_weights.c"] = self._text().encode()
        else:
            text = _INCLUDE_BINARY.replace("UPPER", self.name.upper()).replace("NAME", self.name)
            files[f"{self.name}_weights.c"] = text.encode()
            files[f"{self.name}_weights.bin"] = self.binary()
        return files

    def _header(self) -> str:
        guard = f"{self.name.upper()}_WEIGHTS_H"
        fields = [
            f"    _Alignas({ALIGNMENT}) {element_type(m.dtype)} {m.name}[{m.size}];"
            + (f" /* {m.note} */" if m.note else "")
            for m in self.members
        ]
        return "\n".join(
            [
                f"/* The constants and initial states of {self.name}, {self.total_bytes} bytes. */",
                f"#ifndef {guard}",
                f"#define {guard}",
                "",
                "#include <stdbool.h>",
                "#include <stdint.h>",
                "",
                f"struct {self.name}_weights {{",
                *fields,
                "};",
                "",
                f"extern const struct {self.name}_weights {self.name}_weights;",
                "",
                f"_Static_assert(sizeof(struct {self.name}_weights) == {self.total_bytes},",
                '               "layout of the weights");',
                "",
                f"#endif /* {guard} */",
                "",
            ]
        )

    def _text(self) -> str:
        lines = [
            f"/* The content of {self.name}_weights.h, as text. */",
            "#include <math.h>",
            "",
            f'#include "{self.name}_weights.h"',
            "",
            f"const struct {self.name}_weights {self.name}_weights = {{",
        ]
        for member in self.members:
            lines += [f"    .{member.name} = {{", *filled(numbers(member.data), " " * 8), "    },"]
        return "\n".join([*lines, "};", ""])

    def binary(self) -> bytes:
        """The struct's memory: little-endian, members padded with zeros to whole cache lines."""
        parts = []
        for member in self.members:
            content = little_endian(member.data)
            parts.append(content.ljust(_padded(member.size * member.dtype.size), b"\0"))
        return b"".join(parts)


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def little_endian(array: Array) -> bytes:
    """The elements in row-major order, least byte first."""
    contiguous = np.ascontiguousarray(array)
    return (contiguous.byteswap() if sys.byteorder == "big" else contiguous).tobytes()


def numbers(array: Array) -> list[str]:
    """The elements as C literals that have exactly their values; one zero for an empty array."""
    dtype = dtypes.from_numpy(array.dtype)
    flat = array.reshape(-1)
    return [literal(value.item(), dtype) for value in flat] if flat.size else ["0"]


def filled(parts: Sequence[str], indent: str) -> list[str]:
    """Parts separated by commas, as many on a line as fit."""
    lines, line = [], indent
    for position, part in enumerate(parts):
        piece = part + ("," if position + 1 < len(parts) else "")
        if len(line) + len(piece) > _WIDTH and line.strip():
            lines.append(line.rstrip())
            line = indent
        line += piece + " "
    return [*lines, line.rstrip()]


_INCLUDE_BINARY = """\
/* The content of NAME_weights.h: the file NAME_weights.bin, which the assembler copies into the program.
 * Its numbers are little-endian, so the machine must be.
 * The file is looked for where the compiler runs; UPPER_WEIGHTS_FILE can name another place.
 */
#include "NAME_weights.h"

#ifndef UPPER_WEIGHTS_FILE
#define UPPER_WEIGHTS_FILE "NAME_weights.bin"
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "NAME_weights.bin holds little-endian numbers"
#endif

#if defined(__APPLE__)
#define SECTION ".const_data"
#define SYMBOL "_NAME_weights"
#elif defined(_WIN32)
#define SECTION ".section .rdata,\\"dr\\""
#define SYMBOL "NAME_weights"
#else
#define SECTION ".section .rodata"
#define SYMBOL "NAME_weights"
#endif

__asm__(SECTION "\\n"
        ".balign 64\\n"
        ".globl " SYMBOL "\\n"
        SYMBOL ":\\n"
        ".incbin \\"" UPPER_WEIGHTS_FILE "\\"\\n"
        ".balign 64\\n"
        ".text\\n");
"""
