"""ONNX models whose shapes are known at the first call: one program for each signature of the arguments.

A signature is the types and shapes of all arguments, and the values of those inputs that decide shapes (the
new shape of a Reshape, the axes of a sum). Arguments with another signature never meet a program that was
compiled for this one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.compile import compile_graph
from intaglio.compiled import Compiled
from intaglio.readers.onnx.importer import load
from intaglio.readers.onnx.model import named_extent, read_model
from intaglio.readers.onnx.packing import Packing
from intaglio.readers.onnx.registry import InputNeeded
from intaglio.readers.onnx.specialise import input_names, load_for
from intaglio.shared.errors import ArgumentError, ShapeError, UnsupportedError
from intaglio.shared.index import Index
from intaglio.shared.settings import debug

MAX_PROGRAMS = 16
"""Programs that a model keeps; the one used longest ago goes first."""


@dataclass(frozen=True)
class Program:
    """A model compiled for one signature, and how its arguments and results are packed."""

    compiled: Compiled
    packing: Packing

    def run(self, arguments: Sequence[Any]) -> list[Any]:
        return self.packing.pack(self.compiled.run_arrays(self.packing.flatten(arguments)))


class SpecialisedModel:
    """An ONNX model that compiles when it is called with arguments of a new signature.

    Arguments are arrays, lists of arrays for sequences, None for absent optionals.

    Attributes:
        input_names, output_names: of the model.
        compilations: how often it has compiled.
    """

    def __init__(self, source: Any, **settings: Any) -> None:
        self.source = source
        self.settings = settings
        self.compilations = 0
        self._model, _ = read_model(source)
        self.input_names = input_names(self._model)
        self.output_names = [info.name for info in self._model.graph.output]
        self._programs: OrderedDict[Any, Program] = OrderedDict()
        self._deciding: tuple[str, ...] = ()
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        takes, gives = ", ".join(self.input_names), ", ".join(self.output_names)
        return f"<SpecialisedModel ({takes}) -> {gives}, {len(self._programs)} programs>"

    def __call__(self, *arguments: Any) -> Any:
        """Run once: one output is alone, several are a tuple."""
        results = self.run_arrays(arguments)
        return results[0] if len(results) == 1 else tuple(results)

    def run_arrays(self, arguments: Sequence[Any]) -> list[Any]:
        """Run once, positional inputs to a list of outputs."""
        held = [_as_array(a) for a in arguments]
        return self._program(held).run(held)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run once, by names. Raises ArgumentError for a missing or unknown name."""
        if set(inputs) != set(self.input_names):
            raise ArgumentError(
                f"inputs given are {', '.join(inputs) or 'none'}",
                hint=f"the inputs are {', '.join(self.input_names) or 'none'}",
            )
        results = self.run_arrays([inputs[name] for name in self.input_names])
        return dict(zip(self.output_names, results, strict=True))

    def program(self, *arguments: Any) -> Compiled:
        """The compiled program for arguments like these."""
        return self._program([_as_array(a) for a in arguments]).compiled

    def _program(self, arguments: list[Any]) -> Program:
        if len(arguments) != len(self.input_names):
            raise ArgumentError(
                f"the model takes {len(self.input_names)} inputs, {len(arguments)} were given",
                hint=f"the inputs are {', '.join(self.input_names) or 'none'}",
            )
        with self._lock:
            key = self._signature(arguments)
            if key not in self._programs:
                made = self._compile(arguments)
                key = self._signature(arguments)
                self._programs[key] = made
                if len(self._programs) > MAX_PROGRAMS:
                    self._programs.popitem(last=False)
            self._programs.move_to_end(key)
            return self._programs[key]

    def _compile(self, arguments: list[Any]) -> Program:
        special = load_for(self.source, self._model, arguments)
        new = [n for n in (*special.known, *special.fixed) if n not in self._deciding]
        if new:
            self._programs.clear()  # their signatures do not have the values of these inputs
            self._deciding += tuple(new)
        self.compilations += 1
        debug(1, f"{special.graph.name}: compiled for {self._signature(arguments)} ({self.compilations})")
        return Program(compile_graph(special.graph, **self.settings), special.packing)

    def _signature(self, arguments: Sequence[Any]) -> tuple[Any, ...]:
        pairs = zip(self.input_names, arguments, strict=True)
        return tuple(_described(a, name in self._deciding) for name, a in pairs)


def _as_array(argument: Any) -> Any:
    if isinstance(argument, (list, tuple)):
        return [_as_array(part) for part in argument]
    return None if argument is None else np.asarray(argument)


def _described(argument: Any, value: bool) -> Any:
    """Type and shape of an argument; with its bytes when its value belongs to the signature."""
    if isinstance(argument, list):
        return tuple(_described(part, value) for part in argument)
    if argument is None:
        return None
    return (argument.dtype, argument.shape, argument.tobytes() if value else None)


def compile_onnx(
    source: str | Path | bytes,
    *,
    bounds: dict[str, int] | None = None,
    shapes: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Compiled | SpecialisedModel:
    """One program when all sizes of the model have bounds, else one for each signature it is called with.

    Raises:
        FileFormatError: not a valid model.
        UnsupportedError: what cannot be compiled, whatever the shapes are.
    """
    try:
        graph = load(source, bounds=bounds, shapes=shapes)
    except InputNeeded as error:
        return _at_first_call(source, shapes, error, settings)
    except (ShapeError, UnsupportedError) as error:
        if _all_sizes_bounded(source, bounds, shapes):
            raise
        return _at_first_call(source, shapes, error, settings)
    if any(_is_open(extent) for value in graph.inputs for extent in value.shape):
        return _at_first_call(source, shapes, None, settings)
    return compile_graph(graph, **settings)


def _at_first_call(
    source: Any, shapes: Mapping[str, Any] | None, error: Exception | None, settings: dict[str, Any]
) -> SpecialisedModel:
    if shapes:
        reason = f": {error}" if error is not None else ""
        raise UnsupportedError(
            f"the shapes given do not decide all sizes of the model{reason}",
            hint="give all shapes and bounds, or none: then the first call decides",
        )
    debug(1, f"{source}: compiled at the first call" + (f" ({error})" if error is not None else ""))
    return SpecialisedModel(source, **settings)


def _is_open(extent: Any) -> bool:
    return isinstance(extent, Index) and any(symbol.hi is None for symbol in extent.variables)


def _all_sizes_bounded(
    source: Any, bounds: Mapping[str, int] | None, shapes: Mapping[str, Any] | None
) -> bool:
    """Whether the model's own shapes, and what was given, leave no size of an input open."""
    model, _ = read_model(source)
    wanted = set(input_names(model)) - set(shapes or {})
    for info in model.graph.input:
        if info.name not in wanted:
            continue
        if not info.type.HasField("tensor_type") or not info.type.tensor_type.HasField("shape"):
            return False
        for k, dim in enumerate(info.type.tensor_type.shape.dim):
            size = named_extent(dim)
            if not isinstance(size, int) and (size or f"{info.name}_{k}") not in (bounds or {}):
                return False
    return True
