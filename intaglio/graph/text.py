"""The text of graphs, in the form of Relay's, and read back to an equal program.

    symbol batch in 1 .. 64
    fn main(%x: f32[batch,784]) state(%w: f32[784,10]) {
      const %c: f32[] = 0.5
      %dot: f32[batch,10] = dot(%x, %w, spec="mk,kn->mn")  # model.py:12 [linear.1]
      return %dot as y
      update %w = %mul
    }

What stands behind `#` is the user's line, the region and, unless it is `forward`, the phase. Contents
of states and of big constants are not part of the text: `arrays_of` gives them, `parse_graph` takes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any, cast

import numpy as np

from intaglio.graph.ir import Graph, Node, Value
from intaglio.graph.symbols import symbols_of
from intaglio.graph.text_value import (
    Reader,
    lookup_array,
    print_array,
    print_attr,
    print_symbol,
    print_type,
    print_value_name,
    print_word,
)
from intaglio.ops.registry import REGISTRY
from intaglio.shared.errors import IntaglioError, ParseError
from intaglio.shared.index import Var
from intaglio.shared.regions import Phase, Region
from intaglio.shared.where import Where

INDENT = "  "


def print_graph(graph: Graph) -> str:
    """The text of a graph; equal graphs have equal texts."""
    lines = []
    for var in symbols_of(graph):
        lines.append(f"symbol {print_symbol(var)} in {var.lo} .. {'' if var.hi is None else var.hi}".rstrip())
    return "\n".join([*lines, _print_function(graph, 0)]) + "\n"


def arrays_of(graph: Graph) -> dict[str, np.ndarray[Any, Any]]:
    """The contents of all constants and states by name; those of inner graphs by a path of names.

    Raises:
        ParseError: the name of a value is the path of another.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    waiting: list[tuple[Graph, tuple[str, ...]]] = [(graph, ())]
    while waiting:
        current, path = waiting.pop()
        for value in [*current.states, *current.constants]:
            key = _array_key(path, value.name)
            if key in arrays:
                raise ParseError(f"two arrays would be called {key!r}", hint="rename one of the values")
            assert value.data is not None
            arrays[key] = value.data
        for node in current.nodes:
            for name, attr in node.attrs.items():
                if isinstance(attr, Graph):
                    waiting.append((attr, (*path, node.outputs[0].name, name)))
    return arrays


def _array_key(path: tuple[str, ...], name: str) -> str:
    return json.dumps([*path, name]) if path else name


def _print_function(graph: Graph, depth: int) -> str:
    pad = INDENT * (depth + 1)
    params = ", ".join(map(_typed, graph.inputs))
    states = f" state({', '.join(map(_typed, graph.states))})" if graph.states else ""
    lines = [f"fn {print_word(graph.name)}({params}){states} {{"]
    for value in graph.constants:
        assert value.data is not None
        text = print_array(value.data)
        lines.append(f"{pad}const {_typed(value)}" + ("" if text is None else f" = {text}"))
    lines += [pad + _print_node(node, depth + 1) for node in graph.nodes]
    results = [
        f"{print_value_name(v.name)} as {print_word(name)}"
        for v, name in zip(graph.outputs, graph.output_names, strict=True)
    ]
    if results:
        lines.append(f"{pad}return {', '.join(results)}")
    for state, value in graph.updates:
        lines.append(f"{pad}update {print_value_name(state.name)} = {print_value_name(value.name)}")
    return "\n".join([*lines, INDENT * depth + "}"])


def _typed(value: Value) -> str:
    return f"{print_value_name(value.name)}: {print_type(value.type)}"


def _print_node(node: Node, depth: int) -> str:
    args = [print_value_name(v.name) for v in node.inputs]
    for name, attr in node.attrs.items():
        shown = _print_function(attr, depth) if isinstance(attr, Graph) else print_attr(attr)
        args.append(f"{name}={shown}")
    notes = []
    if node.where is not None:
        notes.append(f"{_note_word(PurePath(node.where.file).name)}:{node.where.line}")
    if node.region is not None:
        notes.append(f"[{_print_region(node.region)}]")
    if node.phase != "forward":
        notes.append(node.phase)
    note = f"  # {' '.join(notes)}" if notes else ""
    return f"{', '.join(map(_typed, node.outputs))} = {node.op.name}({', '.join(args)}){note}"


def _note_word(word: str) -> str:
    return word if re.fullmatch(r"[A-Za-z0-9_.\-]+", word) else json.dumps(word)


def _print_region(region: Region | None) -> str:
    parts: list[str] = []
    while region is not None:
        parts.append(f"{print_word(region.name)}.{region.number}")
        region = region.parent
    return "/".join(reversed(parts))


def parse_graph(text: str, arrays: Mapping[str, Any] | None = None) -> Graph:
    """The graph that a text describes.

    Args:
        arrays: contents of states and of constants whose elements are not written, as `arrays_of` gives.

    Raises:
        ParseError: text that is no graph, with the line and a caret; also for what a shape rule refuses.
    """
    parser = _Parser(Reader(text), arrays or {})
    while parser.reader.accept("symbol"):
        parser.symbol()
    graph = parser.function(())
    parser.reader.next("end")
    return graph


class _Parser:
    def __init__(self, reader: Reader, arrays: Mapping[str, Any]) -> None:
        self.reader = reader
        self.arrays = arrays
        self.regions: dict[str, Region] = {}

    def symbol(self) -> None:
        reader = self.reader
        token = reader.next("word", "symbol")
        name = reader.string(token, 1) if token.kind == "symbol" else token.text
        reader.expect("in")
        lo = reader.integer()
        reader.expect("..")
        hi = reader.integer() if reader.peek().kind == "number" else None
        if name in reader.symbols:
            reader.fail(f"symbol {name!r} is declared twice", token.position)
        reader.symbols[name] = Var(name, lo, hi)

    def function(self, path: tuple[str, ...]) -> Graph:
        reader = self.reader
        reader.enter()
        reader.expect("fn")
        graph = Graph(reader.word())
        scope: dict[str, Value] = {}
        for value in self.params(graph, scope, "input", path):
            graph.inputs.append(value)
        if reader.accept("state"):
            for value in self.params(graph, scope, "state", path):
                graph.states.append(value)
        reader.expect("{")
        while reader.accept("const"):
            self.constant(graph, scope, path)
        while reader.peek().kind == "value":
            self.node(graph, scope, path)
        self.results(graph, scope)
        reader.expect("}")
        reader.leave()
        return graph

    def params(
        self, graph: Graph, scope: dict[str, Value], source: Any, path: tuple[str, ...]
    ) -> Iterator[Value]:
        reader = self.reader
        reader.expect("(")
        while not reader.accept(")"):
            value = self.declare(graph, scope, source)
            if source == "state":
                value.data = self.array(value, path)
            yield value
            if not reader.accept(","):
                reader.expect(")")
                break

    def declare(self, graph: Graph, scope: dict[str, Value], source: Any) -> Value:
        """`%name: type`"""
        reader = self.reader
        position = reader.peek().position
        name = reader.value_name()
        reader.expect(":")
        if name in scope:
            reader.fail(f"%{name} is defined twice", position)
        scope[name] = Value(graph, reader.type(), source, graph.unique_name(name))
        return scope[name]

    def array(self, value: Value, path: tuple[str, ...]) -> np.ndarray[Any, Any]:
        key = _array_key(path, value.name)
        array = lookup_array(key, value.type, self.arrays)
        if array is None:
            found = self.arrays.get(key)
            why = "is missing" if found is None else f"is {np.asarray(found).dtype}{list(np.shape(found))}"
            self.reader.fail(f"the array {key!r} of {value!r} {why}")
        return array

    def constant(self, graph: Graph, scope: dict[str, Value], path: tuple[str, ...]) -> None:
        value = self.declare(graph, scope, "constant")
        value.data = self.reader.array(value.type) if self.reader.accept("=") else self.array(value, path)
        graph.constants.append(value)

    def node(self, graph: Graph, scope: dict[str, Value], path: tuple[str, ...]) -> None:
        reader = self.reader
        start = reader.peek().position
        results = [self.declare(graph, scope, "node")]
        while reader.accept(","):
            results.append(self.declare(graph, scope, "node"))
        reader.expect("=")
        token = reader.next("word")
        if token.text not in REGISTRY:
            reader.fail(f"there is no operator {token.text!r}", token.position)
        inputs, attrs = self.arguments(scope, {v.name for v in results}, (*path, results[0].name))
        node = Node(REGISTRY[token.text], tuple(inputs), attrs)
        try:
            types = node.op.infer([value.type for value in inputs], attrs)
        except (IntaglioError, TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:
            reader.fail(
                error.message if isinstance(error, IntaglioError) else f"{token.text}: {error}", start
            )
        if tuple(types) != tuple(value.type for value in results):
            reader.fail(f"{token.text} gives {', '.join(map(str, types))}", start)
        for position, value in enumerate(results):
            value.node, value.position = node, position
        node.outputs = tuple(results)
        self.annotate(node)
        graph.nodes.append(node)

    def arguments(
        self, scope: dict[str, Value], own: set[str], path: tuple[str, ...]
    ) -> tuple[list[Value], dict[str, Any]]:
        reader = self.reader
        inputs: list[Value] = []
        attrs: dict[str, Any] = {}
        reader.expect("(")
        while not reader.accept(")"):
            token = reader.peek()
            if token.kind == "value" and not attrs:
                inputs.append(self.use(scope, own))
            else:
                name = reader.next("word").text
                reader.expect("=")
                if name in attrs:
                    reader.fail(f"attribute {name} is given twice", token.position)
                attrs[name] = self.function((*path, name)) if reader.peek().text == "fn" else reader.attr()
            if not reader.accept(","):
                reader.expect(")")
                break
        return inputs, attrs

    def use(self, scope: dict[str, Value], own: set[str] = frozenset()) -> Value:  # type: ignore[assignment]
        position = self.reader.peek().position
        name = self.reader.value_name()
        if name not in scope or name in own:
            self.reader.fail(f"%{name} is not defined here", position)
        return scope[name]

    def annotate(self, node: Node) -> None:
        """The user's line, region and phase from the comment behind a node."""
        comment = self.reader.comment_here()
        found = _NOTE.fullmatch(comment) if comment else None
        if found is None:
            return
        if found["file"] is not None:
            node.where = Where(self.unquoted(found["file"]), int(found["line"]))
        if found["region"] is not None:
            node.region = self.region(found["region"])
        node.phase = cast(Phase, found["phase"] or "forward")

    def region(self, text: str) -> Region:
        """The region of a path; equal paths give one region."""
        region: Region | None = None
        for part in _REGION.finditer(text):
            region = Region(self.unquoted(part["name"]), int(part["number"]), region)
        assert region is not None
        return self.regions.setdefault(text, region)

    def unquoted(self, word: str) -> str:
        try:
            return str(json.loads(word)) if word.startswith('"') else word
        except ValueError:
            self.reader.fail("a string with a wrong escape")

    def results(self, graph: Graph, scope: dict[str, Value]) -> None:
        reader = self.reader
        names: list[str] = []
        if reader.accept("return"):
            while not graph.outputs or reader.accept(","):
                graph.outputs.append(self.use(scope))
                reader.expect("as")
                names.append(reader.word())
        graph.output_names = names
        while reader.accept("update"):
            state = self.use(scope)
            reader.expect("=")
            position = reader.peek().position
            value = self.use(scope)
            if state.source != "state" or state.type != value.type:
                reader.fail(f"{state!r} cannot be updated with {value!r}", position)
            graph.updates.append((state, value))


_STRING = r'"(?:[^"\\\n]|\\.)*"'
_PART = rf"(?:[A-Za-z_]\w*|{_STRING})\.\d{{1,18}}"
_REGION = re.compile(rf"(?P<name>[A-Za-z_]\w*|{_STRING})\.(?P<number>\d+)")
_NOTE = re.compile(
    rf"#(?:\s+(?P<file>[A-Za-z0-9_.\-]+|{_STRING}):(?P<line>\d{{1,18}}))?"
    rf"(?:\s+\[(?P<region>{_PART}(?:/{_PART})*)\])?(?:\s+(?P<phase>forward|backward|update))?\s*",
    re.ASCII,
)
