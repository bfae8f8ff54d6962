"""Helper functions for arithmetic whose meaning C leaves open: wrapping integers, division, shifts, NaN.

Names are `operation_type` (`add_i32`); the text is made from one template for all types.
"""

from __future__ import annotations

from intaglio.native.helper import C_TYPES, Helper
from intaglio.shared.dtypes import BY_NAME, DType

_WRAP = {"add": "+", "sub": "-", "mul": "*"}


def make(name: str) -> Helper | None:
    """The helper `operation_type`, or None."""
    operation, _, suffix = name.rpartition("_")
    if suffix == "index":
        return _INDEX.get(operation)
    if suffix not in C_TYPES:
        return None
    dtype = BY_NAME[suffix]
    if dtype.is_float:
        return _float_helper(operation, dtype)
    return _integer_helper(operation, dtype)


def _float_helper(operation: str, dtype: DType) -> Helper | None:
    f = "f" if dtype.size == 4 else ""
    text = _FLOAT.get(operation)
    if text is None:
        return None
    headers = ("math.h",) if "@" in text else ()
    needs = tuple(f"{n}_{dtype}" for n in ("fmod",) if f"{n}_$" in text)
    body = text.replace("#", C_TYPES[dtype.name]).replace("@", f).replace("$", dtype.name)
    return Helper(body.strip(), needs, headers)


def _integer_helper(operation: str, dtype: DType) -> Helper | None:
    t = C_TYPES[dtype.name]
    u = "uint64_t" if dtype.size == 8 else "uint32_t"
    bits = 8 * dtype.size
    signed = dtype.kind == "int"
    if operation in _WRAP:
        value = f"({u})a {_WRAP[operation]} ({u})b"
        return Helper(
            f"static inline {t} {operation}_{dtype}({t} a, {t} b) {{\n    return ({t})({value});\n}}"
        )
    text = (_SIGNED if signed else _UNSIGNED).get(operation, _ANY.get(operation))
    if text is None:
        return None
    for old, new in (("#U", u), ("#", t), ("$", dtype.name), ("%BITS%", str(bits))):
        text = text.replace(old, new)
    needs = tuple(f"{n}_{dtype}" for n in ("div",) if f"{n}_{dtype}(" in text and operation != n)
    return Helper(text.strip(), needs)


_ANY = {
    "max": """
static inline # max_$(# a, # b) {
    return a > b ? a : b;
}""",
    "min": """
static inline # min_$(# a, # b) {
    return a < b ? a : b;
}""",
    "shl": """
/* x << n; 0 when all bits leave */
static inline # shl_$(# x, # n) {
    return (#U)n < %BITS% ? (#)((#U)x << n) : 0;
}""",
    "pow": """
/* x to the power n, modulo 2^%BITS% */
static inline # pow_$(# x, # n) {
    #U result = 1, base = (#U)x;
    if (n < 1) {
        return n == 0 || x == 1 ? 1 : 0;
    }
    for (; n > 0; n = (#)(n / 2)) {
        if (n & 1) {
            result *= base;
        }
        base *= base;
    }
    return (#)result;
}""",
}

_UNSIGNED = {
    "div": """
/* a / b; 0 when b is 0 */
static inline # div_$(# a, # b) {
    return b == 0 ? 0 : (#)(a / b);
}""",
    "remainder": """
/* a % b; 0 when b is 0 */
static inline # remainder_$(# a, # b) {
    return b == 0 ? 0 : (#)(a % b);
}""",
    "shr": """
/* x >> n; 0 when all bits leave */
static inline # shr_$(# x, # n) {
    return n < %BITS% ? (#)(x >> n) : 0;
}""",
}
_UNSIGNED["fmod"] = _UNSIGNED["remainder"].replace("remainder_$", "fmod_$")
_UNSIGNED["floor_div"] = _UNSIGNED["div"].replace("div_$", "floor_div_$")

_SIGNED = {
    "neg": """
static inline # neg_$(# x) {
    return (#)(0 - (#U)x);
}""",
    "abs": """
static inline # abs_$(# x) {
    return x < 0 ? (#)(0 - (#U)x) : x;
}""",
    "div": """
/* a / b towards zero; 0 when b is 0, and wrapping for the least number by -1 */
static inline # div_$(# a, # b) {
    return b == 0 ? 0 : b == -1 ? (#)(0 - (#U)a) : (#)(a / b);
}""",
    "fmod": """
/* the remainder of a / b towards zero: it has the sign of a; 0 when b is 0 */
static inline # fmod_$(# a, # b) {
    return b == 0 || b == -1 ? 0 : (#)(a % b);
}""",
    "floor_div": """
/* a / b rounded down; 0 when b is 0 */
static inline # floor_div_$(# a, # b) {
    if (b == 0 || b == -1) {
        return b == 0 ? 0 : (#)(0 - (#U)a);
    }
    return (#)(a / b - (a % b != 0 && (a < 0) != (b < 0)));
}""",
    "remainder": """
/* the remainder of a / b rounded down: it has the sign of b; 0 when b is 0 */
static inline # remainder_$(# a, # b) {
    if (b == 0 || b == -1) {
        return 0;
    }
    # r = (#)(a % b);
    return r != 0 && (r < 0) != (b < 0) ? (#)(r + b) : r;
}""",
    "shr": """
/* x >> n with copies of the sign */
static inline # shr_$(# x, # n) {
    return (#)(x >> ((#U)n < %BITS% ? n : %BITS% - 1));
}""",
}
_SIGNED["pow"] = (
    _ANY["pow"]
    .replace("modulo 2^%BITS% */", "modulo 2^%BITS%; for n < 0 the reciprocal towards zero */")
    .replace("x == 1 ? 1 : 0", "x == 1 ? 1 : x == -1 ? (n & 1 ? -1 : 1) : 0")
)

_FLOAT = {
    "at_least": """
/* x, or the bound where x is less; NaN stays */
static inline # at_least_$(# x, # bound) {
    return x < bound ? bound : x;
}""",
    "at_most": """
/* x, or the bound where x is greater; NaN stays */
static inline # at_most_$(# x, # bound) {
    return x > bound ? bound : x;
}""",
    "max": """
/* the greater of two; NaN when one is */
static inline # max_$(# a, # b) {
    # greater = b > a ? b : a;
    return b != b ? b : greater;
}""",
    "min": """
/* the less of two; NaN when one is */
static inline # min_$(# a, # b) {
    # less = b < a ? b : a;
    return b != b ? b : less;
}""",
    "sign": """
/* -1, 0 or 1; NaN for NaN */
static inline # sign_$(# x) {
    return x != x ? x : (#)((x > 0) - (x < 0));
}""",
    "remainder": """
/* the remainder of a / b rounded down: it has the sign of b */
static inline # remainder_$(# a, # b) {
    # r = fmod@(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r == 0 ? copysign@(r, b) : r;
}""",
    "floor_div": """
/* a / b rounded down, exactly: the quotient belongs to the remainder */
static inline # floor_div_$(# a, # b) {
    if (b == 0) {
        return a / b;
    }
    # r = fmod@(a, b);
    # q = (a - r) / b;
    if (r != 0 && (r < 0) != (b < 0)) {
        q -= 1;
    }
    if (q == 0) {
        return copysign@(0, a / b);
    }
    # whole = floor@(q);
    return q - whole > (#)0.5 ? whole + 1 : whole;
}""",
}

_INDEX = {
    "min": Helper("""static inline int64_t min_index(int64_t a, int64_t b) {
    return a < b ? a : b;
}"""),
    "max": Helper("""static inline int64_t max_index(int64_t a, int64_t b) {
    return a > b ? a : b;
}"""),
    "div": Helper("""/* a / b rounded down, for b > 0 */
static inline int64_t div_index(int64_t a, int64_t b) {
    return a >= 0 ? a / b : -((b - 1 - a) / b);
}"""),
    "mod": Helper("""/* a - b * (a / b rounded down), for b > 0 */
static inline int64_t mod_index(int64_t a, int64_t b) {
    return a >= 0 ? a % b : b - 1 - (b - 1 - a) % b;
}"""),
}
