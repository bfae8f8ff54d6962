"""Macros that tell a compiler how to treat a loop, and tell nothing to compilers that do not know how."""

from __future__ import annotations

from intaglio.native.helper import Helper


def make(name: str) -> Helper | None:
    """The macro of that name, or None."""
    return _HELPERS.get(name)


_HELPERS = {
    "PRAGMA": Helper("#define PRAGMA(text) _Pragma(#text)"),
    "LANES": Helper(
        """/* the next loop becomes one vector: gcc must not write it out before it sees that */
#if defined(__GNUC__) && !defined(__clang__) && !defined(__TINYC__)
#define LANES PRAGMA(GCC unroll 1)
#else
#define LANES
#endif""",
        ("PRAGMA",),
    ),
    "UNROLL": Helper(
        """/* the next loop is written out n times */
#if defined(__clang__)
#define UNROLL(n) PRAGMA(clang loop unroll(full))
#elif defined(__GNUC__) && !defined(__TINYC__)
#define UNROLL(n) PRAGMA(GCC unroll n)
#else
#define UNROLL(n)
#endif""",
        ("PRAGMA",),
    ),
    "PREFETCH": Helper(
        """/* the cache line of a place is wanted soon: into the second cache */
#if defined(__GNUC__) && !defined(__TINYC__)
#define PREFETCH(place) __builtin_prefetch(place, 0, 2)
#else
#define PREFETCH(place) ((void)(place))
#endif"""
    ),
}
