"""Makefile, CMakeLists.txt and README of an exported program."""

from __future__ import annotations

from collections.abc import Sequence

from intaglio.native.helper import element_type
from intaglio.native.package_api import Api, Field
from intaglio.native.package_weights import Weights

OPTIMISATION = ("-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic")


def compile_flags(flags: Sequence[str]) -> list[str]:
    """Optimisation and the flags asked for; of two about contraction the one asked for stays."""
    own = [one for one in OPTIMISATION if not any(one.split("=")[0] == f.split("=")[0] for f in flags)]
    return [*own, *flags]


def makefile(api: Api, weights: Weights, flags: Sequence[str]) -> str:
    """Builds a static library and the self-test."""
    has_weights = bool(weights.members)
    objects = f"{api.name}.o" + (f" {api.name}_weights.o" if has_weights else "")
    headers = f"{api.name}.h" + (f" {api.name}_weights.h" if has_weights else "")
    text = _MAKEFILE
    if has_weights:
        binary = "" if weights.inline else " NAME_weights.bin"
        text = text.replace(
            "\nselftest:", f"\nNAME_weights.o: NAME_weights.c NAME_weights.h{binary}\n\nselftest:"
        )
    chosen = " ".join(["-std=c11", *compile_flags(flags), *WARNINGS])
    return (
        text.replace("FLAGS_HERE", chosen)
        .replace("OBJECTS", objects)
        .replace("HEADERS", headers)
        .replace("NAME", api.name)
    )


def cmake(api: Api, weights: Weights, flags: Sequence[str]) -> str:
    """The same for CMake, which may build elsewhere."""
    sources = f"{api.name}.c" + (f" {api.name}_weights.c" if weights.members else "")
    binary = "" if weights.inline else _CMAKE_BINARY
    return (
        _CMAKE.replace("BINARY_HERE\n", binary)
        .replace("SOURCES_HERE", sources)
        .replace("FLAGS_HERE", " ".join([*compile_flags(flags), *WARNINGS]))
        .replace("UPPER", api.upper)
        .replace("MODEL", api.name)
    )


def readme(api: Api, weights: Weights, files: Sequence[str], about: Sequence[str]) -> str:
    """What the folder is, how to build it and how to call it."""
    known = _file_notes(api, weights)
    table = [f"| `{file}` | {known[file]} |" for file in files]
    arrays = [
        f"| `{field.name}` | {role} | `{element_type(field.dtype)}` | `{field.dims}` |{_note(field)}"
        for role, fields in (("input", api.inputs), ("output", api.outputs), ("state", api.states))
        for field in fields
    ]
    return "\n".join(
        [
            f"# {api.name}",
            "",
            *about,
            "",
            "| file | what it is |",
            "|---|---|",
            *table,
            "",
            "## Build",
            "",
            _BUILD.replace("NAME", api.name).strip(),
            "",
            "## Use",
            "",
            "| array | role | element | shape |",
            "|---|---|---|---|",
            *arrays,
            "",
            "```c",
            _example(api),
            "```",
            "",
            _USE.replace("NAME", api.name).replace("UPPER", api.upper).strip(),
            *(["", _TRAIN.replace("NAME", api.name).strip()] if len(api.phases) > 1 else []),
            *(["", _SIZES.strip()] if api.symbols else []),
            "",
        ]
    )


def _file_notes(api: Api, weights: Weights) -> dict[str, str]:
    storage = "as text" if weights.inline else f"reads `{api.name}_weights.bin` when it is assembled"
    return {
        f"{api.name}.h": "the API: include this",
        f"{api.name}.c": "kernels and drivers",
        f"{api.name}_weights.h": "the struct that holds constants and initial states",
        f"{api.name}_weights.c": f"its content, {storage}",
        f"{api.name}_weights.bin": f"its content, {weights.total_bytes} bytes, little-endian",
        "Makefile": "builds the library and the self-test",
        "CMakeLists.txt": "the same, for CMake",
        "selftest.c": "runs recorded calls and compares the results",
        "selftest_data.h": "the recorded calls, as text",
        "selftest.bin": "the recorded calls, little-endian",
    }


def _note(field: Field) -> str:
    note = {"f16": " half-precision bits |", "bf16": " bfloat16 bits |"}
    return note.get(field.dtype.name, "")


def _example(api: Api) -> str:
    declared = [f"int64_t {name} = {_some_size(symbol.hi)};" for name, symbol in api.symbols]
    for field in (*api.inputs, *api.outputs):
        size = f"{api.upper}_{field.name.upper()}_SIZE" if field.size is not None else "..."
        declared.append(f"static {element_type(field.dtype)} {field.name}[{size}];")
    names = [name for name, _ in api.symbols] + [f.name for f in (*api.inputs, *api.outputs)]
    return "\n".join(
        [
            f'#include "{api.name}.h"',
            "",
            *declared,
            "",
            "int main(void) {",
            f"    {api.name} model;",
            f"    if ({api.name}_init(&model) != 0) {{",
            "        return 1;",
            "    }",
            f"    {api.name}_{api.entry}({', '.join(['&model', *names])});",
            f"    {api.name}_free(&model);",
            "    return 0;",
            "}",
        ]
    )


def _some_size(highest: int | None) -> int:
    return highest if highest is not None else 1


_MAKEFILE = """\
# Builds libNAME.a and the self-test.
#   make test        builds and runs the self-test
#   make CC=clang    uses another compiler
#   make EXTRA=-march=native
#                    adds flags
#   make app         builds app.c, a program of yours that includes NAME.h

EXTRA =
CFLAGS = FLAGS_HERE $(EXTRA)
LDLIBS = -lm

all: libNAME.a selftest

test: selftest
\t./selftest

libNAME.a: OBJECTS
\t$(AR) rcs $@ OBJECTS

NAME.o: NAME.c HEADERS

selftest: selftest.c $(wildcard selftest_data.h) NAME.h libNAME.a
\t$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ selftest.c libNAME.a $(LDLIBS)

%: %.c NAME.h libNAME.a
\t$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< libNAME.a $(LDLIBS)

clean:
\trm -f libNAME.a OBJECTS selftest

.PHONY: all test clean
"""

_CMAKE = """\
cmake_minimum_required(VERSION 3.13)
project(MODEL C)
include(CTest)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

add_library(MODEL STATIC SOURCES_HERE)
target_include_directories(MODEL PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_features(MODEL PUBLIC c_std_11)
target_compile_options(MODEL PRIVATE FLAGS_HERE)
BINARY_HERE
if(UNIX)
  target_link_libraries(MODEL PUBLIC m)
endif()

add_executable(MODEL_selftest selftest.c)
target_link_libraries(MODEL_selftest PRIVATE MODEL)
add_test(NAME MODEL_selftest COMMAND MODEL_selftest WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
"""

_CMAKE_BINARY = """\
set(weights ${CMAKE_CURRENT_SOURCE_DIR}/MODEL_weights.bin)
set_source_files_properties(MODEL_weights.c PROPERTIES
  COMPILE_DEFINITIONS "UPPER_WEIGHTS_FILE=\\"${weights}\\"" OBJECT_DEPENDS ${weights})
"""

_BUILD = """
`make` builds `libNAME.a` and `selftest`; `make test` runs it. With CMake: `cmake -B build`,
`cmake --build build`, `ctest --test-dir build`. Or compile the `.c` files with any C11 compiler. It needs the
C library with its mathematics part, and nothing else.

`selftest` runs recorded calls and compares with the results that were recorded when this folder was made, so
that compiler and machine can be trusted.
"""

_USE = """
`NAME_init` makes an instance with one `malloc`; no other function allocates. `NAME_init_in` makes one in
memory of your own, `UPPER_MEMORY_BYTES` bytes. Instances are independent of each other: use one per thread.
Arrays are row-major, and arguments must not overlap.
"""

_TRAIN = """
A step is `NAME_forward`, `NAME_backward` and `NAME_update` in this order, on one instance and with the same
arrays; what they hand to each other lies in the arena. `NAME_get`, `NAME_set` and `NAME_reset` read, write
and start again the states: parameters and what the optimiser keeps.
"""

_SIZES = """
Dimensions with a name are given at each call, as arguments in front of the arrays.
"""
