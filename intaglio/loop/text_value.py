"""Expressions and indices as Python syntax: `ast.unparse` prints them and `ast.parse` reads them back.

a[i, k] * b[k, j] + 1.0            arithmetic is infix, everything else a call
where(index(i) < 3, a[i], f64(0))  literals are f32 (`1.0`), i64 (`1`) or bool, or say their type
x[load(n[i], 0, 8)]                an index read at run time, with its bounds
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

from intaglio.loop.ir import Buffer
from intaglio.ops.expr import FUNCTIONS, Apply, Const, Expr, IndexValue, Read
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import ParseError
from intaglio.shared.index import (
    Atom,
    Div,
    Dynamic,
    IndexLike,
    Min,
    Mod,
    Product,
    Var,
    maximum,
    minimum,
    var_index,
)

BINARY: dict[str, type[ast.operator]] = {
    "add": ast.Add,
    "sub": ast.Sub,
    "mul": ast.Mult,
    "div": ast.Div,
    "and": ast.BitAnd,
    "or": ast.BitOr,
    "xor": ast.BitXor,
    "shl": ast.LShift,
    "shr": ast.RShift,
}
COMPARE: dict[str, type[ast.cmpop]] = {"lt": ast.Lt, "le": ast.LtE, "eq": ast.Eq, "ne": ast.NotEq}
_BINARY_NAMES = {made: name for name, made in BINARY.items()}
_COMPARE_NAMES = {made: name for name, made in COMPARE.items()}
_FLOATS = {"nan": float("nan"), "inf": float("inf"), "ninf": float("-inf")}


def print_value(value: Expr) -> str:
    """The text of an expression."""
    return ast.unparse(_value(value))


def print_index(index: IndexLike) -> str:
    """The text of an index."""
    return ast.unparse(_index(index))


def print_place(buffer: Buffer, index: tuple[IndexLike, ...]) -> str:
    """The text of an element of a buffer."""
    return ast.unparse(_place(buffer, index))


def parse_expression(text: str) -> ast.expr:
    """The syntax tree of one expression, for a `ValueReader`."""
    return ast.parse(text, mode="eval").body


def _call(name: str, *arguments: ast.expr) -> ast.expr:
    return ast.Call(ast.Name(name), list(arguments), [])


def _place(buffer: Buffer, index: tuple[IndexLike, ...]) -> ast.expr:
    parts = [_index(part) for part in index]
    key = parts[0] if len(parts) == 1 else ast.Tuple(parts)
    return ast.Subscript(ast.Name(buffer.name), key)


def _value(value: Expr) -> ast.expr:
    if isinstance(value, Const):
        return _const(value)
    if isinstance(value, Read):
        assert isinstance(value.source, Buffer)
        place = _place(value.source, value.index)
        plain = value.dtype == value.source.dtype
        return place if plain else _call(f"read_{value.dtype}", place)
    if isinstance(value, IndexValue):
        name = "index" if value.dtype == dtypes.i64 else f"index_{value.dtype}"
        return _call(name, _index(value.index))
    assert isinstance(value, Apply)
    arguments = [_value(argument) for argument in value.args]
    if value.fn in BINARY:
        return ast.BinOp(arguments[0], BINARY[value.fn](), arguments[1])
    if value.fn in COMPARE:
        return ast.Compare(arguments[0], [COMPARE[value.fn]()], [arguments[1]])
    if value.fn == "not":
        return ast.UnaryOp(ast.Invert(), arguments[0])
    name = f"{value.fn}_{value.dtype}" if value.fn in ("cast", "bitcast") else value.fn
    return _call(name, *arguments)


def _const(const: Const) -> ast.expr:
    value, dtype = const.value, const.dtype
    if dtype == dtypes.bool_:
        return ast.Constant(bool(value))
    number: ast.expr
    if dtype.is_float:
        special = next((n for n, v in _FLOATS.items() if value == v or (n == "nan" and value != value)), None)
        number = ast.Name(special) if special else _number(float(value))
    else:
        number = _number(int(value))
    plain = dtype == dtypes.i64 or (dtype == dtypes.f32 and isinstance(number, (ast.Constant, ast.UnaryOp)))
    return number if plain else _call(str(dtype), number)


def _number(value: float) -> ast.expr:
    if str(value).startswith("-"):
        return ast.UnaryOp(ast.USub(), ast.Constant(-value))
    return ast.Constant(value)


def _index(index: IndexLike) -> ast.expr:
    if isinstance(index, int):
        return _number(index)
    total: ast.expr | None = None
    for atom, coef in index.terms:
        term = _atom(atom)
        if abs(coef) != 1:
            term = ast.BinOp(ast.Constant(abs(coef)), ast.Mult(), term)
        if total is None:
            total = term if coef > 0 else ast.UnaryOp(ast.USub(), term)
        else:
            total = ast.BinOp(total, ast.Add() if coef > 0 else ast.Sub(), term)
    assert total is not None
    if index.const:
        total = ast.BinOp(total, ast.Add() if index.const > 0 else ast.Sub(), ast.Constant(abs(index.const)))
    return total


def _atom(atom: Atom) -> ast.expr:
    if isinstance(atom, Var):
        return ast.Name(atom.name)
    if isinstance(atom, Dynamic):
        assert isinstance(atom.value, Expr)
        return _call("load", _value(atom.value), ast.Constant(atom.lo), ast.Constant(atom.hi))
    if isinstance(atom, Div):
        return ast.BinOp(_index(atom.num), ast.FloorDiv(), _index(atom.den))
    if isinstance(atom, Mod):
        return ast.BinOp(_index(atom.num), ast.Mod(), _index(atom.den))
    if isinstance(atom, Product):
        return ast.BinOp(_index(atom.a), ast.Mult(), _index(atom.b))
    return _call("min" if isinstance(atom, Min) else "max", _index(atom.a), _index(atom.b))


class ValueReader:
    """Reads expressions back; `buffers` and `variables` are what names mean at this place."""

    def __init__(self, buffers: Mapping[str, Buffer], variables: Mapping[str, Var]) -> None:
        self.buffers = buffers
        self.variables = variables

    def value(self, node: ast.expr) -> Expr:
        if isinstance(node, (ast.Constant, ast.UnaryOp)) and not _is_invert(node):
            number = _literal(node)
            if isinstance(number, bool):
                return Const(number, dtypes.bool_)
            return Const(number, dtypes.f32 if isinstance(number, float) else dtypes.i64)
        if isinstance(node, ast.Subscript):
            buffer, index = self.place(node)
            return Read(buffer, index, buffer.dtype)
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY_NAMES:
            return _apply(_BINARY_NAMES[type(node.op)], [self.value(node.left), self.value(node.right)])
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            return _apply(
                _COMPARE_NAMES[type(node.ops[0])], [self.value(node.left), self.value(node.comparators[0])]
            )
        if isinstance(node, ast.UnaryOp):
            return _apply("not", [self.value(node.operand)])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return self.call(node.func.id, node.args)
        raise ParseError(f"{ast.unparse(node)!r} is no expression of the loop level")

    def call(self, name: str, arguments: list[ast.expr]) -> Expr:
        base, _, suffix = name.rpartition("_")
        dtype = dtypes.BY_NAME.get(suffix)
        if name in dtypes.BY_NAME:
            return Const(_literal(arguments[0]), dtypes.BY_NAME[name])
        if name == "index" or (base == "index" and dtype):
            return IndexValue(self.index(arguments[0]), dtype or dtypes.i64)
        if base == "read" and dtype:
            buffer, index = self.place(arguments[0])
            return Read(buffer, index, dtype)
        values = [self.value(argument) for argument in arguments]
        if base in ("cast", "bitcast") and dtype:
            return Apply(base, tuple(values), dtype)
        return _apply(name, values)

    def place(self, node: ast.expr) -> tuple[Buffer, tuple[IndexLike, ...]]:
        if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Name):
            raise ParseError(f"{ast.unparse(node)!r} is no element of a buffer")
        if node.value.id not in self.buffers:
            raise ParseError(f"{node.value.id} in {ast.unparse(node)!r} is no buffer declared before")
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return self.buffers[node.value.id], tuple(self.index(part) for part in parts)

    def index(self, node: ast.expr) -> IndexLike:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.Name):
            if node.id not in self.variables:
                raise ParseError(f"{node.id} is no loop variable or symbol here")
            return var_index(self.variables[node.id])
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return self.index(node.operand) * -1
        if isinstance(node, ast.BinOp):
            return _combine(node, self.index(node.left), self.index(node.right))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return self.index_call(node.func.id, node.args)
        raise ParseError(f"{ast.unparse(node)!r} is no index")

    def index_call(self, name: str, arguments: list[ast.expr]) -> IndexLike:
        if name == "load" and len(arguments) == 3:
            lo, hi = (_literal_or_none(argument) for argument in arguments[1:])
            return var_index(Dynamic(self.value(arguments[0]), lo, hi))
        if name in ("min", "max") and len(arguments) == 2:
            a, b = self.index(arguments[0]), self.index(arguments[1])
            return minimum(a, b) if name == "min" else maximum(a, b)
        raise ParseError(f"{name} is no function of indices")


def _combine(node: ast.BinOp, a: IndexLike, b: IndexLike) -> IndexLike:
    if isinstance(node.op, ast.Add):
        return a + b
    if isinstance(node.op, ast.Sub):
        return a - b
    if isinstance(node.op, ast.Mult):
        return a * b
    if isinstance(node.op, ast.FloorDiv):
        return a // b
    if isinstance(node.op, ast.Mod):
        return a % b
    raise ParseError(f"{ast.unparse(node)!r} is no index")


def _is_invert(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert)


def _literal(node: ast.expr) -> int | float | bool:
    if isinstance(node, ast.Name) and node.id in _FLOATS:
        return _FLOATS[node.id]
    value = ast.literal_eval(node)
    if not isinstance(value, (int, float)):
        raise ParseError(f"{ast.unparse(node)!r} is no number")
    return value


def _literal_or_none(node: ast.expr) -> int | None:
    value = ast.literal_eval(node)
    if value is not None and not isinstance(value, int):
        raise ParseError(f"{ast.unparse(node)!r} is no bound")
    return value


def _apply(fn: str, values: list[Expr]) -> Expr:
    if fn == "where" and len(values) == 3:
        return Apply(fn, tuple(values), values[1].dtype)
    if fn not in FUNCTIONS or not values:
        raise ParseError(f"{fn} is no function of the loop level")
    dtype: DType = dtypes.bool_ if FUNCTIONS[fn].result == "bool" else values[-1].dtype
    return Apply(fn, tuple(values), dtype)
