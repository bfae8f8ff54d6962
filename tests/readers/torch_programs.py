"""Programs through `torch.compile(backend="intaglio")`, compared with eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def compiled(function: Any, **settings: Any) -> Any:
    torch._dynamo.reset()
    options = {"opt": "fast-compile", "threads": 1}
    return torch.compile(function, backend="intaglio", options=options, **settings)


def check(function: Callable[..., Any], *inputs: Any, fullgraph: bool = True, **settings: Any) -> None:
    """Results, what is written to the inputs, and derivatives are eager's, with eager's random numbers."""
    found = []
    for call in (function, compiled(function, fullgraph=fullgraph, **settings)):
        torch.manual_seed(0)
        own = [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]
        results = torch.utils._pytree.tree_leaves(call(*own))
        total = sum((r.float() ** 2).sum() for r in results if r.requires_grad)
        if isinstance(total, torch.Tensor):
            total.backward()
        found.append(([r.detach() for r in results], [x.detach() for x in own], [x.grad for x in own]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5, equal_nan=True)


def sample(*shape: int, grad: bool = True) -> Any:
    torch.manual_seed(len(shape))
    return torch.randn(*shape).requires_grad_(grad)


class Function(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)
