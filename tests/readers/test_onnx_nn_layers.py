"""Activations, normalizations and losses of ONNX with all attributes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_cases import Case, assert_agree, case, f32, merged, with_reference, with_runtime

from intaglio.compile import compile_graph
from intaglio.readers.onnx import load

X, IMAGE = f32(3, 4, 5) * 2, f32(2, 4, 3, 3)
C = f32(4)
SPREAD = np.abs(f32(4)) + 0.5
BATCH = [IMAGE, C, f32(4), f32(4), SPREAD]
ACTIVATIONS = {
    "celu": case("Celu", X, alpha=0.7),
    "elu": case("Elu", X, alpha=0.5),
    "gelu": case("Gelu", X),
    "gelu_tanh": case("Gelu", X, approximate="tanh"),
    "hard_sigmoid": case("HardSigmoid", X, alpha=0.3, beta=0.4),
    "hard_swish": case("HardSwish", X),
    "hardmax": case("Hardmax", X, axis=1),
    "leaky": case("LeakyRelu", X, alpha=0.2),
    "log_softmax": case("LogSoftmax", X, axis=0),
    "mish": case("Mish", X),
    "prelu": case("PRelu", X, f32(4, 1)),
    "relu": case("Relu", X),
    "selu": case("Selu", X, alpha=1.5, gamma=1.1),
    "shrink": case("Shrink", X, bias=0.2, lambd=0.8),
    "sigmoid": case("Sigmoid", X),
    "softmax": case("Softmax", X, axis=1),
    "softplus": case("Softplus", X),
    "softsign": case("Softsign", X),
    "thresholded": case("ThresholdedRelu", X, alpha=0.6),
}
FLATTENED = {
    "softmax": case("Softmax", X),
    "log_softmax": case("LogSoftmax", X, axis=2),
    "hardmax": case("Hardmax", X, axis=0),
    "last": case("Softmax", X, axis=-1),
}
NORMS = {
    "batch": case("BatchNormalization", *BATCH, known=(1, 2, 3, 4), epsilon=1e-3),
    "instance": case("InstanceNormalization", IMAGE, C, f32(4)),
    "layer": case("LayerNormalization", IMAGE, f32(3, 3), f32(3, 3), axis=2),
    "layer_all": case("LayerNormalization", IMAGE, f32(3), outputs=3, epsilon=1e-2),
    "group": case("GroupNormalization", IMAGE, C, f32(4), num_groups=2),
    "lrn": case("LRN", IMAGE, size=3, alpha=0.3, bias=2.0),
    "lp1": case("LpNormalization", X, axis=1, p=1),
    "lp2": case("LpNormalization", X),
    "mean_variance": case("MeanVarianceNormalization", IMAGE),
    "mean_variance_axes": case("MeanVarianceNormalization", X, axes=[-1, 0]),
}
LABELS, WEIGHTS = np.array([[1, 3, 0], [2, 1, 1]]), np.abs(f32(4))
LOGITS = f32(2, 4, 3)
LOSSES = {
    **{f"nll_{r}": case("NegativeLogLikelihoodLoss", LOGITS, LABELS, WEIGHTS, reduction=r, ignore_index=1)
       for r in ("mean", "sum", "none")},
    "nll_plain": case("NegativeLogLikelihoodLoss", LOGITS, LABELS),
    "entropy": case("SoftmaxCrossEntropyLoss", LOGITS, LABELS, WEIGHTS, outputs=2),
    "entropy_ignored": case("SoftmaxCrossEntropyLoss", LOGITS, np.array([[1, -1, 0], [2, -1, 1]]),
                            ignore_index=-1),
    "entropy_flat": case("SoftmaxCrossEntropyLoss", f32(5, 4), np.array([0, 3, 2, 1, 1]), reduction="sum"),
}  # fmt: skip
TRAINING = {
    "batch": case("BatchNormalization", *BATCH, outputs=3, training_mode=1, momentum=0.8),
    "dropout": case("Dropout", X, outputs=2),
}
REFERENCE_ONLY = {
    "lrn_even": case("LRN", f32(4, 4, 3, 3), size=2, beta=0.5),
    "swish": case("Swish", X, alpha=1.3),
    "rms": case("RMSNormalization", IMAGE, f32(3, 3), axis=-2),
}
TABLES: dict[str, tuple[int, dict[str, Case]]] = {
    "activations": (20, ACTIVATIONS),
    "flattened": (11, FLATTENED),
    "norms": (21, NORMS),
    "losses": (13, LOSSES),
    "training": (15, TRAINING),
}


@pytest.mark.parametrize("name", TABLES)
def test_layers_agree_with_the_runtime(name: str) -> None:
    pytest.importorskip("onnxruntime")
    opset, cases = TABLES[name]
    assert_agree(cases, opset, with_runtime)


def test_new_layers_agree_with_the_reference() -> None:
    assert_agree(REFERENCE_ONLY, 24, with_reference)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_asked_for_at_run_time(training: bool) -> None:
    x, ratio, asked = f32(40, 50), np.array(0.3, np.float32), np.array(training)
    proto, feeds = merged({"d": case("Dropout", x, ratio, asked, outputs=2)}, 22)
    program = compile_graph(load(proto), threads=1, opt="fast-compile")
    y, mask = program.run_arrays(list(feeds.values()))
    np.testing.assert_allclose(y, np.where(mask, x / np.float32(0.7), 0) if training else x, rtol=1e-6)
    assert abs(mask.mean() - (0.7 if training else 1)) < 0.05
    again = program.run_arrays(list(feeds.values()))[1]
    assert training == bool((again != mask).any())
