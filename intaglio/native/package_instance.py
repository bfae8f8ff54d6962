"""The C of an exported program's instance: its struct, its memory, its life, and access to its states."""

from __future__ import annotations

from collections.abc import Iterator

from intaglio.native.helper import element_type
from intaglio.native.names import Names
from intaglio.native.package_api import Api, Field


def instance_header(api: Api) -> str:
    """Constants, the struct, and the functions for life and states, for the public header."""
    return "\n\n".join([*_constants(api), _struct(api), *_life_prototypes(api), *_state_prototypes(api)])


def instance_functions(api: Api, stored: frozenset[str]) -> Iterator[str]:
    """The definitions; `stored` names the states whose initial content is in the weights."""
    yield _init_in(api)
    init = _INIT_LARGE if is_large(api) else _INIT
    yield init.replace("NAME", api.name).replace("UPPER", api.upper)
    yield _FREE.replace("NAME", api.name)
    if api.states:
        yield _reset(api, stored)
        yield from _state_functions(api)


def is_large(api: Api) -> bool:
    """Whether an instance is asked for in huge pages."""
    return api.state_bytes + api.arena_bytes >= LARGE


def _constants(api: Api) -> Iterator[str]:
    lines = [
        "/* Memory of an instance: states that last, and an arena that is scratch within a call. */",
        f"#define {api.upper}_STATE_BYTES {api.state_bytes}",
        f"#define {api.upper}_ARENA_BYTES {api.arena_bytes}",
        f"#define {api.upper}_MEMORY_BYTES ({api.upper}_STATE_BYTES + {api.upper}_ARENA_BYTES)",
    ]
    yield "\n".join(lines)
    sized = [field for field in (*api.inputs, *api.outputs) if field.size is not None]
    if sized:
        most = " at most" if any(field.is_symbolic for field in sized) else ""
        lines = [f"/* Elements of each array{most}. */", "enum {"]
        lines += [f"    {api.upper}_{field.name.upper()}_SIZE = {field.size}," for field in sized]
        yield "\n".join([*lines, "};"])
    if api.states:
        names = enumerators(api)
        lines = ["/* The states, to get, set or list them. */", f"enum {api.name}_state {{"]
        lines += [
            f"    {name}, /* {field.buffer.name} {field.dims} */"
            for field, name in zip(api.states, names, strict=True)
        ]
        yield "\n".join([*lines, f"    {api.upper}_STATE_COUNT", "};"])


def enumerators(api: Api) -> list[str]:
    """One constant per state: `MLP_STATE_W1`."""
    names = Names({"COUNT", "BYTES"})
    return [f"{api.upper}_STATE_{names.unique(field.name.upper())}" for field in api.states]


def _struct(api: Api) -> str:
    lines = [
        f"/* An instance of {api.name}. Any number of them may exist; a call changes only its own.",
        " * The pointers are to its memory; between calls they may be exchanged. */",
        f"typedef struct {api.name} {{",
    ]
    for field in api.states:
        lines.append(f"    {element_type(field.dtype)} *{field.name}; /* {field.dims} */")
    lines += ["    unsigned char *arena;", "    void *owned;", f"}} {api.name};"]
    return "\n".join(lines)


def _life_prototypes(api: Api) -> Iterator[str]:
    for text in _LIFE:
        yield text.replace("NAME", api.name).replace("UPPER", api.upper)


def _state_prototypes(api: Api) -> Iterator[str]:
    if api.states:
        for text in _STATES:
            yield text.replace("NAME", api.name).replace("UPPER", api.upper)


def _init_in(api: Api) -> str:
    lines = [f"void {api.name}_init_in({api.name} *m, void *memory) {{"]
    lines.append("    unsigned char *place = memory;")
    for field in api.states:
        lines.append(f"    m->{field.name} = ({element_type(field.dtype)} *)place;")
        lines.append(f"    place += {field.padded_bytes};")
    lines += ["    m->arena = place;", "    m->owned = NULL;"]
    if api.states:
        lines.append(f"    {api.name}_reset(m);")
    return "\n".join([*lines, "}"])


def _reset(api: Api, stored: frozenset[str]) -> str:
    lines = [f"void {api.name}_reset({api.name} *m) {{"]
    for field in api.states:
        count = _count(field)
        if field.name in stored:
            source = f"{api.name}_weights.{field.name}"
            lines.append(f"    memcpy(m->{field.name}, {source}, {count}sizeof *m->{field.name});")
        else:
            lines.append(f"    memset(m->{field.name}, 0, {count}sizeof *m->{field.name});")
    return "\n".join([*lines, "}"])


def _count(field: Field) -> str:
    return "" if field.size == 1 else f"{field.size} * "


def _state_functions(api: Api) -> Iterator[str]:
    names = [f'"{field.buffer.name}"' for field in api.states]
    sizes = [f"{_count(f)}sizeof({element_type(f.dtype)})" for f in api.states]
    pointers = [f"m->{field.name}" for field in api.states]
    yield (
        f"static void *state_memory(const {api.name} *m, enum {api.name}_state which) {{\n"
        f"    void *const memory[] = {_braces(pointers)};\n    return memory[which];\n}}"
    )
    yield (
        f"const char *{api.name}_state_name(enum {api.name}_state which) {{\n"
        f"    static const char *const names[] = {_braces(names)};\n    return names[which];\n}}"
    )
    yield (
        f"size_t {api.name}_state_bytes(enum {api.name}_state which) {{\n"
        f"    static const size_t bytes[] = {_braces(sizes)};\n    return bytes[which];\n}}"
    )
    for text in (_GET, _SET):
        yield text.replace("NAME", api.name)


def _braces(parts: list[str]) -> str:
    if sum(map(len, parts)) < 60:
        return "{" + ", ".join(parts) + "}"
    return "{\n" + "".join(f"        {part},\n" for part in parts) + "    }"


_LIFE = (
    """/* Make an instance in memory from malloc. Returns 0, or -1 when there is none left.
 * Nothing else allocates: no other function here calls malloc. */
int NAME_init(NAME *m);""",
    """/* The same in memory of the caller: UPPER_MEMORY_BYTES bytes, aligned to 64, that outlive it. */
void NAME_init_in(NAME *m, void *memory);""",
    """/* Give back what NAME_init took. */
void NAME_free(NAME *m);""",
)

_STATES = (
    """/* Set every state to its initial content. */
void NAME_reset(NAME *m);""",
    """/* The name of a state in the model, and its size. */
const char *NAME_state_name(enum NAME_state which);
size_t NAME_state_bytes(enum NAME_state which);""",
    """/* Copy a state out or in, as an array of its type. */
void NAME_get(const NAME *m, enum NAME_state which, void *to);
void NAME_set(NAME *m, enum NAME_state which, const void *from);""",
)

_INIT = """int NAME_init(NAME *m) {
    unsigned char *memory = malloc(UPPER_MEMORY_BYTES + 64);
    if (memory == NULL) {
        return -1;
    }
    NAME_init_in(m, memory + (64 - (uintptr_t)memory % 64));
    m->owned = memory;
    return 0;
}"""

LARGE = 4 << 20
"""Bytes from which an instance is asked for in huge pages."""
HUGE_PAGE_HEADERS = """\
/* Linux gives memory in huge pages to those who ask; elsewhere nothing is asked. */
#if defined(__linux__) && defined(__has_include)
#if __has_include(<sys/mman.h>)
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif
#include <sys/mman.h>
#endif
#endif"""
"""Stands in front of all other includes: the first of them fixes what the system's headers offer."""

_INIT_LARGE = """int NAME_init(NAME *m) {
    enum { HUGE_PAGE = 2 << 20 };
    unsigned char *memory = malloc((size_t)UPPER_MEMORY_BYTES + HUGE_PAGE);
    if (memory == NULL) {
        return -1;
    }
    unsigned char *const start = memory + (HUGE_PAGE - (uintptr_t)memory % HUGE_PAGE);
#ifdef MADV_HUGEPAGE
    (void)madvise(start, UPPER_MEMORY_BYTES, MADV_HUGEPAGE);
#endif
    NAME_init_in(m, start);
    m->owned = memory;
    return 0;
}"""

_FREE = """void NAME_free(NAME *m) {
    free(m->owned);
    m->owned = NULL;
}"""

_GET = """void NAME_get(const NAME *m, enum NAME_state which, void *to) {
    memcpy(to, state_memory(m, which), NAME_state_bytes(which));
}"""

_SET = """void NAME_set(NAME *m, enum NAME_state which, const void *from) {
    memcpy(state_memory(m, which), from, NAME_state_bytes(which));
}"""
