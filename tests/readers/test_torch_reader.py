"""PyTorch modules through `torch.export`, compiled, against PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import intaglio
from intaglio.shared.errors import ArgumentError, FileFormatError, UnsupportedError

torch = pytest.importorskip("torch")
from torch_programs import Function  # noqa: E402

nn = torch.nn
pytestmark = pytest.mark.filterwarnings("ignore")


def compiled_results(graph: Any, inputs: Sequence[Any]) -> tuple[Any, ...]:
    results = intaglio.compile_graph(graph, threads=1, opt="fast-compile")(*(x.numpy() for x in inputs))
    return results if isinstance(results, tuple) else (results,)


def check(module: Any, *inputs: Any, tolerance: float = 1e-5) -> Any:
    """Equal to eager; returns the graph."""
    from intaglio.readers.torch import load

    module.eval()
    with torch.no_grad():
        expected = torch.utils._pytree.tree_leaves(module(*inputs))
    graph = load(module, inputs)
    for ours, theirs in zip(compiled_results(graph, inputs), expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=tolerance, atol=tolerance)
    return graph


def test_convolutional_network() -> None:
    torch.manual_seed(0)
    check(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8), nn.SiLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3, groups=4, dilation=2, padding=2), nn.Hardswish(),
            nn.ConvTranspose2d(8, 4, 2, 2),
            nn.AvgPool2d(3, 2, 1), nn.GroupNorm(2, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5),
        ),
        torch.randn(2, 3, 16, 16),
    )  # fmt: skip


def test_attention_stays_a_region() -> None:
    torch.manual_seed(0)
    graph = check(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), torch.randn(2, 5, 16))
    regions = {str(node.region) for node in graph.nodes if node.region is not None}
    assert any("scaled_dot_product_attention" in region for region in regions)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_networks_are_loops(kind: str) -> None:
    torch.manual_seed(0)
    graph = check(getattr(nn, kind)(5, 7, 2, batch_first=True, bidirectional=True), torch.randn(2, 20, 5))
    assert sum(node.op.name == "scan" for node in graph.nodes) == 4


ELEMENTWISE = [
    lambda x, i: torch.where(x > 0, x, i * 0.5) + torch.clamp(x, -0.5, 0.5),
    lambda x, i: torch.div(i, 3, rounding_mode="floor") + torch.div(i, -3, rounding_mode="trunc"),
    lambda x, i: (x**2, x.abs() ** 0.5, 2.0 - x, i % 3, i // 2, i & 3),
    lambda x, i: (
        nn.functional.gelu(x),
        nn.functional.gelu(x, approximate="tanh"),
        nn.functional.elu(x, 0.5),
    ),
    lambda x, i: (
        x.var(0),
        x.std(),
        x.mean(1, keepdim=True),
        x.sum((0, 1)),
        x.amax(0),
        x.max(1),
        x.argmin(0),
    ),
    lambda x, i: (x.logsumexp(1), x.cumsum(1), x.norm(), x.softmax(0), x.log_softmax(1), torch.sort(x, 1)[0]),
    lambda x, i: (x[:, 1::2], x[-1], x.T, x.flip(0), torch.roll(x, 1, 1), x.unsqueeze(1).expand(-1, 2, -1)),
    lambda x, i: (
        torch.cat([x, x * 2], 1),
        torch.stack([x, -x], 2),
        *x.split(2, 1),
        x.repeat(2, 1),
        x.tril(),
    ),
    lambda x, i: (x[i[0] % 3], torch.gather(x, 1, i % 4), x.index_select(1, i[0] % 4), x.topk(2, 1)[0]),
    lambda x, i: (
        x.scatter_add(1, i % 4, x * 2) + x.scatter(1, i % 4, 3.0) + torch.eye(3, 4) + torch.arange(4)
    ),
    lambda x, i: torch.einsum("ij,kj->ik", x, x) @ x + torch.addmm(x, x @ x.T, x, beta=0.5, alpha=2.0),
    lambda x, i: nn.functional.pad(x[None], (1, 2, 0, 1), value=2.0) + nn.functional.one_hot(i % 4, 7).sum(),
    lambda x, i: nn.functional.interpolate(x[None, None], scale_factor=2.0, mode="bilinear").square(),
    lambda x, i: nn.functional.interpolate(x[None, None], size=(5, 7), mode="bicubic", align_corners=True),
    lambda x, i: nn.functional.grid_sample(x[None, None], torch.tanh(x)[None, :, :2, None] * 1.5 + x[:2, :2]),
    lambda x, i: torch.cdist(x, x + 1, p=1.0).sum() + x.masked_scatter(i > 5, x.flip(0)),
    lambda x, i: (x.to(torch.float64).exp(), x.to(torch.int32), i.to(torch.bool), x.masked_fill(x > 0, -1.0)),
    lambda x, i: nn.functional.cross_entropy(x, i[:, 0] % 4) + nn.functional.mse_loss(x, x * 0.5),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(ELEMENTWISE)))
def test_operators(number: int) -> None:
    torch.manual_seed(number)
    check(Function(ELEMENTWISE[number]), torch.randn(3, 4), torch.randint(0, 12, (3, 4)))


def test_dynamic_shapes_are_symbols_with_bounds() -> None:
    from intaglio.readers.torch import load

    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(-1)).eval()
    batch = torch.export.Dim("batch", min=1, max=16)
    graph = load(module, [torch.randn(4, 6)], dynamic_shapes=[{0: batch}])
    assert not isinstance(graph.inputs[0].shape[0], int)
    program = intaglio.compile_graph(graph, threads=1)
    for n in (1, 5, 16):
        x = torch.randn(n, 6)
        np.testing.assert_allclose(program(x.numpy()), module(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_results_of_a_size_that_is_data() -> None:
    x = torch.randn(9)
    program = intaglio.compile(Function(lambda x: x[x > 0] * 2), [x])
    for y in (x, -x, torch.ones(9)):
        np.testing.assert_allclose(program(y.numpy()), (y[y > 0] * 2).numpy())


def test_exported_files_and_direct_compilation(tmp_path: Path) -> None:
    module = nn.Linear(4, 2).eval()
    x = torch.randn(3, 4)
    torch.export.save(torch.export.export(module, (x,)), str(tmp_path / "m.pt2"))
    for compiled in (intaglio.compile(tmp_path / "m.pt2"), intaglio.compile(module, [x])):
        np.testing.assert_allclose(compiled(x), module(x).detach().numpy(), rtol=1e-6, atol=1e-6)


def test_weights_are_not_copied() -> None:
    from intaglio.readers.torch import load

    module = nn.Linear(4, 2).eval()
    graph = load(module, [torch.randn(3, 4)])
    weight = next(c for c in graph.constants if c.shape == (2, 4))
    assert weight.data is not None
    assert weight.data.ctypes.data == module.weight.data_ptr()


BAD: dict[str, tuple[Any, list[Any], str]] = {
    "complex": (lambda x: x.abs(), [torch.randn(4) + 1j], "complex"),
    "random": (lambda x: x + torch.rand(4), [torch.randn(4)], "random"),
    "unknown_operator": (lambda x: torch.special.i0(x), [torch.randn(4)], "i0"),
    "sparse": (lambda x: torch.sparse.mm(x, x.to_dense()), [torch.eye(3).to_sparse()], "sparse"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_supported_is_named(name: str) -> None:
    function, inputs, pattern = BAD[name]
    with pytest.raises(UnsupportedError, match=pattern):
        intaglio.compile(Function(function), inputs)


def test_an_error_names_the_line_of_the_module() -> None:
    class Wrong(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.special.i0(x)

    with pytest.raises(UnsupportedError) as caught:
        intaglio.compile(Wrong(), [torch.randn(4)])
    assert caught.value.where is not None
    assert "torch.special.i0(x)" in caught.value.where.text


def test_arguments(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="example inputs"):
        intaglio.compile(nn.Linear(2, 2))
    (tmp_path / "m.pt2").write_bytes(b"no program")
    with pytest.raises(FileFormatError):
        intaglio.compile(tmp_path / "m.pt2")


def test_the_documented_table_of_operators_is_current() -> None:
    from intaglio.readers.torch.coverage import table

    assert table() in (Path(__file__).parents[2] / "docs" / "pytorch.md").read_text()


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x: Any) -> Any:
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3]), batch_first=True)
        return nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0]


def choose(x: Any) -> Any:
    return x if x.sum() > 0 else -x


class Product(nn.Module):
    def forward(self, x: Any) -> Any:
        return x @ x


class Moved(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.to("meta") + 1


UNTRACED: dict[str, tuple[Any, Any, str]] = {
    "packed sequence": (Packed(), torch.randn(2, 5, 3), "self.lstm(packed)"),
    "branch on data": (Function(choose), torch.randn(3), "x.sum() > 0"),
    "module that is wrong": (Product(), torch.randn(3, 4), "x @ x"),
    "other device": (Moved(), torch.randn(3), 'x.to("meta")'),
}


@pytest.mark.parametrize("name", UNTRACED)
def test_what_pytorch_cannot_trace_is_an_error_with_its_line(name: str) -> None:
    module, x, line = UNTRACED[name]
    with pytest.raises(UnsupportedError) as caught:
        intaglio.compile(module, [x])
    assert caught.value.where is not None
    assert line in caught.value.where.text


def test_operators_name_the_line_of_the_module() -> None:
    from intaglio.readers.torch import load

    graph = load(Product(), [torch.randn(3, 3)])
    assert [node.where.text for node in graph.nodes if node.where is not None] == ["return x @ x"]
