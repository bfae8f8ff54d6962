"""The table of ONNX operators: which function imports which operator of which domain and version."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
from onnx import defs

from intaglio.graph.ir import Value
from intaglio.shared.errors import ArgumentError, UnsupportedError

if TYPE_CHECKING:
    from intaglio.readers.onnx.elements import Element
    from intaglio.readers.onnx.importer import Importer

Array: TypeAlias = np.ndarray[Any, Any]
Operand: TypeAlias = Value | Array
"""A value of the graph, or an array known at import. An array of Python objects is a symbolic shape."""


class InputNeeded(UnsupportedError):
    """An operand that must be known at import is computed from inputs of the model: `names` says which.

    With the values of these inputs the import goes on: see `specialise.load_for`.
    """

    def __init__(self, message: str, names: Sequence[str]) -> None:
        shown = ", ".join(f"{name!r}: ..." for name in names)
        super().__init__(
            message, hint=f"give its value: load(..., known={{{shown}}}), or --input for all inputs"
        )
        self.names = tuple(names)


Handler = Callable[..., Any]
WHOLE = 6
"""The oldest operator set that is supported; of older ones, the operators that are the same in this one."""
_HANDLERS: dict[tuple[str, str], list[tuple[int, Handler]]] = {}
_REFUSED: dict[tuple[str, str], tuple[str, str]] = {}


def onnx_op(name: str, since: int = 1, domain: str = "") -> Callable[[Handler], Handler]:
    """Register `handler(call, *inputs) -> result or tuple` for an operator from a version on."""

    def register(handler: Handler) -> Handler:
        versions = _HANDLERS.setdefault((domain, name), [])
        versions.append((since, handler))
        versions.sort(key=lambda entry: entry[0])
        return handler

    return register


def refuse_op(name: str, reason: str, hint: str, domain: str = "") -> None:
    """Say why an operator cannot be had; its versions that have a handler can."""
    _REFUSED[domain, name] = (f"{name}: {reason}", hint)


def find_handler(domain: str, name: str, version: int) -> Handler:
    """The handler of an operator at a version. Raises UnsupportedError that names it."""
    if not domain and version < WHOLE and not _same_in_both(name, version, WHOLE):
        raise UnsupportedError(
            f"operator ai.onnx.{name} of operator set {version} is another one than today's",
            hint="export the model again, or convert it with onnx.version_converter",
        )
    suitable = [h for since, h in _HANDLERS.get((domain, name), ()) if since <= version]
    if not suitable and (domain, name) in _REFUSED:
        message, hint = _REFUSED[domain, name]
        raise UnsupportedError(message, hint=hint)
    if not suitable:
        shown = f"{domain or 'ai.onnx'}.{name}"
        raise UnsupportedError(
            f"operator {shown} (operator set {version}) is not supported",
            hint="simplify the model, or replace the operator before exporting",
        )
    return suitable[-1]


def _same_in_both(name: str, *versions: int) -> bool:
    """Whether ONNX declares an operator alike in operator sets."""
    if not all(defs.has(name, max_inclusive_version=version) for version in versions):
        return False
    found = {defs.get_schema(name, max_inclusive_version=version).since_version for version in versions}
    return len(found) == 1


def known_operators() -> dict[tuple[str, str], int]:
    """Every operator that can be imported, as (domain, name), and from which operator set on."""
    return {key: versions[0][0] for key, versions in sorted(_HANDLERS.items())}


@dataclass(frozen=True)
class OnnxCall:
    """One node of an ONNX graph: its attributes, its number of outputs, and who imports it.

    `elements` gives for an operand that holds codes the element type they are of, else None; `inputs` are
    the operands as the handler gets them.
    """

    importer: Importer
    node: onnx.NodeProto
    version: int
    elements: tuple[Element | None, ...] = ()
    inputs: tuple[Any, ...] = ()

    @property
    def outputs(self) -> int:
        return len(self.node.output)

    def wants(self, position: int) -> bool:
        """Whether an optional output is used."""
        return position < len(self.node.output) and bool(self.node.output[position])

    def element(self, position: int) -> Element | None:
        """The element type of an operand that holds codes."""
        return self.elements[position] if position < len(self.elements) else None

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute's value: int, float, str, array or list; `default` when it is absent."""
        for attribute in self.node.attribute:
            if attribute.name == name:
                return self.importer.attribute(attribute)
        return default

    def required(self, name: str) -> Any:
        value = self.attr(name)
        if value is None:
            raise ArgumentError(f"{self.node.op_type}: attribute {name!r} is missing")
        return value

    def afford(self, *extents: int) -> None:
        """Account for an array that is about to be computed. Raises OverBudget when it is too large."""
        self.importer.budget.allocate(self.node.op_type, 8 * math.prod(max(extent, 0) for extent in extents))

    def settled(self, operand: Any) -> Any:
        """The value of an operand that is computed from inputs whose values are known; others as they are."""
        known = self.importer.known.find(operand) if isinstance(operand, Value) else None
        if known is None:
            return operand
        place = next((k for k, x in enumerate(self.inputs) if x is operand), -1)
        self.importer.decided.add((self.node.op_type, place))
        return known

    def static(self, operand: Operand | None, what: str) -> Array:
        """An operand that must be known at import. Raises UnsupportedError when it is not."""
        settled = self.settled(operand)
        if isinstance(settled, np.ndarray):
            return settled
        message = f"{self.node.op_type}: {what} is computed at run time; it must be known when compiling"
        names = self.importer.inputs_behind(operand) if isinstance(operand, Value) else []
        if names:
            raise InputNeeded(message, names)
        raise UnsupportedError(message, hint="fix the input shapes or export with constants")

    def ints(self, operand: Operand | None, what: str) -> tuple[Any, ...]:
        """A static list of integers (or symbolic extents)."""
        array = self.static(operand, what)
        if array.dtype == object:
            return tuple(array.reshape(-1).tolist())
        return tuple(int(v) for v in array.reshape(-1))
