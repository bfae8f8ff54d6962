"""Reshapes that add or drop axes of extent 1, moved over contractions and what follows them."""

from __future__ import annotations

import numpy as np
import pytest
from generate import assert_same, random_inputs

import intaglio
from intaglio.graph.ir import Graph, Value
from intaglio.graph.passes.canonicalize import canonicalize_ops
from intaglio.graph.passes.dead_code import dead_code
from intaglio.ops import prim
from intaglio.shared.dtypes import f32
from intaglio.shared.types import TensorType

CASES = {
    "added in front": ((6, 4), (4, 5), "mk,kn->mn", (1, 6, 5)),
    "dropped in front": ((1, 6, 4), (4, 5), "bmk,kn->bmn", (6, 5)),
    "moved": ((6, 1, 4), (4, 5), "mbk,kn->mbn", (1, 6, 5)),
    "batches": ((3, 6, 4), (3, 4, 5), "bmk,bkn->bmn", (1, 3, 1, 6, 5)),
    "dropped from both": ((1, 6, 4), (1, 4, 5), "bmk,bkn->bmn", (6, 5)),
    "a sum over an axis of extent 1": ((6, 1), (1, 5), "mk,kn->mn", (1, 6, 5)),
    "a vector": ((6, 4), (4,), "mk,k->m", (6, 1)),
}


@pytest.mark.parametrize("case", CASES)
def test_contractions_take_the_shape_of_what_follows(case: str) -> None:
    left, right, spec, shape = CASES[case]
    graph = Graph()
    a, b = graph.input(TensorType(f32, left), "a"), graph.input(TensorType(f32, right), "b")
    product = prim.dot(a, b, spec=spec)
    bias = graph.input(TensorType(f32, product.shape[-1:]), "bias")
    other = graph.input(TensorType(f32, product.shape), "other")
    shifted = (product + prim.broadcast(bias, shape=product.shape)) * prim.tanh(other)
    graph.set_outputs([prim.exp(prim.reshape(shifted, shape=shape))])
    after = dead_code(canonicalize_ops(graph))
    assert next(n for n in after.nodes if n.op.name == "dot").outputs[0].shape == shape
    assert not any(reads_contraction(n.inputs[0]) for n in after.nodes if n.op.name == "reshape")
    assert_same(graph, after, random_inputs(graph, 0, awkward=False), ulps=2000)


def reads_contraction(value: Value) -> bool:
    if value.node is None:
        return False
    return value.node.op.name == "dot" or any(map(reads_contraction, value.node.inputs))


def test_a_second_reader_keeps_the_shape() -> None:
    graph = Graph()
    a, b = graph.input(TensorType(f32, (6, 4)), "a"), graph.input(TensorType(f32, (4, 5)), "b")
    product = prim.dot(a, b, spec="mk,kn->mn")
    graph.set_outputs([prim.exp(prim.reshape(product, shape=(1, 6, 5))), prim.sum(product, axes=(1,))])
    after = dead_code(canonicalize_ops(graph))
    assert next(n for n in after.nodes if n.op.name == "dot").outputs[0].shape == (6, 5)


def test_a_projection_of_rows_and_its_activation_are_one_kernel() -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((24, 40)).astype(np.float32)
    x = rng.standard_normal((1, 16, 24)).astype(np.float32)

    def project(x: intaglio.Tensor) -> intaglio.Tensor:
        return (x.reshape(16, 24) @ weights).reshape(1, 16, 40).tanh()

    compiled = intaglio.compile(project, [x])
    assert len(compiled.program.kernels) == 1
    np.testing.assert_allclose(compiled(x), np.tanh(x @ weights), atol=2e-5)
