"""Models and inputs named on the command line."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.compile import capture
from intaglio.graph.ir import Graph
from intaglio.graph.symbols import symbols_of
from intaglio.shared.errors import ArgumentError


def load_model(model: str, bounds: list[str] | None = None) -> Graph:
    """The graph of a model named on the command line.

    `file.py:name` is a function or module `name` in a Python file that also defines `example_inputs`.
    `bounds` are `name=number` options: upper bounds of an ONNX model's symbolic dimensions.
    """
    if bounds:
        return _bounded(model, named_numbers("--bound", bounds))
    found, examples = _load(model)
    return found if isinstance(found, Graph) else capture(found, examples)


def load_model_for(model: str, given: list[str] | None) -> tuple[Graph, list[np.ndarray[Any, Any]]]:
    """A model and arrays for its inputs, named on the command line. An ONNX model that is given arrays for
    all of its inputs is read for these: for their shapes, and for the values that decide shapes."""
    arrays = given_arrays(given)
    if arrays and Path(model).suffix == ".onnx":
        from intaglio.readers.onnx.model import read_model
        from intaglio.readers.onnx.specialise import input_names, load_for

        proto, _ = read_model(model)
        names = input_names(proto)
        if set(names) == set(arrays):
            chosen = [arrays[name] for name in names]
            special = load_for(model, proto, chosen)
            return special.graph, special.packing.flatten(chosen)
    graph = load_model(model)
    return graph, gather_inputs(graph, given)


def _bounded(model: str, bounds: dict[str, int]) -> Graph:
    if Path(model).suffix != ".onnx":
        raise ArgumentError("--bound is for ONNX models", hint="other models have no named dimensions")
    from intaglio.readers.onnx import load

    graph = load(model, bounds=bounds)
    known = {var.name for var in symbols_of(graph)}
    if unknown := sorted(set(bounds) - known):
        names = ", ".join(sorted(known)) or "none"
        raise ArgumentError(f"--bound: no dimension is named {unknown[0]!r}", hint=f"there are: {names}")
    return graph


def named_numbers(option: str, pairs: list[str]) -> dict[str, int]:
    """The numbers of `name=number` options."""
    numbers: dict[str, int] = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        if not number.isdecimal():
            raise ArgumentError(f"{option} is {pair!r} but must be name=number")
        numbers[name] = int(number)
    return numbers


def load_object(model: str) -> Any:
    """What a name of the command line means before it is captured: a path for an ONNX file."""
    return _load(model)[0]


def example_inputs(model: str) -> Any:
    """The example inputs of a Python file; None for other models."""
    return _load(model)[1]


def _load(model: str) -> tuple[Any, Any]:
    path, _, name = model.partition(".py:")
    if name:
        namespace = _run_file(Path(path + ".py"))
        if name not in namespace:
            raise ArgumentError(
                f"{path}.py has no {name!r}", hint="name a function or module at its top level"
            )
        return namespace[name], namespace.get("example_inputs")
    if not Path(model).exists():
        raise ArgumentError(
            f"there is no file {model}", hint="give a .onnx or .intaglio file, or file.py:name"
        )
    if Path(model).suffix == ".intaglio":
        from intaglio.saved import load_graph

        return load_graph(model), None
    return model, None


def _run_file(path: Path) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise ArgumentError(f"there is no Python file {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)


def given_arrays(given: list[str] | None) -> dict[str, Any]:
    """The arrays of `name=file.npy` options, and those of whole `.npz` files."""
    arrays: dict[str, Any] = {}
    for option in given or []:
        name, _, file = option.partition("=")
        arrays |= {name: np.load(file)} if file else dict(np.load(name))
    return arrays


def gather_inputs(graph: Graph, given: list[str] | None, seed: int = 0) -> list[np.ndarray[Any, Any]]:
    """Arrays for a graph's inputs: from files where named, else random (seeded)."""
    from intaglio.view.samples import random_input

    arrays = given_arrays(given)
    unknown = set(arrays) - {v.name for v in graph.inputs}
    if unknown:
        names = ", ".join(v.name for v in graph.inputs)
        raise ArgumentError(f"the model has no input {sorted(unknown)}", hint=f"its inputs are {names}")
    rng = np.random.default_rng(seed)
    return [arrays[v.name] if v.name in arrays else random_input(v.type, rng) for v in graph.inputs]
