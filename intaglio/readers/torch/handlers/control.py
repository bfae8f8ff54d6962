"""Programs within programs: conditions and regions that exported graphs carry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from intaglio.ops.registry import prim
from intaglio.readers.torch.registry import direct

direct({"intaglio.stop_gradient": prim.detach})


def _wrapped(importer: Any, enabled: Any, module: Any, *operands: Any) -> Any:
    """A region with a setting (autocast, gradients off), which does not change what is computed."""
    return importer.inner(module, operands)


def _cond(importer: Any, predicate: Any, then: Any, orelse: Any, operands: Sequence[Any] = ()) -> Any:
    """Both branches are computed; the predicate chooses."""
    if isinstance(predicate, bool):
        return importer.inner(then if predicate else orelse, operands)
    yes, no = importer.inner(then, operands), importer.inner(orelse, operands)
    return [prim.where(predicate, a, b) for a, b in zip(yes, no, strict=True)]


HIGHER_ORDER: dict[str, Callable[..., Any]] = {
    "wrap_with_set_grad_enabled": _wrapped,
    "cond": _cond,
}
