"""Helper functions that convert between element types where C leaves the result open.

Names are `from_to_to` (`f32_to_i8`). Floats become integers towards zero; NaN becomes 0 and what is too
large the nearest there is. f16 and bf16 round to nearest, ties to even.
"""

from __future__ import annotations

from intaglio.native.helper import C_TYPES, Helper
from intaglio.shared.dtypes import BY_NAME, DType


def make(name: str) -> Helper | None:
    """The helper `a_to_b` or `bits_a_b`, or None."""
    if name in _HALVES:
        return _HALVES[name]
    a, to, b = name.partition("_to_")
    if to and a in ("f32", "f64") and b in BY_NAME and BY_NAME[b].is_integer:
        return _float_to_integer(BY_NAME[a], BY_NAME[b])
    if name.startswith("bits_"):
        _, a, b = name.split("_")
        return _bits(BY_NAME[a], BY_NAME[b])
    return None


def _float_to_integer(a: DType, b: DType) -> Helper:
    bits = 8 * b.size
    low, high = (0, 2**bits) if b.kind == "uint" else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    f = "f" if a.size == 4 else ""
    t, to = C_TYPES[a.name], C_TYPES[b.name]
    limits = to.removesuffix("_t").upper()
    least = "0" if b.kind == "uint" else f"{limits}_MIN"
    if b.size < 4:
        lowest, highest = f"{float(low)!r}{f}", f"{float(high - 1)!r}{f}"
        return Helper(
            f"""/* towards zero; NaN is 0, what is too large the nearest there is */
static inline {to} {a}_to_{b}({t} x) {{
    {t} y = x < {lowest} ? {lowest} : x > {highest} ? {highest} : x;
    return y != y ? 0 : ({to})(int32_t)y;
}}""",
            (),
            ("stdint.h",),
        )
    return Helper(
        f"""/* towards zero; NaN is 0, what is too large the nearest there is */
static inline {to} {a}_to_{b}({t} x) {{
    return x != x ? 0 : x < {float(low)!r}{f} ? {least} : x >= {float(high)!r}{f} ? {limits}_MAX : ({to})x;
}}""",
        (),
        ("stdint.h",),
    )


def _bits(a: DType, b: DType) -> Helper:
    return Helper(
        f"""/* the same bits as another type */
static inline {C_TYPES[b.name]} bits_{a}_{b}({C_TYPES[a.name]} x) {{
    {C_TYPES[b.name]} y;
    memcpy(&y, &x, sizeof y);
    return y;
}}""",
        (),
        ("string.h",),
    )


_HALVES = {
    "f16_to_f32": Helper(
        """/* IEEE half precision, given by its bits, to float */
static inline float f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = h & 0x7fffu;
    uint32_t normal = (rest << 13) + 0x38000000u + (rest >= 0x7c00u ? 0x38000000u : 0u);
    float small = (float)rest * 0x1p-24f;
    return bits_u32_f32(sign | (rest < 0x400u ? bits_f32_u32(small) : normal));
}""",
        ("bits_u32_f32", "bits_f32_u32"),
    ),
    "f32_to_f16": Helper(
        """/* float to the bits of IEEE half precision, to nearest, ties to even */
static inline uint16_t f32_to_f16(float x) {
    uint32_t bits = bits_f32_u32(x), sign = (bits >> 16) & 0x8000u, rest = bits & 0x7fffffffu;
    uint32_t normal = (rest - 0x38000000u + 0xfffu + ((rest >> 13) & 1u)) >> 13;
    uint32_t small = bits_f32_u32(bits_u32_f32(rest) + 0.5f) - 0x3f000000u;
    uint32_t large = rest > 0x7f800000u ? 0x7e00u : 0x7c00u;
    uint32_t half = rest < 0x38800000u ? small : rest < 0x477ff000u ? normal : large;
    return (uint16_t)(sign | half);
}""",
        ("bits_u32_f32", "bits_f32_u32"),
    ),
    "f64_to_f16": Helper(
        """/* double to the bits of IEEE half precision in one rounding: the float between keeps, as its last
 * bit, whether something was cut off */
static inline uint16_t f64_to_f16(double x) {
    float f = (float)x;
    uint32_t bits = bits_f32_u32(f);
    if (x == x && (double)f != x) {
        double grew = f < 0 ? x - (double)f : (double)f - x;
        bits = (bits - (grew > 0)) | 1u;
    }
    return f32_to_f16(bits_u32_f32(bits));
}""",
        ("bits_u32_f32", "bits_f32_u32", "f32_to_f16"),
    ),
    "bf16_to_f32": Helper(
        """/* bfloat16, given by its bits, to float */
static inline float bf16_to_f32(uint16_t h) {
    return bits_u32_f32((uint32_t)h << 16);
}""",
        ("bits_u32_f32",),
    ),
    "f32_to_bf16": Helper(
        """/* float to the bits of bfloat16, to nearest, ties to even */
static inline uint16_t f32_to_bf16(float x) {
    uint32_t bits = bits_f32_u32(x);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return (uint16_t)(x != x ? (bits >> 16) | 0x40u : rounded);
}""",
        ("bits_f32_u32",),
    ),
}
