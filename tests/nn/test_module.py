"""The module system: names, modes, containers, state dicts, text, files."""

from __future__ import annotations

import copy
import math

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import intaglio
from intaglio import nn
from intaglio.shared.errors import ArgumentError, DTypeError, FileFormatError, ShapeError


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU())
        self.heads = nn.ModuleList([nn.Linear(4, 2), nn.Linear(4, 1)])
        self.scale = nn.Parameter(np.ones(2, np.float32))
        self.register_buffer("mask", intaglio.tensor([1.0, 0.0]))
        self.register_buffer("scratch", intaglio.tensor([0.0]), persistent=False)

    def forward(self, x):
        h = self.body(x)
        return self.heads[0](h) * self.scale * self.mask, self.heads[1](h)


NAMES = [
    "scale",
    "mask",
    "body.0.weight",
    "body.0.bias",
    "body.1.weight",
    "body.1.bias",
    "body.1.running_mean",
    "body.1.running_var",
    "body.1.num_batches_tracked",
    "heads.0.weight",
    "heads.0.bias",
    "heads.1.weight",
    "heads.1.bias",
]


def test_names():
    net = Net()
    assert list(net.state_dict()) == NAMES
    assert [n for n, _ in net.named_parameters()] == [
        n for n in NAMES if "running" not in n and "num" not in n and n != "mask"
    ]
    assert [n for n, _ in net.named_buffers()] == [
        "mask",
        "scratch",
        *(n for n in NAMES if "running" in n or "num" in n),
    ]
    assert [n for n, _ in net.named_modules()] == [
        "",
        "body",
        "body.0",
        "body.1",
        "body.2",
        "heads",
        "heads.0",
        "heads.1",
    ]
    assert [n for n, _ in net.named_children()] == ["body", "heads"]
    assert net.get_submodule("body.1") is net.body[1]
    assert len(list(net.parameters(recurse=False))) == 1


def test_shared_modules_are_listed_once_and_saved_twice():
    one = nn.Linear(2, 2)
    net = nn.Sequential(one, nn.ReLU(), one)
    assert len(list(net.parameters())) == 2
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert len(list(net.modules())) == 3


def test_modes():
    net = Net()
    assert all(m.training for m in net.modules())
    net.eval()
    assert not any(m.training for m in net.modules())
    net.body.train()
    assert net.body[1].training
    assert not net.training


def test_state_dict_round_trip_changes_every_output():
    a, b = Net(), Net()
    x = intaglio.tensor(np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32))
    a(x)  # moves the running statistics
    result = b.load_state_dict(a.state_dict())
    assert result == ([], [])
    a.eval()
    b.eval()
    for p, q in zip(a(x), b(x), strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())


def test_state_dict_is_no_part_of_the_graph_but_shares_memory():
    net = nn.Linear(2, 2)
    state = net.state_dict()
    assert not state["weight"].requires_grad
    with intaglio.no_grad():
        net.weight.copy_(net.weight * 0)
    assert not state["weight"].numpy().any()


def test_loading_wrong_names():
    state = Net().state_dict()
    state["other"] = state.pop("scale")
    with pytest.raises(ArgumentError, match="missing scale; unexpected other"):
        Net().load_state_dict(state)
    assert Net().load_state_dict(state, strict=False) == (["scale"], ["other"])


def test_loading_wrong_shapes_names_key_and_both_shapes_and_changes_nothing():
    net = Net()
    before = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    state = {k: v.numpy() + 1 for k, v in net.state_dict().items()} | {
        "heads.0.weight": np.zeros((4, 2), np.float32)
    }
    with pytest.raises(
        ShapeError, match=r"heads.0.weight is \[4, 2\] in the state dict but \[2, 4\] in the module"
    ):
        net.load_state_dict(state)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])


@pytest.mark.parametrize("kind", ["tensor", "array", "torch", "bfloat16"])
def test_loads_any_kind_of_tensor(kind):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    made = {
        "tensor": intaglio.tensor(values),
        "array": values.astype(np.float64),
        "torch": torch.tensor(values),
        "bfloat16": torch.tensor(values, dtype=torch.bfloat16),
    }[kind]
    net = nn.Linear(3, 2, bias=False)
    net.load_state_dict({"weight": made})
    np.testing.assert_array_equal(net.weight.numpy(), values)
    assert net.weight.dtype.name == "f32"
    values[:] = 0
    assert net.weight.numpy().any()


def test_to_converts_floating_state_only():
    net = Net().double()
    assert {v.dtype.name for v in net.parameters()} == {"f64"}
    assert net.body[1].num_batches_tracked.dtype.name == "i64"
    y, _ = net(np.ones((2, 3)))
    assert y.dtype.name == "f64"
    assert net.half().scale.dtype.name == "f16"
    with pytest.raises(ArgumentError, match="not a floating-point"):
        net.to("i32")


def test_zero_grad_freeze_and_apply():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    net[0].requires_grad_(False)
    net(np.ones((1, 2), np.float32)).sum().backward()
    assert net[0].weight.grad is None
    assert net[1].weight.grad is not None
    net.zero_grad()
    assert net[1].weight.grad is None
    seen = []
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "Linear", "Sequential"]


def test_copies_are_independent():
    net = Net()
    twin = copy.deepcopy(net)
    with intaglio.no_grad():
        twin.scale.copy_(twin.scale * 3)
    assert net.scale.numpy()[0] == 1
    assert isinstance(twin.scale, nn.Parameter)
    assert twin.scale.requires_grad


def test_attributes():
    net = Net()
    net.scale = None
    assert "scale" not in dict(net.named_parameters())
    net.scale = nn.Parameter(np.ones(2, np.float32))
    with pytest.raises(ArgumentError, match="cannot become a float"):
        net.scale = 1.0
    with pytest.raises(ArgumentError, match="cannot become a Tensor"):
        net.scale = intaglio.tensor([1.0])
    net.mask = intaglio.tensor([0.0, 0.0])
    assert not net.state_dict()["mask"].numpy().any()
    del net.mask
    with pytest.raises(AttributeError, match="no attribute 'mask'"):
        _ = net.mask
    with pytest.raises(ArgumentError, match="hold a dot"):
        net.add_module("a.b", nn.ReLU())

    class Early(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(1, 1)

    with pytest.raises(ArgumentError, match=r"super\(\).__init__"):
        Early()


def test_containers():
    a, b, c = nn.ReLU(), nn.Tanh(), nn.Sigmoid()
    seq = nn.Sequential(a, b, c)
    assert seq[-1] is c
    assert list(seq[:2]) == [a, b]
    assert len(seq) == 3
    named = nn.Sequential({"first": a, "second": b})
    assert named.first is a
    assert list(named[1:]._modules) == ["second"]
    some = nn.ModuleList([a]).append(b)
    some.insert(0, c)
    some[1] = b
    assert list(some) == [c, b, b]
    del some[0]
    assert len(some) == 2
    by_name = nn.ModuleDict({"x": a})
    by_name["y"] = b
    assert list(by_name) == ["x", "y"]
    assert "y" in by_name
    assert dict(by_name.items()) == {"x": a, "y": b}
    del by_name["x"]
    assert len(by_name) == 1


@pytest.mark.parametrize(
    "text",
    [
        "Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.GELU(approximate='tanh')), nn.Flatten())",
        "Conv2d(4, 8, 3, stride=2, padding=1, groups=2, bias=False)",
        "ConvTranspose2d(4, 8, 3, output_padding=1, stride=2)",
        "BatchNorm2d(8)",
        "LayerNorm((3, 4))",
        "GroupNorm(2, 4)",
        "Embedding(5, 3, padding_idx=1)",
        "Dropout(0.3)",
        "MaxPool2d(2)",
        "AvgPool2d(2, stride=1)",
        "AdaptiveAvgPool2d((1, None))",
        "LSTM(3, 4, num_layers=2)",
        "LeakyReLU(0.2)",
        "Softmax(dim=1)",
        "PixelShuffle(2)",
        "ZeroPad2d(1)",
        "Bilinear(2, 3, 4)",
        "Unflatten(1, (2, 3))",
        "Identity()",
        "LSTMCell(3, 4)",
        "PReLU()",
        "Upsample(scale_factor=2)",
        "ModuleDict({'a': nn.ReLU()})",
    ],
)
def test_text_is_that_of_pytorch(text):
    assert repr(eval(f"nn.{text}", {"nn": nn})) == repr(eval(f"nn.{text}", {"nn": torch.nn})).replace(
        "scale_factor=2.0", "scale_factor=2"
    )


@pytest.mark.parametrize(
    "text",
    [
        "Linear(400, 300)",
        "Conv2d(16, 32, 3)",
        "ConvTranspose2d(16, 32, 3)",
        "LSTM(60, 50)",
        "Embedding(300, 40)",
        "MultiheadAttention(64, 4)",
        "Bilinear(20, 30, 40)",
        "BatchNorm2d(8)",
        "PReLU()",
    ],
)
def test_initial_distributions(text):
    torch.manual_seed(0)
    intaglio.manual_seed(0)
    theirs = eval(f"nn.{text}", {"nn": torch.nn}).state_dict()
    for name, value in eval(f"nn.{text}", {"nn": nn}).state_dict().items():
        a, b = value.numpy().astype(np.float64), theirs[name].numpy().astype(np.float64)
        slack = 6 * max(b.std(), 1e-12) / math.sqrt(b.size)
        assert abs(a.mean() - b.mean()) <= 2 * slack, name
        assert abs(a.std() - b.std()) <= slack, name
        if "Embedding" not in text:
            assert abs(np.abs(a).max() - np.abs(b).max()) <= 0.15 * np.abs(b).max(), name


def test_seeds_fix_the_initial_weights():
    def weights(seed):
        intaglio.manual_seed(seed)
        return nn.Linear(4, 4).weight.numpy().tolist()

    assert weights(3) == weights(3)
    assert weights(3) != weights(4)


@pytest.mark.parametrize(
    "name", ["xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_", "orthogonal_"]
)
def test_initialisers(name):
    torch.manual_seed(0)
    ours, theirs = intaglio.zeros(200, 300), torch.zeros(200, 300)
    getattr(nn.init, name)(ours)
    getattr(torch.nn.init, name)(theirs)
    assert abs(ours.numpy().std() / theirs.numpy().std() - 1) < 0.02
    assert abs(np.abs(ours.numpy()).max() / np.abs(theirs.numpy()).max() - 1) < 0.35
    if name == "orthogonal_":
        np.testing.assert_allclose(ours.numpy() @ ours.numpy().T, np.eye(200), atol=1e-5)


def test_dropout_in_training():
    intaglio.manual_seed(0)
    x = intaglio.tensor(np.ones((50, 40, 6, 6), np.float32), requires_grad=True)
    for layer, axes in ((nn.Dropout(0.3), ()), (nn.Dropout2d(0.3), (2, 3)), (nn.Dropout1d(0.3), (2,))):
        given = x.reshape(50, 40, 36) if isinstance(layer, nn.Dropout1d) else x
        y = layer(given).numpy()
        kept = y != 0
        np.testing.assert_allclose(y[kept], 1 / 0.7, rtol=1e-6)
        assert abs(kept.mean() - 0.7) < 0.05
        if axes:
            assert (kept.all(axis=axes) | ~kept.any(axis=axes)).all()
        assert not np.array_equal(layer(given).numpy(), y)
        layer.eval()
        assert layer(given).numpy().all()
    y = nn.Dropout(0.5)(x)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())
    with pytest.raises(ArgumentError, match=r"p is 1\.5"):
        nn.Dropout(1.5)


# Files


def test_saved_weights_come_back(tmp_path):
    net, path = Net(), tmp_path / "net.safetensors"
    nn.save_state(net, path)
    other = Net()
    other.load_state_dict(nn.load_state(path))
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name].numpy(), value.numpy())
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", ml_dtypes.bfloat16, "i8", "i1", "u8", "?"])
def test_every_type_is_saved(tmp_path, dtype):
    arrays = {
        "a b": np.arange(6).reshape(2, 3).astype(dtype),
        "empty": np.zeros((0, 3), dtype),
        "one": np.ones((), dtype),
    }
    nn.save_state(arrays, tmp_path / "x")
    loaded = nn.load_state(tmp_path / "x")
    assert set(loaded) == set(arrays)
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


def test_views_are_saved_as_they_look(tmp_path):
    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    nn.save_state({"t": a.T, "s": a[::2, ::-1]}, tmp_path / "x")
    loaded = nn.load_state(tmp_path / "x")
    np.testing.assert_array_equal(loaded["t"], a.T)
    np.testing.assert_array_equal(loaded["s"], a[::2, ::-1])


def test_files_of_other_writers_load(tmp_path):
    save_file({"w": np.ones(3, np.float32)}, tmp_path / "x")
    assert nn.load_state(tmp_path / "x")["w"].tolist() == [1, 1, 1]


def test_broken_files(tmp_path):
    path = tmp_path / "net.safetensors"
    nn.save_state({"w": np.arange(100, dtype=np.float32), "b": np.ones(3)}, path)
    whole = path.read_bytes()
    for kept in (0, 1, 7, 8, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(FileFormatError, match=r"net\.safetensors"):
            nn.load_state(path)
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x11]) + whole[at + 1 :])
        with pytest.raises(FileFormatError):
            nn.load_state(path)
    with pytest.raises(FileFormatError, match="there is no file"):
        nn.load_state(tmp_path / "absent")


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "x"
    nn.save_state({"w": np.ones(2)}, path)
    with pytest.raises(DTypeError, match="U4"):
        nn.save_state({"w": np.array(["text"])}, path)
    assert nn.load_state(path)["w"].tolist() == [1, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_torch_reads_the_file(tmp_path):
    from safetensors.torch import load_file

    net = nn.Linear(3, 2)
    nn.save_state(net, tmp_path / "x")
    theirs = torch.nn.Linear(3, 2)
    theirs.load_state_dict(load_file(tmp_path / "x"))
    np.testing.assert_array_equal(theirs.weight.detach().numpy(), net.weight.numpy())
