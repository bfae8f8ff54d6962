"""C tree to text. The printer chooses characters only: no decisions, no knowledge of targets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from intaglio.native.tree import (
    Assign,
    Binary,
    Braces,
    Branch,
    Break,
    Cast,
    Conditional,
    Declare,
    Do,
    Element,
    Expr,
    Function,
    Invoke,
    Item,
    Loop,
    Member,
    Name,
    Number,
    Remark,
    Stmt,
    Struct,
    Type,
    Unary,
    Unit,
    Verbatim,
    WhileLoop,
)
from intaglio.shared.dtypes import DType

WIDTH = 110
INDENT = "    "

_LEVELS = (("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<", "<=", ">", ">="), ("<<", ">>"),
           ("+", "-"), ("*", "/", "%"))  # fmt: skip
_PRECEDENCE = {op: 4 + level for level, ops in enumerate(_LEVELS) for op in ops}
_CONDITIONAL, _UNARY, _POSTFIX = 3, 14, 15
_COMPARISONS = {"==", "!=", "<", "<=", ">", ">="}
_BITWISE = {"|", "^", "&", "<<", ">>"}


def print_unit(unit: Unit) -> str:
    """A whole C file."""
    parts = [comment(unit.doc)] if unit.doc else []
    if unit.headers:
        parts.append("\n".join(f"#include <{header}>" for header in unit.headers))
    parts += [print_item(item) for item in (*unit.helpers, *unit.kernels, *unit.drivers)]
    return "\n\n".join(parts) + "\n"


def print_item(item: Item) -> str:
    """One function, struct or verbatim part, without a newline at the end."""
    if isinstance(item, Verbatim):
        return item.text.strip("\n")
    if isinstance(item, Struct):
        fields = [f"{INDENT}{_declarator(f.type, f.name)};" for f in item.fields]
        return "\n".join([f"struct {item.name} {{", *fields, "};"])
    lines = [comment(item.doc)] if item.doc else []
    lines += _signature(item)
    lines += _statements(item.body, 1)
    return "\n".join([*lines, "}"])


def prototype(function: Function) -> str:
    """The declaration of a function, for a header."""
    text = "\n".join(_signature(function))
    return text.removesuffix(" {") + ";"


def _signature(function: Function) -> list[str]:
    params = [_declarator(p.type, p.name) for p in function.params] or ["void"]
    head = f"{'static ' if function.static else ''}{_declarator(function.result, function.name)}("
    return _filled(head, params, ") {", INDENT * 2)


def _filled(head: str, parts: list[str], tail: str, indent: str) -> list[str]:
    """`head`, parts separated by commas, `tail`, broken between parts where a line is full."""
    lines, line = [], head
    for position, part in enumerate(parts):
        piece = part + (", " if position + 1 < len(parts) else tail)
        if len(line) + len(piece.rstrip()) > WIDTH and line != head and line.strip():
            lines.append(line.rstrip())
            line = indent
        line += piece
    return [*lines, line]


def comment(lines: Iterable[str], indent: str = "") -> str:
    """A block comment; nothing in the text can end it."""
    safe = [escape_comment(part) for line in lines for part in line.splitlines() or [""]]
    if len(safe) == 1:
        return f"{indent}/* {safe[0]} */"
    return "\n".join(
        [f"{indent}/* {safe[0]}", *(f"{indent} * {line}".rstrip() for line in safe[1:]), f"{indent} */"]
    )


def escape_comment(text: str) -> str:
    """Text that may stand in a comment: printable ASCII that neither ends nor nests it, nor is a trigraph."""
    plain = "".join(c if " " <= c <= "~" else "?" if c != "\t" else " " for c in text)
    plain = plain.replace("*/", "* /").replace("/*", "/ *").replace("\\", "/")
    while "??" in plain:
        plain = plain.replace("??", "? ?")
    return plain


def print_type(type_: Type) -> str:
    return _declarator(type_, "")


def _declarator(type_: Type, name: str) -> str:
    text = f"{'const ' if type_.const else ''}{type_.name}"
    if type_.pointer:
        text += f" *{'restrict' if type_.restrict else ''}"
        return f"{text} {name}" if type_.restrict and name else text + name
    return f"{text} {name}" if name else text


def _statements(body: Iterable[Stmt], depth: int) -> Iterator[str]:
    for statement in body:
        yield from _statement(statement, depth)


def _statement(statement: Stmt, depth: int) -> Iterator[str]:
    indent = INDENT * depth
    if isinstance(statement, (Loop, WhileLoop, Branch)):
        yield from _compound(statement, depth)
    elif isinstance(statement, Remark):
        yield comment([statement.text], indent)
    elif isinstance(statement, Declare):
        align = f"_Alignas({statement.align}) " if statement.align else ""
        dims = "".join(f"[{n}]" for n in statement.dims)
        head = f"{indent}{align}{_declarator(statement.type, statement.name)}{dims}"
        yield from (
            [f"{head};"] if statement.value is None else _assigned(f"{head} = ", statement.value, indent)
        )
    elif isinstance(statement, Assign):
        one = isinstance(statement.value, Number) and statement.value.value == 1
        if one and statement.op in ("+=", "-="):
            yield f"{indent}{print_expr(statement.target)}{statement.op[0] * 2};"
        else:
            head = f"{indent}{print_expr(statement.target)} {statement.op} "
            yield from _assigned(head, statement.value, indent)
    elif isinstance(statement, Do):
        yield from _assigned(indent, statement.value, indent)
    elif isinstance(statement, Break):
        yield f"{indent}break;"
    elif statement.value is None:
        yield f"{indent}return;"
    else:
        yield from _assigned(f"{indent}return ", statement.value, indent)


def _compound(statement: Loop | WhileLoop | Branch, depth: int) -> Iterator[str]:
    indent = INDENT * depth
    if isinstance(statement, Loop):
        for hint in statement.hints:
            yield f"{indent}{print_expr(hint)}"
        yield f"{indent}for ({_loop_head(statement)}) {{"
        yield from _statements(statement.body, depth + 1)
    elif isinstance(statement, WhileLoop):
        yield from _assigned(f"{indent}while (", statement.condition, indent, ") {")
        yield from _statements(statement.body, depth + 1)
    else:
        yield from _assigned(f"{indent}if (", statement.condition, indent, ") {")
        yield from _statements(statement.then, depth + 1)
        if statement.orelse:
            yield f"{indent}}} else {{"
            yield from _statements(statement.orelse, depth + 1)
    yield f"{indent}}}"


def _loop_head(loop: Loop) -> str:
    step = f"{loop.var}++" if loop.step == 1 else f"{loop.var} += {loop.step}"
    start, stop = print_expr(loop.start), print_expr(loop.stop, _PRECEDENCE["<"] + 1)
    return f"{_declarator(loop.type, loop.var)} = {start}; {loop.var} < {stop}; {step}"


def _assigned(head: str, value: Expr, indent: str, tail: str = ";") -> list[str]:
    """`head value tail`, broken at the outermost operators or commas when it is too long for a line."""
    text = print_expr(value)
    if len(head) + len(text) + len(tail) <= WIDTH:
        return [head + text + tail]
    return _broken(head, _pieces(value), tail, indent + INDENT * 2)


def _pieces(value: Expr, least: int = 0) -> list[str]:
    """An expression in pieces between which a line may end: before operators, behind commas."""
    if isinstance(value, Binary):
        level = _PRECEDENCE[value.op]
        left, right = (_operand_pieces(value, child, level + k) for k, child in enumerate((value.a, value.b)))
        return _enclosed([*left, f"{value.op} {right[0]}", *right[1:]], level < least)
    if isinstance(value, Conditional):
        condition, a = _pieces(value.condition, _CONDITIONAL + 1), _pieces(value.a)
        b = _pieces(value.b, _CONDITIONAL)
        whole = [*condition, f"? {a[0]}", *a[1:], f": {b[0]}", *b[1:]]
        return _enclosed(whole, least > _CONDITIONAL)
    if isinstance(value, Invoke) and value.args:
        return _listed(f"{value.function}(", value.args, ")")
    if isinstance(value, Braces) and value.items:
        return _listed(f"({print_type(value.type)}){{" if value.type else "{", value.items, "}")
    return [print_expr(value, least)]


def _operand_pieces(parent: Binary, child: Expr, least: int) -> list[str]:
    if _gets_parentheses(parent, child):
        return _enclosed(_pieces(child), True)
    return _pieces(child, least)


def _enclosed(pieces: list[str], parentheses: bool) -> list[str]:
    if not parentheses:
        return pieces
    return [f"({pieces[0]}", *pieces[1:-1], f"{pieces[-1]})"] if len(pieces) > 1 else [f"({pieces[0]})"]


def _listed(opened: str, items: Iterable[Expr], closed: str) -> list[str]:
    groups = [_pieces(item) for item in items]
    groups[0][0] = opened + groups[0][0]
    for group in groups[:-1]:
        group[-1] += ","
    groups[-1][-1] += closed
    return [piece for group in groups for piece in group]


def _broken(head: str, pieces: list[str], tail: str, indent: str) -> list[str]:
    lines, line = [], head + pieces[0]
    for position, piece in enumerate(pieces[1:], 1):
        end = tail if position + 1 == len(pieces) else ""
        if len(line) + 1 + len(piece) + len(end) > WIDTH:
            lines.append(line)
            line = indent + piece
        else:
            line += " " + piece
    return [*lines, line + tail]


def print_expr(value: Expr, least: int = 0) -> str:
    """An expression; in parentheses when it binds less tightly than `least`."""
    text, level = _spell(value)
    return f"({text})" if level < least else text


def _spell(value: Expr) -> tuple[str, int]:
    """Text and precedence of an expression."""
    if isinstance(value, Number):
        text = literal(value.value, value.dtype)
        return text, _UNARY if text.startswith("-") else _POSTFIX
    if isinstance(value, Name):
        return value.text, _POSTFIX
    if isinstance(value, Binary):
        level = _PRECEDENCE[value.op]
        return f"{_operand(value, value.a, level)} {value.op} {_operand(value, value.b, level + 1)}", level
    if isinstance(value, Conditional):
        condition = print_expr(value.condition, _CONDITIONAL + 1)
        a, b = print_expr(value.a), print_expr(value.b, _CONDITIONAL)
        return f"{condition} ? {a} : {b}", _CONDITIONAL
    if isinstance(value, Unary):
        inner = print_expr(value.a, _UNARY)
        return (f"{value.op}({inner})" if inner.startswith(value.op) else value.op + inner), _UNARY
    if isinstance(value, Cast):
        return f"({print_type(value.type)}){print_expr(value.a, _UNARY)}", _UNARY
    return _spell_postfix(value), _POSTFIX


def _spell_postfix(value: Invoke | Element | Member | Braces) -> str:
    if isinstance(value, Invoke):
        return f"{value.function}({', '.join(print_expr(a) for a in value.args)})"
    if isinstance(value, Element):
        return f"{print_expr(value.base, _POSTFIX)}[{print_expr(value.index)}]"
    if isinstance(value, Member):
        return f"{print_expr(value.base, _POSTFIX)}->{value.name}"
    typed = f"({print_type(value.type)})" if value.type else ""
    return f"{typed}{{{', '.join(print_expr(a) for a in value.items)}}}"


def _operand(parent: Binary, child: Expr, least: int) -> str:
    return f"({print_expr(child)})" if _gets_parentheses(parent, child) else print_expr(child, least)


def _gets_parentheses(parent: Binary, child: Expr) -> bool:
    """Whether an operand gets parentheses that precedence does not ask for."""
    if isinstance(child, Binary):
        return _needs_care(parent.op, child.op)
    return isinstance(child, Unary) and child.op == "!" and parent.op in _COMPARISONS | _BITWISE


def _needs_care(parent: str, child: str) -> bool:
    """Whether compilers advise parentheses that precedence does not ask for."""
    if parent in _COMPARISONS:
        return child in _COMPARISONS
    if parent in ("&&", "||"):
        return child in ("&&", "||") and child != parent
    return parent in _BITWISE and child != parent


def literal(value: int | float | bool, dtype: DType) -> str:
    """A literal that has exactly the value (rounded to the type), as short as it can be."""
    if dtype.kind == "bool":
        return "true" if value else "false"
    if dtype.is_float:
        return _float_literal(float(value), dtype)
    value = int(value)
    if dtype.kind == "uint":
        return f"{value}{'u' if dtype.size <= 4 else 'ull'}" if dtype.size >= 4 else str(value)
    if value == -(2**31):
        return "INT32_MIN"
    if value == -(2**63):
        return "INT64_MIN"
    return str(value) if abs(value) < 2**31 else f"{value}ll"


def _float_literal(value: float, dtype: DType) -> str:
    if dtype.name not in ("f32", "f64"):
        return f"0x{int(np.asarray(value).astype(dtype.numpy).view(np.uint16)):04x}"
    if dtype.size == 4:
        with np.errstate(over="ignore"):
            value_ = np.float32(value)
        text = str(value_)
        value = float(value_)
    else:
        text = repr(value)
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    if "." not in text and "e" not in text:
        text += ".0"
    return text + ("f" if dtype.size == 4 else "")
