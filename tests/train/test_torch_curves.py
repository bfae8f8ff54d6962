"""Whole steps of real networks, compiled, follow the loss curve of eager PyTorch."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import intaglio

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = 20


class First(torch.nn.Module):
    """A model of `transformers` that gives its first result."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Any) -> Any:
        return self.model(x)[0]


def loss(result: Any, target: Any) -> Any:
    return torch.nn.functional.cross_entropy(result.flatten(0, -2), target.flatten())


def gpt2() -> tuple[Any, Any, Any]:
    """Four layers of 256, on two texts of 32 words."""
    sizes = {"n_embd": 256, "n_layer": 4, "n_head": 4, "n_positions": 32, "vocab_size": 500}
    rates = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = First(transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **rates, use_cache=False)))
    words = torch.randint(0, 500, (2, 33))
    return (
        model,
        lambda p: torch.optim.AdamW(p, 3e-4),
        (words[:, :-1].contiguous(), words[:, 1:].contiguous()),
    )


def resnet18() -> tuple[Any, Any, Any]:
    """ResNet-18 on four images of 64 x 64."""
    config = transformers.ResNetConfig(
        hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic", num_labels=10
    )
    model = First(transformers.ResNetForImageClassification(config))
    make = lambda p: torch.optim.SGD(p, 1e-3, momentum=0.9)
    return model, make, (torch.randn(4, 3, 64, 64), torch.arange(4))


def twins(name: str) -> tuple[tuple[Any, Any, Any], tuple[Any, Any]]:
    torch.manual_seed(0)
    model, make, batch = {"gpt2": gpt2, "resnet18": resnet18}[name]()
    model.train()
    twin = copy.deepcopy(model)
    return (model, make(model.parameters()), batch), (twin, make(twin.parameters()))


def curve(forward: Any, optimizer: Any, batch: Any) -> list[float]:
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        value = loss(forward(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


@pytest.mark.parametrize("name", ["gpt2", "resnet18"])
def test_whole_steps(name: str) -> None:
    (model, optimizer, batch), (twin, other) = twins(name)
    step = intaglio.compile_training(model, loss, optimizer, batch, threads=2)
    found = [step(*batch) for _ in range(STEPS)]
    expected = curve(twin, other, batch)
    assert expected[-1] < 0.9 * expected[0]
    np.testing.assert_allclose(found, expected, rtol=2e-3)
    state = step.state_dict()
    for key, value in twin.state_dict().items():
        error = float((state[key] - value).double().norm())
        assert error <= 2e-2 * float(value.double().norm()) + 1e-3 * value.numel() ** 0.5, key


def test_the_backend_with_an_optimiser_of_pytorch() -> None:
    (model, optimizer, batch), (twin, other) = twins("gpt2")
    torch._dynamo.reset()
    forward = torch.compile(model, backend="intaglio")
    found = curve(forward, optimizer, batch)
    np.testing.assert_allclose(found, curve(twin, other, batch), rtol=1e-3)
