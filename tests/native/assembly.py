"""Loops of generated assembly, and what they move to and from the stack."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from intaglio.loop.ir import Program
from intaglio.native.emit import emit_program
from intaglio.native.toolchain import Toolchain, flags
from intaglio.shared.target import Target

LABEL = re.compile(r"^([.\w$]+):")
JUMP = re.compile(r"^\s+j\w+\s+([.\w$]+)")
ARITHMETIC = re.compile(r"^\s+v(fn?m(add|sub)\d*|add|mul|max|min)ps\b")
VECTOR = re.compile(r"%[xyz]mm\d+")
SCALAR = re.compile(r"^\s+v(mov|broadcast)s[sd]\b")
DIVISION = re.compile(r"^\s+vdivps\b")
ON_STACK = {name: re.compile(rf"(?<![\w)])-?\d*\(%{name}\)") for name in ("rsp", "rbp")}


@dataclass(frozen=True)
class Loop:
    """An innermost loop: the function it is in and its instructions."""

    function: str
    lines: tuple[str, ...]
    frame: bool

    @property
    def operations(self) -> int:
        """Instructions that compute on vectors of f32."""
        return sum(bool(ARITHMETIC.match(line)) for line in self.lines)

    @property
    def divides(self) -> bool:
        """Whether it divides, as the functions tanh, sigmoid and so on do: not a tile."""
        return any(DIVISION.match(line) for line in self.lines)

    @property
    def spills(self) -> list[str]:
        """Instructions with a whole vector and a fixed place of the stack."""
        registers = ("rsp", "rbp") if self.frame else ("rsp",)
        return [
            line.strip()
            for line in self.lines
            if VECTOR.search(line)
            and not SCALAR.match(line)
            and any(ON_STACK[name].search(line) for name in registers)
        ]


def assembly(program: Program, target: Target, toolchain: Toolchain, folder: Path) -> str:
    """The assembly of a program's C, with the flags that programs are built with."""
    source, out = folder / "a.c", folder / "a.s"
    source.write_text(emit_program(program, target))
    command = [*toolchain.command, *flags(toolchain, target), "-fPIC", "-S", "-o", str(out), str(source)]
    if toolchain.kind == "zig":
        command[len(toolchain.command) : len(toolchain.command)] = ["-target", "x86_64-linux-gnu"]
        command = [word.replace("-march=x86-64-", "-mcpu=x86_64_") for word in command]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out.read_text(errors="replace")


def innermost_loops(text: str) -> Iterator[Loop]:
    """Loops that hold no other, from backward jumps to labels."""
    function, body = "", []
    for line in [*text.splitlines(), "end:"]:
        label = LABEL.match(line)
        if label and not label[1].startswith("."):
            yield from _loops(function, body)
            function, body = label[1], []
        body.append(line)


def _loops(function: str, lines: list[str]) -> Iterator[Loop]:
    labels = {found[1]: k for k, line in enumerate(lines) if (found := LABEL.match(line))}
    spans = []
    for k, line in enumerate(lines):
        jump = JUMP.match(line)
        if jump and labels.get(jump[1], k) < k:
            spans.append((labels[jump[1]], k + 1))
    frame = any(re.match(r"\s+movq\s+%rsp, %rbp", line) for line in lines)
    for start, stop in spans:
        if not any((a, b) != (start, stop) and start <= a and b <= stop for a, b in spans):
            yield Loop(function, tuple(lines[start:stop]), frame)
