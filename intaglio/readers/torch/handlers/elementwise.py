"""Elementwise operators: arithmetic, comparisons, bits, functions of one number, activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from intaglio.ops.compositions import activation, functions
from intaglio.ops.compositions.basic import dtype_of, floating, unsqueeze
from intaglio.ops.registry import prim
from intaglio.readers.torch.arrays import dtype_of_torch
from intaglio.readers.torch.registry import FxCall, aten, direct
from intaglio.shared.errors import UnsupportedError


def _float(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of floats; integers become floats first."""
    return lambda x, *args, **kwargs: function(floating(x), *args, **kwargs)


_FLOAT_PRIMITIVES = (
    "exp",
    "expm1",
    "log",
    "log1p",
    "sqrt",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "erf",
    "sigmoid",
)

direct({name: _float(getattr(prim, name)) for name in _FLOAT_PRIMITIVES})
direct(
    {
        name: _float(getattr(functions, name))
        for name in ("exp2", "log2", "log10", "erfc", "erfinv", "rsqrt", "reciprocal")
    }
)
direct({name: getattr(prim, name) for name in ("abs", "neg", "sign", "floor", "ceil", "trunc")})
direct(
    {
        "eq": prim.eq,
        "ne": prim.ne,
        "lt": prim.lt,
        "le": prim.le,
        "gt": functions.gt,
        "ge": functions.ge,
        "maximum": prim.max,
        "minimum": prim.min,
        "fmod": prim.fmod,
        "remainder": prim.remainder,
        "bitwise_and": getattr(prim, "and"),
        "bitwise_or": getattr(prim, "or"),
        "bitwise_xor": prim.xor,
        "bitwise_left_shift": prim.shl,
        "bitwise_right_shift": prim.shr,
        "__and__": getattr(prim, "and"),
        "__or__": getattr(prim, "or"),
        "__xor__": prim.xor,
        "__lshift__": prim.shl,
        "__rshift__": prim.shr,
        "bitwise_not": getattr(prim, "not"),
        "logical_not": functions.logical_not,
        "logical_and": functions.logical_and,
        "logical_or": functions.logical_or,
        "logical_xor": functions.logical_xor,
        "isnan": functions.isnan,
        "isinf": functions.isinf,
        "isfinite": functions.isfinite,
        "atan2": lambda a, b: prim.atan2(floating(a), floating(b)),
        "hypot": functions.hypot,
        "logaddexp": functions.logaddexp,
        "nan_to_num": lambda x, nan=None, posinf=None, neginf=None: functions.nan_to_num(
            x, nan or 0.0, posinf, neginf
        ),
        "signbit": functions.signbit,
        "copysign": lambda a, b: functions.copysign(floating(a), b if hasattr(b, "type") else float(b)),
        "lerp": functions.lerp,
        "square": functions.square,
        "alias": lambda x: x,
        "detach": lambda x: x,
        "lift_fresh_copy": lambda x: x,
        "lift_fresh": lambda x: x,
        "clone": lambda x, memory_format=None: x,
        "contiguous": lambda x, memory_format=None: x,
        "relu": activation.relu,
        "relu6": activation.relu6,
        "leaky_relu": activation.leaky_relu,
        "hardtanh": activation.hardtanh,
        "hardsigmoid": activation.hardsigmoid,
        "hardswish": activation.hardswish,
        "celu": activation.celu,
        "selu": activation.selu,
        "silu": activation.silu,
        "mish": activation.mish,
        "softplus": activation.softplus,
        "log_sigmoid": activation.log_sigmoid,
        "log_sigmoid_forward": lambda x: (activation.log_sigmoid(x), x),
        "hardshrink": activation.hardshrink,
        "softshrink": activation.softshrink,
        "threshold": activation.threshold,
        "glu": activation.glu,
        "prelu": activation.prelu,
        "_prelu_kernel": lambda x, weight: prim.where(functions.gt(x, 0), x, x * weight),
    }
)


@aten("gelu")
def gelu(call: FxCall, x: Any, *, approximate: str = "none") -> Any:
    return activation.gelu(x, approximate)


@aten("elu")
def elu(call: FxCall, x: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Any:
    negative = prim.expm1(x * input_scale) * alpha
    return prim.where(functions.gt(x, 0), x, negative) * scale


@aten("add")
def add(call: FxCall, a: Any, b: Any, *, alpha: float = 1) -> Any:
    return prim.add(a, b if alpha == 1 else b * alpha)


@aten("sub")
def sub(call: FxCall, a: Any, b: Any, *, alpha: float = 1) -> Any:
    return prim.sub(a, b if alpha == 1 else b * alpha)


@aten("rsub")
def rsub(call: FxCall, a: Any, b: Any, *, alpha: float = 1) -> Any:
    return prim.sub(b, a if alpha == 1 else a * alpha)


@aten("mul")
def mul(call: FxCall, a: Any, b: Any) -> Any:
    return prim.mul(a, b)


@aten("div", "true_divide")
def div(call: FxCall, a: Any, b: Any, *, rounding_mode: str | None = None) -> Any:
    if rounding_mode == "floor":
        return prim.floor_div(a, b)
    if rounding_mode == "trunc":
        return prim.trunc(prim.div(a, b)) if call.dtype.is_float else _truncated(a, b)
    return prim.div(floating(a), b)


def _truncated(a: Any, b: Any) -> Any:
    """The quotient of integers towards zero."""
    quotient = prim.floor_div(a, b)
    inexact = prim.ne(quotient * b, a)
    return prim.where(functions.logical_and(inexact, prim.lt(quotient, 0)), quotient + 1, quotient)


@aten("floor_divide")
def floor_divide(call: FxCall, a: Any, b: Any) -> Any:
    return prim.floor_div(a, b)


@aten("pow")
def power(call: FxCall, a: Any, b: Any) -> Any:
    if call.dtype.is_float:
        a = prim.cast(a, dtype=call.dtype) if hasattr(a, "type") and dtype_of(a) != call.dtype else a
        if b == 2 and isinstance(b, (int, float)):
            return a * a
        if b == 3 and isinstance(b, (int, float)):
            return a * a * a
        if b == 0.5 and isinstance(b, float):
            return prim.sqrt(a)
    return prim.pow(a, b)


@aten("round")
def round_(call: FxCall, x: Any, *, decimals: int = 0) -> Any:
    if decimals == 0 or dtype_of(x).is_integer:
        return prim.round(x)
    scale = 10.0**decimals
    return prim.div(prim.round(x * scale), scale)


@aten("clamp", "clamp_min", "clamp_max", "clip")
def clamp(call: FxCall, x: Any, low: Any = None, high: Any = None, **named: Any) -> Any:
    name = call.node.target._opname  # type: ignore[union-attr]
    low, high = named.get("min", low), named.get("max", high)
    if name == "clamp_max":
        low, high = None, low if high is None else high
    x = prim.cast(x, dtype=call.dtype) if dtype_of(x) != call.dtype else x
    return functions.clamp(x, low, high)


@aten("where")
def where(call: FxCall, condition: Any, a: Any = None, b: Any = None) -> Any:
    if a is None or b is None:
        raise UnsupportedError("where with one argument has as many results as there are true elements")
    return prim.where(condition, a, b)


@aten("masked_fill")
def masked_fill(call: FxCall, x: Any, mask: Any, value: Any) -> Any:
    if hasattr(value, "type") and dtype_of(value) != dtype_of(x):
        value = prim.cast(value, dtype=dtype_of(x))
    return prim.where(mask, value, x)


@aten("_to_copy", "to")
def to_copy(call: FxCall, x: Any, *args: Any, dtype: Any = None, **rest: Any) -> Any:
    return prim.cast(x, dtype=call.dtype) if dtype_of(x) != call.dtype else x


@aten("prims.convert_element_type", "convert_element_type")
def convert_element_type(call: FxCall, x: Any, dtype: Any) -> Any:
    return prim.cast(x, dtype=dtype_of_torch(dtype))


@aten("addcmul")
def addcmul(call: FxCall, x: Any, a: Any, b: Any, *, value: float = 1) -> Any:
    return x + (a * b if value == 1 else a * b * value)


@aten("prims.fma")
def fma(call: FxCall, a: Any, b: Any, c: Any) -> Any:
    return a * b + c


@aten("_trilinear")
def trilinear(call: FxCall, a: Any, b: Any, c: Any, expand_a: Sequence[int], expand_b: Sequence[int],
              expand_c: Sequence[int], sums: Sequence[int], unroll: int = 1) -> Any:  # fmt: skip
    """A sum of products of three tensors, each with more dimensions of extent 1."""
    wide = []
    for x, dims in ((a, expand_a), (b, expand_b), (c, expand_c)):
        for dim in dims:
            x = unsqueeze(x, dim)
        wide.append(x)
    return prim.sum(wide[0] * wide[1] * wide[2], axes=tuple(sums))


@aten("addcdiv")
def addcdiv(call: FxCall, x: Any, a: Any, b: Any, *, value: float = 1) -> Any:
    return x + prim.div(a if value == 1 else a * value, b)
