"""The PyTorch models of `inference.py`, with random weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
import transformers
from torch import Tensor, nn
from torch_models import First, inference

Made = tuple[nn.Module, Tensor]


class Block(nn.Module):
    """Expand, filter depthwise, project; a bridge where the shapes allow it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        expand = [] if expansion == 1 else conv(inputs, inner, 1)
        filtered = conv(inner, inner, kernel, stride, inner)
        self.body = nn.Sequential(*expand, *filtered, *conv(inner, outputs, 1)[:-1])
        self.bridge = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return x + y if self.bridge else y


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    filtered = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [filtered, nn.BatchNorm2d(outputs), nn.ReLU6()]


def efficientnet_lite0() -> Made:
    # outputs, blocks, kernel, stride, expansion
    plan = ((16, 1, 3, 1, 1), (24, 2, 3, 2, 6), (40, 2, 5, 2, 6), (80, 3, 3, 2, 6), (112, 3, 5, 1, 6),
            (192, 4, 5, 2, 6), (320, 1, 3, 1, 6))  # fmt: skip
    layers, inputs = conv(3, 32, 3, 2), 32
    for outputs, count, kernel, stride, expansion in plan:
        for k in range(count):
            layers.append(Block(inputs, outputs, kernel, stride if k == 0 else 1, expansion))
            inputs = outputs
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000))
    return nn.Sequential(*layers, *conv(320, 1280, 1), *head), torch.randn(1, 3, 224, 224)


def gpt2() -> Made:
    config = transformers.GPT2Config(
        vocab_size=1000, n_embd=256, n_layer=4, n_head=4, n_positions=64, use_cache=False
    )
    return First(transformers.GPT2LMHeadModel(config)), torch.randint(0, 1000, (1, 64))


def mlp(batch: int) -> Made:
    net = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    return net, torch.randn(batch, 784)


def cnn(batch: int) -> Made:
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 10),
    )  # fmt: skip
    return net, torch.randn(batch, 1, 28, 28)


def lstm() -> Made:
    return First(nn.LSTM(64, 128, batch_first=True)), torch.randn(1, 32, 64)


MODELS: dict[str, Callable[[], Made]] = {
    "mobilenet-v2": lambda: inference("mobilenet-v2"),
    "efficientnet-lite0": efficientnet_lite0,
    "resnet-18": lambda: inference("resnet-18"),
    "bert-6x384": lambda: inference("minilm"),
    "gpt2-4x256": gpt2,
    "mlp-1": lambda: mlp(1),
    "mlp-32": lambda: mlp(32),
    "cnn-1": lambda: cnn(1),
    "cnn-32": lambda: cnn(32),
    "lstm-32": lstm,
}


def model(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A model in evaluation mode, and its inputs."""
    torch.manual_seed(0)
    module, x = MODELS[name]()
    return module.eval(), (x,)
