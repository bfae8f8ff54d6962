"""Hot loops keep their vectors in registers: nothing moves to and from the stack, whichever compiler."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assembly import Loop, assembly, innermost_loops

from intaglio import nn
from intaglio.array.trace import trace
from intaglio.compile import Settings, capture, lower_graph
from intaglio.graph.freeze import freeze_states
from intaglio.graph.ir import Graph
from intaglio.loop.ir import Program
from intaglio.native.toolchain import Toolchain, available
from intaglio.ops import lookup
from intaglio.shared.dtypes import f32
from intaglio.shared.types import TensorType

HOT = 6
"""Operations on vectors that make an innermost loop worth looking at."""
RARE = 1 / 16
"""Moves per operation that may stay: one in a long body costs nothing that can be measured."""
CONSTANTS = 1 / 4
"""The same in loops of functions such as tanh, which need more constants than there are registers."""


def windows(size: int, stride: int = 1, padding: int = 1, groups: int = 1) -> dict[str, Any]:
    return {"strides": (stride,) * 2, "dilations": (1, 1), "padding": ((padding,) * 2,) * 2, "groups": groups}


ANCHORS: list[tuple[str, list[tuple[int, ...]], dict[str, Any]]] = [
    ("dot", [(128, 784), (784, 128)], {"spec": "mk,kn->mn"}),
    ("dot", [(6, 304), (10, 304)], {"spec": "mk,nk->mn"}),
    ("dot", [(96, 128), (96, 160)], {"spec": "km,kn->mn"}),
    ("dot", [(128, 384), (384, 1536)], {"spec": "mk,kn->mn"}),
    ("dot", [(1, 1280), (1280, 1000)], {"spec": "mk,kn->mn"}),
    ("dot", [(4, 64, 48), (4, 56, 48)], {"spec": "bik,bjk->bij"}),
    ("conv", [(1, 96, 28, 28), (24, 96, 1, 1)], windows(28, 1, 0)),
    ("conv", [(1, 64, 28, 28), (64, 64, 5, 5)], windows(28, 1, 2)),
    ("conv", [(1, 512, 7, 7), (512, 512, 3, 3)], windows(7)),
    ("conv", [(1, 3, 112, 112), (32, 3, 3, 3)], windows(112, 2)),
    ("conv", [(1, 96, 56, 56), (96, 1, 3, 3)], windows(56, 1, 1, 96)),
    ("conv", [(1, 96, 56, 56), (96, 1, 3, 3)], windows(56, 2, 1, 96)),
    ("conv_dx", [(32, 32, 12, 12), (32, 16, 5, 5)], windows(12, 1, 2) | {"size": (12, 12)}),
    ("sum", [(64, 1000)], {"axes": (1,)}),
    ("sum", [(1000, 96)], {"axes": (0,)}),
]


def graph_of_anchors() -> Graph:
    """All contractions, convolutions and reductions, each a kernel of its own."""
    graph = Graph("anchors")
    results = []
    for number, (op, shapes, attrs) in enumerate(ANCHORS):
        values = [graph.input(TensorType(f32, s), f"x{number}_{k}") for k, s in enumerate(shapes)]
        results.append(lookup(op)(*values, **attrs))
    graph.set_outputs(results)
    return graph


def graph_of_halves() -> Graph:
    """A product with constants, which is made of halves where the accuracy is relaxed."""
    x, w = (np.ones(shape, np.float32) for shape in ((128, 384), (384, 384)))
    return capture(lambda x: x @ w, [x])


class Model(nn.Module):
    """Softmax over rows, layer norm, and the steps of an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.norm = nn.LSTM(64, 128), nn.LayerNorm(128)

    def forward(self, x: Any) -> Any:
        return nn.functional.softmax(self.norm(self.cells(x)[0]), -1)


def graph_of_model() -> Graph:
    graph = trace(Model(), (np.ones((4, 2, 64), np.float32),)).graph
    return freeze_states(graph, [s.data.copy() for s in graph.states if s.data is not None])


def compilers() -> list[Toolchain]:
    """gcc, and clang by itself or in zig."""
    found = {t.kind: t for t in reversed(available())}
    clang = found.get("clang", found.get("zig"))
    return [t for t in (found.get("gcc"), clang) if t is not None]


@pytest.fixture(scope="module", params=["x86-64-v3", "x86-64-v4"])
def programs(request: pytest.FixtureRequest) -> tuple[Program, ...]:
    settings = Settings(target=request.param)
    made = [lower_graph(graph, settings) for graph in (graph_of_anchors(), graph_of_model())]
    made.append(lower_graph(graph_of_halves(), replace(settings, accuracy="relaxed")))
    return tuple((one.program, one.target) for one in made)  # type: ignore[misc]


def allowed(loop: Loop) -> float:
    """Moves that a loop may have."""
    return (CONSTANTS if loop.divides else RARE) * loop.operations


@pytest.mark.skipif(sys.platform == "win32", reason="assembly is read in the form for Linux")
@pytest.mark.parametrize("kind", ["gcc", "clang"])
def test_hot_loops_do_not_spill(programs: Any, kind: str, tmp_path: Path) -> None:
    chosen = [t for t in compilers() if (t.kind == "gcc") == (kind == "gcc")]
    if not chosen:
        pytest.skip(f"there is no {kind}")
    loops: list[Loop] = []
    for program, target in programs:
        loops += innermost_loops(assembly(program, target, chosen[0], tmp_path))
    hot = [loop for loop in loops if loop.operations >= HOT]
    assert len(hot) >= len(ANCHORS)
    spilling = [loop for loop in hot if len(loop.spills) > allowed(loop)]
    shown = [
        f"{loop.function}: {len(loop.spills)} of {loop.operations}, {loop.spills[0]}" for loop in spilling
    ]
    assert not shown, "\n".join(shown)


def test_a_spill_is_seen() -> None:
    body = "\tvmovaps\t-64(%rbp), %zmm1\n\tvfmadd231ps\t(%rax), %zmm1, %zmm2\n\tvmovups\t%zmm2, 8(%rsp)\n"
    text = f"f:\n\tmovq\t%rsp, %rbp\n.L3:\n\taddq\t$1, %rbx\n.L2:\n{body}\tjne\t.L2\n\tjne\t.L3\n\tret\n"
    (loop,) = innermost_loops(text)
    assert (loop.function, loop.operations, len(loop.spills)) == ("f", 1, 2)
    (loop,) = innermost_loops(text.replace("movq\t%rsp, %rbp", "nop"))
    assert len(loop.spills) == 1
    (loop,) = innermost_loops(text.replace("8(%rsp)", "8(%rsp,%rcx)").replace("-64(%rbp)", "-64(%rbp,%rcx)"))
    assert not loop.spills
