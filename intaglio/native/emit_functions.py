"""How C spells every scalar function, for every element type: operator, library function or helper."""

from __future__ import annotations

from intaglio.native import math_exp, math_trig
from intaglio.native.helper import c_type
from intaglio.native.helpers import Helpers
from intaglio.native.tree import Binary, Cast, Expr, Invoke, Number, Type, Unary
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import UnsupportedError

COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
ARITHMETIC = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
BITWISE = {"and": "&", "or": "|", "xor": "^"}

LIBRARY = {
    "sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "rint", "abs": "fabs",
    "exp": "exp", "exp2": "exp2", "expm1": "expm1", "log": "log", "log2": "log2", "log10": "log10",
    "log1p": "log1p", "sin": "sin", "cos": "cos", "tan": "tan", "sinh": "sinh", "cosh": "cosh",
    "tanh": "tanh", "asin": "asin", "acos": "acos", "atan": "atan", "asinh": "asinh", "acosh": "acosh",
    "atanh": "atanh", "atan2": "atan2", "erf": "erf", "erfc": "erfc", "pow": "pow", "fmod": "fmod",
    "hypot": "hypot", "copysign": "copysign", "cbrt": "cbrt", "lgamma": "lgamma", "gamma": "tgamma",
}  # fmt: skip
"""Functions that the C library has for double, and with an `f` behind the name for float."""

MATH = frozenset(math_exp.HELPERS) | frozenset(math_trig.HELPERS)
"""Functions of float that are written out, so that loops over them become vector code."""

FLOAT_HELPERS = frozenset({"max", "min", "sign", "remainder", "floor_div"})
INTEGER_HELPERS = frozenset(
    {"max", "min", "pow", "shl", "shr", "div", "remainder", "fmod", "floor_div", "threefry"}
)
SIGNED_HELPERS = frozenset({"add", "sub", "mul", "neg", "abs"})
IDENTITY_ON_INTEGERS = frozenset({"floor", "ceil", "trunc", "round"})
BOUNDS = {"max": "at_least", "min": "at_most"}
"""Cheaper forms of max and min for a bound that is a number."""
TESTS = {"isnan": "isnan", "isinf": "isinf", "isfinite": "isfinite"}


def spell(fn: str, dtype: DType, args: tuple[Expr, ...], helpers: Helpers, *, small: bool = False) -> Expr:
    """`fn` of C values of type `dtype` (never f16 or bf16).

    Args:
        small: the exact result is known to fit the type, so that plain operators cannot overflow.

    Raises:
        UnsupportedError: the function has no meaning in C for this type.
    """
    if fn in COMPARISONS:
        return Binary(COMPARISONS[fn], *args)
    if dtype == dtypes.bool_:
        made = _spell_bool(fn, args)
    elif dtype.is_float:
        made = _spell_float(fn, dtype, args, helpers)
    else:
        made = _spell_integer(fn, dtype, args, helpers, small)
    if made is None:
        raise UnsupportedError(
            f"{fn} of {dtype} values cannot be written in C", hint="cast the operands first"
        )
    return made


def _spell_bool(fn: str, args: tuple[Expr, ...]) -> Expr | None:
    if fn in ("and", "min", "mul"):
        return Binary("&&", *args)
    if fn in ("or", "max", "add"):
        return Binary("||", *args)
    if fn == "xor":
        return Binary("!=", *args)
    if fn == "not":
        return Unary("!", args[0])
    return args[0] if fn in ("sign", "abs", "round", "floor", "ceil", "trunc") else None


def _spell_float(fn: str, dtype: DType, args: tuple[Expr, ...], helpers: Helpers) -> Expr | None:
    if fn in ARITHMETIC:
        return Binary(ARITHMETIC[fn], *args)
    if fn == "neg":
        return Unary("-", args[0])
    if fn in BOUNDS and any(isinstance(arg, Number) and arg.value == arg.value for arg in args):
        bound, value = sorted(args, key=lambda arg: not isinstance(arg, Number))
        return Invoke(helpers.use(f"{BOUNDS[fn]}_{dtype}"), (value, bound))
    if fn in FLOAT_HELPERS:
        return Invoke(helpers.use(f"{fn}_{dtype}"), args)
    if fn in TESTS:
        helpers.headers.add("math.h")
        return Binary("!=", Invoke(TESTS[fn], args), Number(0, dtypes.i32))
    if fn == "reciprocal":
        return Binary("/", Number(1.0, dtype), args[0])
    if dtype == dtypes.f32 and f"{fn}_f32" in MATH:
        if fn == "pow" and args[1] == Number(2.0, dtype):
            return Invoke(helpers.use("square_f32"), args[:1])
        return Invoke(helpers.use(f"{fn}_f32"), args)
    if fn in LIBRARY:
        helpers.headers.add("math.h")
        return Invoke(LIBRARY[fn] + ("f" if dtype.size == 4 else ""), args)
    return None


def _spell_integer(
    fn: str, dtype: DType, args: tuple[Expr, ...], helpers: Helpers, small: bool
) -> Expr | None:
    type_ = Type(c_type(dtype))
    if fn in ("add", "sub", "mul") and (small or (dtype.kind == "uint" and dtype.size >= 4)):
        plain = Binary(ARITHMETIC[fn], *args)
        return plain if dtype.size >= 4 else Cast(type_, plain)
    if fn in ("add", "sub", "mul") or fn in INTEGER_HELPERS:
        return Invoke(helpers.use(f"{fn}_{dtype}"), args)
    if fn in BITWISE:
        return Binary(BITWISE[fn], *args)
    if fn == "not":
        return Unary("~", args[0]) if dtype.size >= 4 else Cast(type_, Unary("~", args[0]))
    if fn == "neg":
        negative = Unary("-", args[0])
        if dtype.kind == "uint":
            return negative if dtype.size >= 4 else Cast(type_, negative)
        return Invoke(helpers.use(f"neg_{dtype}"), args)
    if fn == "abs":
        return args[0] if dtype.kind == "uint" else Invoke(helpers.use(f"abs_{dtype}"), args)
    if fn == "sign":
        zero = Number(0, dtype)
        positive = Binary(">", args[0], zero)
        return positive if dtype.kind == "uint" else Binary("-", positive, Binary("<", args[0], zero))
    return args[0] if fn in IDENTITY_ON_INTEGERS else None


def convert(value: Expr, source: DType, target: DType, helpers: Helpers) -> Expr:
    """A C value of one element type as another: towards zero, saturating, NaN to 0, integers wrapping."""
    if source == target:
        return value
    if source.arithmetic != source:
        wide = Invoke(helpers.use(f"{source}_to_f32"), (value,))
        return convert(wide, dtypes.f32, target, helpers)
    if target.arithmetic != target:
        if source.name == "f64" and target.name == "f16":
            return Invoke(helpers.use("f64_to_f16"), (value,))
        return Invoke(helpers.use(f"f32_to_{target}"), (convert(value, source, dtypes.f32, helpers),))
    if target == dtypes.bool_:
        return Binary("!=", value, Number(0, source))
    if source.is_float and target.is_integer:
        return Invoke(helpers.use(f"{source}_to_{target}"), (value,))
    return Cast(Type(c_type(target)), value)


def reinterpret(value: Expr, source: DType, target: DType, helpers: Helpers) -> Expr:
    """The same bits as another element type of the same size."""
    if c_type(source) == c_type(target):
        return value
    if source.is_integer and target.is_integer:
        return Cast(Type(c_type(target)), value)
    return Invoke(helpers.use(f"bits_{source}_{target}"), (value,))
