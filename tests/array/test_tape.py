"""The tape: accumulation, in-place changes, second derivatives, memory; `grad` and `value_and_grad`."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
import torch

import intaglio as ig
from intaglio.shared.errors import ArgumentError, DTypeError, ShapeError


def leaf(*numbers):
    return ig.tensor(list(numbers), requires_grad=True)


def test_gradients_add_up_over_calls_and_paths():
    x = leaf(1.0, 2.0)
    (x * x + x).sum().backward()
    (3 * x).sum().backward()
    assert x.grad.tolist() == [6.0, 8.0]
    x.grad = None
    x.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_gradient_of_shared_results_is_not_shared_memory():
    a, b = leaf(1.0), leaf(2.0)
    (a + b).sum().backward()
    a.grad.add_(1)
    assert (a.grad.item(), b.grad.item()) == (2.0, 1.0)


def test_backward_twice_needs_retain_graph():
    x = leaf(2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 8
    with pytest.raises(ArgumentError, match="freed"):
        y.backward()


def test_backward_takes_a_gradient_of_its_type_only():
    x = leaf(1.0, 2.0)
    (x * 2).backward(ig.tensor([1.0, 10.0]))
    assert x.grad.tolist() == [2.0, 20.0]
    with pytest.raises(ShapeError, match="gradient"):
        (x * 2).backward()
    with pytest.raises(ShapeError, match="gradient"):
        (x * 2).backward(ig.tensor([1.0]))


def test_only_floats_and_leaves_take_requires_grad():
    with pytest.raises(DTypeError, match="i64"):
        ig.tensor([1], requires_grad=True)
    with pytest.raises(ArgumentError, match="leaves"):
        (leaf(1.0) * 2).requires_grad = False


def test_no_grad_records_nothing_and_nests():
    x = leaf(1.0)
    with ig.no_grad():
        assert not (x * 2).requires_grad
        with ig.enable_grad():
            assert (x * 2).requires_grad
        assert not ig.is_grad_enabled()

    @ig.no_grad()
    def f():
        return x * 2

    assert not f().requires_grad
    assert ig.is_grad_enabled()


def test_values_saved_for_backward_survive_changes_in_place():
    x, w = leaf(3.0), leaf(5.0)
    y = x * w
    with ig.no_grad():
        w.copy_(ig.tensor([100.0]))
    y.sum().backward()
    assert x.grad.item() == 5.0
    z = leaf(2.0)
    h = z * 1
    out = h * h
    h.mul_(10)
    (out + h).sum().backward()
    assert z.grad.item() == 14.0


def test_writing_exposed_memory_behind_the_tape_is_an_error():
    x = leaf(3.0)
    h = x * 1
    h.numpy()
    y = (h * h).sum()
    h.mul_(2)
    with pytest.raises(ArgumentError, match="in place"):
        y.backward()


def test_detach_shares_and_results_do_not():
    x = ig.tensor([1.0, 2.0])
    alias, value, flat = x.detach(), x.clone(), x.reshape(2, 1)
    x.add_(1)
    assert alias.tolist() == [2.0, 3.0]
    assert value.tolist() == [1.0, 2.0]
    assert flat.tolist() == [[1.0], [2.0]]
    alias.zero_()
    assert x.tolist() == [0.0, 0.0]


def test_numpy_and_torch_look_at_the_memory():
    x = ig.tensor([1.0, 2.0])
    view = x.numpy()
    flat = x.reshape(2, 1)
    x.add_(1)
    assert view.tolist() == [2.0, 3.0]
    view[0] = 7
    assert x.tolist() == [7.0, 3.0]
    assert flat.tolist() == [[1.0], [2.0]]
    torch.from_dlpack(x)[1] = 9
    assert x.tolist() == [7.0, 9.0]
    assert np.from_dlpack(x).tolist() == [7.0, 9.0]
    array = np.zeros(2, np.float32)
    ig.from_numpy(array).add_(1)
    assert array.tolist() == [1.0, 1.0]
    assert (np.ones(2, np.float32) + x).tolist() == [8.0, 10.0]
    assert isinstance(np.ones(2, np.float32) * x, ig.Tensor)
    assert np.concatenate([x, x]).shape == (4,)


@pytest.mark.parametrize(
    "array",
    [np.arange(6, dtype=">f4").reshape(2, 3), np.arange(12, dtype="f4").reshape(2, 6)[:, ::2],
     np.broadcast_to(np.float32(3), (2, 3)), np.asfortranarray(np.ones((2, 3), "f4"))],
    ids=["big-endian", "strided", "read-only", "column-major"],
)  # fmt: skip
def test_arrays_of_any_layout_are_operands(array):
    x = ig.ones(2, 3)
    for made in (x + array, ig.tensor(array) + 1, ig.from_numpy(array) + x, ig.Tensor(array) + 1):
        np.testing.assert_array_equal(made.numpy(), array.astype("f4") + 1)
    t = ig.tensor(array)
    t.add_(1)
    np.testing.assert_array_equal(t.numpy(), array.astype("f4") + 1)


def test_retain_grad():
    x = leaf(2.0)
    y = x * 3
    y.retain_grad()
    (y * y).sum().backward()
    assert (y.grad.item(), x.grad.item()) == (12.0, 36.0)


def test_gradients_of_gradients():
    x = leaf(0.5, -1.5)
    y = (x**3).sum()
    y.backward(create_graph=True)
    first = x.grad
    x.grad = None
    (first * first).sum().backward()
    expected = 2 * 3 * x.numpy() ** 2 * 6 * x.numpy()
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-6)
    third = ig.grad(ig.grad(ig.grad(lambda v: (v**4).sum())))
    assert third(ig.tensor(2.0)).item() == pytest.approx(48.0)


def test_gradient_penalty_reaches_parameters():
    w = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)
    x = np.array([0.3, -0.7], np.float32)
    own = ig.tensor(w, requires_grad=True)
    g = ig.grad(lambda v: (own @ v).tanh().sum())(ig.tensor(x))
    (g * g).sum().backward()
    tw, tx = torch.tensor(w, requires_grad=True), torch.tensor(x, requires_grad=True)
    (tg,) = torch.autograd.grad((tw @ tx).tanh().sum(), tx, create_graph=True)
    (tg * tg).sum().backward()
    np.testing.assert_allclose(own.grad.numpy(), tw.grad.numpy(), rtol=1e-4, atol=1e-6)


def test_value_and_grad_of_nested_arguments():
    params = {"w": ig.tensor([1.0, 2.0]), "parts": (ig.tensor(3.0), [ig.tensor(4.0)])}

    def f(p, x):
        return (p["w"] * x).sum() * p["parts"][0] + 0 * x.sum()

    value, g = ig.value_and_grad(f)(params, ig.tensor([5.0, 6.0]))
    assert value.item() == 51.0
    assert not value.requires_grad
    assert g["w"].tolist() == [15.0, 18.0]
    assert (g["parts"][0].item(), g["parts"][1][0].item()) == (17.0, 0.0)
    a, b = ig.grad(lambda p, x: (p * x).sum(), argnums=(0, 1))(ig.tensor([2.0]), ig.tensor([3.0]))
    assert (a.item(), b.item()) == (3.0, 2.0)
    (value, aux), g = ig.value_and_grad(lambda x: ((x * x).sum(), "aux"), has_aux=True)(ig.tensor([3.0]))
    assert (value.item(), aux, g.item()) == (9.0, "aux", 6.0)
    with pytest.raises(ArgumentError, match="one number"):
        ig.grad(lambda x: x)(ig.tensor([1.0, 2.0]))


def test_deep_tapes_and_their_memory():
    x = leaf(1.0)
    y = x
    for _ in range(20000):
        y = y + 1
    y.sum().backward()
    assert x.grad.item() == 1.0
    kept = weakref.ref(y._record)
    gc.disable()
    try:
        del y
        assert kept() is None
    finally:
        gc.enable()


def test_a_tape_is_freed_without_backward():
    x = leaf(1.0)
    y = (x * 2).exp()
    kept = weakref.ref(y._record)
    gc.disable()
    try:
        del y
        assert kept() is None
    finally:
        gc.enable()


def test_copies_and_pickles():
    x = leaf(1.0, 2.0)
    for other in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert other.requires_grad
        assert other.tolist() == x.tolist()
        with ig.no_grad():
            other.add_(1)
    assert x.tolist() == [1.0, 2.0]
    with pytest.raises(ArgumentError, match="leaves"):
        copy.deepcopy(x * 2)


def test_random_draws():
    ig.manual_seed(3)
    first = [
        ig.rand(4).tolist(),
        ig.randn(3).tolist(),
        ig.randint(0, 10, (5,)).tolist(),
        ig.randperm(6).tolist(),
    ]
    ig.manual_seed(3)
    second = [
        ig.rand(4).tolist(),
        ig.randn(3).tolist(),
        ig.randint(0, 10, (5,)).tolist(),
        ig.randperm(6).tolist(),
    ]
    assert first == second
    assert sorted(first[3]) == list(range(6))
    assert ig.rand(4).tolist() != first[0]
    x = ig.randn(20000).numpy()
    assert abs(x.mean()) < 0.03
    assert abs(x.std() - 1) < 0.03
    u = ig.rand(20000).numpy()
    assert (u >= 0).all()
    assert (u < 1).all()
    assert abs(u.mean() - 0.5) < 0.01
