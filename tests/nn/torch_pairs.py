"""Running the same program in Intaglio and in PyTorch, and comparing values and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import intaglio

Array = np.ndarray[Any, Any]


def arrays(*specs: Any, seed: int = 0) -> list[Array]:
    """Made data: a shape gives normal f32 values, `("int", high, shape)` integers, an array itself."""
    rng = np.random.default_rng(seed)
    made = []
    for spec in specs:
        if isinstance(spec, np.ndarray):
            made.append(spec)
        elif spec and spec[0] == "int":
            made.append(rng.integers(0, spec[1], spec[2]))
        elif spec and spec[0] == "unit":
            made.append(rng.uniform(0.05, 0.95, spec[1]).astype(np.float32))
        else:
            made.append(rng.standard_normal(spec).astype(np.float32))
    return made


def both(data: list[Array]) -> tuple[list[Any], list[Any]]:
    """The same data as Tensors of both; floating ones require gradients."""
    ours = [intaglio.tensor(a, requires_grad=a.dtype.kind == "f") for a in data]
    theirs = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in data]
    return ours, theirs


def leaves(result: Any) -> list[Any]:
    """The tensors of nested tuples, in order."""
    if isinstance(result, (tuple, list)):
        return [leaf for part in result for leaf in leaves(part)]
    return [] if result is None else [result]


def assert_close(ours: Any, theirs: Any, tolerance: float = 2e-5, what: str = "value") -> None:
    """Equal shape and values, relative to the largest value."""
    a, b = ours.detach().numpy(), theirs.detach().numpy()
    assert a.shape == b.shape, f"{what}: {a.shape} is not {b.shape}"
    assert a.dtype == b.dtype, f"{what}: {a.dtype} is not {b.dtype}"
    scale = max(1.0, float(np.abs(b[np.isfinite(b)]).max(initial=0.0))) if b.dtype.kind == "f" else 1.0
    np.testing.assert_allclose(a / scale, b / scale, rtol=tolerance, atol=tolerance, err_msg=what)


def weighted(result: Any, tensor: Any) -> Any:
    """A scalar to differentiate: every floating element of the result with its own weight."""
    rng = np.random.default_rng(1)
    total = None
    for leaf in leaves(result):
        weight = rng.standard_normal(tuple(leaf.shape)).astype(np.float32)
        if np.asarray(leaf.detach().numpy()).dtype.kind == "f":
            part = (leaf * tensor(weight)).sum()
            total = part if total is None else total + part
    return total


def compare(
    ours: Any, theirs: Any, our_leaves: dict[str, Any], their_leaves: dict[str, Any], tolerance: float
) -> None:
    """Compare results, then the gradients of a weighted sum of them with respect to the named leaves."""
    for a, b in zip(leaves(ours), leaves(theirs), strict=True):
        assert_close(a, b, tolerance)
    our_total, their_total = weighted(ours, intaglio.tensor), weighted(theirs, torch.tensor)
    if their_total is None or not their_total.requires_grad:
        assert our_total is None or not our_total.requires_grad
        return
    our_total.backward()
    their_total.backward()
    for name, b in their_leaves.items():
        a = our_leaves[name]
        if b.grad is None:
            assert a.grad is None or not np.any(a.grad.numpy()), f"gradient of {name} is not None"
        else:
            assert a.grad is not None, f"gradient of {name} is missing"
            assert_close(a.grad, b.grad, tolerance, f"gradient of {name}")
