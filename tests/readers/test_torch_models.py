"""Models of the package `transformers` with random weights: results, losses and gradients equal eager's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import intaglio

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
nn = torch.nn
pytestmark = pytest.mark.filterwarnings("ignore")
SMALL = {"num_attention_heads": 4, "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128}


class Tagger(nn.Module):
    """An LSTM that names the kind of each word."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.lstm = nn.LSTM(16, 24, bidirectional=True, batch_first=True)
        self.head = nn.Linear(48, 5)

    def forward(self, words: Any) -> Any:
        return self.head(self.lstm(self.embedding(words))[0])


def words() -> Any:
    return torch.randint(0, 50, (2, 12))


def image() -> Any:
    return torch.randn(1, 3, 32, 32)


def whisper() -> Any:
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    sizes = {"d_model": 64, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 128}
    return WhisperEncoder(transformers.WhisperConfig(**sizes, num_mel_bins=80, max_source_positions=50))


def gpt2() -> Any:
    sizes = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 32, "vocab_size": 50}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, use_cache=False))


def t5() -> Any:
    sizes = {"d_model": 64, "d_ff": 128, "num_layers": 2, "num_heads": 4, "d_kv": 16, "vocab_size": 50}
    return transformers.T5EncoderModel(transformers.T5Config(**sizes, use_cache=False))


def resnet() -> Any:
    config = transformers.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1])
    return transformers.ResNetForImageClassification(config)


def mobilenet() -> Any:
    config = transformers.MobileNetV2Config(image_size=32, depth_multiplier=0.35)
    return transformers.MobileNetV2ForImageClassification(config)


MODELS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "bert": (lambda: transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=50)), words),
    "gpt2": (gpt2, words),
    "vit": (
        lambda: transformers.ViTModel(transformers.ViTConfig(**SMALL, image_size=32, patch_size=8)),
        image,
    ),
    "resnet": (resnet, image),
    "mobilenet_v2": (mobilenet, image),
    "t5": (t5, words),
    "whisper": (whisper, lambda: torch.randn(1, 80, 100)),
    "tagger": (Tagger, words),
}


def first(results: Any) -> Any:
    return results if isinstance(results, torch.Tensor) else results[0]


def made(name: str) -> tuple[Any, Any]:
    torch.manual_seed(0)
    build, example = MODELS[name]
    return build().eval(), example()


@pytest.mark.parametrize("name", MODELS)
def test_exported(name: str) -> None:
    from intaglio.readers.torch import load

    model, x = made(name)
    results = intaglio.compile_graph(load(model, [x]), threads=1, opt="fast-compile")(x)
    with torch.no_grad():
        expected = first(model(x)).numpy()
    ours = results[0] if isinstance(results, tuple) else results
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def gradients(call: Any, model: Any, x: Any) -> list[Any]:
    """The loss and the gradient of every parameter it depends on."""
    y = first(call(x))
    loss = (y * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).sum()
    loss.backward()
    return [loss.detach(), *(torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters())]


@pytest.mark.parametrize("name", MODELS)
def test_gradients(name: str) -> None:
    model, x = made(name)
    twin = copy.deepcopy(model)
    torch._dynamo.reset()
    compiled = torch.compile(twin, backend="intaglio", options={"opt": "fast-compile"})
    expected, found = gradients(model, model, x), gradients(compiled, twin, x)
    largest = max(float(e.abs().max()) for e in expected[1:])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * largest)
