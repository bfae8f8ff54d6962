"""Programs over symbolic dimensions: forward, derivatives and passes agree with arrays of each size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from intaglio.graph.grad import gradient
from intaglio.graph.ir import Graph
from intaglio.graph.passes import PASSES
from intaglio.graph.spec import verify
from intaglio.graph.symbols import specialise
from intaglio.graph.text import arrays_of, parse_graph, print_graph
from intaglio.ops import prim
from intaglio.ops.compositions import (
    activation,
    attention,
    basic,
    linear,
    loss,
    normalization,
    pooling,
    reduction,
)
from intaglio.ops.compositions.convolution import conv2d
from intaglio.shared.dtypes import f64, i64
from intaglio.shared.index import IndexLike, Var, var_index
from intaglio.shared.types import TensorType

B, S, N = (var_index(Var(name, 1, 16)) for name in ("batch", "seq", "n"))
SIZES = [{"batch": 3, "seq": 4, "n": 5}, {"batch": 1, "seq": 6, "n": 8}]
RNG = np.random.default_rng(0)
W, V, K = RNG.standard_normal((6, 4)), RNG.standard_normal(6), RNG.standard_normal((2, 3, 3, 3)) * 0.3
Shape = tuple[IndexLike, ...]


def split_heads(x: Any) -> Any:
    b, s, width = basic.shape_of(x)
    return basic.transpose(basic.reshape(x, (b, s, 2, width // 2)), (0, 2, 1, 3))


def merge_heads(x: Any) -> Any:
    b, h, s, width = basic.shape_of(x)
    return basic.reshape(basic.transpose(x, (0, 2, 1, 3)), (b, s, h * width))


def merge_and_split(x: Any) -> Any:
    b, s, _ = basic.shape_of(x)
    return basic.reshape(basic.reshape(x, (b * s * 2, 2)), (b, 2 * s, 2)) * 3.0


def with_ends(x: Any) -> Any:
    b, s = basic.shape_of(x)
    wide = prim.pad(prim.concat(x, x, axis=1), padding=((0, 0), (1, 1)), mode="constant", value=0.0)
    return prim.slice(wide, start=(0, 1), stop=(b, 1 + s), step=(1, 1))


CASES: list[tuple[str, list[Shape], Callable[..., Any]]] = [
    ("linear", [(B, 4)], lambda x: activation.relu(linear.linear(x, W, V))),
    ("linear over two", [(B, S, 4)], lambda x: activation.gelu(linear.linear(x, W, V))),
    ("matmul", [(B, S, 4), (B, 4, N)], lambda a, b: linear.matmul(a, b)),
    ("layer norm", [(B, S, 4)], lambda x: normalization.layer_norm(x, 4)),
    ("batch norm", [(B, 6, S)], lambda x: normalization.batch_norm(x, V, V * V + 1, V, V)),
    ("softmax", [(B, S)], lambda x: activation.softmax(x, -1)),
    ("log softmax", [(B, S)], lambda x: activation.log_softmax(x, 0)),
    ("mean", [(B, S)], lambda x: reduction.mean(x, 1) * reduction.mean(x)),
    ("variance", [(B, 4)], lambda x: reduction.var(x, 0, correction=0)),
    ("maximum", [(B, S)], lambda x: reduction.amax(x, 1)),
    ("flatten", [(B, S, 4)], lambda x: basic.flatten(basic.flatten(x, 1), 0) * 2.0),
    ("merge and split", [(B, S, 4)], merge_and_split),
    ("heads", [(B, S, 4)], lambda x: merge_heads(activation.silu(split_heads(x)))),
    (
        "attention",
        [(B, S, 4), (B, N, 4)],
        lambda q, k: merge_heads(
            attention.scaled_dot_product_attention(split_heads(q), split_heads(k), split_heads(k))
        ),
    ),
    ("convolution", [(B, 3, 6, 7)], lambda x: conv2d(x, K, padding=1, stride=2)),
    ("convolution over symbols", [(2, 3, S, N)], lambda x: conv2d(x, K, padding=1)),
    ("pooling", [(B, 2, 6, 6)], lambda x: pooling.max_pool(2, x, 2)),
    ("average pooling", [(B, 2, 6, 6)], lambda x: pooling.avg_pool(2, x, 2)),
    ("mse", [(B, 4), (B, 4)], lambda a, b: loss.mse_loss(a, b)),
    ("cumsum", [(B, S)], lambda x: reduction.cumsum(x, 1)),
    ("with ends", [(B, S)], with_ends),
    ("broadcast", [(B, 1, 4), (S, 1)], lambda a, b: a * b + 1.0),
]


def concrete(shape: Shape, sizes: dict[str, int]) -> tuple[int, ...]:
    named = {"batch": B, "seq": S, "n": N}
    return tuple(
        next(sizes[k] for k, v in named.items() if v == e) if not isinstance(e, int) else e for e in shape
    )


def scalar(value: Any) -> Any:
    return prim.sum(prim.sin(value), axes=tuple(range(basic.rank_of(value))))


def build(shapes: list[Shape], function: Callable[..., Any]) -> Graph:
    graph = Graph("program")
    inputs = [graph.input(TensorType(f64, shape), f"x{k}") for k, shape in enumerate(shapes)]
    value = function(*inputs)
    graph.set_outputs([value, *gradient(graph, scalar(value), inputs)])
    verify(graph)
    return graph


@pytest.mark.parametrize(
    ("shapes", "function"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_symbolic_programs(shapes: list[Shape], function: Callable[..., Any]) -> None:
    graph = build(shapes, function)
    after = graph
    for one in PASSES:
        after = one.function(after)
        verify(after)
    again = parse_graph(print_graph(after), arrays_of(after))
    for sizes in SIZES:
        fixed = build([concrete(shape, sizes) for shape in shapes], function)
        arrays = [RNG.standard_normal(concrete(shape, sizes)) for shape in shapes]
        named = {
            var.name: sizes[var.name]
            for var in (v.terms[0][0] for v in (B, S, N))  # type: ignore[union-attr]
            if any(var in getattr(e, "variables", ()) for s in shapes for e in s)
        }
        special = specialise(graph, named)
        verify(special)
        expected = graph.run(*arrays)
        for program in (after, again, special, fixed):
            for a, b in zip(program.run(*arrays), expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_a_training_step_over_a_symbolic_batch() -> None:
    graph = Graph("step")
    x, y = graph.input(TensorType(f64, (B, 4)), "x"), graph.input(TensorType(i64, (B,)), "y")
    w, b = graph.state(W.copy(), "w"), graph.state(V.copy(), "b")
    value = loss.cross_entropy(linear.linear(x, w, b), y)
    dw, db = gradient(graph, value, [w, b])
    graph.set_outputs([value, dw, db])
    graph.update(w, w - 0.1 * dw)
    graph.update(b, b - 0.1 * db)
    after = graph
    for one in PASSES:
        after = one.function(after)
        verify(after)
    for size in (1, 7):
        data, labels = RNG.standard_normal((size, 4)), RNG.integers(0, 6, size)
        logits = data @ W.T + V
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        delta = (p - np.eye(6)[labels]) / size
        for program in (graph, after):
            _, gw, gb = program.run(data, labels)
            np.testing.assert_allclose(gw, delta.T @ data, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(gb, delta.sum(0), rtol=1e-9, atol=1e-12)
