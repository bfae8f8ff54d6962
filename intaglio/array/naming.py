"""Names for the tensors a function touches: those of the modules and optimisers it can see."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any


def state_names(function: Callable[..., Any]) -> dict[int, str]:
    """Names by identity of a tensor's storage: that of a module's parameter `0.weight` is `0_weight`, an
    optimiser's state adds its own name; with several modules their variables' names come first."""
    seen = list(_visible(function))
    modules = [(name, x) for name, x in seen if hasattr(x, "named_parameters")]
    names: dict[int, str] = {}
    for variable, module in modules:
        prefix = f"{variable}_" if len(modules) > 1 and variable else ""
        for path, x in [*module.named_parameters(), *module.named_buffers()]:
            names.setdefault(id(x._storage), prefix + path.replace(".", "_"))
    for _, optimizer in seen:
        for p, state in getattr(optimizer, "state", {}).items() if hasattr(optimizer, "param_groups") else ():
            for key, x in state.items():
                names.setdefault(
                    id(x._storage), key if key == "step" else f"{names.get(id(p._storage), 'p')}_{key}"
                )
    return names


def _visible(function: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Modules and optimisers that a function can reach, with the names of their variables."""
    if hasattr(function, "named_parameters") or hasattr(function, "param_groups"):
        yield name, function
    elif isinstance(function, types.MethodType):
        yield from _visible(function.__self__, name, depth)
    elif isinstance(function, types.FunctionType) and depth < 3:
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
        for own, cell in cells:
            try:
                yield from _visible(cell.cell_contents, own, depth + 1)
            except ValueError:  # not assigned yet
                continue
        for own in function.__code__.co_names:
            if own in function.__globals__:
                yield from _visible(function.__globals__[own], own, depth + 1)
