"""`jit` of gradients, loops and branches, by the interpreter and by compiled C."""

from __future__ import annotations

import numpy as np
import pytest

import intaglio as ig
from intaglio import nn, optim
from intaglio.shared.errors import ArgumentError

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
SCALE = 2.0
SETTINGS = {"offset": 1.0}
TABLE = np.array([1.0, 2.0, 3.0], np.float32)


def _model():
    ig.manual_seed(1)
    return nn.Linear(3, 2)


def test_gradients_that_a_function_leaves(jit):
    model, eager = _model(), _model()

    def backward(m, x):
        loss = (m(x) ** 2).sum()
        loss.backward()
        return loss

    f = jit(lambda x: backward(model, x))
    for k in range(6):
        if k % 3 == 0:
            model.zero_grad()
            eager.zero_grad()
        np.testing.assert_allclose(f(X).item(), backward(eager, ig.tensor(X)).item(), rtol=1e-5)
        np.testing.assert_allclose(model.weight.grad.numpy(), eager.weight.grad.numpy(), rtol=1e-5)
    assert f.recordings == 2


def test_gradients_of_a_whole_step_are_not_kept_unless_asked_for(jit):
    model = _model()
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def step(x):
        optimizer.zero_grad()
        loss = (model(x) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    run, keeping = jit(step), jit(step, keep_grads=True)
    losses = [run(X).item() for _ in range(3)]
    assert losses[2] < losses[0]
    with pytest.raises(ArgumentError, match="keep_grads"):
        model.weight.grad  # noqa: B018
    weight = model.weight.detach().clone()
    keeping(X)
    np.testing.assert_allclose(
        model.weight.numpy(), (weight - 0.1 * model.weight.grad).detach().numpy(), rtol=1e-5
    )
    run(X)
    optimizer.zero_grad()
    assert model.weight.grad is None


def test_gradients_of_arguments(jit):
    f = jit(lambda x: (x * x).sum().backward())
    x = ig.tensor(X, requires_grad=True)
    f(x)
    np.testing.assert_allclose(x.grad.numpy(), 2 * X, rtol=1e-6)
    f(x)
    np.testing.assert_allclose(x.grad.numpy(), 4 * X, rtol=1e-6)


def test_grad_inside(jit):
    f = jit(ig.grad(lambda x: (x**3).sum()))
    np.testing.assert_allclose(f(X).numpy(), 3 * X**2, rtol=1e-5)
    g = jit(ig.grad(lambda x: (ig.grad(lambda y: (y**3).sum())(x) ** 2).sum()))
    np.testing.assert_allclose(g(X).numpy(), 36 * X**3, rtol=1e-4)


def test_backward_from_a_compiled_result_says_so(jit):
    model = _model()
    f = jit(lambda x: model(x).sum())
    with pytest.raises(ArgumentError, match="compiled function"):
        f(X).backward()
    with ig.no_grad():
        assert not f(X).requires_grad


def test_scan(jit):
    w = ig.tensor([[0.5, 0.1], [0.2, 0.3]], requires_grad=True)

    def run(xs):
        def body(h, x):
            h = (h @ w + x).tanh()
            return h, h * 2

        last, ys = ig.scan(body, ig.zeros(2), xs)
        return (last + ys.sum(0)).sum()

    xs = np.random.default_rng(2).standard_normal((5, 2)).astype(np.float32)
    expected = run(ig.tensor(xs))
    expected.backward()
    gradient, w.grad = w.grad, None
    f = jit(lambda xs: (lambda y: (y, y.backward()))(run(xs))[0])
    assert f(xs).item() == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(w.grad.numpy(), gradient.numpy(), rtol=1e-4)
    assert "scan" in {node.op.name for node in f.graph(xs).nodes}


def test_cond_and_while(jit):
    w = ig.tensor(3.0)
    f = jit(lambda x: ig.cond(x.sum() > 0, lambda v: v * w, lambda v: v - w, x))
    for sign in (1, -1):
        x = sign * np.abs(X)
        np.testing.assert_allclose(f(x).numpy(), x * 3 if sign > 0 else x - 3, rtol=1e-6)
    g = jit(lambda x: ig.while_loop(lambda c: c[0] < 100.0, lambda c: (c[0] * w, c[1] + 1), (x, 0)))
    value, steps = g(ig.tensor(1.0))
    assert (value.item(), steps.item()) == (243.0, 5)
    h = jit(lambda x: ig.fori_loop(0, 4, lambda k, c: c + k.to(ig.f32), x))
    assert h(ig.tensor(1.0)).item() == 7.0
