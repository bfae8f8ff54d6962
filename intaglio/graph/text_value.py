"""Small parts of the graph text: names, dimensions, types, attributes and arrays, printed and read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import ml_dtypes
import numpy as np

from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import ParseError, UnsupportedError
from intaglio.shared.index import (
    Div,
    Dynamic,
    Index,
    IndexLike,
    Min,
    Mod,
    Product,
    Var,
    floordiv,
    maximum,
    minimum,
    mod,
    var_index,
)
from intaglio.shared.types import TensorType

MAX_DEPTH = 64
INLINE_SIZE = 16
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./]*")
_PLAIN_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RESERVED = {*dtypes.BY_NAME, "True", "False", "None", "inf", "nan", "min", "max", "fn", "as"}
WORDS: dict[str, object] = {"True": True, "False": False, "None": None, "inf": np.inf, "nan": np.nan}


def print_value_name(name: str) -> str:
    """`%name`, quoted when it has characters that could be misread."""
    return "%" + (name if _PLAIN_NAME.fullmatch(name) else json.dumps(name))


def print_word(name: str) -> str:
    """A name of an output, graph, attribute or region."""
    return name if _PLAIN_WORD.fullmatch(name) and name not in RESERVED else json.dumps(name)


def print_symbol(var: Var) -> str:
    return print_word(var.name) if print_word(var.name) == var.name else "$" + json.dumps(var.name)


def print_index(value: IndexLike) -> str:
    """A dimension; reading it back gives an equal one."""
    if isinstance(value, int):
        return str(value)
    parts = [_print_term(atom, coef) for atom, coef in value.terms]
    if value.const:
        parts.append(str(value.const))
    return " + ".join(parts)


def _print_term(atom: Any, coef: int) -> str:
    text = _print_atom(atom)
    return text if coef == 1 else f"{coef} * {text}"


def _print_atom(atom: Any) -> str:
    if isinstance(atom, Var):
        return print_symbol(atom)
    if isinstance(atom, (Div, Mod)):
        sign = "//" if isinstance(atom, Div) else "%"
        return f"(({print_index(atom.num)}) {sign} ({print_index(atom.den)}))"
    if isinstance(atom, Dynamic):
        raise UnsupportedError(f"dimension {atom} is known only inside of the program and has no text")
    if isinstance(atom, Product):
        return f"(({print_index(atom.a)}) * ({print_index(atom.b)}))"
    name = "min" if isinstance(atom, Min) else "max"
    return f"{name}({print_index(atom.a)}, {print_index(atom.b)})"


def print_type(type_: TensorType) -> str:
    return f"{type_.dtype}[{','.join(map(print_index, type_.shape))}]"


def print_attr(value: Any) -> str:
    """Plain data as an attribute; the bodies of loops are printed by the caller."""
    if isinstance(value, tuple):
        return "(" + ", ".join(map(print_attr, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, Index):
        return print_index(value)
    return print_type(value) if isinstance(value, TensorType) else repr(value)


def print_array(array: np.ndarray[Any, Any]) -> str | None:
    """The elements in row-major order, or None when the array is big or its bits would not survive."""
    if array.size > INLINE_SIZE:
        return None
    if array.dtype == ml_dtypes.bfloat16:
        parts = [repr(float(v)) for v in array.ravel()]
    else:
        parts = [str(v) for v in array.ravel()]
    again = np.array([_number(part, array.dtype) for part in parts], array.dtype)
    if again.tobytes() != np.ascontiguousarray(array).tobytes():
        return None
    return parts[0] if array.ndim == 0 else f"[{', '.join(parts)}]"


def _number(text: str, dtype: np.dtype[Any]) -> Any:
    if text in ("True", "False"):
        return text == "True"
    if not dtypes.from_numpy(dtype).is_float:
        return int(text)
    with np.errstate(over="ignore"):
        return dtype.type(float(text))


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    position: int


_TOKENS = re.compile(
    r"""(?P<space>\s+)|(?P<comment>\#[^\n]*)
    |(?P<value>%(?:[A-Za-z0-9_][A-Za-z0-9_./]*|"(?:[^"\\\n]|\\.)*"))|(?P<symbol>\$"(?:[^"\\\n]|\\.)*")
    |(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<number>\d+(?:\.(?!\.)\d*)?(?:[eE][+-]?\d+)?)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)|(?P<sign>->|//|\.\.|[-+*%()\[\]{},:=])""",
    re.VERBOSE | re.ASCII,
)


@dataclass
class Reader:
    """A cursor over the tokens of a text; comments are skipped unless asked for."""

    text: str
    symbols: dict[str, Var] = field(default_factory=dict)
    depth: int = 0

    def __post_init__(self) -> None:
        self.tokens: list[Token] = []
        position = 0
        while position < len(self.text):
            found = _TOKENS.match(self.text, position)
            if found is None:
                self.fail(f"unexpected character {self.text[position]!r}", position)
            if found.lastgroup != "space":
                self.tokens.append(Token(str(found.lastgroup), found.group(), position))
            position = found.end()
        self.tokens.append(Token("end", "", len(self.text)))
        self.at = 0

    def fail(self, message: str, position: int | None = None) -> NoReturn:
        """Raise a ParseError that shows the line and points at the place."""
        if position is None:
            position = self.peek().position
        number = self.text.count("\n", 0, position) + 1
        start = self.text.rfind("\n", 0, position) + 1
        end = self.text.find("\n", position)
        first = max(start, position - 60)
        shown = self.text[first : min(len(self.text) if end < 0 else end, first + 110)]
        raise ParseError(f"line {number}: {message}\n    {shown}\n    {' ' * (position - first)}^")

    def peek(self) -> Token:
        """The next token that is no comment."""
        while self.tokens[self.at].kind == "comment":
            self.at += 1
        return self.tokens[self.at]

    def next(self, *kinds: str) -> Token:
        token = self.peek()
        if kinds and token.kind not in kinds:
            self.fail(f"expected {' or '.join(kinds)}, found {token.text or 'the end'!r}")
        self.at += 1
        return token

    def accept(self, text: str) -> bool:
        """Step over the token if it is this one."""
        token = self.peek()
        if token.text != text or token.kind in ("string", "value", "symbol"):
            return False
        self.at += 1
        return True

    def expect(self, text: str) -> None:
        if not self.accept(text):
            self.fail(f"expected {text!r}, found {self.peek().text or 'the end'!r}")

    def comment_here(self) -> str | None:
        """The comment behind the last token, on its line."""
        token = self.tokens[self.at]
        if token.kind != "comment":
            return None
        before = self.tokens[self.at - 1]
        if "\n" in self.text[before.position + len(before.text) : token.position]:
            return None
        self.at += 1
        return token.text

    def enter(self) -> None:
        """One level of nesting deeper; `leave` ends it."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"nested more than {MAX_DEPTH} deep")

    def leave(self) -> None:
        self.depth -= 1

    def string(self, token: Token, skip: int = 0) -> str:
        try:
            return str(json.loads(token.text[skip:]))
        except ValueError:
            self.fail("a string that is not closed or has a wrong escape", token.position)

    def word(self) -> str:
        token = self.next("word", "string")
        return self.string(token) if token.kind == "string" else token.text

    def value_name(self) -> str:
        token = self.next("value")
        return self.string(token, 1) if token.text.startswith('%"') else token.text[1:]

    def integer(self) -> int:
        negative = self.accept("-")
        token = self.next("number")
        if not token.text.isdigit() or len(token.text) > 40:
            self.fail(f"expected a whole number, found {token.text[:40]!r}", token.position)
        return -int(token.text) if negative else int(token.text)

    def dtype(self) -> DType:
        token = self.next("word")
        if token.text not in dtypes.BY_NAME:
            self.fail(f"there is no element type {token.text!r}", token.position)
        return dtypes.BY_NAME[token.text]

    def type(self) -> TensorType:
        dtype = self.dtype()
        self.expect("[")
        shape: list[IndexLike] = []
        while not self.accept("]"):
            shape.append(self.index())
            if not self.accept(","):
                self.expect("]")
                break
        return TensorType(dtype, tuple(shape))

    def index(self) -> IndexLike:
        """A sum of terms."""
        self.enter()
        total = self.product()
        while self.peek().text in ("+", "-"):
            total = total + self.product() if self.next().text == "+" else total - self.product()
        self.leave()
        return total

    def product(self) -> IndexLike:
        value = self.factor()
        while self.peek().text in ("*", "//", "%"):
            position = self.peek().position
            sign, other = self.next().text, self.factor()
            if sign == "*":
                value = value * other
            elif other == 0:
                self.fail("division by zero", position)
            else:
                value = floordiv(value, other) if sign == "//" else mod(value, other)
        return value

    def factor(self) -> IndexLike:
        token = self.peek()
        if token.text in ("min", "max") and token.kind == "word":
            self.next()
            self.expect("(")
            a = self.index()
            self.expect(",")
            b = self.index()
            self.expect(")")
            return minimum(a, b) if token.text == "min" else maximum(a, b)
        if self.accept("("):
            value = self.index()
            self.expect(")")
            return value
        if token.kind in ("word", "symbol"):
            self.next()
            name = self.string(token, 1) if token.kind == "symbol" else token.text
            if name not in self.symbols:
                self.fail(f"there is no symbol {name!r}", token.position)
            return var_index(self.symbols[name])
        return self.integer()

    def attr(self) -> Any:
        """Plain data: a number, word, string, type, dimension or tuple."""
        token = self.peek()
        if token.kind == "string":
            return self.string(self.next())
        if token.kind == "word" and token.text in WORDS:
            self.next()
            return WORDS[token.text]
        if token.kind == "word" and token.text in dtypes.BY_NAME:
            if self.tokens[self.at + 1].text == "[":
                return self.type()
            return self.dtype()
        mark = self.at
        sign = -1.0 if self.accept("-") else 1.0
        token = self.peek()
        if token.text in ("inf", "nan") or (token.kind == "number" and not token.text.isdigit()):
            self.next()
            return sign * float(token.text)
        self.at = mark
        return self.tuple_() if self.is_tuple() else self.index()

    def is_tuple(self) -> bool:
        """Whether a parenthesis opens a tuple: it is empty or has a comma of its own."""
        if self.peek().text != "(" or self.peek().kind != "sign":
            return False
        depth = 0
        for token in self.tokens[self.at : self.at + 4096]:
            if token.kind == "sign" and token.text in "()[]{}":
                depth += 1 if token.text in "([{" else -1
                if depth == 0:
                    return self.tokens[self.at + 1].text == ")"
            elif depth == 1 and token.text == "," and token.kind == "sign":
                return True
        return False

    def tuple_(self) -> tuple[Any, ...]:
        self.enter()
        self.expect("(")
        parts = []
        while not self.accept(")"):
            parts.append(self.attr())
            if not self.accept(","):
                self.expect(")")
                break
        self.leave()
        return tuple(parts)

    def array(self, type_: TensorType) -> np.ndarray[Any, Any]:
        """Elements in row-major order, as many as the type has."""
        start = self.peek().position
        parts = []
        if type_.rank == 0:
            parts.append(self.number(type_.dtype))
        else:
            self.expect("[")
            while not self.accept("]"):
                parts.append(self.number(type_.dtype))
                if not self.accept(","):
                    self.expect("]")
                    break
        if type_.size != len(parts):
            self.fail(f"{print_type(type_)} has {type_.size} elements but {len(parts)} are written", start)
        try:
            return np.array(parts, type_.dtype.numpy).reshape(type_.shape)
        except OverflowError:
            self.fail(f"a number does not fit {type_.dtype}", start)

    def number(self, dtype: DType) -> Any:
        negative = self.accept("-")
        token = self.next("number", "word")
        try:
            return _number(("-" if negative else "") + token.text, dtype.numpy)
        except (ValueError, OverflowError):
            self.fail(f"{token.text[:40]!r} is no {dtype}", token.position)


def lookup_array(name: str, type_: TensorType, arrays: Mapping[str, Any]) -> np.ndarray[Any, Any] | None:
    """The array handed in for a constant or state, None when it is missing or of another type."""
    array = arrays.get(name)
    if array is None:
        return None
    array = np.asarray(array)
    fits = array.shape == type_.shape and array.dtype == type_.dtype.numpy
    return array if fits else None
