"""Functions of PyTorch through `torch.compile` and `torch.export`: results and derivatives are eager's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import intaglio
from intaglio.shared.errors import UnsupportedError

torch = pytest.importorskip("torch")
from torch_programs import Function, check, sample  # noqa: E402

nn, F = torch.nn, torch.nn.functional
pytestmark = pytest.mark.filterwarnings("ignore")

WORDS = torch.tensor([[1, 0, 3, 3], [2, 2, 5, 0], [4, 1, 0, 2]])
FLAT, OFFSETS = WORDS.flatten(), torch.tensor([0, 4, 4, 9])
SAMPLES = torch.tensor([[[0.1, 0.9], [0.5, 0.3]]])
LINE = torch.tensor([2, 0, 2, 1])


def bags(table: Any, factors: Any) -> Any:
    return (
        *(F.embedding_bag(FLAT, table, OFFSETS, mode=m, padding_idx=2) for m in ("sum", "mean", "max")),
        *(F.embedding_bag(WORDS, table, mode=m) for m in ("sum", "mean", "max")),
        F.embedding_bag(FLAT, table, OFFSETS, per_sample_weights=factors, mode="sum"),
        F.embedding_bag(FLAT, table, torch.tensor([0, 5, 12]), include_last_offset=True, mode="mean"),
    )


def pooled(image: Any, volume: Any) -> Any:
    return (
        *F.fractional_max_pool2d(image, (2, 3), (3, 4), _random_samples=SAMPLES, return_indices=True),
        F.fractional_max_pool2d(image, 2, (1, 3), _random_samples=SAMPLES),
        F.fractional_max_pool3d(volume, 2, (2, 3, 1), _random_samples=torch.tensor([[[0.2, 0.7, 0.4]]])),
    )


def resized(image: Any) -> Any:
    cases = [("bilinear", (4, 5), False), ("bilinear", (12, 4), True), ("bicubic", (4, 13), False)]
    return (
        *(F.interpolate(image, size=s, mode=m, antialias=True, align_corners=c) for m, s, c in cases),
        F.interpolate(image, scale_factor=0.7, mode="bicubic", antialias=True),
    )


def indexed(x: Any) -> Any:
    reduced = [
        x.index_reduce(0, LINE, x.new_full((4, 4), 2.0) * x[1], kind, include_self=own)
        for kind in ("prod", "mean", "amax", "amin")
        for own in (True, False)
    ]
    return (
        *reduced,
        x.put(LINE, x[0] * 3, accumulate=True),
        x.put(LINE[1:], x[0, 1:]),
        torch.diagonal_scatter(x, x[0, :3] * 2),
        torch.diagonal_scatter(x, x[0, :2] * 2, -1),
        x.scatter_reduce(1, WORDS % 4, x, "amax"),
        (x.t() * 2).as_strided((2, 2), (1, 3), 1) + x.as_strided((2, 2), (2, 1)),
        torch.as_strided_scatter(x, x[:2, :2] * 5, (2, 2), (4, 1), 1),
        torch.einsum("ii->i", x @ x.t()),
        x.index_fill(1, LINE[:1], 3.0),
    )


def ordered(x: Any) -> Any:
    holes = torch.where(x > 1, torch.nan, x).detach()
    return (
        *x.cummax(1), *x.cummin(0), *holes.cummax(0), *holes.cummin(1),
        x.logcumsumexp(1), (x * 60).logcumsumexp(0),
        x.median(), holes.median(), holes.nanmedian(),
        *x.median(0), *holes.median(1), *holes.nanmedian(1, True), *x.kthvalue(2, 0, True), *x.sum().sort(),
        torch.bucketize(x, torch.tensor([-1.0, 0, 1])),
        torch.searchsorted(torch.tensor([-1.0, 0, 1]), x, right=True, out_int32=True),
        torch.searchsorted(x.sort(1)[0], x),
    )  # fmt: skip


def elementwise(x: Any) -> Any:
    zeros = torch.tensor([0.0, -0.0, -torch.inf])
    return (
        torch.copysign(x, -x), torch.copysign(x, zeros[1]), torch.copysign(x, -2.0),
        zeros.signbit(), x.double().signbit(),
        torch.erfinv(x.tanh()), torch.erfinv(torch.tensor([1.0, -1, 2, 0, 0.99999, 1e-5])),
        torch.erfinv(x.double().tanh()),
        F.rrelu(x, training=False), F.bilinear(x, x, x.expand(2, 3, 4)[:, :1].expand(2, 4, 4)),
        x * x.sum().item(),
    )  # fmt: skip


def normed(x: Any, v: Any, size: Any) -> Any:
    return torch._weight_norm(v, size) @ x, torch.cdist(v, x.t().expand(2, 3, 4)[:, :, :4])


def attention(q: Any, k: Any) -> Any:
    mask = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    added = torch.where(mask, 0.5, -torch.inf)
    return F.scaled_dot_product_attention(q, k, k, mask), F.scaled_dot_product_attention(q, k, k, added)


CASES: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "bags of embeddings": (bags, [sample(6, 3), sample(12)]),
    "pooling": (pooled, [sample(1, 2, 8, 9), sample(1, 1, 5, 6, 7)]),
    "resizing": (resized, [sample(1, 2, 8, 9)]),
    "indices": (indexed, [sample(3, 4)]),
    "order": (ordered, [sample(3, 4)]),
    "elementwise": (elementwise, [sample(3, 4)]),
    "norms": (normed, [sample(4, 3), sample(5, 4), sample(5, 1)]),
    "attention": (attention, [sample(2, 3, 4), sample(1, 2, 3, 4)[0]]),
}


@pytest.mark.parametrize("name", CASES)
def test_compiled(name: str) -> None:
    function, inputs = CASES[name]
    with torch._dynamo.config.patch(capture_scalar_outputs=True):
        check(function, *inputs)


@pytest.mark.parametrize("name", CASES)
def test_exported(name: str) -> None:
    function, given = CASES[name]
    inputs = [x.detach() for x in given]
    expected = torch.utils._pytree.tree_leaves(function(*inputs))
    results = intaglio.compile(Function(function), inputs, threads=1, opt="fast-compile")(*inputs)
    for ours, theirs in zip(results, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=2e-5, atol=2e-5)


def test_classes_that_do_not_exist_make_the_loss_nan() -> None:
    """Where nobody can be told: in C, and so in a program made by exporting."""
    x, target = sample(3, 4).detach(), torch.tensor([0, 3, 1])
    loss = intaglio.compile(Function(F.cross_entropy), [x, target], opt="fast-compile")
    np.testing.assert_allclose(loss(x, target), F.cross_entropy(x, target).numpy(), rtol=1e-5)
    assert np.isnan(loss(x, torch.tensor([0, 4, 1])))
    assert np.isnan(loss(x, torch.tensor([0, -1, 1])))


def test_an_error_within_a_module_of_pytorch_names_the_part() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Embedding(4, 3, max_norm=1.0)))
    module[0] = nn.Identity()
    with pytest.raises(UnsupportedError, match=r"(?s)embedding_renorm.*in Embedding 1\.0"):
        intaglio.compile(module, [torch.tensor([0, 2, 1])])


class Recurrent(nn.Module):
    """Dropout between layers, projections and dropout of attention."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 6, 2, dropout=rate, proj_size=4)
        self.attention = nn.MultiheadAttention(4, 2, dropout=rate)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        y = self.lstm(x)[0]
        return self.head((y + self.attention(y, y, y, need_weights=False)[0])[-1])


def test_dropout_within_recurrent_networks_and_attention() -> None:
    """Without dropout eager's loss; with it losses that vary, around those of eager."""
    torch.manual_seed(0)
    module, batch = Recurrent(0.4), (torch.randn(6, 5, 4), torch.arange(5) % 3)
    optimizer = torch.optim.SGD(module.parameters(), 0.0)
    loss = nn.CrossEntropyLoss()
    with torch.no_grad():
        found = intaglio.compile(module.eval(), [batch[0]], opt="fast-compile")(batch[0])
        np.testing.assert_allclose(found, module(batch[0]).numpy(), rtol=1e-4, atol=1e-5)
        eager = [float(loss(module.train()(batch[0]), batch[1])) for _ in range(200)]
    step = intaglio.compile_training(module, loss, optimizer, batch, opt="fast-compile", threads=1)
    losses = [step(*batch) for _ in range(200)]
    error = 5 * float(np.std(eager)) / 200**0.5
    assert abs(np.mean(losses) - np.mean(eager)) < error
    assert 0.7 < np.std(losses) / np.std(eager) < 1.4


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_the_embedding_of_padding_is_not_trained(kind: Any) -> None:
    torch.manual_seed(0)
    module = kind(6, 3, padding_idx=2)
    optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.5)
    batch = (WORDS, torch.tensor(0.5))
    loss = lambda y, target: ((y - target) ** 2).sum()
    step = intaglio.compile_training(module, loss, optimizer, batch, opt="fast-compile")
    found = [step(*batch) for _ in range(3)]
    for value in found:
        optimizer.zero_grad()
        expected = loss(module(WORDS), batch[1])
        expected.backward()
        optimizer.step()
        np.testing.assert_allclose(value, float(expected), rtol=1e-5)
    torch.testing.assert_close(step.state_dict()["weight"], module.weight.detach())
    scaled = kind(6, 3, scale_grad_by_freq=True)
    with pytest.raises(UnsupportedError, match="how often"):
        intaglio.compile_training(scaled, loss, torch.optim.SGD(scaled.parameters(), 0.1), batch)
