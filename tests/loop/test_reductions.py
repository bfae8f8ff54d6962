"""Reduction recipes against NumPy, by the interpreter."""

from __future__ import annotations

import numpy as np
import pytest
from recipe_cases import AVX2, AVX512, program_of, run, types_of

from intaglio.compile import compile_graph
from intaglio.graph.ir import Graph
from intaglio.ops import prim
from intaglio.shared.dtypes import f32
from intaglio.shared.types import TensorType

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("target", [AVX512, AVX2], ids=lambda t: t.name)
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((128, 40), (0,)),
        ((33, 10), (0,)),
        ((7, 300), (1,)),
        ((4, 16, 5, 9), (0, 2, 3)),
        ((4, 16, 5, 9), (1,)),
        ((6, 5, 70), (0, 1)),
        ((2, 3, 1, 65), (1, 2)),
        ((17, 67), (0, 1)),
        ((1000,), (0,)),
        ((9, 33, 8), (0, 2)),
    ],
)
def test_sums(shape, axes, target):
    x = RNG.standard_normal(shape).astype(np.float32)
    program = program_of("sum", types_of(x), {"axes": axes}, target)
    assert program is not None
    np.testing.assert_allclose(run(program, [x]), x.sum(axis=axes, dtype=np.float64), rtol=1e-4, atol=1e-4)


def test_tiny_and_misfit_reductions_are_left_to_plain_loops():
    tiny, odd = np.ones((3, 4), np.float32), np.ones((300, 3), np.float32)
    assert program_of("sum", types_of(tiny), {"axes": (0,)}, AVX512) is None
    assert program_of("sum", types_of(odd), {"axes": (1,)}, AVX512) is None


def test_sorting_inside_of_three_axes() -> None:
    """The sort's own loops must not hide those around it, whatever their extents."""
    x = np.random.default_rng(0).standard_normal((2, 5, 5, 5)).astype(np.float32)
    graph = Graph("sorted")
    graph.set_outputs([prim.sort(graph.input(TensorType(f32, x.shape)), axis=3, descending=False)[0]])
    for level in (0, 3):
        (got,) = compile_graph(graph, threads=1, opt_level=level, opt="fast-compile").run_arrays([x])
        np.testing.assert_array_equal(got, np.sort(x, 3))
