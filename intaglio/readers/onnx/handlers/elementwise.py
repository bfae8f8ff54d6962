"""Elementwise operators: most are one primitive under another name."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import numpy as np

from intaglio.ops.dispatch import type_of
from intaglio.ops.registry import lookup
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op

PRIMITIVES = {
    "Abs": "abs", "Acos": "acos", "Acosh": "acosh", "And": "and", "Asin": "asin", "Asinh": "asinh",
    "Atan": "atan", "Atanh": "atanh", "BitwiseAnd": "and", "BitwiseNot": "not", "BitwiseOr": "or",
    "BitwiseXor": "xor", "Ceil": "ceil", "Cos": "cos", "Cosh": "cosh", "Equal": "eq", "Erf": "erf",
    "Exp": "exp", "Floor": "floor", "Less": "lt", "LessOrEqual": "le", "Log": "log", "Neg": "neg",
    "Not": "not", "Or": "or", "Pow": "pow", "Round": "round", "Sign": "sign", "Sin": "sin", "Sinh": "sinh",
    "Sqrt": "sqrt", "Tan": "tan", "Tanh": "tanh", "Where": "where", "Xor": "xor",
}  # fmt: skip
OBJECT_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "floor_div": operator.floordiv,
}  # fmt: skip


def is_symbolic(*operands: Operand | None) -> bool:
    """Whether a symbolic shape is among the operands."""
    return any(isinstance(x, np.ndarray) and x.dtype == object for x in operands)


def apply(name: str, *operands: Operand, **attrs: Any) -> Any:
    """A primitive on operands; symbolic shapes are computed with Python's own arithmetic."""
    if is_symbolic(*operands):
        return np.asarray(OBJECT_ARITHMETIC[name](*operands), object)
    return lookup(name)(*operands, **attrs)


def _primitive(name: str, _: OnnxCall, *inputs: Operand) -> Any:
    return apply(name, *inputs)


for _onnx, _own in PRIMITIVES.items():
    onnx_op(_onnx)(partial(_primitive, _own))


@onnx_op("Add")
def add(_: OnnxCall, a: Operand, b: Operand) -> Any:
    return apply("add", a, b)


@onnx_op("Sub")
def sub(_: OnnxCall, a: Operand, b: Operand) -> Any:
    return apply("sub", a, b)


@onnx_op("Mul")
def mul(_: OnnxCall, a: Operand, b: Operand) -> Any:
    return apply("mul", a, b)


@onnx_op("Div")
def div(_: OnnxCall, a: Operand, b: Operand) -> Any:
    """True division of floats; integers divide towards zero."""
    if is_symbolic(a, b):
        return apply("floor_div", a, b)
    return apply("div", a, b) if type_of(a).dtype.is_float else truncated_division(a, b)


def truncated_division(a: Operand, b: Operand) -> Any:
    """Integer division that rounds towards zero: the remainder with the sign of `a` is taken off first."""
    return apply("floor_div", apply("sub", a, apply("fmod", a, b)), b)


@onnx_op("Greater")
def greater(_: OnnxCall, a: Operand, b: Operand) -> Any:
    return apply("lt", b, a)


@onnx_op("GreaterOrEqual")
def greater_or_equal(_: OnnxCall, a: Operand, b: Operand) -> Any:
    return apply("le", b, a)


@onnx_op("Reciprocal")
def reciprocal(_: OnnxCall, x: Operand) -> Any:
    return apply("div", np.ones((), _numpy_dtype(x)), x)


def _numpy_dtype(x: Operand) -> Any:
    return type_of(x).dtype.numpy


@onnx_op("Mod")
def mod(call: OnnxCall, a: Operand, b: Operand) -> Any:
    return apply("fmod" if call.attr("fmod", 0) else "remainder", a, b)


@onnx_op("Max")
def maximum(_: OnnxCall, *inputs: Operand) -> Any:
    return reduce(partial(apply, "max"), inputs)


@onnx_op("Min")
def minimum(_: OnnxCall, *inputs: Operand) -> Any:
    return reduce(partial(apply, "min"), inputs)


@onnx_op("Sum")
def sum_(_: OnnxCall, *inputs: Operand) -> Any:
    return reduce(partial(apply, "add"), inputs)


@onnx_op("Mean")
def mean(_: OnnxCall, *inputs: Operand) -> Any:
    total = reduce(partial(apply, "add"), inputs)
    return apply("div", total, np.asarray(len(inputs), _numpy_dtype(total)))
