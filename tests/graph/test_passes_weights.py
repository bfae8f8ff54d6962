"""FoldScaleAxis and CombineParallel: where they fire, where they must not, and that results stay."""

from __future__ import annotations

import numpy as np
import pytest
from generate import assert_same, random_inputs

from intaglio.graph.ir import Graph, Value
from intaglio.graph.passes import PASSES
from intaglio.graph.passes.combine_parallel import combine_parallel_conv2d, combine_parallel_matmul
from intaglio.graph.passes.fold_scale_axis import fold_scale_axis
from intaglio.graph.spec import verify
from intaglio.ops import prim
from intaglio.ops.compositions.normalization import batch_norm
from intaglio.shared.dtypes import f32
from intaglio.shared.index import Var, var_index
from intaglio.shared.types import TensorType

RNG = np.random.default_rng(0)


def names(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


def array(*shape: int) -> np.ndarray:  # type: ignore[type-arg]
    return RNG.standard_normal(shape).astype(np.float32)


def conv(x: Value, w: Value, groups: int = 1) -> Value:
    return prim.conv(x, w, strides=(1, 1), dilations=(1, 1), padding=((1, 1), (1, 1)), groups=groups)


def optimise(graph: Graph) -> Graph:
    for one in PASSES:
        graph = one.function(graph)
        verify(graph)
    return graph


@pytest.mark.parametrize("groups", [1, 2])
def test_batch_norm_folds_into_a_convolution(groups: int) -> None:
    graph = Graph()
    x = graph.input(TensorType(f32, (2, 4, 5, 5)), "x")
    y = conv(x, graph.constant(array(6, 4 // groups, 3, 3)), groups)
    mean, variance, weight, bias = array(6), np.abs(array(6)) + 0.5, array(6), array(6)
    y = batch_norm(y, *(graph.constant(c) for c in (mean, variance, weight, bias)))
    graph.set_outputs([prim.max(y, 0.0)])
    after = optimise(graph)
    assert [n for n in names(after) if n != "broadcast"] == ["conv", "add", "max"]
    assert_same(graph, after, random_inputs(graph, 1, awkward=False), ulps=20000)


def test_an_affine_chain_folds_into_a_contraction() -> None:
    batch = var_index(Var("batch", 1, 8))
    graph = Graph()
    x = graph.input(TensorType(f32, (batch, 4)), "x")
    y = prim.dot(x, graph.constant(array(3, 4)), spec="mk,nk->mn")
    graph.set_outputs([2.0 - (-(y + array(3)) / array(3)) * 0.5])
    after = optimise(graph)
    assert [n for n in names(after) if n != "broadcast"] == ["dot", "add"]
    assert_same(graph, after, [array(3, 4)], ulps=20000)


def test_a_lone_bias_stays() -> None:
    graph = Graph()
    x = graph.input(TensorType(f32, (2, 4)), "x")
    graph.set_outputs([prim.dot(x, graph.constant(array(4, 3)), spec="mk,kn->mn") + array(3)])
    assert fold_scale_axis(graph) is graph


@pytest.mark.parametrize(
    "case", ["shared weights", "other reader", "other axis", "overflow", "result", "by zero"]
)
def test_scales_that_must_stay(case: str) -> None:
    graph = Graph()
    x = graph.input(TensorType(f32, (2, 4)), "x")
    w = graph.constant(array(4, 3))
    y = prim.dot(x, w, spec="mk,kn->mn")
    scale = {"other axis": array(2, 1), "overflow": np.float32(3e38) * np.ones(3, np.float32)}.get(
        case, array(3)
    )
    scaled = y / np.zeros(3, np.float32) if case == "by zero" else y * scale
    outputs = [scaled * 3e3 if case == "overflow" else scaled]
    if case == "shared weights":
        outputs.append(prim.dot(x * 2.0, w, spec="mk,kn->mn"))
    elif case == "other reader":
        outputs.append(prim.exp(y))
    elif case == "result":
        outputs.append(y)
    graph.set_outputs(outputs)
    assert fold_scale_axis(graph) is graph


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_scale_of_channels_in_front_folds_into_a_padded_convolution(groups: int) -> None:
    graph = Graph()
    x = graph.input(TensorType(f32, (2, 4, 5, 5)), "x")
    scaled = (x * array(4, 1, 1)) / array(1, 4, 1, 1) * 3.0
    graph.set_outputs([conv(scaled, graph.constant(array(8, 4 // groups, 3, 3)), groups)])
    after = fold_scale_axis(graph)
    verify(after)
    assert names(after) == ["conv"]
    assert_same(graph, after, random_inputs(graph, 1, awkward=False), ulps=20000)


def test_a_scale_of_rows_in_front_folds_into_a_contraction() -> None:
    graph = Graph()
    x = graph.input(TensorType(f32, (3, 2, 4)), "x")
    scale = array(3, 1, 4)
    graph.set_outputs([prim.dot(x * scale, graph.constant(array(4, 5, 3)), spec="amk,kna->mn")])
    after = fold_scale_axis(graph)
    assert names(after) == ["dot"]
    assert_same(graph, after, random_inputs(graph, 1, awkward=False), ulps=20000)


@pytest.mark.parametrize(
    "case", ["shift", "other axis", "other reader", "result", "batched axis", "overflow", "dividend"]
)
def test_scales_in_front_that_must_stay(case: str) -> None:
    graph = Graph()
    x = graph.input(TensorType(f32, (3, 2, 4)), "x")
    w = graph.constant(array(3, 4, 5) * np.float32(1e30 if case == "overflow" else 1))
    factor = {"other axis": array(1, 2, 1), "batched axis": array(3, 1, 1), "overflow": array(4) * 1e30}
    other = factor.get(case, array(4)).astype(np.float32)
    y = x + other if case == "shift" else other / x if case == "dividend" else x * other
    outputs = [prim.dot(y, w, spec="amk,akn->amn")]
    outputs += [y] if case == "result" else [prim.exp(y)] if case == "other reader" else []
    graph.set_outputs(outputs)
    assert fold_scale_axis(graph) is graph


@pytest.mark.parametrize("biases", [(True, True, True), (True, False, True)])
def test_matmuls_of_one_input_become_one(biases: tuple[bool, ...]) -> None:
    graph = Graph()
    x = graph.input(TensorType(f32, (5, 4)), "x")
    outputs = []
    for width, biased in zip((3, 2, 4), biases, strict=True):
        y = prim.dot(x, graph.constant(array(4, width)), spec="mk,kn->mn")
        outputs.append(prim.exp(y + array(width) if biased else y))
    graph.set_outputs(outputs)
    after = combine_parallel_matmul(graph)
    verify(after)
    assert names(after).count("dot") == 1
    assert names(after).count("add") == (1 if all(biases) else sum(biases))
    assert_same(graph, after, random_inputs(graph, 1, awkward=False), ulps=1000)


def test_convolutions_of_one_input_become_one() -> None:
    graph = Graph()
    x = graph.input(TensorType(f32, (2, 4, 5, 5)), "x")
    a, b = (conv(x, graph.constant(array(width, 4, 3, 3))) for width in (2, 5))
    graph.set_outputs([a, b + array(5, 1, 1), conv(x, graph.constant(array(2, 4, 1, 1)))])
    after = combine_parallel_conv2d(graph)
    verify(after)
    assert names(after).count("conv") == 2
    assert_same(graph, after, random_inputs(graph, 1, awkward=False), ulps=5000)


def test_weights_that_are_trained_are_not_combined() -> None:
    graph = Graph()
    x = graph.input(TensorType(f32, (5, 4)), "x")
    states = [graph.state(array(4, 3)) for _ in range(2)]
    graph.set_outputs([prim.dot(x, w, spec="mk,kn->mn") for w in states])
    assert combine_parallel_matmul(graph) is graph


def bn(x: Value) -> Value:
    channels = int(x.shape[1])
    mean, weight, bias = (x.graph.constant(array(channels)) for _ in range(3))
    return batch_norm(x, mean, x.graph.constant(np.abs(array(channels)) + 0.5), weight, bias)


NETWORKS = {
    "one norm": (lambda x, w: [prim.max(bn(conv(x, w)), 0.0)], 0),
    "two norms": (lambda x, w: [bn(bn(conv(x, w)))], 0),
    "norm read twice": (lambda x, w: [prim.exp(y := bn(conv(x, w))), prim.neg(y)], 0),
    "norm is a result": (lambda x, w: [y := bn(conv(x, w)), prim.exp(y)], 0),
    "convolution is a result": (lambda x, w: [y := conv(x, w), bn(y)], 1),
    "convolution read twice": (lambda x, w: [bn(y := conv(x, w)), prim.exp(y)], 1),
    "weights read twice": (lambda x, w: [bn(conv(x, w)), bn(conv(prim.exp(x), w))], 2),
    "residual": (lambda x, w: [bn(conv(x, w)) + x], 0),
    "depthwise": (lambda x, w: [bn(conv(x, x.graph.constant(array(4, 1, 3, 3)), 4))], 0),
    "norm in front": (lambda x, w: [conv(bn(x), w)], 1),
    "scale in front": (lambda x, w: [conv(x * array(4, 1, 1), w)], 0),
    "scale of rows": (lambda x, w: [conv(x, w) * array(5, 1)], 1),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_norms_around_convolutions(name: str) -> None:
    """How many multiplications the passes leave; what must stay does, and results stay in any case."""
    build, left = NETWORKS[name]
    graph = Graph()
    x = graph.input(TensorType(f32, (2, 4, 5, 5)), "x")
    graph.set_outputs(build(x, graph.constant(array(4, 4, 3, 3))))
    after = optimise(graph)
    assert names(after).count("mul") + names(after).count("div") == left
    assert_same(graph, after, random_inputs(graph, 1, awkward=False), ulps=20000)
