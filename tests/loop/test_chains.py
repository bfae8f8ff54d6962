"""Chains of convolutions that run row by row: what they compute, and where they are made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from lowered_models import graph_of, run

import intaglio
from intaglio import nn
from intaglio.compile import Settings, lower_graph
from intaglio.graph import eval as graph_eval
from intaglio.loop.ir import For, Program, walk
from intaglio.loop.lower import lower
from intaglio.native.targets import find_target

RNG = np.random.default_rng(5)
SMALL = replace(find_target("x86-64-v4"), l2=1 << 10)


def mixing(ins: int, outs: int, rank: int = 2) -> nn.Module:
    return {2: nn.Conv2d, 3: nn.Conv3d}[rank](ins, outs, 1)


def single(channels: int, kernel: int = 3, rank: int = 2, **options: Any) -> nn.Module:
    options.setdefault("padding", kernel // 2)
    return {2: nn.Conv2d, 3: nn.Conv3d}[rank](channels, channels, kernel, groups=channels, **options)


def first(ins: int, outs: int, kernel: int = 3) -> nn.Module:
    return nn.Conv2d(ins, outs, kernel, stride=2, padding=kernel // 2)


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any) -> Any:
        return x + self.inner(x)


def block(ins: int, wide: int, outs: int, kernel: int = 3, **options: Any) -> list[nn.Module]:
    """Channels spread out, each by itself, and brought together again, as MobileNet does."""
    first, last = (mixing(ins, wide), nn.ReLU6()), (mixing(wide, outs),)
    return [*first, single(wide, kernel, **options), nn.ReLU6(), *last]


# name, input, layers, operators of the chain
CASES: list[tuple[str, tuple[int, ...], list[nn.Module], int]] = [
    ("stride 1", (1, 8, 12, 14), block(8, 32, 8), 3),
    ("stride 2", (1, 8, 13, 16), block(8, 32, 8, stride=2), 3),
    ("five taps", (1, 8, 11, 9), block(8, 32, 8, kernel=5), 3),
    ("no padding", (1, 8, 12, 9), block(8, 32, 8, padding=0), 3),
    ("more padding", (1, 8, 5, 6), block(8, 32, 8, padding=2), 3),
    ("strips", (1, 8, 56, 5), block(8, 32, 8), 3),
    ("strips of stride 2", (1, 8, 112, 5), block(8, 32, 8, stride=2), 3),
    ("residual", (1, 8, 12, 14), [mixing(8, 24), nn.ReLU(), Residual(nn.Sequential(*block(24, 48, 24)))], 3),
    ("batch", (3, 8, 12, 14), block(8, 32, 8), 3),
    ("several windows", (1, 8, 20, 10), [*block(8, 32, 24, stride=2), *block(24, 32, 8, kernel=5)], 6),
    ("two windows", (1, 8, 9, 10), [mixing(8, 32), single(32, 5), single(32, stride=2), mixing(32, 8)], 4),
    ("first layer", (1, 3, 17, 21), [first(3, 32), nn.ReLU6(), single(32), nn.ReLU6(), mixing(32, 8)], 3),
    ("grey, wide", (2, 1, 18, 40), [first(1, 21, 5), single(21), mixing(21, 8)], 3),
    ("three axes", (1, 4, 6, 5, 7), [mixing(4, 16, 3), nn.ReLU(), single(16, rank=3), mixing(16, 4, 3)], 3),
]  # fmt: skip


def chained(program: Program) -> list[int]:
    """Operators of each chain."""
    notes = [note for kernel in program.kernels for note in kernel.schedule]
    return [int(note.split()[4]) for note in notes if note.startswith("row by row")]


@pytest.mark.parametrize(("shape", "layers", "operators"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_rows_compute_the_same(shape: tuple[int, ...], layers: list[nn.Module], operators: int) -> None:
    x = RNG.standard_normal(shape).astype(np.float32)
    graph = graph_of(nn.Sequential(*layers), x)
    (want,), _ = graph_eval.evaluate(graph, [x])
    program, _ = lower(graph, SMALL)
    assert chained(program) == [operators]
    np.testing.assert_allclose(run(program, x, want), want, rtol=2e-5, atol=2e-5)


def test_large_images_of_a_real_block_run_in_strips() -> None:
    x = RNG.standard_normal((1, 16, 112, 112)).astype(np.float32)
    model = nn.Sequential(*block(16, 96, 24, stride=2))
    compiled = intaglio.compile(model, [x], threads=2)
    assert chained(compiled.program) in ([2], [3])
    kernel = next(k for k in compiled.program.kernels if k.schedule[0].startswith("row by row"))
    assert any(isinstance(s, For) and s.kind == "parallel" for s in walk(kernel.body))
    apart = intaglio.compile(model, [x], disabled_passes=["FuseChains"])
    assert not chained(apart.program)
    assert compiled.program.arena_bytes < 0.5 * apart.program.arena_bytes
    np.testing.assert_allclose(np.asarray(compiled(x)), np.asarray(apart(x)), rtol=1e-5, atol=1e-5)


def test_images_in_the_cache_stay_apart() -> None:
    x = RNG.standard_normal((1, 8, 12, 14)).astype(np.float32)
    lowered = lower_graph(graph_of(nn.Sequential(*block(8, 32, 8)), x), Settings(target="x86-64-v4"))
    assert not chained(lowered.program)
    assert any("stays in the second cache" in str(decision) for decision in lowered.decisions)


def test_images_with_two_readers_exist() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.middle, self.last = mixing(8, 32), single(32), mixing(32, 8)

        def forward(self, x: Any) -> Any:
            y = self.first(x)
            return self.last(self.middle(y) * y)

    x = RNG.standard_normal((1, 8, 12, 14)).astype(np.float32)
    graph = graph_of(Twice(), x)
    (want,), _ = graph_eval.evaluate(graph, [x])
    program, _ = lower(graph, SMALL)
    assert chained(program) == [2]
    np.testing.assert_allclose(run(program, x, want), want, rtol=2e-5, atol=2e-5)
