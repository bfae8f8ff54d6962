"""Guards that bounds decide: comparisons of indices that always or never hold become constants and vanish."""

from __future__ import annotations

from dataclasses import replace

from intaglio.loop.ir import Block, If, Reduce, Stmt, Store, While
from intaglio.loop.schedule.nest import with_bodies
from intaglio.ops.expr import Apply, Const, Expr, IndexValue
from intaglio.shared import dtypes
from intaglio.shared.index import IndexLike, interval

TRUE, FALSE = Const(True, dtypes.bool_), Const(False, dtypes.bool_)


def simplified(body: Block) -> Block:
    """The block without guards that the bounds of its variables decide."""
    made: list[Stmt] = []
    for statement in body:
        if isinstance(statement, (Store, Reduce)):
            made.append(replace(statement, value=simplified_value(statement.value)))
        elif isinstance(statement, If):
            condition = simplified_value(statement.condition)
            orelse = None if statement.orelse is None else simplified(statement.orelse)
            made.append(If(condition, simplified(statement.then), orelse))
        elif isinstance(statement, While):
            made.append(statement)
        else:
            made.append(with_bodies(statement, simplified))
    return Block(tuple(made))


def simplified_value(value: Expr) -> Expr:
    """The expression with guards that bounds decide left out."""
    if not isinstance(value, Apply):
        return value
    arguments = tuple(map(simplified_value, value.args))
    if value.fn in ("lt", "le", "eq", "ne"):
        decided = _compared(value.fn, *arguments)
        if decided is not None:
            return decided
    if value.fn == "where" and isinstance(arguments[0], Const):
        return arguments[1] if arguments[0].value else arguments[2]
    if value.fn in ("and", "or") and value.dtype == dtypes.bool_:
        whole, nothing = (FALSE, TRUE) if value.fn == "and" else (TRUE, FALSE)
        if whole in arguments:
            return whole
        if nothing in arguments:
            return arguments[1] if arguments[0] == nothing else arguments[0]
    if all(new is old for new, old in zip(arguments, value.args, strict=True)):
        return value
    return Apply(value.fn, arguments, value.dtype)


def _compared(fn: str, left: Expr, right: Expr) -> Const | None:
    """A comparison of two indices where their bounds decide it."""
    a, b = index_of(left), index_of(right)
    if a is None or b is None:
        return None
    low, high = interval(b - a)
    above = low is not None and low >= (1 if fn == "lt" else 0)
    below = high is not None and high < (1 if fn == "lt" else 0)
    if fn in ("lt", "le"):
        return TRUE if above else FALSE if below else None
    if low == high == 0:
        return TRUE if fn == "eq" else FALSE
    if (low is not None and low > 0) or (high is not None and high < 0):
        return FALSE if fn == "eq" else TRUE
    return None


def index_of(value: Expr) -> IndexLike | None:
    """The index that an expression is, if it is one."""
    if isinstance(value, IndexValue):
        return value.index
    if isinstance(value, Const) and value.dtype.is_integer:
        return int(value.value)
    return None


def conjuncts(condition: Expr) -> list[Expr]:
    """The parts of a condition that must all hold."""
    if isinstance(condition, Apply) and condition.fn == "and":
        return [part for argument in condition.args for part in conjuncts(argument)]
    return [condition]


def all_of(conditions: list[Expr]) -> Expr:
    """The condition that all hold."""
    kept = list(dict.fromkeys(c for c in conditions if c != TRUE))
    total = kept[0] if kept else TRUE
    for condition in kept[1:]:
        total = Apply("and", (total, condition), dtypes.bool_)
    return total
