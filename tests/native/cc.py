"""Compile generated C and call it on NumPy arrays: what the tests of the emitter share."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from intaglio.loop.ir import Block, Buffer, Call, Kernel, Program, Slice, Stmt, block
from intaglio.native.emit import emit_program
from intaglio.shared.target import GENERIC, Target

STRICT = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror")


def build(source: str, *flags: str, compiler: tuple[str, ...] = ("gcc",)) -> ctypes.CDLL:
    """The shared library of a C text."""
    directory = Path(tempfile.mkdtemp())
    (directory / "a.c").write_text(source)
    command = [
        *compiler,
        *flags,
        "-shared",
        "-fPIC",
        "-pthread",
        "-o",
        str(directory / "a.so"),
        str(directory / "a.c"),
        "-lm",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stderr}\n{source}"
    return ctypes.CDLL(str(directory / "a.so"))


def load(path: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(path))


def kernel_program(
    body: Block | list[Stmt], reads: list[Buffer], writes: list[Buffer], **fields: object
) -> Program:
    """A program of one kernel whose parameters are its inputs and outputs."""
    for buffer in reads:
        buffer.role = "input"
    for buffer in writes:
        buffer.role = "output"
    nest = body if isinstance(body, Block) else block(*body)
    kernel = Kernel("kernel", (*reads, *writes), tuple(writes), nest)
    call = Call(kernel, tuple(Slice(b) for b in kernel.params))
    return Program(
        "test",
        inputs=reads,
        outputs=writes,
        kernels=[kernel],
        phases={"forward": block(call)},
        arena_bytes=0,
        **fields,
    )  # type: ignore[arg-type]


def call(
    library: ctypes.CDLL,
    name: str,
    arrays: list[np.ndarray],
    symbols: list[int] | None = None,
    pool: object = None,
) -> None:
    """Run an entry point on arrays in the order of its buffers."""
    pointers = (ctypes.c_void_p * len(arrays))(*[a.ctypes.data for a in arrays])
    sizes = (ctypes.c_int64 * max(1, len(symbols or [])))(*(symbols or []))
    assert getattr(library, name)(pointers, sizes, pool) == 0


def run(
    program: Program,
    arrays: dict[str, np.ndarray],
    *flags: str,
    target: Target = GENERIC,
    symbols: list[int] | None = None,
    compiler: tuple[str, ...] = ("gcc",),
) -> str:
    """Emit, build and run a program in place on arrays by name; returns the source."""
    source = emit_program(program, target)
    library = build(source, *(flags or ("-O2", *STRICT)), *target.flags, compiler=compiler)
    given = [arrays[b.name] for b in program.buffers if b.role != "scratch"]
    arena = np.zeros(max(program.arena_bytes or 0, 1), np.uint8)
    call(library, "test_run", [*given, arena], symbols)
    return source
