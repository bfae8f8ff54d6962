"""The PyTorch models of `pytorch.py`, built from the package `transformers` with random weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
import transformers
from torch import nn


class First(nn.Module):
    """A model of `transformers` that gives one tensor: its first result."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)[0]


def minilm() -> tuple[nn.Module, torch.Tensor]:
    config = transformers.BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    return transformers.BertModel(config, add_pooling_layer=False), torch.randint(0, 30522, (1, 128))


def vit_tiny() -> tuple[nn.Module, torch.Tensor]:
    config = transformers.ViTConfig(
        hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768, num_labels=1000
    )
    return transformers.ViTForImageClassification(config), torch.randn(1, 3, 224, 224)


def mobilenet_v2() -> tuple[nn.Module, torch.Tensor]:
    config = transformers.MobileNetV2Config(tf_padding=False, num_labels=1000)
    return transformers.MobileNetV2ForImageClassification(config), torch.randn(1, 3, 224, 224)


def resnet18() -> nn.Module:
    config = transformers.ResNetConfig(
        hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic", num_labels=1000
    )
    return transformers.ResNetForImageClassification(config)


INFERENCE: dict[str, Callable[[], tuple[nn.Module, torch.Tensor]]] = {
    "minilm": minilm,
    "vit-tiny": vit_tiny,
    "mobilenet-v2": mobilenet_v2,
    "resnet-18": lambda: (resnet18(), torch.randn(1, 3, 224, 224)),
}


def inference(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A model in evaluation mode, and an input of batch 1."""
    torch.manual_seed(0)
    model, x = INFERENCE[name]()
    return First(model).eval(), x


def train_gpt2() -> tuple[nn.Module, torch.optim.Optimizer, tuple[torch.Tensor, torch.Tensor]]:
    """GPT-2 with 4 layers of 256 and the whole vocabulary, on 4 texts of 64 words."""
    config = transformers.GPT2Config(
        n_embd=256, n_layer=4, n_head=4, n_positions=64, use_cache=False,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    model = First(transformers.GPT2LMHeadModel(config)).train()
    words = torch.randint(0, config.vocab_size, (4, 65))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    return model, optimizer, (words[:, :-1].contiguous(), words[:, 1:].contiguous())


def train_resnet18() -> tuple[nn.Module, torch.optim.Optimizer, tuple[torch.Tensor, torch.Tensor]]:
    """ResNet-18 on 4 images of 224 x 224."""
    model = First(resnet18()).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9, fused=True)
    return model, optimizer, (torch.randn(4, 3, 224, 224), torch.randint(0, 1000, (4,)))


TRAINING = {"train-gpt2": train_gpt2, "train-resnet-18": train_resnet18}


def training(name: str) -> tuple[nn.Module, torch.optim.Optimizer, tuple[torch.Tensor, torch.Tensor]]:
    """A model in training mode, its optimiser, and a batch: input and target."""
    torch.manual_seed(0)
    return TRAINING[name]()


def loss(result: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(result.flatten(0, -2), target.flatten())
