"""What a Python function can see besides its arguments: plain values, objects, arrays, modules.

A recorded program is only good while all of that is as it was. `Guards` remembers it and tells.
"""

from __future__ import annotations

import dis
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.array.storage import Storage
from intaglio.array.tensor import Tensor

PLAIN = (int, float, complex, str, bytes, bool, type(None), type, range, slice)
_MISSING = object()
_LIBRARY = (str(Path(np.__file__).parent.parent), str(Path(dis.__file__).parent))
_OWN = str(Path(__file__).parent.parent)
MAX_DEPTH = 5

MAX_ITEMS = 256

Place = tuple[Callable[[], Any], Any, str]


class Guards:
    """Everything a function can see, as it is now.

    Attributes:
        places: what must stay as it is: how to read it, what it was, its name.
        settled: the same for the parts of modules, which announce their changes (`mode.changes`).
        arrays: NumPy arrays that it can see, as storages by the arrays' id.
    """

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...] = ()) -> None:
        self.places: list[Place] = []
        self.settled: list[Place] = []
        self.arrays: dict[int, Storage] = {}
        self._attributes: list[tuple[str, Place]] = []
        self._settings: list[tuple[str, Place]] = []
        self._mentioned: set[str] = set()
        self._visited: set[int] = set()
        self._kept: list[Any] = []
        self._visit(function, "", 0)
        for argument in arguments:
            self._visit(argument, "", 0)
        self.places += [place for key, place in self._attributes if key in self._mentioned]
        self.settled += [place for key, place in self._settings if key in self._mentioned]

    def changed(self, *, settled: bool = False) -> str | None:
        """The name of something that is no longer as it was, or None."""
        for read, value, name in self.settled if settled else self.places:
            now = read()
            if now is not value and not _equal(now, value):
                return name
        return None

    def _watch(self, read: Callable[[], Any], value: Any, name: str, depth: int) -> None:
        """Remember a value; look inside of it."""
        self.places.append((read, _frozen(value), name))
        self._visit(value, name, depth)

    def _visit(self, value: Any, name: str, depth: int) -> None:
        if isinstance(value, PLAIN) or id(value) in self._visited or depth > MAX_DEPTH:
            return
        self._visited.add(id(value))
        self._kept.append(value)
        if isinstance(value, Tensor):
            return
        if isinstance(value, np.ndarray):
            storage = self.arrays[id(value)] = Storage(value)
            storage.exposed = True
        elif isinstance(value, types.MethodType):
            self._visit(value.__self__, name, depth)
            self._visit(value.__func__, name, depth)
        elif isinstance(value, types.FunctionType):
            self._function(value, depth)
        elif isinstance(value, (list, tuple, dict)):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in list(items) if len(value) <= MAX_ITEMS else ():
                self._watch(_item_reader(value, key), item, f"{name}.{key}" if name else str(key), depth + 1)
        elif not isinstance(value, (types.ModuleType, type, types.BuiltinFunctionType)):
            self._object(value, name, depth)

    def _function(self, function: types.FunctionType, depth: int) -> None:
        if not _is_users(function.__code__.co_filename):
            return
        self._mentioned.update(_names_of(function.__code__))
        wrapped = getattr(function, "__wrapped__", None)
        if wrapped is not None:
            self._visit(wrapped, "", depth)
        for key, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:
                continue
            self._watch(lambda cell=cell: cell.cell_contents, value, key, depth + 1)  # type: ignore[misc]
        scope = function.__globals__
        for key in _globals_of(function.__code__):
            if key in scope:
                self._watch(lambda key=key, scope=scope: scope.get(key, _MISSING), scope[key], key, depth + 1)  # type: ignore[misc]

    def _object(self, value: Any, name: str, depth: int) -> None:
        """The attributes of an object of the user's that are mentioned somewhere; the parts of a module."""
        own = getattr(value, "__dict__", None)
        if own is None:
            return
        users = _is_users(getattr(sys.modules.get(type(value).__module__), "__file__", None) or "<none>")
        if isinstance(own.get("_modules"), dict):
            self._module(own, name, users, depth)
        if not users:
            return
        for key, item in list(own.items()):
            if key in ("_modules", "_parameters", "_buffers"):
                continue
            full = f"{name}.{key}" if name else key
            if not (isinstance(own.get("_modules"), dict) and isinstance(item, (*PLAIN, tuple))):
                self._attributes.append((key, (partial(own.get, key, _MISSING), _frozen(item), full)))
            self._visit(item, full, depth + 1)
        for base in type(value).__mro__:
            for key, method in vars(base).items():
                if isinstance(method, types.FunctionType) and key != "__init__":
                    self._visit(method, name, depth + 1)

    def _module(self, own: dict[str, Any], name: str, users: bool, depth: int) -> None:
        """The parts and plain settings of a module; of the user's, those that are mentioned somewhere."""
        for kind in ("_modules", "_parameters", "_buffers"):
            parts = own[kind]
            self.settled.append((partial(_contents, parts), _contents(parts), f"{name}{kind}"))
            for key, part in parts.items():
                self._visit(part, key, depth)
        for key, item in own.items():
            if isinstance(item, (*PLAIN, tuple)):
                place = partial(own.get, key, _MISSING), item, f"{name}.{key}"
                if users and key != "training":
                    self._settings.append((key, place))
                else:
                    self.settled.append(place)


def _contents(parts: dict[str, Any]) -> tuple[Any, ...]:
    return tuple((key, id(part)) for key, part in parts.items())


def _item_reader(container: Any, key: Any) -> Callable[[], Any]:
    def read() -> Any:
        try:
            return container[key]
        except (KeyError, IndexError):
            return _MISSING

    return read


def _frozen(value: Any) -> Any:
    """What a container holds, by identity, so that a change of its length or order shows."""
    if isinstance(value, (list, set)):
        return type(value), tuple(map(id, value))
    return (dict, tuple(value)) if type(value) is dict else value


def _equal(now: Any, before: Any) -> bool:
    if isinstance(now, (list, set, dict)):
        return bool(_frozen(now) == before)
    same = type(now) is type(before) and isinstance(now, (*PLAIN, tuple))
    return same and bool(now == before or (now != now and before != before))


def _names_of(code: types.CodeType) -> set[str]:
    """Names of attributes and globals that a function, and functions inside of it, mention."""
    names = set(code.co_names)
    return names.union(*(_names_of(c) for c in code.co_consts if isinstance(c, types.CodeType)))


def _globals_of(code: types.CodeType) -> list[str]:
    """Names of globals that a function, and functions inside of it, read."""
    names = [i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names += _globals_of(constant)
    return list(dict.fromkeys(names))


def _is_users(path: str) -> bool:
    """Whether a file is neither of this package nor of a library."""
    return bool(path) and not path.startswith((*_LIBRARY, _OWN, "<frozen"))
