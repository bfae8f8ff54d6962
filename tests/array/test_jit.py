"""`jit` and `trace`: state in place, guards, errors; by the interpreter and by compiled C."""

from __future__ import annotations

import numpy as np
import pytest

import intaglio as ig
from intaglio import nn, optim
from intaglio.array.trace import trace
from intaglio.nn import functional as F
from intaglio.shared.errors import TraceError

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
SCALE = 2.0
SETTINGS = {"offset": 1.0}
TABLE = np.array([1.0, 2.0, 3.0], np.float32)


def test_results_keep_their_structure(jit):
    f = jit(lambda x, y: {"sum": x + y, "pair": (x * y, [x - y]), "text": "same", "number": 3})
    a, b = ig.tensor(X), ig.tensor(X + 1)
    for _ in range(3):
        got = f(a, b)
        assert got["text"] == "same"
        assert got["number"] == 3
        np.testing.assert_allclose(got["sum"].numpy(), X + X + 1, rtol=1e-6)
        np.testing.assert_allclose(got["pair"][0].numpy(), X * (X + 1), rtol=1e-6)
        np.testing.assert_allclose(got["pair"][1][0].numpy(), X - (X + 1), rtol=1e-6)
    assert f.recordings == 1


def test_nested_arguments_arrays_and_keywords(jit):
    f = jit(lambda data, *, flip=False: data["a"] - data["b"][0] if flip else data["a"] + data["b"][0])
    data = {"a": X, "b": [ig.tensor(X)]}
    np.testing.assert_allclose(f(data).numpy(), 2 * X)
    np.testing.assert_allclose(f(data, flip=True).numpy(), 0 * X)
    np.testing.assert_allclose(f(data, flip=False).numpy(), 2 * X)
    assert f.recordings == 3


def test_one_recording_per_signature(jit):
    f = jit(lambda x, n: x * n)
    assert f(X, 2).shape == (4, 3)
    assert f(X[:2], 2).shape == (2, 3)
    assert f(X, 2).tolist() == (2 * X).tolist()
    assert f(X, 3).tolist() == (3 * X).tolist()
    assert f(X.astype(np.float64), 3).dtype == ig.f64
    assert f.recordings == 4
    assert f(X, 2.0).tolist() == (2 * X).tolist()
    assert f(X, True).tolist() == X.tolist()


@pytest.mark.parametrize("layout", ["big-endian", "strided", "read-only"])
def test_arrays_of_any_layout(jit, layout):
    array = {
        "big-endian": X.astype(">f4"),
        "strided": np.repeat(X, 2, axis=1)[:, ::2],
        "read-only": np.broadcast_to(X[0], X.shape),
    }[layout]
    f = jit(lambda x: x * 2)
    for _ in range(2):
        np.testing.assert_allclose(f(array).numpy(), array.astype(np.float32) * 2)
        np.testing.assert_allclose(f(ig.from_numpy(array)).numpy(), array.astype(np.float32) * 2)


def test_touched_tensors_are_read_at_each_call(jit):
    w = ig.tensor([1.0, 2.0, 3.0])
    f = jit(lambda x: x * w)
    np.testing.assert_allclose(f(X).numpy(), X * [1, 2, 3])
    w.mul_(2)
    np.testing.assert_allclose(f(X).numpy(), X * [2, 4, 6])
    w.data = ig.tensor([0.0, 0.0, 1.0])
    np.testing.assert_allclose(f(X).numpy(), X * [0, 0, 1])
    w.numpy()[:] = 5
    np.testing.assert_allclose(f(X).numpy(), X * 5)
    assert f.recordings == 1


def test_touched_tensors_may_change_their_type(jit):
    w = ig.tensor([1.0, 2.0, 3.0])
    f = jit(lambda x: x * w)
    assert f(X).dtype == ig.f32
    w.data = np.array([1.0, 2.0, 3.0])
    assert f(X).dtype == ig.f64


def test_touched_indices_and_targets_are_read_at_each_call(jit):
    place, target = ig.tensor(1), ig.tensor([0, 1, 1, 0])
    f = jit(lambda x: (x[:, place], F.cross_entropy(x, target)))
    for k, classes in ((1, [0, 1, 1, 0]), (2, [2, 2, 0, 0])):
        with ig.no_grad():
            place.fill_(k)
            target.copy_(ig.tensor(classes))
        column, loss = f(X)
        assert column.tolist() == X[:, k].tolist()
        assert loss.item() == pytest.approx(F.cross_entropy(ig.tensor(X), target).item(), rel=1e-5)
    assert f.recordings == 1


def test_changes_in_place_show_in_the_tensor_and_its_memory(jit):
    total = ig.zeros(3)
    alias, memory = total.detach(), total.numpy()

    def f(x):
        total.add_(x.sum(0))
        total[0] = 7.0
        return total * 2

    f = jit(f)
    before = total.clone()
    for k in range(1, 4):
        out = f(X)
        expected = np.array([7, *(k * X.sum(0)[1:])])
        for shown in (total.numpy(), alias.numpy(), memory, out.numpy() / 2):
            np.testing.assert_allclose(shown, expected, rtol=1e-5)
    assert before.tolist() == [0.0, 0.0, 0.0]
    assert f.recordings == 1


def test_two_programs_share_a_state(jit):
    count = ig.tensor(0)
    up, double = jit(lambda: count.add_(1)), jit(lambda: count.mul_(2))
    up()
    double()
    up()
    count.add_(10)
    up()
    assert count.item() == 14


def test_a_tensor_given_back_is_the_tensor_itself(jit):
    w = ig.tensor([1.0])
    f = jit(lambda x: (w.add_(x), x * 1)[0])
    assert f(ig.tensor([2.0])) is w
    assert w.item() == 3.0


def test_plain_python_values_are_guarded(jit, monkeypatch):
    factor = 3.0

    def f(x):
        return x * factor * SCALE + SETTINGS["offset"]

    f = jit(f)
    np.testing.assert_allclose(f(X).numpy(), X * 6 + 1, rtol=1e-6)
    factor = 4.0
    np.testing.assert_allclose(f(X).numpy(), X * 8 + 1, rtol=1e-6)
    monkeypatch.setitem(globals(), "SCALE", 0.5)
    np.testing.assert_allclose(f(X).numpy(), X * 2 + 1, rtol=1e-6)
    monkeypatch.setitem(SETTINGS, "offset", 5.0)
    np.testing.assert_allclose(f(X).numpy(), X * 2 + 5, rtol=1e-6)
    assert f.recordings == 4
    monkeypatch.setitem(SETTINGS, "offset", 1.0)
    np.testing.assert_allclose(f(X).numpy(), X * 2 + 1, rtol=1e-6)
    assert f.recordings == 4


def test_arrays_outside_are_read_at_each_call(jit):
    f = jit(lambda x: x * TABLE)
    np.testing.assert_allclose(f(X).numpy(), X * TABLE)
    TABLE[1] = 20
    np.testing.assert_allclose(f(X).numpy(), X * TABLE)
    assert f.recordings == 1


class Trainer:
    def __init__(self):
        self.scale, self.unrelated = 1.0, 0

    def forward(self, x):
        return x * self.scale


def test_attributes_of_objects_are_guarded_where_they_are_used(jit):
    trainer = Trainer()
    f = jit(trainer.forward)
    assert f(X).tolist() == X.tolist()
    trainer.unrelated = 5
    assert f(X).tolist() == X.tolist()
    assert f.recordings == 1
    trainer.scale = 2.0
    assert f(X).tolist() == (2 * X).tolist()


def test_modules_are_guarded(jit):
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    f = jit(model)
    model.eval()
    first = f(X)
    np.testing.assert_allclose(first.numpy(), model(X).detach().numpy(), rtol=1e-5, atol=1e-6)
    model.train()
    assert (f(X).numpy() == 0).any()
    model.eval()
    model[0].weight = nn.Parameter(np.zeros((3, 3), np.float32))
    np.testing.assert_allclose(f(X).numpy(), model(X).detach().numpy(), rtol=1e-5, atol=1e-6)
    model[0].bias.requires_grad = False
    np.testing.assert_allclose(f(X).numpy(), model(X).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_random_draws_are_those_of_eager_code(jit):
    def f(x):
        return x * ig.rand(4, 3) + ig.randn(3)

    ig.manual_seed(5)
    expected = [f(ig.tensor(X)).numpy() for _ in range(3)]
    ig.manual_seed(5)
    f = jit(f)
    for wanted in expected:
        np.testing.assert_allclose(f(X).numpy(), wanted, rtol=1e-6)


def test_functions_of_constants_fold_to_one_constant():
    f = ig.jit(lambda: ig.ones(3) * 2 + ig.arange(3) * ig.tensor(0.5))
    assert f().tolist() == [2.0, 2.5, 3.0]
    compiled = f.compile()
    assert not compiled.program.kernels or len(compiled.program.constants) == 1
    assert compiled.graph.states == []


def test_host_scalars_are_read_at_each_call(jit):
    rate = {"now": 1.0}
    f = jit(lambda x: x * ig.host_scalar(lambda: rate["now"]).to(ig.f32))
    for rate["now"] in (1.0, 0.5, 3.0):
        np.testing.assert_allclose(f(X).numpy(), X * rate["now"])


def test_host_statics_lead_to_a_new_recording(jit):
    box = []
    f = jit(lambda x: x * 2 if ig.host_static(lambda: len(box) > 0) else x)
    assert f(X).tolist() == X.tolist()
    box.append(1)
    assert f(X).tolist() == (2 * X).tolist()


# Errors


def _use(function):
    return lambda: ig.jit(function, backend="interpret")(X)


def _numpy_function(x):
    return np.mean(x)


UNKNOWN = {
    "if": lambda x: x if x.sum() > 0 else -x,
    "float": lambda x: x * float(x.sum()),
    "int": lambda x: x * int(x.sum()),
    "item": lambda x: x * x.sum().item(),
    "numpy": lambda x: x.numpy(),
    "tolist": lambda x: x.tolist(),
    "bool index": lambda x: x[x > 0],
    "list index": lambda x: [1, 2, 3][x.argmax()],
    "range": lambda x: sum(range(x.argmax())),
    "elements": lambda x: [float(v) for v in x],
    "in": lambda x: x if 3 in x else -x,
    "numpy function": _numpy_function,
    "numpy ufunc": lambda x: np.asarray(x) + 1,
    "concatenate": lambda x: np.concatenate([x, x]),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_decisions_on_traced_values_are_errors_at_the_users_line(name):
    with pytest.raises(TraceError, match="traced") as caught:
        _use(UNKNOWN[name])()
    assert caught.value.where is not None
    assert caught.value.where.file == __file__
    assert "where" in str(caught.value)


def test_leaked_tensors_are_errors():
    class Box:
        held = None

    def leak(x):
        setattr(Box, "held", x * 2)  # noqa: B010
        return x

    ig.jit(leak, backend="interpret")(X)
    for use in (lambda: Box.held + 1, lambda: Box.held.numpy(), lambda: ig.jit(lambda x: x + Box.held)(X)):
        with pytest.raises(TraceError, match="traced"):
            use()


def test_a_function_that_changes_python_values_is_refused():
    seen = []

    def f(x):
        seen.append(1)
        return x

    with pytest.raises(TraceError, match="seen"):
        ig.jit(f)(X)


def test_after_an_error_tensors_are_as_before():
    model = nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    before = model.weight.tolist()

    def step(x):
        (model(x) ** 2).sum().backward()
        optimizer.step()
        raise KeyError("stop")

    with pytest.raises(KeyError):
        ig.jit(step)(X)
    assert model.weight.tolist() == before
    assert model.weight.grad is None
    assert not model.weight.is_traced
    assert model(ig.tensor(X)).shape == (4, 2)


def test_changing_an_outside_tensor_inside_of_a_loop_is_an_error():
    total = ig.zeros(3)
    with pytest.raises(TraceError, match="carry"):
        ig.jit(
            lambda x: ig.scan(lambda c, row: (c, total.add_(row)), ig.tensor(0.0), x), backend="interpret"
        )(X)


def test_trace_gives_the_graph():
    w = ig.tensor([1.0, 2.0, 3.0])
    traced = trace(lambda x: w.add_(x.sum(0)), (X,))
    assert [v.name for v in traced.graph.inputs] == ["x"]
    assert len(traced.graph.states) == len(traced.graph.updates) == len(traced.graph.outputs) == 1
    assert w.tolist() == [1.0, 2.0, 3.0]


def test_jit_of_methods_and_inside_of_jit():
    class Net:
        def __init__(self):
            self.w = ig.tensor(2.0)

        @ig.jit
        def run(self, x):
            return x * self.w

    net, other = Net(), Net()
    other.w = ig.tensor(3.0)
    assert net.run(X).tolist() == (2 * X).tolist()
    assert other.run(X).tolist() == (3 * X).tolist()
    outer = ig.jit(lambda x: net.run(x) + 1)
    np.testing.assert_allclose(outer(X).numpy(), 2 * X + 1)


def test_losses_of_a_dropout_network_agree(jit):
    def train(wrap):
        ig.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(3, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2)
        )
        optimizer = optim.Adam(model.parameters(), lr=0.01)

        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        run = wrap(step)
        y = np.array([0, 1, 1, 0])
        return [run(X, y).item() for _ in range(10)], {k: v.numpy() for k, v in model.state_dict().items()}

    losses, state = train(jit)
    expected, wanted = train(lambda f: f)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    for key, value in wanted.items():
        np.testing.assert_allclose(state[key], value, rtol=1e-3, atol=1e-5, err_msg=key)
