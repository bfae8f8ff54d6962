"""Recurrent ONNX operators with all their attributes, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_cases import Case, assert_agree, case, f32, with_runtime

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
T, N, I, H = 5, 3, 4, 2
LENGTHS = np.array([5, 2, 3], np.int32)


def network(
    op: str,
    direction: str = "forward",
    bias: bool = True,
    lengths: bool = False,
    initial: bool = False,
    peepholes: bool = False,
    **attributes: Any,
) -> Case:
    """A node with random weights."""
    d, g = (2 if direction == "bidirectional" else 1), GATES[op]
    state = f32(d, N, H)
    inputs: list[Any] = [f32(T, N, I), f32(d, g * H, I), f32(d, g * H, H)]
    inputs += [f32(d, 2 * g * H) if bias else None, LENGTHS if lengths else None, state if initial else None]
    if op == "LSTM":
        inputs += [f32(d, N, H) if initial else None, f32(d, 3 * H) if peepholes else None]
    outputs = 3 if op == "LSTM" else 2
    return case(
        op, *inputs, outputs=outputs, known=(1, 2, 3), direction=direction, hidden_size=H, **attributes
    )


CASES = {
    "rnn": network("RNN", initial=True),
    "rnn_relu": network("RNN", activations=["Relu"], clip=0.5),
    "rnn_reverse": network("RNN", "reverse", bias=False, lengths=True),
    "rnn_affine": network("RNN", activations=["Affine"], activation_alpha=[0.5], activation_beta=[0.1]),
    "gru": network("GRU", initial=True),
    "gru_linear": network("GRU", linear_before_reset=1, initial=True),
    "gru_linear_without_bias": network("GRU", linear_before_reset=1, bias=False),
    "gru_both_ways": network("GRU", "bidirectional", lengths=True, initial=True),
    "gru_functions": network("GRU", activations=["HardSigmoid", "LeakyRelu"], activation_alpha=[0.3, 0.2],
                             activation_beta=[0.4]),
    "lstm": network("LSTM", initial=True),
    "lstm_peepholes": network("LSTM", "bidirectional", peepholes=True, initial=True),
    "lstm_lengths": network("LSTM", "reverse", lengths=True, initial=True),
    "lstm_clipped": network("LSTM", clip=0.4, initial=True),
    "lstm_coupled": network("LSTM", input_forget=1),
    "lstm_functions": network("LSTM", activations=["Softsign", "ScaledTanh", "Elu"],
                              activation_alpha=[0.7, 0.5], activation_beta=[1.3]),
}  # fmt: skip


def test_recurrent_networks_agree_with_the_runtime() -> None:
    pytest.importorskip("onnxruntime")
    assert_agree(CASES, 14, with_runtime)
