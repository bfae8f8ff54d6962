"""What the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The programs that `torch.compile` has had compiled."""
    torch = pytest.importorskip("torch")
    from intaglio import torch_backend

    programs: list[Any] = []
    compile_graph = torch_backend.compile_graph

    def spy(*args: Any, **settings: Any) -> Any:
        programs.append(compile_graph(*args, **settings))
        return programs[-1]

    monkeypatch.setattr(torch_backend, "compile_graph", spy)
    torch._dynamo.reset()
    torch.manual_seed(0)
    yield programs
    torch._dynamo.reset()
