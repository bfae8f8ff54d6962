"""Models and training steps, exported: strict warnings, sanitizers and the self-test pass."""

import shutil
import subprocess

import numpy as np
import pytest

import intaglio
from intaglio import nn, optim
from intaglio.native.toolchain import available
from intaglio.shared.errors import ArgumentError

COMPILERS = [one for one in available() if one.kind in ("gcc", "clang", "zig")]
WARNINGS = "-std=c11 -Wall -Wextra -Wpedantic -Wshadow -Werror"
SANITIZE = " -g -fsanitize=address,undefined -fno-sanitize-recover=all"

pytestmark = pytest.mark.skipif(
    shutil.which("make") is None or not COMPILERS, reason="needs make and a compiler"
)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0])


def images(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


MODELS = {
    "perceptron": (lambda: nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 5)), images(3, 20)),
    "convolution": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(64, 5),
        ),
        images(2, 2, 8, 8),
    ),
    "lstm": (Recurrent, images(5, 2, 6)),
    "normalised": (
        lambda: nn.Sequential(nn.Linear(12, 12), nn.LayerNorm(12), nn.GELU(), nn.Softmax(-1)), images(4, 12)
    ),
}  # fmt: skip


def built(folder, flags, compiler=COMPILERS[0] if COMPILERS else None):
    tools = [f"CC={' '.join(compiler.command)}"]
    if compiler.kind == "zig":
        tools.append(f"AR={compiler.command[0]} ar")
    done = subprocess.run(
        ["make", *tools, f"CFLAGS={WARNINGS} {flags}", "clean", "test"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def training(model, optimizer, x, y):
    loss_function = nn.CrossEntropyLoss()

    @intaglio.jit
    def step(x, y):
        optimizer.zero_grad()
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step, step.compile(intaglio.tensor(x), intaglio.tensor(y), keep_phases=True, threads=1)


@pytest.mark.parametrize("name", MODELS)
def test_inference(tmp_path, name):
    intaglio.manual_seed(0)
    make, x = MODELS[name]
    compiled = intaglio.compile(make().eval(), [x], threads=1)
    compiled.export_c(tmp_path, name="net", samples=[[x], [x * 2]])
    for compiler in COMPILERS:
        code, output = built(tmp_path, "-O2", compiler)
        assert code == 0, output
        assert "selftest passed: 2 calls" in output
    code, output = built(tmp_path, "-O1" + SANITIZE)
    assert code == 0, output


@pytest.mark.parametrize("name", MODELS)
def test_every_compiler_computes_the_same(name):
    intaglio.manual_seed(0)
    make, x = MODELS[name]
    model = make().eval()
    expected = model(intaglio.tensor(x)).numpy()
    for toolchain, opt in (*((one.kind, "default") for one in available()), (None, "fast-compile")):
        compiled = intaglio.compile(model, [x], toolchain=toolchain, opt=opt, threads=2)
        np.testing.assert_allclose(compiled(x), expected, rtol=1e-4, atol=1e-5)


OPTIMIZERS = {
    "sgd": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9),
    "adam": lambda parameters: optim.Adam(parameters, lr=0.01),
}


@pytest.mark.parametrize(("name", "optimizer"), [("perceptron", "adam"), ("convolution", "sgd")])
def test_training(tmp_path, name, optimizer):
    intaglio.manual_seed(0)
    make, x = MODELS[name]
    model = make()
    y = np.arange(len(x)) % 5
    _, compiled = training(model, OPTIMIZERS[optimizer](model.parameters()), x, y)
    compiled.export_c(tmp_path, name="net")
    for compiler in COMPILERS:
        code, output = built(tmp_path, "-O2", compiler)
        assert code == 0, output
        assert "selftest passed: 3 calls" in output
    code, output = built(tmp_path, "-O1" + SANITIZE)
    assert code == 0, output
    header = (tmp_path / "net.h").read_text()
    for part in ("forward", "backward", "update", "step", "init", "reset", "get", "set"):
        assert f"net_{part}(" in header


def test_states_start_where_calls_left_them(tmp_path):
    intaglio.manual_seed(0)
    model = MODELS["perceptron"][0]()
    x, y = MODELS["perceptron"][1], np.array([0, 1, 2])
    _, compiled = training(model, optim.SGD(model.parameters(), lr=0.1), x, y)
    compiled.export_c(tmp_path / "before", name="net")
    inputs = [
        x,
        y,
        *(np.zeros(t.shape, t.dtype.numpy) + 0.1 for t in list(compiled.input_types.values())[2:]),
    ]
    compiled(*inputs)
    compiled.export_c(tmp_path / "after", name="net")
    assert (tmp_path / "before/net_weights.c").read_bytes() != (tmp_path / "after/net_weights.c").read_bytes()
    code, output = built(tmp_path / "after", "-O1")
    assert code == 0, output


def test_exporting_twice_gives_the_same_bytes(tmp_path):
    intaglio.manual_seed(0)
    make, x = MODELS["convolution"]
    compiled = intaglio.compile(make().eval(), [x], threads=1)
    for name in ("one", "two"):
        compiled.export_c(tmp_path / name, samples=[[x]])
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_sample_with_the_wrong_number_of_arrays(tmp_path):
    make, x = MODELS["perceptron"]
    compiled = intaglio.compile(make().eval(), [x], threads=1)
    with pytest.raises(ArgumentError, match=r"a sample has 2 arrays but .* takes 1"):
        compiled.export_c(tmp_path, samples=[[x, x]])
