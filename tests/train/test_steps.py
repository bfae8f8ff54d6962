"""Compiled training steps equal eager ones: every optimiser, modes, settings, random draws, statistics."""

from __future__ import annotations

import numpy as np
import pytest

import intaglio
from intaglio import nn, optim
from intaglio.nn import functional as F

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 5)).astype(np.float32)
Y = RNG.integers(0, 3, 6)
IMAGES = RNG.standard_normal((3, 2, 6, 6)).astype(np.float32)
WORDS = RNG.integers(0, 9, (3, 4))


def jitted(function):
    return intaglio.jit(function, opt="fast-compile")


def trained(make, optimizer_text, x, y, compiled, steps=4, extra=lambda model: None, loss=F.cross_entropy):
    """Losses of some steps and the model's state behind them, eager or compiled, from one seed."""
    intaglio.manual_seed(0)
    model = make()
    optimizer = eval(f"optim.{optimizer_text}", {"optim": optim, "p": model.parameters()})

    def step(x, y):
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        extra(model)
        optimizer.step()
        return value

    run = jitted(step) if compiled else step
    losses = [run(x, y).item() for _ in range(steps)]
    return losses, {k: v.numpy().copy() for k, v in model.state_dict().items()}


def assert_same(make, optimizer_text, x, y, **options):
    eager, eager_state = trained(make, optimizer_text, x, y, False, **options)
    compiled, compiled_state = trained(make, optimizer_text, x, y, True, **options)
    np.testing.assert_allclose(compiled, eager, rtol=2e-5, atol=1e-6)
    for name, value in eager_state.items():
        np.testing.assert_allclose(compiled_state[name], value, rtol=2e-4, atol=2e-6, err_msg=name)
    assert len(set(eager)) == len(eager)


def mlp():
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


@pytest.mark.parametrize(
    "text",
    [
        "SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)",
        "SGD(p, lr=0.1, momentum=0.9, dampening=0.5, maximize=True)",
        "RMSprop(p, lr=0.01, momentum=0.5, centered=True)",
        "Adam(p, lr=0.05, weight_decay=0.1)",
        "AdamW(p, lr=0.05, amsgrad=True)",
    ],
)
def test_optimizers(text):
    assert_same(mlp, text, X, Y)


def test_clipping():
    assert_same(mlp, "SGD(p, lr=0.5)", X, Y, extra=lambda m: optim.clip_grad_norm_(m.parameters(), 0.1))


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 6, padding_idx=0)
        self.gru = nn.GRU(6, 4, num_layers=2, bidirectional=True, batch_first=True, dropout=0.2)
        self.head = nn.Linear(8, 3)

    def forward(self, words):
        return self.head(self.gru(self.embedding(words))[0]).transpose(1, 2)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 8)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), 2)
        self.head = nn.Linear(8, 3)

    def forward(self, words):
        return self.head(self.encoder(self.embedding(words)).mean(1))


def convolutional():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU(), nn.AvgPool2d(2), nn.Dropout2d(0.2),
        nn.Conv2d(4, 4, 3, groups=4), nn.GroupNorm(2, 4), nn.GELU(), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "x", "y"),
    [
        (convolutional, IMAGES, np.array([0, 2, 1])),
        (Tagger, WORDS, RNG.integers(0, 3, (3, 4))),
        (Encoder, WORDS, np.array([0, 2, 1])),
    ],
)
def test_networks_with_random_draws_and_statistics(make, x, y):
    assert_same(make, "SGD(p, lr=0.1, momentum=0.9)", x, y)


def test_dropout_draws_are_the_same_bit_for_bit():
    layer = nn.Dropout(0.4)
    x = np.ones((7, 9), np.float32)
    intaglio.manual_seed(3)
    eager = [layer(x).numpy() for _ in range(3)]
    intaglio.manual_seed(3)
    run = jitted(lambda x: layer(x))
    compiled = [run(x).numpy().copy() for _ in range(3)]
    np.testing.assert_array_equal(compiled, eager)
    assert not np.array_equal(eager[0], eager[1])


def test_schedules_reach_the_compiled_step():
    def losses(compiled):
        intaglio.manual_seed(0)
        model = mlp()
        optimizer = optim.SGD(model.parameters(), lr=0.5, momentum=0.5)
        schedule = optim.lr_scheduler.OneCycleLR(optimizer, 0.9, total_steps=12)

        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        run = jitted(step) if compiled else step
        found = []
        for _ in range(8):
            found.append(run(X, Y).item())
            schedule.step()
        return found, len(run.programs) if compiled else 1

    (eager, _), (compiled, programs) = losses(False), losses(True)
    np.testing.assert_allclose(compiled, eager, rtol=2e-5)
    assert programs == 1


def test_changed_modes_and_settings_are_never_stale():
    intaglio.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))
    run = jitted(lambda x: model(x))
    intaglio.manual_seed(1)
    training = run(X).numpy().copy()
    model.eval()
    np.testing.assert_allclose(run(X).numpy(), model(X).numpy(), rtol=1e-5, atol=1e-6)
    assert np.abs(run(X).numpy() - training).max() > 1e-3

    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    run = jitted(step)
    run(X, Y)
    optimizer.param_groups[0]["weight_decay"] = 0.5
    before = model[0].weight.numpy().copy()
    state = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    run(X, Y)
    compiled = model[0].weight.numpy().copy()
    model.load_state_dict(state)
    step(X, Y)
    np.testing.assert_allclose(compiled, model[0].weight.numpy(), rtol=1e-5, atol=1e-6)
    assert np.abs(compiled - before).max() > 0.005


def test_loading_weights_between_compiled_steps():
    model = mlp()
    run = jitted(lambda x: model(x))
    run(X)
    intaglio.manual_seed(9)
    other = mlp()
    model.load_state_dict(other.state_dict())
    np.testing.assert_allclose(run(X).numpy(), other(X).numpy(), rtol=1e-5, atol=1e-6)
