"""Elementwise operators: most are one primitive under another name."""

from __future__ import annotations

from functools import partial, reduce
from typing import Any

import numpy as np

from intaglio.ops.compositions.basic import convert, reshape
from intaglio.ops.dispatch import type_of
from intaglio.ops.registry import lookup
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.readers.onnx.symbolic import apply_symbolic, is_symbolic, never_below
from intaglio.shared import dtypes
from intaglio.shared.errors import UnsupportedError

PRIMITIVES = {
    "Abs": "abs", "Acos": "acos", "Acosh": "acosh", "And": "and", "Asin": "asin", "Asinh": "asinh",
    "Atan": "atan", "Atanh": "atanh", "BitwiseAnd": "and", "BitwiseNot": "not", "BitwiseOr": "or",
    "BitwiseXor": "xor", "Ceil": "ceil", "Cos": "cos", "Cosh": "cosh", "Equal": "eq", "Erf": "erf",
    "Exp": "exp", "Floor": "floor", "Less": "lt", "LessOrEqual": "le", "Log": "log", "Neg": "neg",
    "Not": "not", "Or": "or", "Round": "round", "Sign": "sign", "Sin": "sin", "Sinh": "sinh",
    "Sqrt": "sqrt", "Tan": "tan", "Tanh": "tanh", "Where": "where", "Xor": "xor",
}  # fmt: skip


def apply(name: str, *operands: Operand, **attrs: Any) -> Any:
    """A primitive on operands that are no symbolic shapes."""
    if is_symbolic(*operands):
        raise UnsupportedError(
            f"{name} of a shape with symbols", hint="give the symbols fixed sizes with shapes="
        )
    return lookup(name)(*operands, **attrs)


def combine(call: OnnxCall, name: str, *operands: Operand) -> Any:
    """A primitive on operands, among them symbolic shapes."""
    if is_symbolic(*operands):
        return apply_symbolic(call.importer.graph, name, operands)
    return lookup(name)(*operands)


def _primitive(name: str, call: OnnxCall, *inputs: Operand) -> Any:
    return combine(call, name, *inputs)


for _onnx, _own in PRIMITIVES.items():
    onnx_op(_onnx)(partial(_primitive, _own))


@onnx_op("Add")
def add(call: OnnxCall, a: Operand, b: Operand) -> Any:
    return combine(call, "add", a, b)


@onnx_op("Sub")
def sub(call: OnnxCall, a: Operand, b: Operand) -> Any:
    return combine(call, "sub", a, b)


@onnx_op("Mul")
def mul(call: OnnxCall, a: Operand, b: Operand) -> Any:
    return combine(call, "mul", a, b)


@onnx_op("Div")
def div(call: OnnxCall, a: Operand, b: Operand) -> Any:
    """True division of floats; integers divide towards zero."""
    if is_symbolic(a, b):
        if never_below(0, a) and never_below(1, b):
            return combine(call, "floor_div", a, b)
        a, b = call.importer.as_value(a), call.importer.as_value(b)
    return apply("div", a, b) if type_of(a).dtype.is_float else truncated_division(a, b)


def truncated_division(a: Operand, b: Operand) -> Any:
    """Integer division that rounds towards zero: the remainder with the sign of `a` is taken off first."""
    return apply("floor_div", apply("sub", a, apply("fmod", a, b)), b)


@onnx_op("Pow")
def power(_: OnnxCall, a: Operand, b: Operand) -> Any:
    """The result has the type of the base; an integer to a float power is computed in f64. A cube is a
    product."""
    if is_symbolic(a, b):
        return apply("pow", a, b)
    base, exponent = type_of(a).dtype, type_of(b).dtype
    if base.is_float and isinstance(b, np.ndarray) and b.shape == () and b == 3:
        return apply("mul", apply("mul", a, a), a)
    if base.is_float:
        b = convert(b, dtypes.promote(base, exponent))
    elif exponent.is_float:
        a, b = convert(a, dtypes.f64), convert(b, dtypes.f64)
    return convert(apply("pow", a, b), base)


@onnx_op("Greater")
def greater(call: OnnxCall, a: Operand, b: Operand) -> Any:
    return combine(call, "lt", b, a)


@onnx_op("GreaterOrEqual")
def greater_or_equal(call: OnnxCall, a: Operand, b: Operand) -> Any:
    return combine(call, "le", b, a)


@onnx_op("Reciprocal")
def reciprocal(_: OnnxCall, x: Operand) -> Any:
    return apply("div", np.ones((), _numpy_dtype(x)), x)


def _numpy_dtype(x: Operand) -> Any:
    return type_of(x).dtype.numpy


@onnx_op("Mod")
def mod(call: OnnxCall, a: Operand, b: Operand) -> Any:
    return combine(call, "fmod" if call.attr("fmod", 0) else "remainder", a, b)


@onnx_op("Max")
def maximum(call: OnnxCall, *inputs: Operand) -> Any:
    return reduce(partial(combine, call, "max"), inputs)


@onnx_op("Min")
def minimum(call: OnnxCall, *inputs: Operand) -> Any:
    return reduce(partial(combine, call, "min"), inputs)


@onnx_op("Clip", 6)
def clip_6(call: OnnxCall, x: Operand) -> Any:
    dtype = _numpy_dtype(x)
    limits = [call.attr(name) for name in ("min", "max")]
    return clip(call, x, *(None if limit is None else np.asarray(limit, dtype) for limit in limits))


@onnx_op("Clip", 11)
def clip(_: OnnxCall, x: Operand, low: Operand | None = None, high: Operand | None = None) -> Any:
    """Where the limits cross, the upper one wins."""
    x = x if low is None else apply("max", x, reshape(low, ()))
    return x if high is None else apply("min", x, reshape(high, ()))


@onnx_op("Sum")
def sum_(call: OnnxCall, *inputs: Operand) -> Any:
    return reduce(partial(combine, call, "add"), inputs)


@onnx_op("Mean")
def mean(_: OnnxCall, *inputs: Operand) -> Any:
    total = reduce(partial(apply, "add"), inputs)
    return apply("div", total, np.asarray(len(inputs), _numpy_dtype(total)))
