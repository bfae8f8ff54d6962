"""Modules against PyTorch's: same state dict, same values, same gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_pairs import arrays, assert_close, both, compare

import intaglio
from intaglio import nn

X = (4, 6)
SEQ = (5, 2, 6)
L1 = (2, 4, 9)
I2 = (2, 4, 8, 7)
V3 = (2, 4, 5, 6, 4)

MODULES = [
    ("Linear(6, 3)", [X]),
    ("Linear(6, 3, bias=False)", [SEQ]),
    ("Bilinear(6, 5, 3)", [X, (4, 5)]),
    ("Embedding(10, 4)", [("int", 10, (3, 5))]),
    ("Embedding(10, 4, padding_idx=2)", [("int", 4, (3, 5))]),
    ("Conv1d(4, 6, 3)", [L1]),
    ("Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2)", [L1]),
    ("Conv1d(4, 6, 3, padding='same')", [L1]),
    ("Conv2d(4, 6, 3)", [I2]),
    ("Conv2d(4, 8, (3, 2), stride=(2, 1), padding=(1, 0), bias=False)", [I2]),
    ("Conv2d(4, 4, 3, padding=1, groups=4)", [I2]),
    ("Conv2d(4, 6, 3, padding='same', dilation=2)", [I2]),
    ("Conv2d(4, 6, 3, padding=1, padding_mode='reflect')", [I2]),
    ("Conv2d(4, 6, 3, padding=(1, 2), padding_mode='circular')", [I2]),
    ("Conv2d(4, 6, 3, padding=1, padding_mode='replicate')", [I2]),
    ("Conv3d(4, 3, 2, padding=1)", [V3]),
    ("ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1)", [L1]),
    ("ConvTranspose2d(4, 6, 3)", [I2]),
    ("ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=2)", [I2]),
    ("BatchNorm1d(6)", [X]),
    ("BatchNorm1d(4)", [L1]),
    ("BatchNorm2d(4)", [I2]),
    ("BatchNorm2d(4, affine=False)", [I2]),
    ("BatchNorm2d(4, momentum=None)", [I2]),
    ("BatchNorm2d(4, track_running_stats=False)", [I2]),
    ("BatchNorm3d(4)", [V3]),
    ("LayerNorm(6)", [X]),
    ("LayerNorm((8, 7), eps=1e-3)", [I2]),
    ("LayerNorm(6, bias=False)", [SEQ]),
    ("RMSNorm(6)", [X]),
    ("RMSNorm(6, eps=1e-2, elementwise_affine=False)", [X]),
    ("GroupNorm(2, 4)", [I2]),
    ("InstanceNorm1d(4)", [L1]),
    ("InstanceNorm2d(4, affine=True)", [I2]),
    ("InstanceNorm2d(4, affine=True, track_running_stats=True)", [I2]),
    ("RNN(6, 5)", [SEQ]),
    ("RNN(6, 5, nonlinearity='relu', bias=False)", [SEQ]),
    ("RNN(6, 5, num_layers=2, bidirectional=True)", [SEQ, (4, 2, 5)]),
    ("GRU(6, 5)", [SEQ]),
    ("GRU(6, 5, 2, batch_first=True, bidirectional=True)", [SEQ]),
    ("GRU(6, 5)", [(7, 6), (1, 5)]),
    ("LSTM(6, 5)", [SEQ]),
    ("LSTM(6, 5, num_layers=2, batch_first=True)", [SEQ]),
    ("LSTM(6, 5, bidirectional=True, bias=False)", [SEQ]),
    ("RNNCell(6, 5)", [X]),
    ("RNNCell(6, 5, nonlinearity='relu')", [X, (4, 5)]),
    ("GRUCell(6, 5)", [X, (4, 5)]),
    ("LSTMCell(6, 5)", [X]),
    ("MultiheadAttention(6, 2)", [SEQ, SEQ, SEQ]),
    ("MultiheadAttention(6, 3, batch_first=True, kdim=4, vdim=5)", [(2, 3, 6), (2, 7, 4), (2, 7, 5)]),
    ("MultiheadAttention(6, 2, bias=False)", [(3, 6), (4, 6), (4, 6)]),
    ("TransformerEncoderLayer(6, 2, 16, dropout=0.0)", [SEQ]),
    ("TransformerEncoderLayer(6, 3, 16, 0.0, activation='gelu', norm_first=True, batch_first=True)", [SEQ]),
    ("PReLU()", [X]),
    ("PReLU(4)", [I2]),
    ("ReLU()", [X]), ("ReLU6()", [X]), ("LeakyReLU(0.2)", [X]), ("ELU(0.5)", [X]), ("CELU(0.7)", [X]),
    ("SELU()", [X]), ("GELU()", [X]), ("GELU('tanh')", [X]), ("SiLU()", [X]), ("Mish()", [X]),
    ("Sigmoid()", [X]), ("LogSigmoid()", [X]), ("Tanh()", [X]), ("Tanhshrink()", [X]), ("Hardtanh()", [X]),
    ("Hardtanh(-0.3, 0.7)", [X]), ("Hardsigmoid()", [X]), ("Hardswish()", [X]), ("Hardshrink()", [X]),
    ("Softshrink(0.3)", [X]), ("Softplus()", [X]), ("Softplus(2.0, 1.0)", [X]), ("Softsign()", [X]),
    ("Threshold(0.1, 20.0)", [X]), ("GLU()", [X]), ("GLU(0)", [X]), ("Softmax(1)", [X]),
    ("Softmin(dim=0)", [X]),
    ("LogSoftmax(dim=-1)", [X]),
    ("MaxPool1d(3)", [L1]),
    ("MaxPool1d(2, stride=1, padding=1)", [L1]),
    ("MaxPool2d(2)", [I2]),
    ("MaxPool2d(3, stride=2, padding=1)", [I2]),
    ("MaxPool2d((3, 2), stride=2, dilation=2)", [I2]),
    ("MaxPool2d(3, stride=2, ceil_mode=True)", [I2]),
    ("AvgPool1d(3, stride=2)", [L1]),
    ("AvgPool2d(2)", [I2]),
    ("AvgPool2d(3, stride=2, padding=1, count_include_pad=False)", [I2]),
    ("AvgPool2d(3, stride=2, padding=1, ceil_mode=True)", [I2]),
    ("AdaptiveAvgPool1d(4)", [L1]),
    ("AdaptiveAvgPool2d(1)", [I2]),
    ("AdaptiveAvgPool2d((3, None))", [I2]),
    ("AdaptiveMaxPool1d(4)", [L1]),
    ("AdaptiveMaxPool2d((3, 2))", [I2]),
    ("Flatten()", [I2]),
    ("Flatten(1, 2)", [I2]),
    ("Unflatten(1, (2, -1))", [I2]),
    ("Identity()", [X]),
    ("Upsample(scale_factor=2)", [I2]),
    ("Upsample(scale_factor=2, mode='bilinear', align_corners=False)", [I2]),
    ("Upsample(size=(5, 9), mode='bilinear', align_corners=True)", [I2]),
    ("Upsample(size=5)", [L1]),
    ("PixelShuffle(2)", [I2]),
    ("PixelUnshuffle(2)", [(2, 3, 8, 6)]),
    ("ZeroPad2d((1, 2, 0, 1))", [I2]),
    ("ConstantPad1d(2, 1.5)", [L1]),
    ("ConstantPad2d((1, -1, 0, 2), 0.5)", [I2]),
    ("ReflectionPad1d(2)", [L1]),
    ("ReflectionPad2d((1, 2, 3, 0))", [I2]),
    ("ReplicationPad2d(2)", [I2]),
    ("CircularPad2d((1, 2, 3, 0))", [I2]),
    ("Dropout(0.0)", [X]),
    ("Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))", [X]),
    ("MSELoss()", [X, X]),
    ("L1Loss(reduction='sum')", [X, (4, 6)]),
    ("SmoothL1Loss(beta=0.5)", [X, X]),
    ("HuberLoss(delta=0.7)", [X, X]),
    ("CrossEntropyLoss(label_smoothing=0.1)", [X, ("int", 6, (4,))]),
    ("NLLLoss(reduction='none')", [X, ("int", 6, (4,))]),
    ("BCEWithLogitsLoss()", [X, X]),
    ("KLDivLoss(reduction='batchmean', log_target=True)", [X, X]),
]  # fmt: skip


def pair(text):
    """The module in both, with PyTorch's initial weights in both."""
    torch.manual_seed(0)
    theirs = eval(f"nn.{text}", {"nn": torch.nn})
    ours = eval(f"nn.{text}", {"nn": nn})
    with torch.no_grad():
        for parameter in theirs.parameters():  # ones and zeros would hide mistakes
            parameter.add_(0.1 * torch.randn_like(parameter))
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("text", "inputs"), MODULES, ids=[text for text, _ in MODULES])
def test_values_and_gradients(text, inputs, training):
    ours, theirs = pair(text)
    ours.train(training)
    theirs.train(training)
    for seed in range(2 if list(ours.buffers()) and training else 1):
        our_inputs, their_inputs = both(arrays(*inputs, seed=seed))
        our_leaves = dict(ours.named_parameters()) | {f"input {k}": x for k, x in enumerate(our_inputs)}
        their_leaves = dict(theirs.named_parameters()) | {f"input {k}": x for k, x in enumerate(their_inputs)}
        compare(ours(*our_inputs), theirs(*their_inputs), our_leaves, their_leaves, 5e-5)
        ours.zero_grad()
        theirs.zero_grad()
    buffers = dict(ours.named_buffers())
    for name, buffer in theirs.named_buffers():
        assert_close(buffers[name], buffer, what=name)


@pytest.mark.parametrize("text", [text for text, _ in MODULES], ids=str)
def test_names_and_shapes(text):
    torch.manual_seed(0)
    theirs = eval(f"nn.{text}", {"nn": torch.nn}).state_dict()
    ours = eval(f"nn.{text}", {"nn": nn}).state_dict()
    assert list(ours) == list(theirs)
    assert {k: tuple(v.shape) for k, v in ours.items()} == {k: tuple(v.shape) for k, v in theirs.items()}
    assert all(np.asarray(v.numpy()).dtype == theirs[k].numpy().dtype for k, v in ours.items())


@pytest.mark.parametrize("need_weights", [True, False])
def test_attention_drops_weights_in_training(need_weights):
    intaglio.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2, dropout=0.4, batch_first=True)
    x = intaglio.tensor(np.random.default_rng(0).standard_normal((1, 6, 8)).astype(np.float32))
    drawn = np.mean([layer(x, x, x, need_weights=need_weights)[0].detach().numpy() for _ in range(600)], 0)
    layer.eval()
    np.testing.assert_allclose(drawn, layer(x, x, x)[0].detach().numpy(), atol=0.06)
