"""Index notation: `c[i,j] += a[i,k] * b[k,j]` is valid Python, so `ast.parse` is the parser.

A formula names the operands, the axes they share and how elements combine. `*i` is a list of axes of
any length. From it come arity, the shape rule and its error message, and the element (or, when an
axis is missing on the left, the reduction term) as a function of indices.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from intaglio.ops import expr
from intaglio.ops.expr import Expr
from intaglio.shared.errors import ShapeError
from intaglio.shared.index import IndexLike

Axes = tuple[str, ...]
_AUGMENTED = {ast.Add: "add", ast.Mult: "mul"}


@dataclass(frozen=True)
class Formula:
    """A parsed formula: `axes` gives for the result and each operand its axis names in order."""

    text: str
    result: str
    operands: tuple[str, ...]
    axes: Mapping[str, Axes]
    combine: str | None
    code: Any

    @property
    def reduced(self) -> Axes:
        """Axes of the operands that the result does not have, in order of appearance."""
        kept = set(self.axes[self.result])
        names = [a for operand in self.operands for a in self.axes[operand] if a not in kept]
        return tuple(dict.fromkeys(names))

    def element(
        self, binding: Mapping[str, Sequence[IndexLike] | IndexLike], operands: Sequence[Any]
    ) -> Expr:
        """The right-hand side at the given values of the axes."""
        env: dict[str, Any] = {**binding, **dict(zip(self.operands, operands, strict=True))}
        value = eval(self.code, _functions(len(expr.FUNCTIONS)), env)
        assert isinstance(value, Expr)
        return value


@cache
def _functions(count: int) -> dict[str, Any]:
    """What a formula may call: every scalar function (`count` of them have been declared) and `where`."""
    named = {name: partial(expr.apply, name) for name in expr.FUNCTIONS}
    return {"__builtins__": {}, **named, "where": expr.where}


@cache
def parse(text: str) -> Formula:
    """Parse index notation; a formula that is not understood is a mistake in a declaration."""
    statement = ast.parse(text).body[0]
    combine = None
    target: ast.expr
    if isinstance(statement, ast.AugAssign):
        target, value = statement.target, statement.value
        combine = _AUGMENTED[type(statement.op)]
    else:
        assert isinstance(statement, ast.Assign)
        target, value = statement.targets[0], statement.value
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Subscript):
            assert isinstance(value.func.value, ast.Name)
            combine, value = value.func.value.id, value.args[0]
    result, result_axes = _subscript(target)
    reads = [node for node in ast.walk(value) if isinstance(node, ast.Subscript)]
    found: dict[str, Axes] = {}
    for node in sorted(reads, key=lambda node: node.col_offset):
        name, axes = _subscript(node)
        if found.setdefault(name, axes) != axes:
            raise ValueError(f"{text}: operand {name} is read at two places")
    operands = tuple(found)
    code = compile(ast.Expression(value), text, "eval")
    return Formula(text, result, operands, {result: result_axes, **found}, combine, code)


def _subscript(node: ast.AST) -> tuple[str, Axes]:
    assert isinstance(node, ast.Subscript)
    assert isinstance(node.value, ast.Name)
    items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    names = []
    for item in items:
        if isinstance(item, ast.Starred):
            assert isinstance(item.value, ast.Name)
            names.append("*" + item.value.id)
        else:
            assert isinstance(item, ast.Name)
            names.append(item.id)
    return node.value.id, tuple(names)


def bind_extents(
    op: str,
    formula: Formula,
    shapes: Sequence[tuple[IndexLike, ...]],
) -> dict[str, tuple[IndexLike, ...]]:
    """The extents of every axis (list) of the formula from the shapes of the operands.

    Raises:
        ShapeError: ranks or extents disagree; the message names the axis and both operands.
    """
    if len(shapes) != len(formula.operands):
        raise ShapeError(
            f"{op}: takes {len(formula.operands)} operands, got {len(shapes)}   [{formula.text}]"
        )
    extents: dict[str, tuple[IndexLike, ...]] = {}
    origin: dict[str, str] = {}
    for name, shape in zip(formula.operands, shapes, strict=True):
        shown = f"{name}{list(shape)}"
        for axis, extent in _split_shape(op, formula, name, shape).items():
            if axis not in extents:
                extents[axis], origin[axis] = extent, shown
            elif extents[axis] != extent:
                raise ShapeError(_disagreement(op, formula, axis, extents[axis], origin[axis], extent, shown))
    return extents


def _split_shape(
    op: str, formula: Formula, name: str, shape: tuple[IndexLike, ...]
) -> dict[str, tuple[IndexLike, ...]]:
    axes = formula.axes[name]
    single = sum(not axis.startswith("*") for axis in axes)
    lists = len(axes) - single
    spare = len(shape) - single
    if spare < 0 or (lists == 0 and spare):
        raise ShapeError(
            f"{op}: {name} has rank {len(shape)} but {name}[{', '.join(axes)}] "
            f"wants {'at least ' if lists else ''}{single}   [{formula.text}]"
        )
    result, position = {}, 0
    for axis in axes:
        width = spare if axis.startswith("*") else 1
        result[axis] = shape[position : position + width]
        position += width
    return result


def _disagreement(
    op: str,
    formula: Formula,
    axis: str,
    first: tuple[IndexLike, ...],
    first_at: str,
    second: tuple[IndexLike, ...],
    second_at: str,
) -> str:
    if axis.startswith("*"):
        return (
            f"{op}: shapes {list(first)} in {first_at} and {list(second)} in {second_at} differ"
            f"   [{formula.text}]"
        )
    return f"{op}: axis {axis} is {first[0]} in {first_at} but {second[0]} in {second_at}   [{formula.text}]"


def binding(names: Sequence[str], values: Sequence[Sequence[IndexLike]]) -> dict[str, Any]:
    """Axis names bound to index values for `Formula.element`: a list for `*i`, one index for `i`."""
    return {
        name.lstrip("*"): tuple(value) if name.startswith("*") else value[0]
        for name, value in zip(names, values, strict=True)
    }


ElementFunction = Callable[..., Expr]
