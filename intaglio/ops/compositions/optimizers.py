"""Updates of optimisers, as PyTorch has them: from a parameter, its gradient and its state to the new ones.

Hyper-parameters are numbers or tensors without dimensions; those that are None are not used.
"""

from __future__ import annotations

from typing import Any

from intaglio.ops.compositions.basic import convert, dtype_of
from intaglio.ops.dispatch import composition
from intaglio.ops.registry import prim

Hyper = Any


def _fit(value: Hyper, p: Any) -> Any:
    """A hyper-parameter in the parameter's type."""
    return value if isinstance(value, (int, float)) else convert(value, dtype_of(p))


def _mix(old: Any, new: Any, rate: Hyper, p: Any) -> Any:
    """`rate * old + (1 - rate) * new`; the difference is taken before the type gets narrower."""
    return _fit(rate, p) * old + _fit(1 - rate, p) * new


def _decayed(p: Any, g: Any, weight_decay: Hyper | None) -> Any:
    return g if weight_decay is None else g + _fit(weight_decay, p) * p


@composition
def sgd(
    p: Any,
    g: Any,
    velocity: Any = None,
    *,
    lr: Hyper,
    momentum: Hyper = None,
    intake: Hyper = 1.0,
    weight_decay: Hyper = None,
    nesterov: bool = False,
) -> tuple[Any, Any]:
    """Gradient descent; with a velocity, `velocity = momentum * velocity + intake * g`."""
    g = _decayed(p, g, weight_decay)
    if velocity is not None:
        taken = g if isinstance(intake, float) and intake == 1.0 else _fit(intake, p) * g
        velocity = _fit(momentum, p) * velocity + taken
        g = g + _fit(momentum, p) * velocity if nesterov else velocity
    return p - _fit(lr, p) * g, velocity


@composition
def rmsprop(
    p: Any,
    g: Any,
    square_avg: Any,
    grad_avg: Any = None,
    velocity: Any = None,
    *,
    lr: Hyper,
    alpha: Hyper,
    eps: Hyper,
    momentum: Hyper = None,
    weight_decay: Hyper = None,
) -> tuple[Any, ...]:
    """RMSprop; centred with a `grad_avg`. Gives the parameter and the three states."""
    g = _decayed(p, g, weight_decay)
    square_avg = _mix(square_avg, g * g, alpha, p)
    variance = square_avg
    if grad_avg is not None:
        grad_avg = _mix(grad_avg, g, alpha, p)
        variance = square_avg - grad_avg * grad_avg
    step = g / (prim.sqrt(variance) + _fit(eps, p))
    if velocity is not None:
        step = velocity = _fit(momentum, p) * velocity + step
    return p - _fit(lr, p) * step, square_avg, grad_avg, velocity


@composition
def adam_corrections(step: Any, beta1: Hyper, beta2: Hyper) -> tuple[Any, Any]:
    """`1 - beta1^step` and `sqrt(1 - beta2^step)`, in the type of `step`, which should be f64."""
    return 1 - prim.pow(beta1, step), prim.sqrt(1 - prim.pow(beta2, step))


@composition
def adam(
    p: Any,
    g: Any,
    exp_avg: Any,
    exp_avg_sq: Any,
    max_exp_avg_sq: Any = None,
    *,
    corrections: tuple[Any, Any],
    lr: Hyper,
    beta1: Hyper,
    beta2: Hyper,
    eps: Hyper,
    weight_decay: Hyper = None,
    decoupled: bool = False,
) -> tuple[Any, ...]:
    """Adam, and AdamW when the weight decay is decoupled. Gives the parameter and the three states."""
    if decoupled and weight_decay is not None:
        p = p * _fit(1 - lr * weight_decay, p)
    elif weight_decay is not None:
        g = _decayed(p, g, weight_decay)
    exp_avg = _mix(exp_avg, g, beta1, p)
    exp_avg_sq = _mix(exp_avg_sq, g * g, beta2, p)
    if max_exp_avg_sq is not None:
        max_exp_avg_sq = prim.max(max_exp_avg_sq, exp_avg_sq)
    largest = exp_avg_sq if max_exp_avg_sq is None else max_exp_avg_sq
    first, second = corrections
    denominator = prim.sqrt(largest) * _fit(1 / second, p) + _fit(eps, p)
    return p - _fit(lr / first, p) * (exp_avg / denominator), exp_avg, exp_avg_sq, max_exp_avg_sq
