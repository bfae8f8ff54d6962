"""Records of a schedule: one frozen dataclass per verb, printed as one line and read back.

    split(i, 16) -> i0, i1
    split(p, 9, balanced) -> p0, p1
    reorder(i0, j0, i1, j1)
    pack(w, [1 // 64, 0, 1 % 64]) -> w_panels

A field without default is an argument by position, a true field stands as its name, any other option as
`name=value`; `into` holds the names behind the arrow. A loop is named by its variable, and every loop of
that name is meant (`j[1]`: only the second of them).
"""

from __future__ import annotations

import ast
from dataclasses import MISSING, Field, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from intaglio.shared.errors import ArgumentError, ParseError

if TYPE_CHECKING:
    from intaglio.loop.schedule.nest import Nest

VERBS: dict[str, type[Record]] = {}


@dataclass(frozen=True)
class Record:
    """One step of a schedule. `spread`: its only argument is a list, written without brackets."""

    verb: ClassVar[str]
    spread: ClassVar[bool] = False
    made: ClassVar[tuple[int, ...]] = (0,)
    """How many names may stand behind the arrow."""

    def __init_subclass__(cls, verb: str = "") -> None:
        cls.verb = verb
        VERBS[verb] = cls

    def __str__(self) -> str:
        texts = [text for field in _arguments(type(self)) if (text := self._text(field))]
        into: tuple[str, ...] = getattr(self, "into", ())
        arrow = f" -> {', '.join(into)}" if into else ""
        return f"{self.verb}({', '.join(texts)}){arrow}"

    def _text(self, field: Field[Any]) -> str:
        value = getattr(self, field.name)
        if self.spread:
            return ", ".join(value)
        if field.default is not MISSING and value == field.default:
            return ""
        if isinstance(value, bool):
            return field.name
        text = f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)
        optional = field.default is not MISSING and not isinstance(value, str)
        return f"{field.name}={text}" if optional else text

    def apply(self, nest: Nest) -> None:
        """Change the nest. Raises UnsupportedError with the reason where that is not legal."""
        raise NotImplementedError


def _arguments(cls: type[Record]) -> list[Field[Any]]:
    return [field for field in fields(cls) if field.name != "into"]


def make(verb: str, *arguments: Any, into: tuple[str, ...] = (), **options: Any) -> Record:
    """A record from its parts; lists may stand for tuples. Raises ArgumentError when it has none of these."""
    if verb not in VERBS:
        raise ArgumentError(f"there is no verb {verb!r}", hint=f"the verbs are {', '.join(sorted(VERBS))}")
    cls = VERBS[verb]
    if cls.spread:
        arguments = (tuple(arguments),)
    values = {
        field.name: value for field, value in zip(_arguments(cls), map(_frozen, arguments), strict=False)
    }
    values |= {name: _frozen(value) for name, value in options.items()}
    if into:
        values["into"] = tuple(into)
    known = {field.name: field for field in fields(cls)}
    missing = [name for name, field in known.items() if field.default is MISSING and name not in values]
    unknown = sorted(set(values) - set(known))
    surplus = len(arguments) > len(_arguments(cls))
    if missing or unknown or surplus or len(into) not in cls.made:
        takes = ", ".join(name for name in known if name != "into")
        raise ArgumentError(
            f"{verb}: arguments {[*map(str, arguments), *options]} -> {list(into)} do not fit",
            hint=f"it takes {takes}, and {' or '.join(map(str, cls.made))} names behind the arrow",
        )
    for name, value in values.items():
        _check_type(verb, known[name], value)
    return cls(**values)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _check_type(verb: str, field: Field[Any], value: Any) -> None:
    wanted = {"str": str, "int": int, "bool": bool}.get(str(field.type), tuple)
    if not isinstance(value, wanted) or (wanted is int and not _is_count(value)):
        raise ArgumentError(f"{verb}: {field.name} is {value!r}, expected {field.type}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def parse_record(line: str) -> Record:
    """The record of one line. Raises ParseError or ArgumentError when it is none."""
    text, arrow, names = line.partition("->")
    into = tuple(name.strip() for name in names.split(",")) if arrow else ()
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ParseError(
            f"{line!r} is no step of a schedule", hint="write verb(arguments) -> names"
        ) from error
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ParseError(f"{line!r} is no step of a schedule", hint="write verb(arguments) -> names")
    if not all(name.isidentifier() for name in into):
        raise ParseError(f"{line!r}: names behind the arrow are identifiers")
    verb = node.func.id
    options = {keyword.arg: _argument(keyword.value) for keyword in node.keywords if keyword.arg}
    flags = {f.name for f in fields(VERBS[verb]) if f.type == "bool"} if verb in VERBS else set()
    arguments = []
    for part in node.args:
        if isinstance(part, ast.Name) and part.id in flags:
            options[part.id] = True
        else:
            arguments.append(_argument(part))
    return make(verb, *arguments, into=into, **options)


def _argument(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple)):
        return tuple(ast.unparse(element) for element in node.elts)
    return ast.unparse(node)


def parse_records(text: str) -> list[Record]:
    """The records of a text, one a line; `#` starts a comment. Errors name the line."""
    records = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        try:
            records.append(parse_record(line))
        except (ParseError, ArgumentError) as error:
            raise ParseError(f"line {number}: {error.message}", hint=error.hint) from error
    return records


def print_records(records: list[Record]) -> str:
    """The text of a schedule."""
    return "".join(f"{record}\n" for record in records)
