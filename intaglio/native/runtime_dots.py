"""Sums of products of narrow integers over groups of neighbours, as machines have them.

A vector holds the group of one lane as one 32-bit word: four bytes, or two integers of 16 bits. Products are
summed exactly and wrap around in 32 bits only; nothing saturates.
"""

from __future__ import annotations

import re

from intaglio.native.helper import Helper

_NAME = re.compile(r"(dot4|dot2|words|word)_i32x(4|8|16)")
_REGISTER = {16: ("__m512i", "_mm512"), 8: ("__m256i", "_mm256"), 4: ("__m128i", "_mm")}


def make(name: str) -> Helper | None:
    """The helper for a number of lanes (`dot4_i32x16`), or None."""
    if name == "IMMINTRIN":
        return Helper(_INCLUDE)
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    kind, lanes = found[1], int(found[2])
    v, u = f"i32x{lanes}", f"u32x{lanes}"
    if kind == "words":
        return Helper(_WORDS.replace("$", v), (v,), ("string.h",))
    if kind == "word":
        return Helper(_WORD.replace("$", v), (v, f"splat_{v}"), ("string.h",))
    template = (_DOT4 if kind == "dot4" else _DOT2).replace("%TEST%", _test(kind, lanes))
    register, prefix = _REGISTER[lanes]
    text = template.replace("%M%", register).replace("%P%", prefix).replace("$U", u).replace("$", v)
    return Helper(text, (v, u, "IMMINTRIN"))


def _test(kind: str, lanes: int) -> str:
    """What is defined where the machine has the product as an instruction."""
    if kind == "dot4":
        return "defined(__AVX512VNNI__)" + ("" if lanes == 16 else " && defined(__AVX512VL__)")
    return f"defined({ {16: '__AVX512BW__', 8: '__AVX2__', 4: '__SSE2__'}[lanes] })".replace(" ", "")


_INCLUDE = """
#if defined(__SSE2__) && (defined(__GNUC__) || defined(__clang__)) && !defined(__TINYC__)
#include <immintrin.h>
#endif""".strip()

_WORDS = """
/* the words that lie at a place of any type */
static inline $ words_$(const void *p) {
    $ x;
    memcpy(&x, p, sizeof x);
    return x;
}""".strip()

_WORD = """
/* the word that lies at a place of any type, in every lane */
static inline $ word_$(const void *p) {
    int32_t x;
    memcpy(&x, p, sizeof x);
    return splat_$(x);
}""".strip()

_DOT4 = """
/* acc, and in every lane the sum of four products of an unsigned byte of u with a signed one of s */
static inline $ dot4_$($ acc, $ u, $ s) {
#if %TEST%
    return ($)%P%_dpbusd_epi32((%M%)acc, (%M%)u, (%M%)s);
#else
    $U sum = ($U)acc;
    for (int k = 0; k < 32; k += 8) {
        sum += (($U)u >> k & 255) * ($U)(($)(($U)s << (24 - k)) >> 24);
    }
    return ($)sum;
#endif
}""".strip()

_DOT2 = """
/* acc, and in every lane the sum of two products of integers of 16 bits */
static inline $ dot2_$($ acc, $ a, $ b) {
#if %TEST%
    return ($)(($U)acc + ($U)%P%_madd_epi16((%M%)a, (%M%)b));
#else
    $U low = ($U)(($)(($U)a << 16) >> 16) * ($U)(($)(($U)b << 16) >> 16);
    return ($)(($U)acc + low + ($U)(a >> 16) * ($U)(b >> 16));
#endif
}""".strip()
