"""Optimisers, schedules and clipping against PyTorch: the same weights give the same curve."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import intaglio
from intaglio import nn, optim
from intaglio.nn import functional as F
from intaglio.shared.errors import ArgumentError, ShapeError

OPTIMIZERS = [
    "SGD(p, lr=0.1)",
    "SGD(p, lr=0.1, momentum=0.9)",
    "SGD(p, lr=0.1, momentum=0.9, dampening=0.9)",
    "SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)",
    "SGD(p, lr=0.1, momentum=0.8, weight_decay=0.1, maximize=True)",
    "RMSprop(p)",
    "RMSprop(p, lr=0.01, alpha=0.9, momentum=0.5, weight_decay=0.01)",
    "RMSprop(p, lr=0.01, centered=True, eps=1e-4)",
    "Adam(p)",
    "Adam(p, lr=0.05, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1)",
    "Adam(p, lr=0.05, amsgrad=True)",
    "Adam(p, lr=0.05, maximize=True)",
    "AdamW(p, lr=0.05)",
    "AdamW(p, lr=0.05, weight_decay=0.3, amsgrad=True)",
]
SCHEDULES = [
    "StepLR(o, 4, gamma=0.5)",
    "MultiStepLR(o, [3, 9, 9], gamma=0.3)",
    "ExponentialLR(o, 0.9)",
    "CosineAnnealingLR(o, 6, eta_min=0.01)",
    "LambdaLR(o, lambda epoch: 1 / (1 + epoch))",
    "LinearLR(o, start_factor=0.25, total_iters=7)",
    "OneCycleLR(o, max_lr=0.2, total_steps=25)",
    "OneCycleLR(o, max_lr=0.2, epochs=5, steps_per_epoch=5, three_phase=True, anneal_strategy='linear')",
    "ReduceLROnPlateau(o, factor=0.5, patience=1)",
    "ReduceLROnPlateau(o, 'max', factor=0.5, patience=2, cooldown=2, threshold_mode='abs', min_lr=0.02)",
]


def twins():
    """The same small model in both, and its batch."""
    torch.manual_seed(0)
    theirs = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3))
    ours = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
    ours.load_state_dict(theirs.state_dict())
    rng = np.random.default_rng(0)
    return ours, theirs, rng.standard_normal((8, 5)).astype(np.float32), rng.integers(0, 3, 8)


def made(text, module, parameters):
    return eval(f"m.{text}", {"m": module, "p": parameters, "o": parameters})


def curve(model, optimizer, schedule, x, y, loss_of, steps=20):
    losses, rates = [], []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        rates.append(optimizer.param_groups[0]["lr"])
        if schedule is not None:
            schedule.step(*([losses[-1]] if "Plateau" in type(schedule).__name__ else []))
    return losses, rates


def compare_curves(optimizer_text, schedule_text=None, groups=lambda model: model.parameters()):
    ours, theirs, x, y = twins()
    our_optimizer = made(optimizer_text, optim, groups(ours))
    their_optimizer = made(optimizer_text, torch.optim, groups(theirs))
    our_schedule = their_schedule = None
    if schedule_text:
        our_schedule = made(schedule_text, optim.lr_scheduler, our_optimizer)
        their_schedule = made(schedule_text, torch.optim.lr_scheduler, their_optimizer)
    our_losses, our_rates = curve(ours, our_optimizer, our_schedule, x, y, F.cross_entropy)
    their_losses, their_rates = curve(
        theirs,
        their_optimizer,
        their_schedule,
        torch.tensor(x),
        torch.tensor(y),
        torch.nn.functional.cross_entropy,
    )
    np.testing.assert_allclose(our_rates, their_rates, rtol=1e-9)
    np.testing.assert_allclose(our_losses, their_losses, rtol=2e-4, atol=1e-6)
    for name, b in theirs.state_dict().items():
        np.testing.assert_allclose(
            ours.state_dict()[name].numpy(), b.numpy(), rtol=2e-3, atol=2e-5, err_msg=name
        )
    assert len(set(our_losses)) == len(our_losses)  # it moved
    return our_optimizer, their_optimizer


@pytest.mark.parametrize("text", OPTIMIZERS)
def test_optimizers(text):
    compare_curves(text)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("text", ["SGD(p, lr=0.1, momentum=0.9)", "AdamW(p, lr=0.1)"])
def test_schedules(text, schedule):
    compare_curves(text, schedule)


@pytest.mark.parametrize("text", OPTIMIZERS)
def test_parameter_groups(text):
    def groups(model):
        return [
            {"params": model[0].parameters()},
            {"params": [model[2].weight], "lr": 0.01, "weight_decay": 0.2},
            {"params": [model[2].bias]},
        ]

    compare_curves(text.replace("(p)", "(p, lr=0.02)"), "ExponentialLR(o, 0.8)", groups)


def test_two_schedules_together():
    ours, theirs, *_ = twins()
    rates = []
    for library, model in ((optim, ours), (torch.optim, theirs)):
        optimizer = library.SGD(model.parameters(), lr=0.5)
        schedules = [
            library.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4),
            library.lr_scheduler.ExponentialLR(optimizer, 0.7),
        ]
        for _ in range(8):
            optimizer.step()
            rates.append(optimizer.param_groups[0]["lr"])
            for schedule in schedules:
                schedule.step()
    np.testing.assert_allclose(rates[:8], rates[8:], rtol=1e-9)


def test_parameters_without_gradient_keep_their_own_step_count():
    ours, theirs, x, y = twins()
    our_optimizer, their_optimizer = (
        m.Adam(model.parameters(), lr=0.05) for m, model in ((optim, ours), (torch.optim, theirs))
    )
    for model, optimizer, library in ((ours, our_optimizer, intaglio), (theirs, their_optimizer, torch)):
        loss = F.cross_entropy if library is intaglio else torch.nn.functional.cross_entropy
        for frozen in (True, True, False, False):
            optimizer.zero_grad()
            model[0].weight.requires_grad = not frozen
            loss(model(library.tensor(x)), library.tensor(y)).backward()
            optimizer.step()
    for name, b in theirs.state_dict().items():
        np.testing.assert_allclose(
            ours.state_dict()[name].numpy(), b.numpy(), rtol=1e-4, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize(
    "text",
    [
        "SGD(p, lr=0.1, momentum=0.9, dampening=0.5)",
        "RMSprop(p, momentum=0.3, centered=True)",
        "AdamW(p, amsgrad=True)",
    ],
)
def test_state_dict_goes_on_where_it_was(text):
    ours, _, x, y = twins()
    first = made(text, optim, ours.parameters())
    curve(ours, first, None, x, y, F.cross_entropy, 3)
    saved = {k: v.numpy().copy() for k, v in ours.state_dict().items()}, first.state_dict()
    saved[1]["state"] = {k: {n: t.numpy().copy() for n, t in s.items()} for k, s in saved[1]["state"].items()}
    expected, _ = curve(ours, first, None, x, y, F.cross_entropy, 3)
    ours.load_state_dict(saved[0])
    second = made(text, optim, ours.parameters())
    second.load_state_dict(saved[1])
    again, _ = curve(ours, second, None, x, y, F.cross_entropy, 3)
    np.testing.assert_array_equal(expected, again)


@pytest.mark.parametrize("text", OPTIMIZERS)
def test_loads_the_state_of_pytorch(text):
    ours, theirs, x, y = twins()
    their_optimizer = made(text, torch.optim, theirs.parameters())
    loss = torch.nn.functional.cross_entropy
    curve(theirs, their_optimizer, None, torch.tensor(x), torch.tensor(y), loss, 4)
    ours.load_state_dict(theirs.state_dict())
    our_optimizer = made(text, optim, ours.parameters())
    our_optimizer.load_state_dict(their_optimizer.state_dict())
    a, _ = curve(ours, our_optimizer, None, x, y, F.cross_entropy, 4)
    b, _ = curve(theirs, their_optimizer, None, torch.tensor(x), torch.tensor(y), loss, 4)
    np.testing.assert_allclose(a, b, rtol=1e-4)


@pytest.mark.parametrize("norm", [1.0, 2.0, float("inf")])
@pytest.mark.parametrize("limit", [0.1, 100.0])
def test_clip_grad_norm(norm, limit):
    ours, theirs, x, y = twins()
    F.cross_entropy(ours(x), y).backward()
    torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y)).backward()
    a = optim.clip_grad_norm_(ours.parameters(), limit, norm)
    b = torch.nn.utils.clip_grad_norm_(theirs.parameters(), limit, norm)
    np.testing.assert_allclose(a.item(), b.item(), rtol=1e-5)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-5, atol=1e-8)


def test_clip_grad_value():
    ours, _, x, y = twins()
    F.cross_entropy(ours(x), y).backward()
    optim.clip_grad_value_(ours.parameters(), 0.01)
    assert all(np.abs(p.grad.numpy()).max() <= np.float32(0.01) for p in ours.parameters())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SGD([], lr=0.1)", "no parameters"),
        ("SGD(p, lr=-0.1)", "lr is -0.1"),
        ("SGD(p, lr=0.1, nesterov=True)", "nesterov"),
        ("SGD([intaglio.tensor(1.0) * w for w in p], lr=0.1)", "leaf"),
        ("SGD([1.0], lr=0.1)", "float"),
        ("Adam(p, betas=(0.9, 1.0))", "betas"),
        ("Adam(list(p) * 2)", "twice"),
    ],
)
def test_bad_settings(text, message):
    ours, *_ = twins()
    with pytest.raises((ArgumentError, TypeError), match=message):
        eval(f"m.{text}", {"m": optim, "p": list(ours.parameters()), "intaglio": intaglio})


def test_state_of_another_model_is_refused():
    ours, *_ = twins()
    optimizer = optim.Adam(ours.parameters())
    with pytest.raises(ArgumentError, match="4 parameters"):
        optim.Adam([ours[0].weight]).load_state_dict(optimizer.state_dict())
    state = optimizer.state_dict()
    state["state"][0] = state["state"][1]
    with pytest.raises(ShapeError, match="exp_avg"):
        optimizer.load_state_dict(state)


def test_closure():
    ours, _, x, y = twins()
    optimizer = optim.SGD(ours.parameters(), lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(ours(x), y)
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(3)]
    assert losses[0] > losses[1] > losses[2]
