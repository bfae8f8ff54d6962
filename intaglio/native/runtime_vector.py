"""Vector types of the generated C, by the compilers' vector extensions, and what they lack operators for.

A type is `f32x16`: element type and number of lanes. Comparisons give lanes of integers of the same
width, all bits set where they hold; `select` picks by such a mask. Functions without a vector
operator run lane by lane in a loop that compilers turn into vector instructions.
"""

from __future__ import annotations

import re

from intaglio.native.helper import C_TYPES, Helper
from intaglio.native.math_exp import CORES
from intaglio.shared.dtypes import BY_NAME, DType

_NAME = re.compile(r"(?:(\w+?)_)?((?:f|i|u)\d+)x(\d+)")
_REGISTERS = {16: ("__SSE2__", "_mm"), 32: ("__AVX__", "_mm256"), 64: ("__AVX512F__", "_mm512")}
_GREATER = {"max": True, "min": False, "at_least": True, "at_most": False}
BOUNDED = ("at_least", "at_most")
_OPERATORS = {"add": "+", "mul": "*"}
HORIZONTAL = {"add": "sum", "mul": "product", "max": "greatest", "min": "least"}
"""The name of the helper that combines all lanes into one value."""


def vector_name(dtype: DType, lanes: int) -> str:
    """The C type of `lanes` elements."""
    return f"{dtype}x{lanes}"


def mask_dtype(dtype: DType) -> DType:
    """The element type of the masks that comparisons of a type give."""
    return BY_NAME[f"i{8 * dtype.size}"]


def make(name: str) -> Helper | None:
    """The helper for a vector type (`f32x16`) or an operation on it (`select_f32x16`), or None."""
    found = _NAME.fullmatch(name)
    if found is None or found[2] not in BY_NAME:
        return None
    operation, dtype, lanes = found[1], BY_NAME[found[2]], int(found[3])
    v = vector_name(dtype, lanes)
    if operation is None:
        return Helper(_types(dtype, lanes))
    if operation in _GREATER and dtype.is_float and lanes * dtype.size in _REGISTERS:
        return _extreme(operation, dtype, lanes, v)
    template = (_INTEGER if dtype.is_integer else {}).get(operation, _TEMPLATES.get(operation))
    if template is None:
        return _special(operation, dtype, lanes, v)
    mask = vector_name(mask_dtype(dtype), lanes)
    text = template.replace("#M", mask).replace("#", C_TYPES[dtype.name]).replace("$", v)
    text = text.replace("%LANES%", ", ".join(["x"] * lanes))
    needs = [
        v,
        *([mask] if mask in text else []),
        *(f"{part}_{v}" for part in ("splat", "select") if part != operation and f"{part}_$(" in template),
    ]
    return Helper(text.strip(), tuple(needs))


def _extreme(operation: str, dtype: DType, lanes: int, v: str) -> Helper:
    """Extremes of two by the instruction that machines have; compilers compare and select if not told to.

    The instruction gives its second operand where one is NaN.
    """
    has, prefix = _REGISTERS[lanes * dtype.size]
    mask, narrow = vector_name(mask_dtype(dtype), lanes), dtype.size == 4
    register = f"__m{8 * lanes * dtype.size}{'' if narrow else 'd'}"
    greater, is_bound = _GREATER[operation], operation in BOUNDED
    other = "x" if is_bound else "a"
    suffix, wide = "ps" if narrow else "pd", lanes * dtype.size == 64
    function = f"{prefix}_{'max' if greater else 'min'}_{suffix}"
    found = f"({v}){function}(({register})b, ({register}){other})"
    sign, word = (">", "greater") if greater else ("<", "less")
    if is_bound:
        about = f"x, or the bound where x is {'less' if greater else 'greater'}; NaN stays"
        params, first = f"{v} x, {C_TYPES[dtype.name]} bound", f"    {v} b = splat_{v}(bound);\n"
        chosen, result = f"b {sign} x", found
    else:
        about, params, first = f"the {word} of two; NaN when one is", f"{v} a, {v} b", ""
        chosen, result = f"(b {sign} a) | (b != b)", f"select_{v}(b != b, b, {found})"
        if wide:  # compilers select by longer ways than this
            test = f"{prefix}_cmp_{suffix}_mask(({register})b, ({register})b, _CMP_UNORD_Q)"
            result = f"({v}){prefix}_mask_mov_{suffix}(({register}){found}, {test}, ({register})b)"
    text = f"""/* {about} */
static inline {v} {operation}_{v}({params}) {{
{first}#if defined({has})
    return {result};
#else
    {mask} chosen = {chosen};
    return ({v})((chosen & ({mask})b) | (~chosen & ({mask}){other}));
#endif
}}"""
    needs = (f"splat_{v}",) if is_bound else () if wide else (f"select_{v}",)
    return Helper(text, (v, mask, *needs, "IMMINTRIN"))


def _types(dtype: DType, lanes: int) -> str:
    t, v = C_TYPES[dtype.name], vector_name(dtype, lanes)
    size = lanes * dtype.size
    return f"""/* {lanes} lanes of {t}; {v}_u may lie anywhere in memory */
typedef {t} {v} __attribute__((vector_size({size})));
typedef {t} {v}_u __attribute__((vector_size({size}), aligned({dtype.size}), may_alias));"""


def _special(operation: str, dtype: DType, lanes: int, v: str) -> Helper | None:
    if operation in ("add", "sub", "mul", "neg") and dtype.kind == "int":
        u = vector_name(BY_NAME[f"u{8 * dtype.size}"], lanes)
        sign = {"add": "+", "sub": "-", "mul": "*"}.get(operation)
        params, value = (f"{v} a, {v} b", f"({u})a {sign} ({u})b") if sign else (f"{v} a", f"-({u})a")
        return Helper(
            f"static inline {v} {operation}_{v}({params}) {{\n    return ({v})({value});\n}}", (v, u)
        )
    if operation == "turn":
        return _turn(dtype, lanes, v)
    if operation in HORIZONTAL.values():
        word = next(word for word, name in HORIZONTAL.items() if name == operation)
        return _horizontal(operation, dtype, lanes, word)
    to = re.fullmatch(r"(to|inside)_((?:f|i|u)\d+)", operation)
    if to and dtype.is_float and BY_NAME[to[2]].is_integer:
        return _float_to_integer(dtype, BY_NAME[to[2]], lanes, to[1] == "inside")
    if to and to[1] == "to":
        w = vector_name(BY_NAME[to[2]], lanes)
        if dtype.size == 1 and dtype.is_integer and BY_NAME[to[2]].size == 4:
            return _widened_bytes(dtype, BY_NAME[to[2]], lanes)
        return Helper(
            f"static inline {w} to_{to[2]}_{v}({v} x) {{\n    return __builtin_convertvector(x, {w});\n}}",
            (v, w),
        )
    return None


def _widened_bytes(dtype: DType, to: DType, lanes: int) -> Helper:
    """Bytes as 32 bits: gcc 12 takes them apart unless it is told the instruction, or goes by 16 bits."""
    v, w = vector_name(dtype, lanes), vector_name(to, lanes)
    middle = vector_name(BY_NAME[f"{dtype.name[0]}16"], lanes)
    wide = vector_name(BY_NAME[f"{dtype.name[0]}32"], lanes)
    sign, has, register = "u" if dtype.kind == "uint" else "i", "0", ""
    if to.is_integer and lanes == 16:
        has, register = "defined(__AVX512F__)", f"({w})_mm512_cvtep{sign}8_epi32((__m128i)x)"
    elif to.is_integer and lanes == 8:
        pair = "(__m128i){(long long)x, 0}"
        has, register = "defined(__AVX2__)", f"({w})_mm256_cvtep{sign}8_epi32({pair})"
    steps = f"__builtin_convertvector(__builtin_convertvector(x, {middle}), {wide})"
    steps = steps if wide == w else f"__builtin_convertvector({steps}, {w})"
    text = f"static inline {w} to_{to}_{v}({v} x) {{\n    return {steps};\n}}"
    if register:
        text = f"""static inline {w} to_{to}_{v}({v} x) {{
#if {has}
    return {register};
#else
    return {steps};
#endif
}}"""
    needs = dict.fromkeys((v, middle, wide, w, *(("IMMINTRIN",) if register else ())))
    return Helper(text, tuple(needs))


def _float_to_integer(dtype: DType, to: DType, lanes: int, inside: bool) -> Helper:
    """Towards zero; NaN is 0, and what is too large the nearest there is, unless it is known to be inside."""
    v, w = vector_name(dtype, lanes), vector_name(to, lanes)
    wide, mask = vector_name(BY_NAME[f"i{8 * max(4, to.size)}"], lanes), vector_name(mask_dtype(dtype), lanes)
    low, high = float(to.least), float(to.least + 2 ** (8 * to.size))
    f, top = "f" if dtype.size == 4 else "", f"{C_TYPES[to.name].removesuffix('_t').upper()}_MAX"
    lines = [f"    {v} y = ({v})(({mask})x & (x == x));"]
    result = f"__builtin_convertvector(__builtin_convertvector(y, {wide}), {w})"
    needs = [v, w, wide, mask]
    if not inside and to.size < 4:
        lines.append(f"    y = select_{v}(y < {low!r}{f}, splat_{v}({low!r}{f}), y);")
        lines.append(f"    y = select_{v}(y > {high - 1!r}{f}, splat_{v}({high - 1!r}{f}), y);")
    elif not inside:
        lines.append(f"    {mask} over = x >= {high!r}{f};")
        lines.append(f"    y = select_{v}((y < {low!r}{f}) | over, splat_{v}({low!r}{f}), y);")
        result = f"select_{w}(over, splat_{w}({top}), {result})"
        needs.append(f"select_{w}")
    needs += [f"splat_{w}", f"select_{v}", f"splat_{v}"] if not inside else []
    name, body = "inside" if inside else "to", "\n".join(lines)
    about = "towards zero; NaN is 0" + ("" if inside else ", what is too large the nearest there is")
    text = f"""/* {about} */
static inline {w} {name}_{to}_{v}({v} x) {{
{body}
    return {result};
}}"""
    return Helper(text, tuple(dict.fromkeys(needs)), ("stdint.h",))


def _horizontal(operation: str, dtype: DType, lanes: int, word: str) -> Helper:
    """Halves are combined until one lane is left, so that the order does not depend on the target."""
    t, v = C_TYPES[dtype.name], vector_name(dtype, lanes)
    plain = word in _OPERATORS and dtype.kind != "int"
    lines, needs, held, half = [], [v], "x", lanes // 2

    def pair(name: str, a: str, b: str) -> str:
        if plain:
            return f"{a} {_OPERATORS[word]} {b}"
        needs.append(f"{word}_{name}")
        return f"{word}_{name}({a}, {b})"

    while half > 1:
        vector = vector_name(dtype, half)
        needs.append(vector)
        low, high = (
            f"({vector}){{{', '.join(f'{held}[{k}]' for k in range(start, start + half))}}}"
            for start in (0, half)
        )
        lines.append(f"    {vector} x{half} = {pair(vector, low, high)};\n")
        held, half = f"x{half}", half // 2
    body = "".join(lines)
    text = f"""/* the {operation} of the lanes: halves are combined until one is left */
static inline {t} {operation}_{v}({v} x) {{
{body}    return {pair(str(dtype), f"{held}[0]", f"{held}[1]")};
}}"""
    return Helper(text, tuple(dict.fromkeys(needs)))


def lanewise_name(function: str, dtype: DType, lanes: int) -> str:
    """`exp_f32` becomes `exp_f32x16`, `sqrtf` `sqrt_f32x16`."""
    stem = function.removesuffix(f"_{dtype}")
    stem = stem[:-1] if stem == function and dtype.name == "f32" and stem.endswith("f") else stem
    return f"{stem}_{vector_name(dtype, lanes)}"


def lanewise(function: str, dtype: DType, lanes: int, arity: int) -> Helper:
    """A scalar C function over lanes, in a loop that becomes vector instructions."""
    t, v = C_TYPES[dtype.name], vector_name(dtype, lanes)
    names = "abcd"[:arity]
    params = ", ".join(f"{v} {n}" for n in names)
    arrays = ", ".join(f"{n}_[{lanes}]" for n in names)
    stores = "\n".join(f"    *({v}_u *){n}_ = {n};" for n in names)
    args = ", ".join(f"{n}_[i]" for n in names)
    return Helper(
        f"""static inline {v} {lanewise_name(function, dtype, lanes)}({params}) {{
    {t} {arrays};
{stores}
    for (int i = 0; i < {lanes}; i++) {{
        a_[i] = {function}({args});
    }}
    return *({v}_u *)a_;
}}""",
        (v,),
    )


def bounded_core(function: str, dtype: DType, lanes: int) -> Helper:
    """The vector form of a function that is a core between bounds."""
    v = vector_name(dtype, lanes)
    core, low, high = CORES[function]
    value = f"at_most_{v}(at_least_{v}(x, {low}f), {high}f)"
    return Helper(
        f"""static inline {v} {lanewise_name(function, dtype, lanes)}({v} x) {{
    return {lanewise_name(core, dtype, lanes)}({value});
}}""",
        (v, f"at_most_{v}", f"at_least_{v}"),
    )


def _turn(dtype: DType, lanes: int, v: str) -> Helper:
    """A square turned in registers: rows are interleaved with those half of them further on until they are
    columns."""
    t, half = C_TYPES[dtype.name], lanes // 2
    order = [k + lanes * odd for k in range(lanes) for odd in (0, 1)]
    low, high = (", ".join(map(str, part)) for part in (order[:lanes], order[lanes:]))
    lines, names = [], [f"r{k}" for k in range(lanes)]
    lines += [f"{v} {name} = load_{v}(p + {k} * from);" for k, name in enumerate(names)]
    for stage in range(lanes.bit_length() - 1):
        made = [f"{'stuvw'[stage]}{k}" for k in range(lanes)]
        for k in range(half):
            pair = f"{names[k]}, {names[k + half]}"
            lines.append(
                f"{v} {made[2 * k]} = LOW_{lanes}({pair}), {made[2 * k + 1]} = HIGH_{lanes}({pair});"
            )
        names = made
    lines += [f"store_{v}(q + {k} * to, {name});" for k, name in enumerate(names)]
    mask = vector_name(mask_dtype(dtype), lanes)
    text = (
        f"""#if defined(__clang__) || __GNUC__ >= 12
#define LOW_{lanes}(a, b) __builtin_shufflevector(a, b, {low})
#define HIGH_{lanes}(a, b) __builtin_shufflevector(a, b, {high})
#else
#define LOW_{lanes}(a, b) __builtin_shuffle(a, b, ({mask}){{{low}}})
#define HIGH_{lanes}(a, b) __builtin_shuffle(a, b, ({mask}){{{high}}})
#endif

/* {lanes} rows of {lanes} elements, `from` elements apart, become columns of rows `to` apart */
static inline void turn_{v}(const {t} *p, ptrdiff_t from, {t} *q, ptrdiff_t to) {{
    """
        + "\n    ".join(lines)
        + "\n}"
    )
    return Helper(text, (v, mask, f"load_{v}", f"store_{v}"))


_TEMPLATES = {
    "load": """
static inline $ load_$(const # *p) {
    return *(const $_u *)p;
}""",
    "store": """
static inline void store_$(# *p, $ x) {
    *($_u *)p = x;
}""",
    "splat": """
static inline $ splat_$(# x) {
    return ($){%LANES%};
}""",
    "select": """
/* a where the mask is set, else b */
static inline $ select_$(#M mask, $ a, $ b) {
    return ($)((mask & (#M)a) | (~mask & (#M)b));
}""",
    "max": """
/* the greater of two; NaN when one is */
static inline $ max_$($ a, $ b) {
    return select_$((b > a) | (b != b), b, a);
}""",
    "min": """
/* the less of two; NaN when one is */
static inline $ min_$($ a, $ b) {
    return select_$((b < a) | (b != b), b, a);
}""",
    "at_least": """
/* x, or the bound where x is less; NaN stays */
static inline $ at_least_$($ x, # bound) {
    $ b = splat_$(bound);
    return select_$(x < b, b, x);
}""",
    "at_most": """
/* x, or the bound where x is greater; NaN stays */
static inline $ at_most_$($ x, # bound) {
    $ b = splat_$(bound);
    return select_$(x > b, b, x);
}""",
}

_INTEGER = {
    "max": """
static inline $ max_$($ a, $ b) {
    return select_$(a > b, a, b);
}""",
    "min": """
static inline $ min_$($ a, $ b) {
    return select_$(a < b, a, b);
}""",
}
