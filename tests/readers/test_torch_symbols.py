"""Sizes with bounds through `torch.compile(backend="intaglio")`: one program for all of them, as eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

nn, F = torch.nn, torch.nn.functional
OPTIONS = {"opt": "fast-compile", "threads": 1}
pytestmark = pytest.mark.filterwarnings("ignore")


def check(
    function: Callable[..., Any], shape: tuple[Any, ...], sizes: Any = (5, 2, 8), **settings: Any
) -> None:
    """Eager's results for several sizes of the axes that are None."""
    call = torch.compile(function, backend="intaglio", **{"options": OPTIONS, **settings})
    for size in sizes:
        x = torch.randn([size if extent is None else extent for extent in shape])
        for axis, extent in enumerate(shape):
            if extent is None and 2 <= size <= 8:
                torch._dynamo.mark_dynamic(x, axis, min=2, max=8)
        with torch.no_grad():
            torch.manual_seed(0)
            found = call(x)
            torch.manual_seed(0)
            torch.testing.assert_close(found, function(x), rtol=1e-4, atol=1e-5)


ONE: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "perceptron": (nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3), nn.Softmax(-1)), (None, 6)),
    "convolution": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()).eval(),
        (None, 3, 8, 8),
    ),
    "width": (nn.Conv1d(2, 3, 3, padding=1), (2, 2, None)),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), (2, 3, None, 4)),
    "layer": (nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), (2, None, 8)),
    "count": (lambda x: x + torch.arange(x.shape[0])[:, None] + x.new_ones(x.shape[0] * 2).sum(), (None, 3)),
    "views": (lambda x: (x.reshape(-1), x.reshape(-1, 2, 3).mT, x.flip(0), torch.cat([x, x])), (None, 6)),
    "reductions": (lambda x: (x.mean(0), x.std(), x.softmax(0), x.cumsum(0), x.amax((0, 1))), (None, 3)),
    "sorted": (lambda x: (x.sort(0).values, x.topk(2, 0).values, x.argmax(0)), (None, 3)),
    "found": (lambda x: torch.nonzero(x > 0), (None, 3)),
    "two symbols": (lambda x: (x @ x.mT, torch.ones(x.shape[0] * x.shape[1]) * x.sum()), (None, None)),
    "nothing to do": (lambda x: (x, x.shape[0]), (None, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE)
def test_one_program_serves_all_sizes(name: str, built: list[Any]) -> None:
    function, shape = ONE[name]
    check(function, shape, fullgraph=name != "found")
    assert len(built) == (name != "nothing to do")


MANY: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "random": (lambda x: x + torch.rand(x.shape) + F.dropout(x, 0.4), (None, 3)),
    "antialiased": (
        lambda x: F.interpolate(x, size=(x.shape[2] // 2 + 1, 5), mode="bilinear", antialias=True),
        (1, 2, None, 6),
    ),
    "sizes as numbers": (lambda x: x * x.shape[0], (None, 3)),
    "sizes as results": (lambda x: (x + 1, x.numel()), (None, 3)),
}


@pytest.mark.parametrize("name", MANY)
def test_where_symbols_do_not_do_every_size_has_a_program(name: str, built: list[Any]) -> None:
    function, shape = MANY[name]
    check(function, shape)
    assert len(built) == 3


def test_sizes_without_bounds_have_programs_of_their_own(built: list[Any]) -> None:
    check(nn.Linear(6, 3), (None, 6), sizes=(9, 10, 11), dynamic=True)
    assert len(built) == 3


def test_a_size_beyond_the_bounds(built: list[Any]) -> None:
    check(nn.Linear(6, 3), (None, 6), sizes=(5, 2, 8, 9, 4))


def test_with_constants(built: list[Any]) -> None:
    module, shape = ONE["convolution"]
    check(module, shape, options={**OPTIONS, "freeze": True})
    assert [len(program.graph.inputs) for program in built] == [1]


def test_training_has_a_program_for_every_size(built: list[Any]) -> None:
    module = nn.Linear(6, 3)
    call = torch.compile(module, backend="intaglio", options=OPTIONS)
    for size in (5, 3):
        x = torch.randn(size, 6)
        torch._dynamo.mark_dynamic(x, 0, min=2, max=8)
        found = torch.autograd.grad(call(x).square().sum(), module.weight)
        torch.testing.assert_close(found, torch.autograd.grad(module(x).square().sum(), module.weight))
    assert len(built) == 4
