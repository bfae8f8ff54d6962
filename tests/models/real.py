"""Comparing real models with ONNX Runtime: compiled, and at every level of the graph passes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from intaglio.compile import Settings, compile_graph, optimise
from intaglio.compiled import Compiled
from intaglio.graph.ir import Graph
from intaglio.readers.onnx import load
from intaglio.verify import runtime

Arrays = Mapping[str, np.ndarray[Any, Any]]


def read(source: Path | onnx.ModelProto) -> onnx.ModelProto:
    return onnx.load(str(source)) if isinstance(source, Path) else source


def relative_error(got: Any, expected: Any) -> float:
    """The largest error over the largest element expected; types and shapes must be equal."""
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    wide = expected.astype(np.float64)
    assert np.isfinite(wide).all()
    return float(np.max(np.abs(got - wide), initial=0.0) / max(np.max(np.abs(wide), initial=0.0), 1e-30))


def assert_close(results: Any, expected: Any, tolerance: float, what: str) -> None:
    assert len(results) == len(expected)
    for k, (ours, theirs) in enumerate(zip(results, expected, strict=True)):
        error = relative_error(ours, theirs)
        assert error <= tolerance, f"{what}, output {k}: relative error {error:.2g}"


def check(
    source: Path | onnx.ModelProto,
    feeds: Arrays,
    *,
    tolerance: float = 2e-5,
    compiled_levels: tuple[int, ...] = (3,),
    **arguments: Any,
) -> tuple[Compiled, list[Any]]:
    """The model agrees with ONNX Runtime, interpreted after the passes of each level and compiled.

    Args:
        compiled_levels: levels to compile; 3 as a user gets it, the others with the fastest C compiler.
        arguments: as of `load`; by default every shape is fixed to that of the input.

    Returns:
        The program of level 3, and its outputs.
    """
    model = read(source)
    expected = runtime(model, feeds)
    graph = load(model, **(arguments or {"shapes": {name: array.shape for name, array in feeds.items()}}))
    arrays = [feeds[value.name] for value in graph.inputs]
    for level in range(4):
        results = optimise(graph, Settings(opt_level=level)).run(*arrays)
        assert_close(results, expected, tolerance, f"interpreted, level {level}")
    made: dict[int, Compiled] = {}
    for level in compiled_levels:
        made[level] = compiled(graph, level)
        results = made[level].run_arrays(arrays)
        assert_close(results, expected, tolerance, f"compiled, level {level}")
    return made[3], results


def compiled(graph: Graph, level: int) -> Compiled:
    return compile_graph(graph, threads=1, opt_level=level, opt="default" if level == 3 else "fast-compile")
