"""Optimisers and gradients inside of a model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from intaglio.readers.onnx import load
from intaglio.shared.errors import UnsupportedError
from tests.readers.onnx_batch import case, compare, merged, run

RNG = np.random.default_rng(13)
DOMAIN = "ai.onnx.preview.training"


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def positive(*shape):
    return np.abs(floats(*shape))


def update(op, step, *tensors, outputs, **attributes):
    return case(op, np.float32(0.1), np.int64(step), *tensors, domain=DOMAIN, outputs=outputs, **attributes)


MOMENTUM = {"alpha": 0.9, "beta": 0.5, "norm_coefficient": 0.01}
UPDATES = [
    *(
        update("Adagrad", t, floats(3), floats(3), positive(3), outputs=2, decay_factor=0.1, epsilon=1e-5)
        for t in (0, 5)
    ),
    update(
        "Adagrad",
        2,
        *(f(n) for f in (floats, floats, positive) for n in (2, 3)),
        outputs=4,
        norm_coefficient=0.01,
        epsilon=1e-5,
    ),
    *(
        update(
            "Adam",
            t,
            *(floats(4) for _ in range(3)),
            positive(4),
            outputs=3,
            epsilon=1e-2,
            norm_coefficient=0.1,
        )
        for t in (0, 5)
    ),
    update(
        "Adam",
        1,
        *(floats(4) for _ in range(3)),
        positive(4),
        outputs=3,
        epsilon=1e-2,
        norm_coefficient_post=0.1,
    ),
    *(
        update("Momentum", t, floats(4), floats(4), floats(4), outputs=2, mode=mode, **MOMENTUM)
        for t in (0, 5)
        for mode in ("standard", "nesterov")
    ),
]


def test_updates_as_the_reference():
    model, feeds = merged(UPDATES)
    wanted = [np.asarray(y, np.float32) for y in ReferenceEvaluator(model).run(None, feeds)]
    compare(UPDATES, run(model, feeds), wanted)


def gradient_model(inputs=("a", "b")):
    """`c = a * b + a`, and the derivatives of its sum by a and b."""
    nodes = [
        helper.make_node("Mul", ["a", "b"], ["product"]),
        helper.make_node("Add", ["product", "a"], ["c"]),
        helper.make_node("Identity", ["a"], ["other"]),
        helper.make_node("Neg", ["a"], ["negative"]),
        helper.make_node("Gradient", list(inputs), ["da", "db"], domain=DOMAIN, xs=["a", "b"], y="c"),
    ]
    infos = [helper.make_tensor_value_info(name, 1, [3]) for name in ("a", "b")]
    results = [onnx.ValueInfoProto(name=name) for name in ("c", "da", "db")]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(helper.make_graph(nodes, "g", infos, results), opset_imports=opsets)


def test_gradient():
    a, b = floats(3), floats(3)
    c, da, db = run(gradient_model(), {"a": a, "b": b})
    for ours, wanted in ((c, a * b + a), (da, b + 1), (db, a)):
        np.testing.assert_allclose(ours, wanted, rtol=1e-6)


def test_gradient_at_other_values_is_refused():
    with pytest.raises(UnsupportedError, match="other values"):
        load(gradient_model(("negative", "b")))
