"""Products of halves: against NumPy in double precision, where they are chosen, and how they round."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import intaglio
from intaglio import nn
from intaglio.compile import Settings, capture, compile_graph, lower_graph
from intaglio.loop.eval import evaluate
from intaglio.loop.ir import Program
from intaglio.nn import functional as F

RNG = np.random.default_rng(0)


def draw(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def is_strassen(program: Program) -> bool:
    return any("Strassen" in note for kernel in program.kernels for note in kernel.schedule)


# rows, reduction, columns: halves that share a row, several strips, several widths of panels, rows that would
# displace each other from the first cache
SHAPES = [(64, 128, 192), (65, 128, 192), (229, 128, 192), (128, 1024, 96)]


@pytest.mark.parametrize(
    ("target", "shape"),
    [
        (t, s)
        for t in ("x86-64-v4", "x86-64-v3", "aarch64")
        for s in SHAPES[: None if t == "x86-64-v4" else 3]
    ],
    ids=str,
)
def test_values(target, shape) -> None:
    rows, depth, columns = shape
    x, w, b, more = draw(rows, depth), draw(depth, columns), draw(columns), draw(rows, columns)
    graph = capture(lambda x, more: F.relu(x @ w + b) + more, [x, more])
    lowered = lower_graph(graph, Settings(target=target, accuracy="relaxed", threads=1))
    program = lowered.program
    assert is_strassen(program)
    held = {buffer.name: array for buffer, array in zip(program.inputs, (x, more), strict=True)}
    out = program.outputs[0]
    held[out.name] = np.full((rows, columns), np.nan, np.float32)
    evaluate(program, held)
    want = np.maximum(x.astype(np.float64) @ w + b, 0) + more
    np.testing.assert_allclose(held[out.name], want, atol=3e-6 * depth**0.5 * np.abs(want).max())


def test_an_epilogue_in_place_and_threads() -> None:
    """Every element of the result is finished once, also the row that both halves have."""
    x, w, more = draw(259, 128), draw(128, 256), draw(259, 256)

    def model(x: Any, more: Any) -> Any:
        more = more * 2
        return more + x @ w

    graph = capture(model, [x, more])
    one, two = (compile_graph(graph, threads=n, accuracy="relaxed") for n in (1, 2))
    assert is_strassen(two.program) or not one.target.vector_bytes
    want = more.astype(np.float64) * 2 + x.astype(np.float64) @ w
    np.testing.assert_allclose(one(x, more), want, atol=1e-4)
    np.testing.assert_array_equal(one(x, more), two(x, more))


def test_pointwise_convolutions() -> None:
    """Rows are the places of an image with its channels last, here 225 of them."""

    def block() -> list[nn.Module]:
        across = nn.Conv2d(384, 384, 3, padding=1, groups=384)
        return [nn.Conv2d(96, 384, 1), nn.ReLU6(), across, nn.ReLU6(), nn.Conv2d(384, 96, 1)]

    layers = nn.Sequential(*block(), *block())
    x = draw(1, 96, 15, 15)
    relaxed = intaglio.compile(layers, [x], accuracy="relaxed", target="x86-64-v4", threads=1)
    assert is_strassen(relaxed.program)
    relaxed, high = (intaglio.compile(layers, [x], accuracy=a, threads=1) for a in ("relaxed", "high"))
    np.testing.assert_allclose(relaxed(x), high(x), atol=1e-5)


def test_where_it_is_used() -> None:
    def made(x: Any, w: Any, accuracy: Any, constant: bool = True) -> Program:
        graph = capture(lambda x: x @ w, [x]) if constant else capture(lambda x, w: x @ w, [x, w])
        return lower_graph(graph, Settings(target="x86-64-v4", accuracy=accuracy)).program

    x, w = draw(64, 256), draw(256, 256)
    assert is_strassen(made(x, w, "relaxed"))
    assert not is_strassen(made(x, w, "standard"))
    assert not is_strassen(made(x, w, "relaxed", constant=False))
    assert not is_strassen(made(x[:1], w, "relaxed"))
    assert not is_strassen(made(x[:, :255], w[:255], "relaxed"))
    assert not is_strassen(made(x, w[:, :250], "relaxed"))
    assert not is_strassen(made(x.astype(np.int32), w.astype(np.int32), "relaxed"))


def test_it_rounds_as_said() -> None:
    """About twice the error of the plain sum on data of one size; large rows cost small ones digits."""
    x, w = draw(128, 512), draw(512, 256)
    x[0] *= 1e4
    want = x.astype(np.float64) @ w
    errors = {}
    for accuracy in ("standard", "relaxed"):
        compiled = intaglio.compile(lambda x: x @ w, [x], accuracy=accuracy)
        off = np.abs(compiled(x) - want)
        errors[accuracy] = off[65:].max() / np.abs(want[65:]).max(), off[64].max() / np.abs(want[64]).max()
    assert errors["relaxed"][0] < 6 * errors["standard"][0]
    assert 100 < errors["relaxed"][1] / errors["relaxed"][0] < 1e5
