"""C identifiers: legal, unique, deterministic, and never a name of the language or its library."""

from __future__ import annotations

import re
from collections.abc import Iterable

_KEYWORDS = """auto break case char const continue default do double else enum extern float for goto if inline
int long register restrict return short signed sizeof static struct switch typedef union
unsigned void volatile while asm typeof bool true false errno NULL INFINITY NAN INT32_MIN
INT64_MIN UNROLL LANES PRAGMA PREFETCH pool_task pool_worker pool_pause pool_slice pool_work pool_start_round
pool_run pool_destroy pool_create POOL_SPINS POOL_MOST POOL_STACK getpid memcpy isnan isinf isfinite"""

_MATH = """acos asin atan atan2 ceil cos cosh exp fabs floor fmod frexp ldexp log log10 modf pow sin sinh
sqrt tan tanh acosh asinh atanh cbrt copysign erf erfc exp2 expm1 fdim fma fmax fmin hypot
ilogb lgamma llrint llround log1p log2 logb lrint lround nan nearbyint nextafter nexttoward
remainder remquo rint round scalbln scalbn tgamma trunc"""

_LIBRARY = """main j0 j1 jn y0 y1 yn gamma drem finite significand signgam isnormal signbit fpclassify abs
labs llabs div ldiv lldiv malloc calloc realloc free exit abort atexit system getenv rand srand
qsort bsearch memmove memset memcmp memchr strlen strcmp strcpy strcat index rindex time clock
signal raise read write open close link pipe select accept bind connect send recv sleep pause
fork wait kill access dup stat"""

_LOCAL = frozenset(_KEYWORDS.split()) | {n + suffix for n in _MATH.split() for suffix in ("", "f", "l")}
RESERVED = _LOCAL | {n + suffix for n in _LIBRARY.split() for suffix in ("", "f", "l")}
"""What a function of the file must not be called; variables only avoid what the code uses."""

_HELPERS = re.compile(r".*_(f16|bf16|[fiu](8|16|32|64)|bool|index)(x\d+)?$|[fiu]\d+x\d+(_u)?$")
_LONGEST = 48


def sanitise(name: str) -> str:
    """A legal C identifier near to a name: `0.weight` becomes `weight_0`."""
    text = re.sub(r"[^A-Za-z0-9_]+", "_", name)
    text = re.sub(r"__+", "_", text).strip("_")[:_LONGEST].rstrip("_")
    if not text or not text[0].isalpha():
        number, _, rest = text.partition("_")
        text = f"{rest}_{number}" if rest[:1].isalpha() else f"v_{text}" if text else "v"
    return text


class Names:
    """The names taken in one scope; `unique` gives the wanted one, or with a number behind it."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = set(taken) | _LOCAL

    def unique(self, wanted: str) -> str:
        base = sanitise(wanted)
        name, k = base, 0
        while name in self.taken or _HELPERS.match(name):
            k += 1
            name = f"{base}_{k}"
        self.taken.add(name)
        return name
