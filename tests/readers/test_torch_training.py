"""Training PyTorch modules: the `torch.compile` backend, and whole steps as one program."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import intaglio
from intaglio.shared.errors import ArgumentError, UnsupportedError

torch = pytest.importorskip("torch")
nn = torch.nn
pytestmark = pytest.mark.filterwarnings("ignore")
FAST = {"opt": "fast-compile"}


def networks() -> dict[str, tuple[Any, Any]]:
    torch.manual_seed(0)
    return {
        "perceptron": (nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)), torch.randn(6, 8)),
        "convolutions": (
            nn.Sequential(
                nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
                nn.ConvTranspose2d(6, 4, 2, 2), nn.AvgPool2d(3, 2, 1),
                nn.Upsample(scale_factor=2, mode="bilinear"), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                nn.Linear(16, 4)),
            torch.randn(6, 2, 8, 8)),
        "attention": (
            nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), nn.Flatten(),
                          nn.Linear(24, 4)),
            torch.randn(6, 3, 8)),
    }  # fmt: skip


def gradients(module: Any, network: Any, x: Any) -> list[Any]:
    network.zero_grad()
    y = module(x)
    loss = (y * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).sum()
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in network.parameters()), *network.buffers()]


@pytest.mark.parametrize("name", ["perceptron", "convolutions", "attention"])
def test_backend_gives_results_and_gradients(name: str) -> None:
    network, x = networks()[name]
    twin = copy.deepcopy(network)
    expected = gradients(network, network, x)
    torch._dynamo.reset()
    compiled = torch.compile(twin, backend="intaglio", fullgraph=True, options=FAST)
    found = gradients(compiled, twin, x)
    largest = max(float(e.abs().max()) for e in expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * largest)


def test_backend_takes_other_sizes_and_graph_breaks() -> None:
    network = nn.Linear(4, 3)

    def function(x: Any) -> Any:
        y = network(x)
        if y.sum() > 0:
            return y * 2
        return y - 1

    torch._dynamo.reset()
    compiled = torch.compile(function, backend="intaglio", options=FAST)
    for n in (2, 5, 3, 7):
        x = torch.randn(n, 4)
        torch.testing.assert_close(compiled(x), function(x), rtol=1e-5, atol=1e-6)


def test_backend_names_what_it_cannot() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(torch.special.i0, backend="intaglio", fullgraph=True)
    with pytest.raises(Exception, match="i0"):
        compiled(torch.randn(3))


OPTIMISERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "adam": lambda p: torch.optim.Adam(p, 1e-2, weight_decay=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-2, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.5, centered=True),
}


def train(network: Any, optimiser: Any, batch: Any, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(network(batch[0]), batch[1])
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    ("name", "kind"), [("perceptron", k) for k in OPTIMISERS] + [("convolutions", "sgd")]
)
def test_training_equals_eager(name: str, kind: str) -> None:
    network, x = networks()[name]
    batch = (x, torch.arange(len(x)) % 4)
    optimiser = OPTIMISERS[kind](network.parameters())
    train(network, optimiser, batch, 2)  # its state is taken over too
    step = intaglio.compile_training(
        network, nn.CrossEntropyLoss(), optimiser, batch, threads=1, opt="fast-compile"
    )
    found = [step(*batch) for _ in range(20)]
    twin = copy.deepcopy(network)
    other = OPTIMISERS[kind](twin.parameters())
    other.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    expected = train(twin, other, batch, 20)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-5)
    network.load_state_dict(step.state_dict())
    for ours, theirs in zip(network.state_dict().values(), twin.state_dict().values(), strict=True):
        if ours.is_floating_point():
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    step.sync()
    np.testing.assert_allclose(train(network, optimiser, batch, 3), train(twin, other, batch, 3), rtol=1e-3)


def test_learning_rates_are_read_at_every_step() -> None:
    network, x = networks()["perceptron"]
    batch = (x, torch.arange(len(x)) % 4)
    optimiser = torch.optim.SGD(network.parameters(), 0.1)
    step = intaglio.compile_training(network, nn.CrossEntropyLoss(), optimiser, batch, opt="fast-compile")
    before = step.state_dict()
    optimiser.param_groups[0]["lr"] = 0.0
    step(*batch)
    for ours, theirs in zip(step.state_dict().values(), before.values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_dropout_draws_new_numbers_and_recurrent_networks_train_as_loops() -> None:
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(5, 8, batch_first=True)
            self.drop = nn.Dropout(0.5)
            self.head = nn.Linear(8, 4)

        def forward(self, x: Any) -> Any:
            return self.head(self.drop(self.lstm(x)[0][:, -1]))

    network = Tagger()
    batch = (torch.randn(6, 30, 5), torch.arange(6) % 4)
    optimiser = torch.optim.SGD(network.parameters(), 0.0)
    step = intaglio.compile_training(network, nn.CrossEntropyLoss(), optimiser, batch, opt="fast-compile")
    assert len({round(step(*batch), 6) for _ in range(4)}) > 1
    assert any(node.op.name == "scan" for node in step.compiled.graph.nodes)
    assert len(step.compiled.program.kernels) < 40


def test_the_step_is_exported_as_c(tmp_path: Path) -> None:
    network, x = networks()["perceptron"]
    batch = (x, torch.arange(len(x)) % 4)
    optimiser = torch.optim.SGD(network.parameters(), 0.1)
    step = intaglio.compile_training(network, nn.CrossEntropyLoss(), optimiser, batch, opt="fast-compile")
    directory = step.export_c(tmp_path / "step", name="step")
    subprocess.run(["make", "-s", "test"], cwd=directory, check=True, timeout=120)


def test_errors() -> None:
    network = nn.Linear(3, 2)
    batch = (torch.randn(4, 3), torch.zeros(4, dtype=torch.int64))
    mean, none = nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="none")
    sgd, lbfgs = torch.optim.SGD(network.parameters(), 0.1), torch.optim.LBFGS(network.parameters())
    other = torch.optim.SGD(nn.Linear(2, 2).parameters(), 0.1)
    for loss, optimiser, error, match in (
        (mean, lbfgs, UnsupportedError, "LBFGS"),
        (mean, other, ArgumentError, "no parameter"),
        (none, sgd, ArgumentError, "scalar"),
    ):
        with pytest.raises(error, match=match):
            intaglio.compile_training(network, loss, optimiser, batch)
