"""Gradients and updates of optimisers inside of a model (`ai.onnx.preview.training`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from intaglio.graph import grad
from intaglio.graph.ir import Value
from intaglio.ops.compositions.basic import convert, dtype_of, full_like, reshape
from intaglio.ops.dispatch import composition
from intaglio.ops.registry import prim
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared.errors import ArgumentError, UnsupportedError

DOMAIN = "ai.onnx.preview.training"
Update = Callable[..., tuple[Any, ...]]


@composition
def adagrad(call: OnnxCall, rate: Any, step: Any, x: Any, g: Any, squares: Any) -> tuple[Any, ...]:
    """The parameter and the sum of squared gradients after a step."""
    rate = rate / (1 + convert(step, dtype_of(x)) * call.attr("decay_factor", 0.0))
    g = x * call.attr("norm_coefficient", 0.0) + g
    squares = squares + g * g
    return x - rate * g / (prim.sqrt(squares) + call.attr("epsilon", 0.0)), squares


@composition
def adam(call: OnnxCall, rate: Any, step: Any, x: Any, g: Any, average: Any, squares: Any) -> tuple[Any, ...]:
    """The parameter and both running averages after a step; before the first they are not corrected."""
    alpha, beta = call.attr("alpha", 0.9), call.attr("beta", 0.999)
    g = x * call.attr("norm_coefficient", 0.0) + g
    average = average * alpha + g * (1 - alpha)
    squares = squares * beta + g * g * (1 - beta)
    count = convert(step, dtype_of(x))
    safe = prim.max(count, 1)
    correction = prim.sqrt(1 - prim.pow(beta, safe)) / (1 - prim.pow(alpha, safe))
    rate = prim.where(prim.lt(0, count), rate * correction, rate)
    moved = x - rate * average / (prim.sqrt(squares) + call.attr("epsilon", 0.0))
    return moved * (1 - call.attr("norm_coefficient_post", 0.0)), average, squares


@composition
def momentum(call: OnnxCall, rate: Any, step: Any, x: Any, g: Any, velocity: Any) -> tuple[Any, ...]:
    """The parameter and its velocity after a step; the first one takes the whole gradient."""
    alpha, mode = call.required("alpha"), call.required("mode")
    if mode not in ("standard", "nesterov"):
        raise ArgumentError(f"Momentum: mode {mode!r} is neither standard nor nesterov")
    g = x * call.required("norm_coefficient") + g
    intake = prim.where(prim.lt(0, step), call.required("beta"), 1.0)
    velocity = velocity * alpha + convert(intake, dtype_of(x)) * g
    return x - rate * (g + velocity * alpha if mode == "nesterov" else velocity), velocity


UPDATES: dict[str, tuple[Update, int]] = {
    "Adagrad": (adagrad, 3),
    "Adam": (adam, 4),
    "Momentum": (momentum, 3),
}


def _optimise(
    update: Update, each: int, call: OnnxCall, rate: Operand, step: Operand, *tensors: Operand
) -> Any:
    """One update for many parameters: operands and results are grouped by role."""
    count = len(tensors) // each
    if not count or len(tensors) % each:
        raise ArgumentError(
            f"{call.node.op_type}: {len(tensors)} tensors, {each} for each parameter expected"
        )
    rate, step = reshape(rate, ()), reshape(step, ())
    moved = [update(call, rate, step, *tensors[k::count]) for k in range(count)]
    return tuple(result for role in zip(*moved, strict=True) for result in role)


for _name, (_update, _each) in UPDATES.items():
    onnx_op(_name, domain=DOMAIN)(partial(_optimise, _update, _each))


@onnx_op("Gradient", domain=DOMAIN)
def gradient(call: OnnxCall, *inputs: Operand) -> Any:
    """Derivatives of the (sum of the) tensor named `y` by those named `xs`, where the model computed it."""
    names, importer = list(call.required("xs")), call.importer
    target = importer.lookup(call.required("y"), "output that Gradient derives")
    operands = [importer.lookup(name, "input that Gradient derives by") for name in names]
    fixed = [importer.lookup(name, "input of Gradient") for name in call.attr("zs") or ()]
    if not isinstance(target, Value) or not all(isinstance(x, Value) for x in operands):
        raise UnsupportedError(
            "Gradient by what is known when compiling", hint="make it an input of the model"
        )
    if any(a is not b for a, b in zip([*operands, *fixed], inputs, strict=True)):
        raise UnsupportedError(
            "Gradient at other values than those the model computed with",
            hint="give the tensors named by xs and zs as its inputs",
        )
    return tuple(grad.gradient(importer.graph, target, operands, full_like(target, 1.0)))
