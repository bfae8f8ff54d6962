"""The scalar operators: how each is written in a graph, what it computes and what flows back through it.

`data` is the meaning, in Python's own arithmetic: what Python raises is part of it. `flow` is what
`backward` adds to the gradient of each operand, as expressions of `a` and `b` (the operands' data), `y`
(the result's), `k` (the exponent) and `g` (the result's gradient). Interpreter, compiler and C follow both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

Flow: TypeAlias = "str | tuple[str | Flow, ...]"


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator of a graph: the name in `_op`, the number in columns, operands, meaning and flows."""

    name: str
    code: int
    arity: int
    data: Callable[..., Any]
    flow: tuple[Flow, ...]
    partial: bool = False


LEAF, ADD, MUL, POW, RELU, EXP, LOG, TANH, MAX = range(9)
POSITIVE, RECIPROCAL, ONE_MINUS, LEFT_WINS, RIGHT_WINS, UPDATE, FOLD, COPY = range(9, 17)

OPERATORS: tuple[Operator, ...] = (
    Operator("+", ADD, 2, lambda a, b: a + b, ("g", "g")),
    Operator("*", MUL, 2, lambda a, b: a * b, (("mul", "b", "g"), ("mul", "a", "g"))),
    Operator("**", POW, 1, lambda a, k: a**k, (("mul", ("mul", "k", ("pow", "a")), "g"),), partial=True),
    Operator("ReLU", RELU, 1, lambda a: 0 if a < 0 else a, (("mul", ("positive", "y"), "g"),)),
    Operator("exp", EXP, 1, math.exp, (("mul", "y", "g"),), partial=True),
    Operator("log", LOG, 1, math.log, (("mul", ("reciprocal", "a"), "g"),), partial=True),
    Operator("tanh", TANH, 1, math.tanh, (("mul", ("one_minus", ("square", "y")), "g"),)),
    Operator("max", MAX, 2, max, (("left_wins", "a", "b", "g"), ("right_wins", "a", "b", "g"))),
)
"""In a `pow` flow the exponent is one less than the operator's; `square` is a power of 2."""

BY_NAME = {operator.name: operator for operator in OPERATORS}
BY_CODE = {operator.code: operator for operator in OPERATORS}
PARTIAL = frozenset(operator.code for operator in OPERATORS if operator.partial) | {RECIPROCAL}
"""Where Python raises while C gives an infinity or NaN."""

ALIASES = {"relu": "ReLU", "Max": "max"}


def find(op: str) -> Operator | None:
    """The operator an `_op` text means; None for a leaf's or an unknown one."""
    if op.startswith("**"):
        return BY_NAME["**"]
    return BY_NAME.get(ALIASES.get(op, op))


def exponent_of(op: str) -> int | float:
    """The exponent in `**2`, `**-0.5`."""
    text = op[2:]
    try:
        return int(text)
    except ValueError:
        return float(text)
