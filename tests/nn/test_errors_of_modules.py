"""What modules and functions say when they are used wrongly: the two facts and the user's line."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio import nn
from intaglio.nn import functional as F
from intaglio.shared.errors import ArgumentError, DTypeError, IntaglioError, ShapeError, UnsupportedError

X = np.ones((2, 3), np.float32)
IMAGE = np.ones((1, 2, 8, 8), np.float32)

CASES = [
    (ShapeError, r"\[2, 3\] but weight \[2, 4\]", lambda: nn.Linear(4, 2)(X)),
    (ShapeError, "x has 2 channels", lambda: nn.Conv2d(3, 4, 3)(IMAGE)),
    (ShapeError, "expected 4 axes", lambda: nn.BatchNorm2d(3)(X)),
    (ShapeError, r"\[2, 3\], expected 4 channels", lambda: nn.BatchNorm1d(4)(X)),
    (ShapeError, r"does not end in \[4\]", lambda: nn.LayerNorm(4)(X)),
    (ArgumentError, "index 4 is out of range", lambda: nn.Embedding(4, 2)(np.array([0, 4]))),
    (DTypeError, "integers are expected", lambda: nn.Embedding(4, 2)(X)),
    (ArgumentError, "target 3 is no class of 3", lambda: F.cross_entropy(X, np.array([0, 3]))),
    (ArgumentError, "target -1 is no class of 3", lambda: nn.NLLLoss()(X, np.array([-1, 0]))),
    (ShapeError, r"target is \[3\]", lambda: F.cross_entropy(X, np.array([0, 1, 2]))),
    (ShapeError, r"target is \[3, 2\]", lambda: F.mse_loss(X, X.T)),
    (ShapeError, r"\[2, 2, 2\], expected", lambda: nn.LSTM(3, 4)(np.ones((2, 2, 2), np.float32))),
    (ShapeError, r"state is \[1, 3, 4\], expected \[1, 2, 4\]",
     lambda: nn.GRU(3, 4)(np.ones((5, 2, 3), np.float32), np.zeros((1, 3, 4), np.float32))),
    (ShapeError, r"window of \[9, 9\] does not fit", lambda: nn.MaxPool2d(9)(IMAGE)),
    (UnsupportedError, "mode 'cubic'", lambda: nn.Upsample(size=3, mode="cubic")(IMAGE)),
    (ArgumentError, "either size or scale_factor", lambda: F.interpolate(IMAGE)),
    (ArgumentError, "mode 'mirror' is unknown", lambda: F.pad(X, (1, 1), "mirror")),
    (ShapeError, "3 amounts", lambda: F.pad(X, (1, 1, 1))),
    (ShapeError, "2 channels", lambda: F.pixel_shuffle(IMAGE, 2)),
    (ArgumentError, r"p is 2\.0", lambda: F.dropout(X, 2.0)),
    (ShapeError, r"attn_mask is \[2, 2\], expected \[3, 3\]",
     lambda: nn.MultiheadAttention(4, 2)(*[np.ones((3, 1, 4), np.float32)] * 3, attn_mask=np.eye(2) > 0)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "message", "call"), CASES, ids=[m for _, m, _ in CASES])
def test_calls(kind, message, call):
    with pytest.raises(kind, match=message) as caught:
        call()
    assert caught.value.where is not None
    assert caught.value.where.file == __file__


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("3 input and 4 output channels", lambda: nn.Conv2d(3, 4, 3, groups=2)),
        ("padding_mode 'mirror'", lambda: nn.Conv1d(1, 1, 3, padding_mode="mirror")),
        ("embed_dim 6 does not divide into 4 heads", lambda: nn.MultiheadAttention(6, 4)),
        ("5 channels do not divide into 2 groups", lambda: nn.GroupNorm(2, 5)),
        ("p is -1", lambda: nn.Dropout(-1)),
        ("nonlinearity 'sine'", lambda: nn.RNN(2, 3, nonlinearity="sine")),
        ("dropout is 2", lambda: nn.LSTM(2, 3, dropout=2)),
        ("neither relu nor gelu", lambda: nn.TransformerEncoderLayer(4, 2, activation="sine")),
        ("fewer than 2 axes", lambda: nn.init.xavier_uniform_(nn.Linear(2, 3).bias)),
        ("nonlinearity 'sine' is unknown", lambda: nn.init.calculate_gain("sine")),
    ],
)
def test_settings(message, make):
    with pytest.raises(IntaglioError, match=message):
        make()


def test_weights_may_be_given_first_and_labels_may_be_bytes():
    weight = np.array([1, 2, 3], np.float32)
    labels = np.array([0, 2])
    expected = F.cross_entropy(X, labels, weight=weight).item()
    assert nn.CrossEntropyLoss(weight)(X, labels.astype(np.uint8)).item() == expected
    with pytest.raises(TypeError, match="not foo"):
        nn.CrossEntropyLoss(foo=1)
